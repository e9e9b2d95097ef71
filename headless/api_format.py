"""Reads the API format: ``{id: {"class_type": ..., "inputs": {name: value or [id, slot]}}}``."""

from typing import Any

from .document import Document, Entry
from .graph import Graph, Link, Node, WorkflowError
from .signature import Catalog

# Names that old frontends left among the inputs and that no node class declares.
FRONTEND_ONLY = ("upload", "control_after_generate", "speak_and_recognation")


class ApiDocument(Document):
    """A prompt as ComfyUI's server takes it and as PNGs carry it under ``prompt``."""

    def __init__(self, raw: dict[str, Any], catalog: Catalog):
        """Check the outer shape; values are checked by ``validation``.

        Raises:
            WorkflowError: an entry without ``class_type``, or with ``inputs`` of another kind.
        """
        super().__init__(raw, catalog)
        wrong = [
            f"node {key}: expected {{class_type, inputs}}, found {str(value)[:80]}."
            for key, value in raw.items()
            if not isinstance(value, dict) or not isinstance(value.get("class_type"), str)
            or not isinstance(value.setdefault("inputs", {}), dict)
        ]
        if wrong:
            raise WorkflowError(*wrong)
        self.entries = [
            Entry(str(key), value["class_type"], _title(value, catalog), True, value)
            for key, value in raw.items()
        ]

    def feeder(self, entry: Entry, name: str) -> str | None:
        """The node linked to the input, or None."""
        link = _link(entry.raw["inputs"].get(name))
        return link.source if link else None

    def write(self, entry: Entry, name: str, value: Any) -> None:
        """Put a literal under the input's name."""
        entry.raw["inputs"][name] = value

    def graph(self) -> Graph:
        """The plan."""
        return Graph({entry.id: self._node(entry) for entry in self.entries})

    def _node(self, entry: Entry) -> Node:
        node = Node(entry.id, entry.type, entry.title)
        for name, value in entry.raw["inputs"].items():
            if isinstance(value, list) and not _link(value):
                node.faults[name] = (
                    f"input {name!r} holds {value!r}; a link is [node id, output number]")
            elif isinstance(value, dict) and "__value__" in value:
                node.inputs[name] = value["__value__"]
            elif name not in FRONTEND_ONLY:
                node.inputs[name] = _link(value) or value
        return node


def _link(value: Any) -> Link | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    source, slot = value
    named = isinstance(source, str | int) and not isinstance(source, bool)
    numbered = isinstance(slot, int) and not isinstance(slot, bool)
    return Link(str(source), slot) if named and numbered else None


def _title(raw: dict[str, Any], catalog: Catalog) -> str:
    meta = raw.get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else None
    return str(title or catalog.title(raw["class_type"]))
