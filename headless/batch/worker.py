"""Computes pictures; what does not depend on them is computed once."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ...models.prior import Prior
from ..execution import NodeError, execute
from ..graph import Graph, WorkflowError
from ..pack import Pack
from ..validation import validate
from .frames import NODES
from .in_memory import Collector, Memory
from .lockstep import SharedPrior, run_together
from .plan import Job, Plan


class Picture(NamedTuple):
    """A picture to compute: its name in the workflow, its file's bytes, its seed.

    ``item`` and ``frame`` are the driver's own marks and come back with the outcome; what has a
    frame's number comes and goes as ``frames`` packs it.
    """

    name: str
    data: bytes
    seed: int
    item: int = 0
    frame: int | None = None


class Outcome(NamedTuple):
    """What became of a picture: files by what their names end in, or one sentence of error."""

    picture: Picture
    files: dict[str, bytes]
    seconds: float
    scores: dict[str, Any]
    error: str | None = None


class Worker:
    """Holds a workflow with everything that does not depend on the picture already computed."""

    def __init__(self, job: Job, pack: Pack):
        """Find out what varies; nothing is computed yet."""
        torch.set_num_threads(job.threads)
        self.job = job
        self.memory = Memory(Path(), side=job.side, ending=job.ending)
        self.catalog = pack.catalog(self.memory, NODES)
        self.plan = Plan(job, self.catalog)
        self.kept: dict[str, list[list]] | None = None

    def prepare(self) -> None:
        """Compute what all pictures share, such as the loaded prior.

        Raises:
            NodeError: a node of those failed.
        """
        _, graph = self.plan.filled("", 0)
        order, read = self.plan.constants(graph)
        kept: dict[str, list[list]] = {}
        for node in order:
            made = execute(graph, self.catalog, Collector("", b""), None, [node], kept)[node]
            kept[node] = [[self._shared(value) for value in values] for values in made]
        self.kept = {node: kept[node] for node in read}

    def work(self, pictures: Sequence[Picture]) -> list[Outcome]:
        """Compute pictures, several at a time where the job says so."""
        if self.kept is None:
            self.prepare()
        if self.job.together == 1:
            return [self._compute(picture) for picture in pictures]
        outcomes = run_together([partial(self._compute, picture) for picture in pictures])
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return outcomes

    def _compute(self, picture: Picture) -> Outcome:
        start = time.perf_counter()
        collector = Collector(picture.name, picture.data, picture.frame is not None)
        self.memory.current.picture = collector
        files, scores, error = {}, {}, None
        try:
            document, graph = self.plan.filled(picture.name, picture.seed)
            if problems := validate(graph, self.catalog):
                raise WorkflowError(*problems)
            extra = {"workflow": document.workflow} if document.workflow else None
            targets = [*self.plan.saves, *self.plan.reports]
            outputs = execute(graph, self.catalog, collector, extra, targets, self.kept)
            files = self._files(collector)
            scores = self._scores(graph, outputs, collector)
        except (NodeError, WorkflowError) as failure:
            error = " ".join(str(failure).split())
        finally:
            self.memory.current.picture = None
        seconds = time.perf_counter() - start
        return Outcome(picture._replace(data=b""), files, seconds, scores, error)

    def _files(self, collector: Collector) -> dict[str, bytes]:
        files = {}
        for node, ending in self.plan.saves.items():
            pictures = collector.saved.get(node, [])
            numbered = len(pictures) > 1
            files |= {f"{ending}_{i:05}" if numbered else ending: data
                      for i, data in enumerate(pictures, 1)}
        return files

    def _scores(self, graph: Graph, outputs: Mapping[str, list[list]],
                collector: Collector) -> dict[str, Any]:
        """Node -> the numbers it gives, by name, or else the text it shows."""
        scores: dict[str, Any] = {}
        for node_id in self.plan.reports:
            node = graph.nodes[node_id]
            kind = self.catalog[node.type].node_class
            names = getattr(kind, "RETURN_NAMES", kind.RETURN_TYPES)
            firsts = {name: values[0] for name, values in zip(names, outputs[node_id], strict=False)
                      if values}
            numbers = {name: value for name, value in firsts.items()
                       if isinstance(value, int | float) and math.isfinite(value)}
            scores[f"{node_id} {node.title}"] = numbers or collector.shown.get(node_id, "")
        return scores

    def _shared(self, value: Any) -> Any:
        if self.job.together == 1 or not isinstance(value, Prior):
            return value
        inner: Any = value
        while hasattr(inner, "prior"):
            if isinstance(inner, SharedPrior):
                return value
            inner = inner.prior
        return SharedPrior(value, self.job.together, self.job.memory)


def plain(job: Job) -> dict[str, Any]:
    """The job as builtin values, which any process can read."""
    return asdict(job)
