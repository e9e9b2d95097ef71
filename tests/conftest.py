"""Makes the pack importable as `undegrade`, whatever its folder is called."""

import importlib.util
import os
import secrets
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


def load_pack() -> None:
    """Import the repository root as the package `undegrade`."""
    spec = importlib.util.spec_from_file_location(
        "undegrade", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec and spec.loader
    pack = importlib.util.module_from_spec(spec)
    sys.modules["undegrade"] = pack
    spec.loader.exec_module(pack)
    sys.modules.setdefault("__init__", pack)  # pytest imports the root __init__.py before each test


load_pack()

# Ray reads these when it is first imported: a token of our own, so that it makes none at home.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@pytest.fixture
def draw():
    """Seeded standard normal tensors: draw(B, C, H, W)."""
    generator = torch.Generator().manual_seed(1)

    def make(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype)

    return make


@pytest.fixture
def folders(tmp_path):
    """Where the stock nodes of a test read and write."""
    from undegrade.headless.folders import Folders

    return Folders(tmp_path / "out", (tmp_path,))


@pytest.fixture
def call(folders):
    """Run a stock node as a run does: call(id, **inputs), defaults filled in."""
    from undegrade.headless.stock import stock_classes

    classes = stock_classes(folders)

    def run(name, **inputs):
        node = classes[name]()
        spec = node.INPUT_TYPES()
        known = {**spec["required"], **spec.get("optional", {}), **spec.get("hidden", {})}
        assert set(inputs) <= set(known)
        defaults = {n: s[1]["default"] for n, s in spec["required"].items()
                    if len(s) > 1 and "default" in s[1]}
        with torch.inference_mode():
            return getattr(node, node.FUNCTION)(**{**defaults, **inputs})

    return run
