"""The command line of ``undegrade batch``, and what is refused before anything runs."""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from ..blueprints import counted
from ..destination import FORMATS, make_folder
from ..document import Document, Entry
from ..execution import NodeError
from ..folders import Folders
from ..foretold import of_batch
from ..graph import WorkflowError
from ..harm import harm
from ..load import load, named
from ..outcome import DONE, FAILED, refuse
from ..pack import Pack
from .inputs import Item, check_places, gather, is_there, listed, merge, room

if TYPE_CHECKING:
    from .plan import Job
    from .store import Manifest

ABOUT = """Run one workflow over many pictures and videos. Outputs keep the inputs' relative paths
and carry the workflow in their metadata. Started again, a run does only what is missing; the output
folder's manifest.jsonl tells what became of each input."""


def add_command(commands: "argparse._SubParsersAction") -> argparse.ArgumentParser:
    """Add ``batch`` to the command's menu."""
    batch = commands.add_parser("batch", help="run a workflow over many pictures and videos",
                                description=ABOUT)
    batch.set_defaults(action=_batch)
    add = batch.add_argument
    add("--input", action="append", required=True, metavar="[NODE=]PATTERN",
        help="a quoted pattern such as 'photos/**/*.jpg', a folder or a file, several times if "
             "need be; name the LoadImage node if the workflow has several")
    add("--seed", type=int, default=0, metavar="N",
        help="base seed (default: 0); a picture's own seed comes from it and the relative path, "
             "and is added to every seed in the workflow that acts on the picture")
    add("--engine", choices=("local", "ray"), default="local",
        help="local: one worker in this process (default); ray: workers that Ray starts")
    add("--workers", type=_count, default=1, metavar="N", help="with ray: how many (default: 1)")
    add("--address", metavar="HOST:PORT", help="with ray: join this running cluster, or 'auto'")
    add("--gpus", type=_fraction, metavar="F",
        help="with ray: GPUs per worker, such as 0.5 (default: 1 where there are any)")
    add("--threads", type=_count, default=1, metavar="N", help="CPU threads of each (default: 1)")
    add("--together", type=_count, default=1, metavar="N",
        help="pictures of equal size that share each network call (default: 1), for GPUs and "
             "small pictures; another N changes the last bits of a result")
    add("--memory", type=_fraction, default=4.0, metavar="GIB",
        help="what a shared network call may take; large pictures share fewer at a time "
             "(default: 4)")
    add("--scores", action="store_true",
        help="run the nodes that report figures, too, and put the figures into the manifest")
    add("--one-noise", action="store_true",
        help="the same noise for all frames of a video, against flicker")
    add("--format", choices=FORMATS, default="png",
        help="of the pictures (default: png, which carries the workflow)")
    add("--dry-run", action="store_true", help="print what would run, and run nothing")
    add("--quiet", action="store_true", help="draw no progress bar")
    return batch


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return value


def _batch(options: argparse.Namespace, pack: Pack) -> int:
    try:
        return _run(options, pack)
    except WorkflowError as error:
        return refuse(error)
    except (NodeError, RuntimeError) as error:
        from .store import SaveError

        if not isinstance(error, NodeError | SaveError):
            raise
        sys.stderr.write(f"{error}\n")
        return FAILED


def _run(options: argparse.Namespace, pack: Pack) -> int:
    from .lock import held
    from .store import Manifest, sweep

    _check_engine(options)
    folders = Folders.around(named(options.workflow), options.output)
    document, entry, items, skipped = _inputs(options, pack, folders)
    job, endings = _job(options, document, entry, folders, items)
    manifest = Manifest(options.output, _digest(options, job))
    if options.dry_run:
        finished = manifest.finished()
        return _show(options, items, [item for item in items if item.name not in finished], skipped)
    make_folder(options.output)
    planned = {item.output() for item in items}
    below = {options.output / above for name in planned for above in PurePath(name).parents}
    with held(options.output, below - {options.output}):
        sweep(below)
        finished = manifest.finished()
        todo = [item for item in items if item.name not in finished]
        manifest.begin(item.output() for item in todo)
        manifest.skip(skipped)
        sys.stderr.write(room(todo, options.output) + of_batch(options, job, pack, todo))
        owners = {output: name for name, line in finished.items() for output in line["output"]}
        owners = {item.output(): item.name for item in items} | owners
        failed = _work(options, pack, job, manifest, todo, endings, owners)
    every = counted(len(items) + len(skipped), "file")
    found = f"{every} found, {listed(skipped)}; " if skipped else ""
    sys.stdout.write(f"{found}{counted(len(items), 'input')}: {len(finished)} finished before, "
                     f"{len(todo) - failed} now, {failed} failed; see {manifest.path}\n")
    return FAILED if failed else DONE


