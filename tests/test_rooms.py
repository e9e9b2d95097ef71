"""The rooms of each floor: which import which, and that no imports go in a circle."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_layers import LAYERS, PACK, ROOT, imports, plant

APART = (  # rooms that import none of the others
    {"pipelines.subdaps", "pipelines.adadiffsr", "pipelines.invsr", "pipelines.blind"},
    {"nodes.posterior", "nodes.regions", "nodes.inversion", "nodes.photograph"},
)
BELOW = {  # room -> rooms of its floor that it may import
    "nodes.comfyui": set(),
    "nodes.degradation": {"nodes.comfyui"},
    "pipelines.operators": set(),
    "pipelines.updates": {"pipelines.operators"},
    "pipelines.degradation": set(),
}


def module(file) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def arrows(root: Path) -> Iterator[tuple[str, str]]:
    """(module, imported module) within the pack, named from its root."""
    for i in imports(root, tuple(LAYERS)):
        if i.top == PACK and i.module != PACK:
            yield module(i.file), i.module.removeprefix(f"{PACK}.")


def room(name: str) -> str:
    return ".".join(name.split(".")[:2])


def trespassing(root: Path) -> list[str]:
    """Imports from one room to another that it has no door to."""
    return [f"{a} imports {b}" for a, b in arrows(root) if room(a) != room(b) and (
        any({room(a), room(b)} <= rooms for rooms in APART)
        or (room(a) in BELOW and is_room(root, room(b)) and room(b) not in BELOW[room(a)]
            and room(a).split(".")[0] == room(b).split(".")[0]))]


def is_room(root: Path, name: str) -> bool:
    return (root / name.replace(".", "/")).is_dir()


def circles(root: Path) -> list[str]:
    """Modules that import themselves in the end, lazily or not."""
    after: dict[str, set[str]] = {}
    for a, b in arrows(root):
        after.setdefault(a, set()).add(b)
    found = []
    for start in sorted(after):
        seen, ahead = set(), [start]
        while ahead:
            new = after.get(ahead.pop(), set()) - seen
            seen |= new
            ahead += new
        found += [start] if start in seen else []
    return found


BROKEN = {
    trespassing: [
        ("pipelines/invsr/a.py", "from ..subdaps.sampler import restore"),
        ("nodes/comfyui/a.py", "def f():\n    from ..regions import sampler"),
        ("nodes/inversion/a.py", "from ..posterior.sampler import x"),
        ("pipelines/updates/a.py", "from ..subdaps.sampler import x"),
    ],
    circles: [("models/codec.py", "def f():\n    from .codec import x")],
}
SOUND = [
    ("pipelines/invsr/a.py", "from ..noise import Noise\nfrom .b import x"),
    ("nodes/regions/a.py", "from ..comfyui import host\nfrom ..widgets import x"),
    ("pipelines/updates/a.py", "from ..operators.contract import x"),
    ("nodes/comfyui/a.py", "from ..images import x\nfrom . import host"),
]
ROOMS = [(f"{name}/{inner}.py", "") for name, inner in (
    ("pipelines/subdaps", "sampler"), ("nodes/regions", "sampler"), ("nodes/posterior", "sampler"),
    ("pipelines/operators", "contract"))]


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_the_pack_keeps(rule):
    assert rule(ROOT) == []


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_finds_what_breaks(rule, tmp_path):
    for number, file in enumerate(BROKEN[rule]):
        assert len(rule(plant(tmp_path / str(number), *ROOMS, file))) == 1, file
    assert rule(plant(tmp_path / "sound", *ROOMS, *SOUND)) == []


def test_a_circle_of_two_is_found(tmp_path):
    root = plant(tmp_path, ("models/a.py", "from . import b"),
                 ("models/b.py", "def f():\n    from .a import x"))
    assert circles(root) == ["models.a", "models.b"]
