"""Imports the repository root as the package `undegrade`, whatever its folder is called."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"


def load_pack() -> None:
    """Make `import undegrade` work; a second call does nothing."""
    if "undegrade" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "undegrade", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec and spec.loader
    pack = importlib.util.module_from_spec(spec)
    sys.modules["undegrade"] = pack
    spec.loader.exec_module(pack)


def workflow(name: str) -> Path:
    """The shipped workflow of a name."""
    (path,) = (ROOT / "workflows").rglob(f"{name}.json")
    return path


def machine() -> dict[str, Any]:
    """What a figure depends on beside the code: cores, threads and versions."""
    import torch

    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def write_results(name: str, figures: dict[str, Any]) -> None:
    """benchmarks/results/<name>.json with the machine beside the figures."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), **figures}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")


def table(header: list[str], rows: list[list[Any]]) -> str:
    """Columns aligned with spaces; the first to the left, the others to the right."""
    cells = [header, *([f"{c:.3f}" if isinstance(c, float) else str(c) for c in r] for r in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    lines = []
    for row in cells:
        first, *rest = (
            c.ljust(w) if k == 0 else c.rjust(w)
            for k, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *rest]))
    return "\n".join(lines)


load_pack()
