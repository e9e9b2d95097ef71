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
            _, given = self._shown(slot)
            return None if given is None else self.outer.end(given)
        if source in self.inner:
            inside = self.inner[source]
            found = [i for i, (_, _, target, place) in inside.links.items()
                     if (target, place) == (OUTSIDE, slot)]
            return inside.end(found[0]) if found else None
        return Link(self.prefix + source, slot)

    def holder(self, link: str) -> "tuple[dict[str, Any], str] | None":
        """The host that holds the value of a widget which it shows, and that widget's name."""
        source, slot, *_ = self.links.get(link, ("", 0))
        if source != INSIDE or not self.outer:
            return None
        name, given = self._shown(slot)
        if given is not None:
            return self.outer.holder(given)
        return (self.host, name) if held(self.host, name) is not None else None

    def _shown(self, slot: int) -> tuple[str, str | None]:
        """The name of an input that the host shows, and the link into it, if there is one."""
        name = str((self.definition.get("inputs") or [])[slot].get("name"))
        given = [s.get("link") for s in self.host.get("inputs") or [] if s.get("name") == name]
        return name, str(given[0]) if given and given[0] is not None else None

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


def held(host: dict[str, Any], name: str) -> Any:
    """The value of a widget that a host shows; None where it stands inside."""
    named, values = host.get("widgets_values_named") or {}, host.get("widgets_values")
    at = _place(host, name)
    listed = values[at] if isinstance(values, list) and at < len(values) else None
    return named.get(name, listed)


def hold(host: dict[str, Any], name: str, value: Any) -> None:
    """Change such a value."""
    values, at = host.get("widgets_values"), _place(host, name)
    if isinstance(values, list) and at < len(values):
        values[at] = value
    if name in (named := host.get("widgets_values_named") or {}):
        named[name] = value


def _place(host: dict[str, Any], name: str) -> int:
    """Where a widget stands among those that a host shows; behind them all if it does not."""
    shown = [s.get("name") for s in host.get("inputs") or [] if s.get("widget")]
    return shown.index(name) if name in shown else len(host.get("widgets_values") or [])


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
