"""The plan that both workflow formats become: nodes, links between them, literal values."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


class WorkflowError(ValueError):
    """A workflow that cannot be run; ``problems`` holds one sentence for each reason."""

    def __init__(self, *problems: str):
        """Keep the sentences; the exception's own text is one per line."""
        super().__init__("\n".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True)
class Link:
    """Output number ``slot`` (0, 1, ...) of node ``source``."""

    source: str
    slot: int


@dataclass
class Node:
    """One node of the plan; ``inputs`` holds a :class:`Link` or a literal under each name.

    ``origin`` names the pack the saving frontend had the node from ("comfy-core" for stock
    nodes), or is empty where the file does not say. ``faults`` holds what the reader found
    wrong, by input name ("" for the node itself); each completes a sentence that begins with
    the node's name.
    """

    id: str
    type: str
    title: str
    inputs: dict[str, Any] = field(default_factory=dict)
    origin: str = ""
    faults: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """How sentences to the user name the node."""
        return f"node {self.id} ({self.title})"

    @property
    def links(self) -> dict[str, Link]:
        """The linked inputs."""
        return {name: v for name, v in self.inputs.items() if isinstance(v, Link)}


@dataclass
class Graph:
    """A plan: its nodes by id, in the document's order."""

    nodes: dict[str, Node]

    def prompt(self) -> dict[str, dict]:
        """The plan in API format, as ComfyUI hands it to nodes and writes it into PNGs."""
        return {
            node.id: {
                "inputs": {name: _plain(value) for name, value in node.inputs.items()},
                "class_type": node.type,
                "_meta": {"title": node.title},
            }
            for node in self.nodes.values()
        }

    def upstream(self, targets: Iterable[str]) -> list[str]:
        """Every node the targets need, themselves included, each after its sources.

        Raises:
            WorkflowError: the links run in a circle; the sentence names the nodes on it.
        """
        order: dict[str, None] = {}
        path: dict[str, Iterable] = {}  # the nodes between the target and here, with what is left
        for target in targets:
            if target not in order:
                path[target] = self._sources(target)
            while path:
                here = next(reversed(path))
                source = next(path[here], None)  # type: ignore[call-overload]
                if source is None:
                    order[here] = None
                    del path[here]
                elif source in path:
                    raise WorkflowError(self._circle([*path][[*path].index(source):]))
                elif source not in order:
                    path[source] = self._sources(source)
        return list(order)

    def _sources(self, node_id: str) -> Iterable[str]:
        links = self.nodes[node_id].links.values()
        return iter([link.source for link in links if link.source in self.nodes])

    def _circle(self, ids: list[str]) -> str:
        # The path was walked against the links' direction.
        names = [str(self.nodes[i]) for i in (ids[0], *reversed(ids))]
        return f"the links run in a circle: {' -> '.join(names)}; remove one of them."


def _plain(value: Any) -> Any:
    if isinstance(value, Link):
        return [value.source, value.slot]
    return {"__value__": value} if isinstance(value, list) else value
