"""What of a workflow changes from picture to picture: the name loaded, the seeds, the outputs."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..document import Document, Entry
from ..graph import Graph, Link, WorkflowError
from ..load import document
from ..settings import LOADERS
from ..signature import Catalog, Input
from ..stock.files import SaveImage
from ..ui_format import PRIMITIVE

SEED_BITS = 32  # as many as torch's CPU generator reads
INTEGER = "PrimitiveInt"


@dataclass(frozen=True)
class Job:
    """What workers must know, in plain values.

    workflow: the document as JSON, settings written in. loader: the id of the node that gets the
    pictures. together: rows of a network call; 1 is one picture at a time. memory: GiB that a
    network call may take where together > 1. threads: of each worker, on the CPU. scores: whether
    nodes that report figures are run, too. side: the workflow's other pictures. ending: of the
    files that pictures become.
    """

    workflow: str
    loader: str
    together: int = 1
    memory: float = 4.0
    threads: int = 1
    scores: bool = False
    side: dict[str, bytes] = field(default_factory=dict, repr=False)
    ending: str = ".png"


class SeedPlace(NamedTuple):
    """A widget that holds a seed: node, name, its interval, and the workflow's own value."""

    node: str
    widget: str
    low: int
    high: int
    value: int

    def moved(self, seed: int) -> int:
        """The workflow's value plus a picture's seed, wrapped into the interval."""
        return self.low + (self.value - self.low + seed) % (self.high - self.low + 1)


def picture_seed(base: int, name: str) -> int:
    """The seed of a picture: 32 bits of SHA-256 of "base/name", with the relative path's bytes."""
    digest = hashlib.sha256(f"{base}/".encode() + os.fsencode(name)).digest()
    return int.from_bytes(digest[:SEED_BITS // 8], "big")


class Plan:
    """A workflow, and how a picture is put into it.

    Attributes:
        varying: ids of the nodes that depend on the picture or on a seed of its own.
        saves: id of each saving node -> what its files' names end in.
        reports: ids of the nodes that show figures, where they are asked for.
        seeds: the widgets that get the picture's seed.
    """

    def __init__(self, job: Job, catalog: Catalog):
        """Find what varies.

        Raises:
            WorkflowError: nothing that depends on the picture is saved, or a seed is out of reach.
        """
        self.job, self.catalog = job, catalog
        document = self._document()
        graph = document.graph()
        self.seeds = list(dict.fromkeys(_seed_places(
            document, graph, catalog, _downstream(graph, [job.loader]))))
        roots = [job.loader, *(p.node for p in self.seeds if p.node in graph.nodes)]
        self.varying = _downstream(graph, roots)
        outputs = [graph.nodes[i] for i in graph.nodes if i in self.varying
                   and graph.nodes[i].type in catalog and catalog[graph.nodes[i].type].is_output]
        pictures = {n.id for n in outputs if issubclass(catalog[n.type].node_class, SaveImage)}
        saved = [n for n in outputs if n.id in pictures
                 and catalog[n.type].node_class.KIND == "output"]
        if not saved:
            raise WorkflowError("the workflow saves nothing that depends on the input; connect a "
                                "Save Image node (previews are not written).")
        self.saves = _endings([(n.id, n.inputs.get("filename_prefix")) for n in saved])
        self.reports = [n.id for n in outputs if n.id not in pictures] if job.scores else []

    def filled(self, name: str, seed: int) -> tuple[Document, Graph]:
        """The document and its plan for one picture."""
        document = self._document()
        entries = {entry.id: entry for entry in document.entries}
        for place in self.seeds:
            document.write(entries[place.node], place.widget, place.moved(seed))
        document.write(entries[self.job.loader], "image", name)
        return document, document.graph()

    def constants(self, graph: Graph) -> tuple[list[str], set[str]]:
        """The nodes to compute once, each after its sources, and those that pictures read."""
        needed = graph.upstream([*self.saves, *self.reports])
        read = {link.source for i in needed if i in self.varying
                for link in graph.nodes[i].links.values()}
        return [i for i in needed if i not in self.varying], read - self.varying

    def _document(self) -> Document:
        return document(json.loads(self.job.workflow), self.catalog)


def side_loaders(document: Document, fed: Entry) -> Iterable[str]:
    """The names of the pictures that a workflow loads beside the one it is fed."""
    for node in document.graph().nodes.values():
        name = node.inputs.get("image")
        if node.id != fed.id and node.type in LOADERS and isinstance(name, str):
            yield name


def _downstream(graph: Graph, roots: Iterable[str]) -> set[str]:
    found = set(roots)
    for node_id in graph.upstream(graph.nodes):
        if any(link.source in found for link in graph.nodes[node_id].links.values()):
            found.add(node_id)
    return found


def _is_seed(declared: Input | None) -> bool:
    return declared is not None and declared.kind == "INT" and declared.has_seed_control


def _seed_places(document: Document, graph: Graph, catalog: Catalog,
                 varying: set[str]) -> Iterable[SeedPlace]:
    entries = {entry.id: entry for entry in document.entries}
    for node in graph.nodes.values():
        if node.id not in varying or node.type not in catalog:
            continue
        for name, declared in catalog[node.type].inputs.items():
            value = node.inputs.get(name)
            if not _is_seed(declared) or value is None:
                continue
            holder, widget = entries[node.id], name
            if isinstance(value, Link):
                if value.source in varying:
                    continue  # computed from the picture
                holder, widget = entries[value.source], "value"
            elif feeder := document.feeder(holder, name):
                holder, widget = entries[feeder], "value"
            reached = holder.id == node.id or holder.type == PRIMITIVE or (
                holder.type == INTEGER and _feeds_seeds_only(graph, catalog, holder.id))
            if not reached:
                raise WorkflowError(
                    f"{node}: its seed comes from {holder}, which cannot be given one per picture; "
                    "unlink the seed, or link it to an Int node that feeds seeds only.")
            low, high = declared.options.get("min", 0), declared.options.get("max", 2**64 - 1)
            own = (holder.raw["widgets_values"][0] if holder.type == PRIMITIVE
                   else graph.nodes[holder.id].inputs[widget])
            yield SeedPlace(holder.id, widget, low, high, int(own))


def _feeds_seeds_only(graph: Graph, catalog: Catalog, source: str) -> bool:
    return all(_is_seed(catalog[node.type].inputs.get(name))
               for node in graph.nodes.values() if node.type in catalog
               for name, link in node.links.items() if link.source == source)


def _endings(saves: list[tuple[str, object]]) -> dict[str, str]:
    """What tells the files of several saving nodes apart: the prefix where it can, else the id."""
    if len(saves) == 1:
        return {saves[0][0]: ""}
    names = [Path(str(prefix)).name for _, prefix in saves]
    plain = len(set(names)) == len(names) and all(isinstance(p, str) for _, p in saves) \
        and not any("%" in name for name in names)
    return {i: f"_{name if plain else i}" for (i, _), name in zip(saves, names, strict=True)}
