"""The node pack as the command sees it, and everything a workflow may use."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .blueprints import ROOT
from .folders import Folders
from .signature import Catalog


def version() -> str:
    """The pack's, of its folder or of what pip has installed."""
    from importlib.metadata import version as installed

    if not (project := ROOT / "pyproject.toml").is_file():
        return installed("undegrade")
    found = re.search(r'^version = "(.+)"$', project.read_text("utf-8"), re.MULTILINE)
    assert found, f"{project} has no version"
    return found[1]


@dataclass(frozen=True)
class Pack:
    """The node pack; ``host`` is its module with ``set_progress_sink``."""

    classes: dict[str, type]
    titles: dict[str, str]
    host: ModuleType | Any

    @classmethod
    def load(cls) -> "Pack":
        """Import the pack this command belongs to."""
        from .. import nodes
        from ..nodes.comfyui import host

        return cls(nodes.NODE_CLASS_MAPPINGS, nodes.NODE_DISPLAY_NAME_MAPPINGS, host)

    def catalog(self, folders: Folders, instead: Mapping[str, type] | None = None) -> Catalog:
        """The pack's nodes and the stock ones, the latter bound to the folders of a run.

        ``instead`` has nodes that take the place of stock ones.
        """
        from .stock import stock_classes, stock_titles

        return Catalog({**self.classes, **stock_classes(folders, instead)},
                       {**self.titles, **stock_titles()})
