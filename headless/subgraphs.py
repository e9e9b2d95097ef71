"""Takes a saved workflow's subgraphs apart: every node by an id of its own, every link to its end.

A node inside of a subgraph is called HOST:NODE, as the frontend calls it in what it sends. A host
that is muted or bypassed stays one node, and vanishes or hands on as any other.
"""

from dataclasses import dataclass, field
from typing import Any

from .graph import Link, WorkflowError

INSIDE, OUTSIDE = "-10", "-20"  # where a subgraph's inputs begin and its outputs end
NOTES = ("Note", "MarkdownNote")
RUNS = (None, 0)  # modes of a host that is taken apart
RESAVED = "open the workflow in ComfyUI and save it again"


@dataclass
class Scope:
    """The nodes and links of one place: the workflow itself, or the inside of one host."""

    prefix: str
    nodes: dict[str, dict[str, Any]]
    links: dict[str, tuple[str, int, str, int]]  # id -> source, its slot, target, its slot
    definition: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)
    outer: "Scope | None" = None
    inner: "dict[str, Scope]" = field(default_factory=dict)

    def end(self, link: str) -> Link | None:
        """The output that a link begins at, through hosts; None where nothing is connected.

        Raises:
            WorkflowError: the link is not in the file.
        """
        if link not in self.links:
            raise WorkflowError(
                f"follows link {link}, which is not in the file's list of links; {RESAVED}")
        source, slot, *_ = self.links[link]
        if source == INSIDE and self.outer:
            name = _names(self.definition, "inputs")[slot]
            given = [s.get("link") for s in self.host.get("inputs") or [] if s.get("name") == name]
            return self.outer.end(str(given[0])) if given and given[0] is not None else None
        if source in self.inner:
            inside = self.inner[source]
            found = [i for i, (_, _, target, place) in inside.links.items()
                     if (target, place) == (OUTSIDE, slot)]
            return inside.end(found[0]) if found else None
        return Link(self.prefix + source, slot)

    def all(self) -> "list[Scope]":
        """This place and every one inside of it."""
        return [self, *(scope for inside in self.inner.values() for scope in inside.all())]

    def shown(self) -> list[tuple[str, dict[str, Any]]]:
        """Every node that is no host, with its own id."""
        found = []
        for key, node in self.nodes.items():
            inside = self.inner.get(key)
            found += inside.shown() if inside else [(self.prefix + key, node)]
        return found


def taken_apart(nodes: list[dict], links: list, definitions: dict[str, dict], prefix: str = "",
                path: tuple[str, ...] = ()) -> Scope:
    """The scopes of a workflow.

    Args:
        nodes: of this place, as in the file.
        links: of this place, as in the file.
        definitions: subgraph id -> its definition.
        prefix: of the ids in this place.
        path: the subgraphs around it.

    Raises:
        WorkflowError: a subgraph inside of itself, or a link that cannot be read.
    """
    ids = [str(n.get("id")) for n in nodes if n.get("type") not in NOTES]
    if twice := sorted({i for i in ids if ids.count(i) > 1}):
        raise WorkflowError(f"the node id {', '.join(twice)} is given to more than one node.")
    scope = Scope(prefix, {str(n.get("id")): n for n in nodes if n.get("type") not in NOTES},
                  dict(read_link(link) for link in links if link is not None))
    for key, host in scope.nodes.items():
        kind = str(host.get("type"))
        if kind not in definitions or host.get("mode") not in RUNS:
            continue
        if kind in path:
            raise WorkflowError(f"node {prefix}{key}: its subgraph contains itself.")
        what = definitions[kind]
        inside = taken_apart(what.get("nodes") or [], what.get("links") or [], definitions,
                             f"{prefix}{key}:", (*path, kind))
        inside.definition, inside.host, inside.outer = what, host, scope
        scope.inner[key] = inside
    return scope


def _names(definition: dict[str, Any], kind: str) -> list[str]:
    return [str(slot.get("name")) for slot in definition.get(kind) or []]


def read_link(raw: Any) -> tuple[str, tuple[str, int, str, int]]:
    """A link of either kind: its id, source, output, target and input.

    Raises:
        WorkflowError: it is of neither.
    """
    try:
        if isinstance(raw, dict):
            raw = [raw["id"], raw["origin_id"], raw["origin_slot"], raw.get("target_id"),
                   raw.get("target_slot")]
        target, place = (*raw[3:5], None, None)[:2]  # of no use but to a subgraph's outputs
        return str(raw[0]), (str(raw[1]), int(raw[2]), str(target), int(place or 0))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise WorkflowError(
            f"cannot read the link {str(raw)[:80]}; expected [id, source, output, target, input, "
            "type].") from error
