"""Reads the format ComfyUI's frontend saves: nodes, links and positional widget values.

What the format leaves unsaid, and the frontend settles when a workflow is queued, is settled
here by the same rules:

* Widget values have no names; ``widget_values`` finds whose they are.
* A muted node (mode 2) vanishes together with the inputs linked to it.
* A bypassed node (mode 4) hands on the input that fits the output: the one at the same place, else
  the first of exactly the wanted type, else the first that may be connected.
* A node inside of a subgraph is one of the plan; ``subgraphs`` follows the links in and out.
* Reroute hands on its one input, PrimitiveNode writes its value into the widget it is linked to,
  notes and groups mean nothing.
"""

from contextlib import suppress
from typing import Any

from .document import Document, Entry
from .graph import Graph, Link, Node, WorkflowError
from .signature import Catalog, Input, accepts
from .subgraphs import held, hold, taken_apart
from .widget_values import lay_out

MUTED, BYPASSED = 2, 4
REROUTE, PRIMITIVE = "Reroute", "PrimitiveNode"
NOTHING = object()  # an input that gets no value from its link


class UiDocument(Document):
    """A workflow as users save, share and drag it."""

    def __init__(self, raw: dict[str, Any], catalog: Catalog):
        """Check the outer shape; links and values are checked when the plan is made.

        Raises:
            WorkflowError: a node without id or type, two nodes with one id, an unreadable link, a
                part of another kind than the format has there.
        """
        super().__init__(raw, catalog)
        self.workflow = raw
        for node in raw["nodes"]:
            _entry(node, catalog)
        definitions = _part(raw, "definitions", dict, "the workflow")
        subgraphs = _part(definitions, "subgraphs", list, "the workflow", dict)
        for inside in subgraphs:
            for node in _part(inside, "nodes", list, f"the subgraph {inside.get('name')}"):
                _entry(node, catalog)
        scope = taken_apart(
            raw["nodes"], _part(raw, "links", list, "the workflow"),
            {str(inside.get("id")): inside for inside in subgraphs})
        self._scopes = {place.prefix: place for place in scope.all()}
        self.entries = [_entry(node, catalog, i) for i, node in scope.shown()]
        self._by_id = {entry.id: entry for entry in self.entries}

    def graph(self) -> Graph:
        """The plan: active nodes only, with every link followed to the node that computes."""
        active = [e for e in self.entries if e.active and e.type not in (REROUTE, PRIMITIVE)]
        nodes = {entry.id: self._node(entry) for entry in active}
        for node in nodes.values():
            for name, link in node.links.items():
                if link.source in self._by_id and link.source not in nodes:
                    del node.inputs[name]  # its source is muted
        return Graph(nodes)

    def _node(self, entry: Entry) -> Node:
        properties = entry.raw.get("properties") or {}
        node = Node(entry.id, entry.type, entry.title, origin=str(properties.get("cnr_id", "")))
        if entry.type.startswith(("workflow>", "workflow/")):
            node.faults[""] = (
                "is a group node, which the undegrade command does not run; convert it in ComfyUI "
                "to nodes or to a subgraph and save again")
        elif entry.type in self.catalog:
            self._read_widgets(entry, node)
        for slot in entry.raw.get("inputs") or []:
            try:
                value = self._follow(entry, slot, ())
            except WorkflowError as error:
                node.faults[slot["name"]] = f"input {slot['name']!r} {error}"
            else:
                if value is not NOTHING:
                    node.inputs[slot["name"]] = value
        return node

    # Widgets

    def _read_widgets(self, entry: Entry, node: Node) -> None:
        signature, values = self.catalog[entry.type], entry.raw.get("widgets_values") or []
        if isinstance(values, dict):
            node.inputs |= {n: values.get(n, w.default) for n, w in signature.widgets.items()}
            return
        try:
            places = lay_out(signature, values)
        except WorkflowError as error:
            node.faults[""] = str(error)
            node.faults |= dict.fromkeys(signature.inputs, "")
        else:
            node.inputs |= {name: value for name, value in places if name}

    def widgets(self, entry: Entry) -> dict[str, Input]:
        """The widgets of a node; a PrimitiveNode has one, declared by what it feeds."""
        if entry.type != PRIMITIVE:
            return super().widgets(entry)
        for target in self.entries:
            for slot in target.raw.get("inputs") or []:
                source = self._end(target, slot)
                declared = super().widgets(target).get(slot["name"])
                if source and source.source == entry.id and declared:
                    return {"value": declared}
        return {}

    def feeder(self, entry: Entry, name: str) -> str | None:
        """The node linked to the widget, or None."""
        slots = [s for s in entry.raw.get("inputs") or [] if s["name"] == name]
        link = self._end(entry, slots[0]) if slots else None
        return link.source if link else None

    def write(self, entry: Entry, name: str, value: Any) -> None:
        """Put a value at the widget's place.

        Raises:
            WorkflowError: the node's values do not fit its class.
        """
        values = entry.raw.get("widgets_values") or []
        slots = [s for s in entry.raw.get("inputs") or [] if s["name"] == name]
        if slots and (holder := self._holder(entry, slots[0])):
            hold(*holder, value)
        elif isinstance(values, dict):
            values[name] = value
        elif entry.type == PRIMITIVE:
            entry.raw["widgets_values"] = [value, *values[1:]]
        else:
            places = lay_out(self.catalog[entry.type], values)
            entry.raw["widgets_values"] = [value if n == name else old for n, old in places]

    # Links

    def _end(self, owner: Entry, slot: dict[str, Any]) -> Link | None:
        """The output that a node's input is linked to, through subgraphs; None for none."""
        with suppress(WorkflowError):
            return self._linked(owner, slot)
        return None

    def _holder(self, owner: Entry, slot: dict[str, Any]) -> tuple[dict[str, Any], str] | None:
        if slot.get("link") is None:
            return None
        head, colon, _ = owner.id.rpartition(":")
        return self._scopes[head + colon].holder(str(slot["link"]))

    def _linked(self, owner: Entry, slot: dict[str, Any]) -> Link | None:
        if slot.get("link") is None:
            return None
        head, colon, _ = owner.id.rpartition(":")
        return self._scopes[head + colon].end(str(slot["link"]))

    def _follow(self, owner: Entry, slot: dict[str, Any], passed: tuple[str, ...]) -> Any:
        """What an input slot gets: a Link, a PrimitiveNode's value, or NOTHING."""
        link = self._linked(owner, slot)
        if link is None:
            holder = self._holder(owner, slot)
            return held(*holder) if holder else NOTHING
        source = self._by_id.get(link.source)
        if source is None:
            return link
        if source.id in passed:
            raise WorkflowError(
                f"is linked to a circle of Reroute or bypassed nodes ({', '.join(passed)})")
        inputs = source.raw.get("inputs") or []
        if source.type == PRIMITIVE:  # bypassed and muted, too: the frontend writes it into widgets
            values = source.raw.get("widgets_values") or []
            values = values.values() if isinstance(values, dict) else values
            return next(iter(values), NOTHING)
        if source.raw.get("mode") == BYPASSED:
            through = _passage(source.raw, link.slot, slot.get("type", "*"))
        elif source.type == REROUTE:
            through = inputs[0] if inputs else None
            if through:  # the wanted type is that of the far end
                through = {**through, "type": slot.get("type", "*")}
        else:
            return link
        return self._follow(source, through, (*passed, source.id)) if through else NOTHING


