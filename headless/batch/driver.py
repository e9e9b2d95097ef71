"""Feeds the engine, writes what comes back, draws the bar."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..trial import folding, rescued, why_not
from .engines import Groups, groups_of
from .inputs import Item
from .plan import Job, picture_seed
from .store import DiskError, Manifest, SaveError, put
from .video import Film, VideoError
from .worker import Outcome, Picture

OFTEN, SELDOM = 0.1, 60.0  # seconds between bars on a terminal, in a log
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"

Engine = Callable[[Groups], Iterator[list[Outcome]]]


class Driver:
    """One run over what is still to do.

    Args:
        job: what the workers compute.
        folder: where results go.
        manifest: where they are told of.
        seed: from which, with a picture's name, its own seed is made.
        one_noise: all frames of a video have the video's seed, instead of one each.
        endings: what a picture's outputs may end in.
        owners: every output of the whole job and of earlier runs -> its input.
    """

    def __init__(self, job: Job, folder: Path, manifest: Manifest, seed: int, one_noise: bool,
                 endings: Iterable[str], owners: Mapping[str, str]):
        self.job, self.folder, self.manifest = job, folder, manifest
        self.seed, self.one_noise, self.endings = seed, one_noise, list(endings)
        self.same = folding(folder)
        self.owners = {self.same(output): name for output, name in owners.items()}
        self.failed = 0
        self.films: dict[int, Film] = {}
        self.items: Sequence[Item] = ()
        self.bar: Any = None

    def run(self, items: Sequence[Item], engine: Engine, quiet: bool) -> None:
        """Compute the items and write them.

        Raises:
            DiskError: an output cannot be written.
            WorkflowError, NodeError: the engine cannot start.
        """
        from tqdm import tqdm

        self.items = [item for item in items if not item.is_video or self._is_fit(item)]
        if not self.items:
            return
        with tqdm(total=len(self.items), unit=" pictures", bar_format=BAR, smoothing=0.05,
                  file=sys.stderr, dynamic_ncols=True, disable=quiet,
                  mininterval=OFTEN if sys.stderr.isatty() else SELDOM) as self.bar:
            for outcomes in engine(groups_of(self._pictures(), self.job.together)):
                for outcome in outcomes:
                    self._take(outcome)

    def _is_fit(self, item: Item) -> bool:
        """Whether a video can be restored; tells before the work what it will lose."""
        from tqdm import tqdm

        try:
            for loss in Film(item.path, self.folder / item.output(), "").losses():
                tqdm.write(f"{item.name}: {loss}", file=sys.stderr)
        except VideoError as error:
            self._fail(item, str(error))
            return False
        return True

    def _pictures(self) -> Iterator[Picture]:
        """What is to be computed, each read when it is asked for."""
        for index, item in enumerate(self.items):
            if refusal := self._refusal(item):
                self._fail(item, refusal)
                self.bar.update()
                continue
            if item.is_video:
                yield from self._frames(index, item)
                continue
            try:
                data = item.path.read_bytes()
            except OSError as error:
                self._fail(item, f"cannot read {item.path}: {error.strerror}.")
                self.bar.update()
            else:
                yield Picture(item.name, data, picture_seed(self.seed, item.name), index)

    def _refusal(self, item: Item) -> str:
        """Why an input's outputs cannot be written, or nothing where they can."""
        for ending in [""] if item.is_video else self.endings:
            path = self.folder / item.output(ending)
            if why := why_not(path):
                return f"cannot write {path}: {why}; rename the input or choose another --output."
        return ""

    def _frames(self, index: int, item: Item) -> Iterator[Picture]:
        film = self.films[index] = Film(
            item.path, self.folder / item.output(), self.manifest.digest)
        try:
            told = film.length()
            self.bar.total += told - 1
            for number, data in film.missing():
                if data is None:
                    self.bar.total -= 1
                    continue
                name = f"{item.name}#{number:08}"
                seed = picture_seed(self.seed, item.name if self.one_noise else name)
                yield Picture(name, data, seed, index, number)
            self.bar.total += film.count - told
        except VideoError as error:
            film.error = film.error or str(error)
            self._fail(item, film.error)
            self.bar.update()
        self._finish_film(index)

    def _take(self, outcome: Outcome) -> None:
        """Write what came back, and only then tell of it."""
        item, picture = self.items[outcome.picture.item], outcome.picture
        self.bar.update()
        if picture.frame is not None:
            self._take_frame(outcome)
            return
        if outcome.error is not None:
            self._fail(item, outcome.error, picture.seed, outcome.seconds)
            return
        names = {item.output(ending): data for ending, data in outcome.files.items()}
        if taken := [name for name in names
                     if self.owners.setdefault(self.same(name), item.name) != item.name]:
            self._fail(item, f"{min(taken)} would be written by two inputs.", picture.seed)
            return
        try:
            for name, data in names.items():
                self._put(self.folder / name, data)
        except DiskError:
            raise
        except SaveError as error:
            self._fail(item, str(error), picture.seed, outcome.seconds)
            return
        self._tell(item, list(names), picture.seed, outcome.seconds, outcome.scores)

    @staticmethod
    def _put(path: Path, data: bytes) -> None:
        try:
            put(path, lambda part: part.write_bytes(data))
        except SaveError as error:
            found = rescued(path.name, lambda stream: stream.write(data))
            raise type(error)(error.problem, found) from error

    def _take_frame(self, outcome: Outcome) -> None:
        index, number = outcome.picture.item, outcome.picture.frame
        item, film = self.items[index], self.films[index]
        assert number is not None
        if film.error is not None:
            return
        if outcome.error is None and list(outcome.files) != [""]:
            outcome = outcome._replace(error="a video needs a workflow that saves one picture for "
                                             f"each frame; this one saved {len(outcome.files)}.")
        if outcome.error is not None:
            film.error = f"frame {number}: {outcome.error}"
            self._fail(item, film.error)
            return
        film.seconds += outcome.seconds
        try:
            film.keep(number, outcome.files[""])
        except DiskError:
            raise
        except SaveError as error:
            film.error = str(error)
            self._fail(item, film.error)
            return
        self._finish_film(index)

    def _finish_film(self, index: int) -> None:
        item, film = self.items[index], self.films[index]
        if not film.is_complete:
            return
        try:
            film.finish()
        except DiskError:
            raise
        except (VideoError, SaveError) as error:
            film.error = str(error)
            self._fail(item, film.error)
            return
        self._tell(item, [item.output()], picture_seed(self.seed, item.name), film.seconds, {})
        film.clear()

    def _fail(self, item: Item, error: str, seed: int | None = None, seconds: float = 0.0) -> None:
        from tqdm import tqdm

        self.failed += 1
        self._tell(item, [], seed, seconds, {}, error)
        tqdm.write(f"{item.name}: {error}", file=sys.stderr)

    def _tell(self, item: Item, output: list[str], seed: int | None, seconds: float,
              scores: dict[str, Any], error: str | None = None) -> None:
        asked = {"scores": scores} if self.job.scores else {}
        self.manifest.append(input=item.name, output=output, seed=seed, seconds=round(seconds, 3),
                             **asked, error=error)