def _work(options: argparse.Namespace, pack: Pack, job: "Job", manifest: "Manifest",
          todo: Sequence[Item], endings: Iterable[str], owners: Mapping[str, str]) -> int:
    """Do what is missing, in a folder that no other batch writes to; returns how many failed."""
    from .driver import Driver
    from .engines import Cluster, local, on_ray

    driver = Driver(job, options.output, manifest, options.seed, options.one_noise, endings, owners)
    if todo:
        engine = partial(local, job, pack) if options.engine == "local" else partial(
            on_ray, job, Cluster(options.workers, options.gpus, options.address))
        driver.run(todo, engine, options.quiet)
    return driver.failed


def _check_engine(options: argparse.Namespace) -> None:
    given = {"--workers": options.workers != 1, "--address": options.address is not None,
             "--gpus": options.gpus is not None}
    for option, is_given in given.items():
        if is_given and options.engine == "local":
            raise WorkflowError(f"{option} is for workers that Ray starts; add --engine ray.")


def _inputs(options: argparse.Namespace, pack: Pack,
            folders: Folders) -> tuple[Document, Entry, list[Item], dict[str, str]]:
    """The workflow with its settings, the node to feed, what to feed it, and what is skipped."""
    from ..settings import apply_settings, expect_loader, split_input

    document = load(named(options.workflow), pack.catalog(folders))
    if problems := apply_settings(document, options.settings):
        raise WorkflowError(*problems)
    found, fed = [], {}
    for text in options.input:
        entry, pattern = split_input(document, text, is_there(text))
        expect_loader(entry, f"--input {text}")
        fed[entry.id] = entry
        found.append((pattern, gather(pattern)))
    if len(fed) > 1:
        raise WorkflowError(f"--input names {' and '.join(map(str, fed.values()))}; one run feeds "
                            "one node.")
    items, skipped = merge([one for _, one in found], f".{options.format}")
    check_places([one.root for pattern, one in found if not os.path.isfile(pattern)], items,
                 options.output)
    if any(item.is_video for item in items):
        from .muxing import pyav

        pyav()
    return document, next(iter(fed.values())), items, skipped


def _job(options: argparse.Namespace, document: Document, entry: Entry, folders: Folders,
         items: Sequence[Item]) -> "tuple[Job, list[str]]":
    """The job, checked with its first picture, and what its outputs' names end in."""
    from ..validation import validate
    from .plan import Job, Plan, side_loaders

    if feeder := document.feeder(entry, "image"):
        raise WorkflowError(f"--input: 'image' of {entry} is linked to node {feeder}; unlink it.")
    first = items[0]
    folders.given[first.name] = first.path
    document.write(entry, "image", first.name)
    if problems := validate(graph := document.graph(), document.catalog):
        raise WorkflowError(*problems)
    sys.stderr.write(harm(graph, {first.name}))
    side = {}
    for name in side_loaders(document, entry):
        if any(item.name == name for item in items):
            raise WorkflowError(f"{name!r} is both an input and a picture that another node of the "
                                "workflow loads; rename one of them.")
        path = folders.find(name)
        assert isinstance(path, Path)
        try:
            side[name] = path.read_bytes()
        except OSError as error:
            raise WorkflowError(f"cannot read {path}: {error.strerror}.") from error
    document.write(entry, "image", "")
    job = Job(json.dumps(document.raw), entry.id, options.together, options.memory,
              options.threads, options.scores, side, f".{options.format}")
    return job, [*Plan(job, document.catalog).saves.values()]


def _digest(options: argparse.Namespace, job: "Job") -> str:
    """What the files depend on beside the inputs; engine and workers are not among it."""
    values = asdict(job) | {"seed": options.seed, "one_noise": options.one_noise,
                            "memory": job.memory if job.together > 1 else None}
    if values["ending"] == ".png":  # as folders begun before there was a choice have it
        del values["ending"]
    values["side"] = {n: hashlib.sha256(d).hexdigest() for n, d in job.side.items()}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _show(options: argparse.Namespace, items: Sequence[Item], todo: Sequence[Item],
          skipped: Mapping[str, str]) -> int:
    from .plan import picture_seed
    from .video import Film, VideoError

    for item in todo:
        seed, target = picture_seed(options.seed, item.name), options.output / item.output()
        try:
            losses = Film(item.path, target, "").losses() if item.is_video else []
        except VideoError as error:
            sys.stdout.write(f"{item.path} would fail: {error}\n")
            continue
        sys.stdout.write(f"{item.path} -> {target}  seed {seed}\n")
        for loss in losses:
            sys.stdout.write(f"    {loss}\n")
    for name, why in sorted(skipped.items()):
        sys.stdout.write(f"skipped {name}: {why}\n")
    done = len(items) - len(todo)
    sys.stdout.write(f"{counted(len(items), 'input')}: {done} finished, {len(todo)} would run; "
                     f"engine {options.engine}, workers {options.workers}.\n")
    return DONE