def _passage(raw: dict[str, Any], slot: int, wanted: str) -> dict[str, Any] | None:
    """The input that a bypassed node hands on for its output number ``slot``."""
    inputs, outputs = raw.get("inputs") or [], raw.get("outputs") or []
    given = outputs[slot].get("type", "*") if slot < len(outputs) else "*"
    if wanted in ("*", ""):
        return inputs[slot] if slot < len(inputs) else next(iter(inputs), None)

    def fits(candidate: dict[str, Any]) -> bool:
        kind = candidate.get("type", "*")
        return accepts(kind, given) and accepts(kind, wanted)

    if slot < len(inputs) and fits(inputs[slot]):
        return inputs[slot]
    exact = [i for i in inputs if i.get("type") == wanted]
    return next(iter(exact + [i for i in inputs if fits(i)]), None)


def _entry(raw: Any, catalog: Catalog, known: str = "") -> Entry:
    if not isinstance(raw, dict) or "id" not in raw or not isinstance(raw.get("type"), str):
        raise WorkflowError(f"expected a node with id and type, found {str(raw)[:80]}.")
    title = str(raw.get("title") or catalog.title(raw["type"]))
    active = raw.get("mode") not in (MUTED, BYPASSED)
    entry = Entry(known or str(raw["id"]), raw["type"], title, active, raw)
    _part(raw, "properties", dict, str(entry))
    _part(raw, "outputs", list, str(entry), dict)
    if not isinstance(raw.get("widgets_values"), dict):
        _part(raw, "widgets_values", list, str(entry))
    for slot in _part(raw, "inputs", list, str(entry), dict):
        if not isinstance(slot.get("name"), str):
            raise WorkflowError(f"{entry}: one of its inputs has no name.")
    return entry


def _part(raw: dict[str, Any], key: str, kind: type, owner: str, inner: type = object) -> Any:
    """A part of the file, or an empty one where it is absent or null."""
    part = raw.get(key)
    if part is None:
        return kind()
    if not isinstance(part, kind) or not all(isinstance(item, inner) for item in part):
        raise WorkflowError(
            f"{owner}: {key!r} is {str(part)[:80]}, which the format does not allow.")
    return part
