"""Imports point down, heavy ones wait for their use, and files stay small."""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACK = "undegrade"
LAYERS = {  # folder -> what it may import of the pack, besides itself; "" is the root
    "": {"nodes"},
    "nodes": {"pipelines", "models"},
    "pipelines": {"models"},
    "models": set(),
    "headless": {"nodes", "pipelines", "models"},
    "training": {"pipelines", "models"},
}
SHIPPED = ("", "nodes", "pipelines", "models", "headless")
SCRIPTS = ("", "headless", "training", "benchmarks", "tests")  # Python may put these on its path
SEAMS = {f"{PACK}.models.{name}" for name in ("prior", "codec", "noise_table", "sending")}
COMFY = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths"}
COMFY_NAME = re.compile(r"(comfy|comfy_api|comfy_extras|comfy_execution)(\.\w+)+|folder_paths")
ASKS_HOST = re.compile(r"nodes/comfyui/host\.py:|nodes/comfyui/\w+\.py:\d+ names ")
HEAVY = ("diffusers", "kornia", "scipy", "skimage", "transformers", "ray", "av", "lpips", "deepinv")
OPTIONAL = {"av", "deepinv", "huggingface_hub", "lpips", "ray", "tifffile", "transformers"}
DISTRIBUTIONS = {"PIL": "pillow", "skimage": "scikit-image"}  # where the import's name differs
LATE = re.compile(r"\.double\(\)(\.\w+\(\))*\.cpu\(\)")
TYPING = {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
VAGUE = re.compile(r"(util|helper|common|manager|misc)s?")
FUNCTION_LINES, FILE_LINES, NETWORK_LINES = 50, 250, 500


@dataclass(frozen=True)
class Import:
    """One imported module; modules of the pack begin with its name, however they were written."""

    file: PurePosixPath
    line: int
    module: str
    relative: bool
    lazy: bool  # inside a function or under TYPE_CHECKING: not run when the file is imported

    @property
    def folder(self) -> str:
        return folder_of(self.file)

    @property
    def top(self) -> str:
        return self.module.split(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def folder_of(file: PurePosixPath) -> str:
    return file.parts[0] if len(file.parts) > 1 else ""


def sources(root: Path, folders: tuple[str, ...]) -> Iterator[tuple[PurePosixPath, str]]:
    """Every Python file of the folders, read; of the root itself only its own files."""
    for folder in folders:
        for path in sorted((root / folder).glob("**/*.py" if folder else "*.py")):
            yield PurePosixPath(path.relative_to(root).as_posix()), path.read_text("utf-8")


def walk(node: ast.AST, lazy: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below, and whether it runs later than the import of its file."""
    later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
        isinstance(node, ast.If) and ast.unparse(node.test) in TYPING)
    body = getattr(node, "body", []) if later else []
    for child in ast.iter_child_nodes(node):
        inside = lazy or child in body
        yield child, inside
        yield from walk(child, inside)


def imports(root: Path, folders: tuple[str, ...]) -> list[Import]:
    """Every import statement, one entry per module."""
    return [i for file, text in sources(root, folders) for i in imports_of(root, file, text)]


@cache
def imports_of(root: Path, file: PurePosixPath, text: str) -> list[Import]:
    """Those of one file, parsed once for all rules."""
    found = []
    for node, lazy in walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            plain, place = isinstance(node, ast.Import), (file, node.lineno)
            names = [a.name for a in node.names] if plain else resolve(root, file, node)
            found += [Import(*place, n, not plain and node.level > 0, lazy) for n in names]
    return found


def resolve(root: Path, file: PurePosixPath, node: ast.ImportFrom) -> list[str]:
    """The modules of a from-import: those it names as such, and those among its names."""
    package = [PACK, *file.parent.parts]
    if node.level > len(package):
        return ["(above the pack)"]
    parts = package[:len(package) - node.level + 1] if node.level else []
    base = ".".join([*parts, *filter(None, [node.module])])
    place = root.joinpath(*base.split(".")[1:])
    if base.split(".")[0] != PACK:
        return [base]
    return [f"{base}.{a.name}" if (place / a.name).is_dir() or (place / f"{a.name}.py").is_file()
            else base for a in node.names]


def absolute(root: Path) -> list[str]:
    """Imports inside the pack that are not relative, or leave it."""
    return [str(i) for i in imports(root, SHIPPED) if i.module.startswith("(") or (
        not i.relative and i.top in {PACK, *LAYERS, "tests", "benchmarks"})]


def upward(root: Path) -> list[str]:
    """Imports against the arrows."""
    return [str(i) for i in imports(root, tuple(LAYERS)) if i.top == PACK
            and folder_of(PurePosixPath(*i.module.split(".")[1:], "x"))
            not in LAYERS[i.folder] | {i.folder}]


def past_the_seams(root: Path) -> list[str]:
    """Imports of the algorithms that reach into networks and checkpoints."""
    return [str(i) for i in imports(root, ("pipelines",))
            if i.module.startswith(f"{PACK}.models") and i.module not in SEAMS]


def comfy(root: Path) -> list[str]:
    """Files that import ComfyUI, or name a module of it beside those that may ask the host."""
    named = [str(i) for i in imports(root, tuple(LAYERS)) if i.top in COMFY]
    for file, text in sources(root, tuple(LAYERS)):
        named += [f"{file}:{node.lineno} names {node.value}" for node in ast.walk(ast.parse(text))
                  if isinstance(node, ast.Constant) and isinstance(node.value, str)
                  and COMFY_NAME.fullmatch(node.value)]
    return [line for line in named if not ASKS_HOST.match(line)]


def heavy(root: Path) -> list[str]:
    """Imports that would slow the start of ComfyUI."""
    return [str(i) for i in imports(root, SHIPPED) if i.top in HEAVY and not i.lazy]


def undeclared(root: Path) -> list[str]:
    """Imports that requirements.txt does not name; optional packages may be imported on use."""
    text = (root / "requirements.txt").read_text(encoding="utf-8")
    names = {re.split(r"[<>=!~; ]", line)[0] for line in text.splitlines()}
    declared = {*names, *sys.stdlib_module_names, PACK, *COMFY}
    return [str(i) for i in imports(root, SHIPPED)
            if DISTRIBUTIONS.get(i.top, i.top) not in declared and not i.module.startswith("(")
            and not (i.lazy and i.top in OPTIONAL)]


def misnamed(root: Path) -> list[str]:
    """File names that say nothing, or hide a module of the standard library from a script."""
    names = {p.stem for folder in SCRIPTS for p in (root / folder).glob("*")
             if p.suffix == ".py" or p.is_dir()} | {f.stem for f, _ in sources(root, SHIPPED)}
    vague = [str(file) for file, _ in sources(root, (*LAYERS, "benchmarks"))
             if VAGUE.fullmatch(file.stem)]
    return vague + sorted(names & sys.stdlib_module_names)


def oversized(root: Path) -> list[str]:
    """Files and functions that no longer fit a reader's head."""
    found = []
    for file, text in sources(root, (*LAYERS, "benchmarks", "tests")):
        limit = NETWORK_LINES if file.parts[0] == "models" else FILE_LINES
        if (lines := len(text.splitlines())) > limit:
            found.append(f"{file} has {lines} lines; the limit is {limit}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    found.append(f"{file}:{node.lineno} {node.name} has {length} lines")
    return found


def late(root: Path) -> list[str]:
    """Apple's GPUs have no float64: a tensor goes to the CPU first."""
    return [str(file) for file, text in sources(root, SHIPPED) if LATE.search(text)]


BROKEN = {  # rule -> files with their texts, in each of which the rule must find one fault
    absolute: [("nodes/a.py", "import undegrade.models"),
               ("models/a.py", "from pipelines import x"),
               ("nodes/a.py", "def f():\n    from ...x import y")],
    upward: [("models/a.py", "from ..pipelines import x"),
             ("nodes/a.py", "from .. import headless"),
             ("pipelines/updates/a.py", "def f():\n    from ...nodes.host import y"),
             ("training/a.py", "from undegrade.nodes import host"),
             ("__init__.py", "from .models import x")],
    past_the_seams: [("pipelines/a.py", "from ..models import pixel"),
                     ("pipelines/operators/a.py", "from ...models.pixel import x")],
    comfy: [("nodes/a.py", "import comfy.utils"), ("headless/a.py", "x('folder_paths')"),
            ("models/a.py", "def f():\n    from comfy_api.latest import io"),
            ("nodes/comfyui/a.py", "import comfy.samplers")],
    heavy: [("models/a.py", "try:\n    from scipy import ndimage\nexcept ImportError:\n    pass"),
            ("nodes/a.py", "class A:\n    import kornia.filters")],
    undeclared: [("models/a.py", "def f():\n    import skimage.data"),
                 ("nodes/a.py", "import ray")],
    misnamed: [("nodes/utils.py", ""), ("headless/signal.py", ""), ("queue/a.py", ""),
               ("pipelines/operators/operator.py", "")],
    oversized: [("nodes/a.py", "def f():\n" + 50 * "    x\n"), ("nodes/a.py", 251 * "x\n"),
                ("models/a.py", 501 * "x\n")],
    late: [("models/a.py", "x.double().flatten().cpu()")],
}
SOUND = [  # in which no rule may find any
    ("__init__.py", "from .nodes import x"), ("nodes/comfyui/host.py", "import comfy.utils"),
    ("nodes/comfyui/a.py", "from .host import comfy\nx = comfy('comfy.samplers')"),
    ("nodes/scores.py", "from ..pipelines.subdaps import restore\nfrom . import widgets"),
    ("pipelines/a.py", "from ..models.prior import Prior\nfrom ..models import codec"),
    ("models/a.py", "def f():\n    import diffusers\n    return [lambda: diffusers]"),
    ("headless/a.py", "from .. import nodes\nfrom typing import TYPE_CHECKING\nx('comfy-core')\n"
                      "if TYPE_CHECKING:\n    import kornia"),
    ("training/a.py", "import scipy, undegrade.models.pixel"),
    ("models/b.py", 500 * "x\n"), ("nodes/b.py", "def f():\n" + 49 * "    x\n"),
]


def plant(root: Path, *files: tuple[str, str]) -> Path:
    """A small pack with the given files."""
    for folder in ("headless", "training", "benchmarks", "tests", "nodes"):
        (root / folder).mkdir(parents=True)
    names = ("models/codec.py", "models/prior.py", "models/pixel.py", "nodes/comfyui/host.py")
    for name, text in [(name, "") for name in names] + list(files):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "requirements.txt").write_text("diffusers\nkornia\n")
    return root


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_the_pack_keeps(rule):
    found = rule(ROOT)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_finds_what_breaks(rule, tmp_path):
    for number, file in enumerate(BROKEN[rule]):
        assert len(rule(plant(tmp_path / str(number), file))) == 1, file
    assert rule(plant(tmp_path / "sound", *SOUND)) == []


def test_the_walk_sees_the_pack():
    seen = {i.folder for i in imports(ROOT, SHIPPED) if i.top == PACK}
    assert seen == set(SHIPPED)
