"""What the packaging files say about one another, and about the tree, is true."""

import importlib
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from PIL import Image

import undegrade
from undegrade.nodes.comfyui.wall import LOWEST

ROOT = Path(__file__).resolve().parent.parent
TOML = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
PYPROJECT = TOML.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
FREE = {"torch", "numpy", "transformers"}  # the user's ComfyUI chooses their versions
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
DATA = ("locales", "models/embedded", "subgraphs", "web", "workflows")


def requirements(lines: list[str]) -> list[Requirement]:
    """The requirements among the lines of a file, without comments and empty lines."""
    return [Requirement(line) for line in (x.split("#")[0].strip() for x in lines) if line]


def listed(name: str) -> list[Requirement]:
    return requirements((ROOT / name).read_text(encoding="utf-8").splitlines())


def pins(python: str) -> dict[str, str]:
    """The version that constraints.txt fixes for each package under a version of Python."""
    found = {}
    for entry in listed("constraints.txt"):
        if entry.marker is None or entry.marker.evaluate({"python_version": python}):
            name = canonicalize_name(entry.name)
            assert name not in found, f"{name} is pinned twice for Python {python}"
            found[name] = str(entry.specifier)
    return found


def test_dependencies_are_said_once():
    assert listed("requirements.txt") == requirements(PROJECT["dependencies"])
    assert listed("requirements-dev.txt") == requirements(PROJECT["optional-dependencies"]["dev"])


def test_users_versions_are_left_alone():
    named = listed("requirements.txt") + requirements(
        [entry for extra in PROJECT["optional-dependencies"].values() for entry in extra])
    assert {"torch", "numpy"} <= {entry.name for entry in named}
    for entry in named:
        operators = {specifier.operator for specifier in entry.specifier}
        lowest = {">="} if entry.name == "torch" else set()  # ComfyUI's own
        assert operators <= (lowest if entry.name in FREE else {">=", "!="}), entry


def test_the_lowest_torch_is_said_everywhere():
    stated = f">={LOWEST[0]}.{LOWEST[1]}"
    (torch,) = [entry for entry in listed("requirements.txt") if entry.name == "torch"]
    assert str(torch.specifier) == stated
    assert f"torch {stated[2:]} or newer" in (ROOT / "README.md").read_text(encoding="utf-8")
    tried = (ROOT / "benchmarks" / "torch_versions.py").read_text(encoding="utf-8")
    assert f'"{stated[2:]}.' in tried


def test_continuous_integration_tries_every_version_of_torch():
    text = (ROOT / "benchmarks" / "torch_versions.py").read_text(encoding="utf-8")
    (known,) = re.findall(r"^VERSIONS = \((.*?)\)", text, re.M | re.S)
    (reference,) = re.findall(r'^REFERENCE = "(.*)"', text, re.M)
    versions = {*re.findall(r"\d+\.\d+\.\d+", known), reference}
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    (row,) = re.findall(r"torch: \[(.*)\]", workflow)
    assert set(re.findall(r"\d+\.\d+\.\d+", row)) == versions


@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_pin_what_requirements_name(python):
    fixed = pins(python)
    for entry in listed("requirements.txt") + listed("requirements-dev.txt"):
        if entry.marker is None or entry.marker.evaluate({"python_version": python}):
            assert re.fullmatch(r"==[\d.]+", fixed.get(entry.name, "")), (entry.name, python)
    assert fixed["torch"] == "==2.13.0"


def test_oldest_python_agrees():
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert oldest == PYPROJECT["tool"]["pyright"]["pythonVersion"] == PYTHONS[0]
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    minor = oldest.split(".")[1]
    assert f"< (3, {minor})" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_version_is_the_changelogs_latest():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = r"^## \[(\d+\.\d+\.\d+)\] - (?:unreleased|\d{4}-\d\d-\d\d)$"
    versions = re.findall(heading, changelog, re.M)
    assert versions and versions[0] == PROJECT["version"]
    assert versions == sorted(versions, key=Version, reverse=True)


def test_wheel_has_every_package():
    setuptools = PYPROJECT["tool"]["setuptools"]
    assert setuptools["package-dir"] == {"undegrade": "."}
    tree = {"undegrade"}
    for top in ("headless", "models", "nodes", "pipelines", "training"):
        tree |= {".".join(["undegrade", *file.parent.relative_to(ROOT).parts])
                 for file in (ROOT / top).rglob("*.py")}
    assert set(setuptools["packages"]) == tree
    for package in tree:
        assert ROOT.joinpath(*package.split(".")[1:], "__init__.py").is_file(), package


def test_wheel_has_every_data_file():
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["undegrade"]
    carried = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    present = {path for folder in DATA for path in (ROOT / folder).rglob("*") if path.is_file()}
    assert carried == present
    for folder in DATA:
        assert any((ROOT / folder) in path.parents for path in present), folder


def test_the_registry_leaves_out_nothing_that_the_pack_needs():
    """.comfyignore against what the wheel carries, and what ComfyUI and pip read beside it."""
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    assert lines == sorted(set(lines)), "plain names in order, no patterns"
    left_out = {ROOT / line.rstrip("/") for line in lines}
    for line, path in zip(lines, sorted(left_out), strict=True):
        assert path.is_dir() if line.endswith("/") else path.is_file(), line
    needed = [ROOT / name for name in ("LICENSE", "README.md", "pyproject.toml",
                                       "requirements.txt", "undegrade", "CHANGELOG.md")]
    needed += [path for folder in DATA for path in (ROOT / folder).rglob("*")]
    setuptools = PYPROJECT["tool"]["setuptools"]
    for package in setuptools["packages"]:
        needed += ROOT.joinpath(*package.split(".")[1:]).glob("*.py")
    assert len(needed) > 300
    assert not [path for path in needed if left_out & {path, *path.parents}]


def test_workflows_of_continuous_integration_run_what_exists():
    folder = ROOT / ".github" / "workflows"
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert texts.keys() == {"ci.yml", "publish.yml"}
    assert "run: .ci/run\n" in texts["ci.yml"] and (ROOT / ".ci" / "run").is_file()
    assert "Comfy-Org/node-diff@" in texts["ci.yml"]
    assert "uses: ./.github/workflows/ci.yml" in texts["publish.yml"]
    assert "Comfy-Org/publish-node-action@" in texts["publish.yml"]
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert f'python-version: ["{oldest}", ' in texts["ci.yml"]


def test_icon_and_banner_have_the_registrys_sizes():
    with Image.open(ROOT / "assets" / "icon.png") as icon:
        assert icon.width == icon.height <= 400
    with Image.open(ROOT / "assets" / "banner.png") as banner:
        assert banner.width * 9 == banner.height * 21


def test_web_directory_exists():
    assert any((ROOT / undegrade.WEB_DIRECTORY).rglob("*.md"))


def test_command_exists():
    module, function = PROJECT["scripts"]["undegrade"].split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_named_files_exist():
    assert "Copyright (c) 2026 Undegrade contributors" in (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "MIT" and PROJECT["license-files"] == ["LICENSE"]
    assert (ROOT / PROJECT["readme"]).is_file()
    icon = PYPROJECT["tool"]["comfy"].get("Icon")
    assert icon is None or icon.startswith("https://") or (ROOT / icon).is_file()


@pytest.mark.parametrize("name", [
    "requirements.txt", "requirements-dev.txt", "constraints.txt", "Makefile", ".ci/run",
    ".pre-commit-config.yaml",
])
def test_installs_from_wherever_the_user_does(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"https?:|index-url|find-links|\+cpu|\+cu\d|/(root|home|work|opt)/", text)
