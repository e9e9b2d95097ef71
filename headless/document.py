"""A workflow as it stands in a file, before it becomes a plan."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from .graph import Graph
from .signature import Catalog, Input


@dataclass(frozen=True)
class Entry:
    """One node of a document; ``raw`` is the file's own object and is written to by settings.

    ``active`` is False for nodes the user muted or bypassed.
    """

    id: str
    type: str
    title: str
    active: bool
    raw: dict[str, Any]

    def __str__(self) -> str:
        """How sentences to the user name the node."""
        return f"node {self.id} ({self.title})"


class Document(ABC):
    """What the two formats have in common.

    ``raw`` is the file's own object, settings included; ``workflow`` is what PNGs carry under that
    name.
    """

    workflow: dict[str, Any] | None = None
    entries: list[Entry]

    def __init__(self, raw: dict[str, Any], catalog: Catalog):
        """Remember which node classes the values are to be read with."""
        self.raw, self.catalog = raw, catalog

    @abstractmethod
    def graph(self) -> Graph:
        """The plan, with the document's values as they are now."""

    @abstractmethod
    def feeder(self, entry: Entry, name: str) -> str | None:
        """The id of the node that is linked to a widget and so overrides it, or None."""

    @abstractmethod
    def write(self, entry: Entry, name: str, value: Any) -> None:
        """Put a new value into a widget."""

    def widgets(self, entry: Entry) -> dict[str, Input]:
        """The widgets of a node; none for a node of unknown type."""
        return self.catalog[entry.type].widgets if entry.type in self.catalog else {}
