"""The command's own process: its start, its version, threads and memory."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from undegrade.headless import cli
from undegrade.headless.own_process import choose_threads, keep_memory, threads

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("cores", "load", "chosen"), [(2, 0.1, 2), (2, 0.9, 1), (2, 5.0, 1), (16, 4.2, 12), (1, 0.0, 1)]
)
def test_as_many_threads_as_cores_are_free(cores, load, chosen):
    assert threads(cores, load) == chosen


def test_the_users_choice_stands(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr("os.getloadavg", lambda: pytest.fail("asked"))
    choose_threads()
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not keep_memory()


def test_only_a_process_of_its_own_is_touched(monkeypatch):
    for name in ("keep_memory", "choose_threads"):
        monkeypatch.setattr(cli, name, lambda: pytest.fail("called within another program"))
    assert cli.main(["nodes"]) == 0


def test_the_version_is_the_projects(capsys):
    assert cli.main(["--version"]) == 0
    said = capsys.readouterr().out
    assert f'version = "{said.split()[1]}"' in (ROOT / "pyproject.toml").read_text()


def test_the_launcher_starts_from_a_folder_with_any_name(tmp_path):
    root = tmp_path / "ComfyUI-Undegrade.v2"
    for folder in ("headless", "locales", "subgraphs"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "undegrade", root)
    (root / "__init__.py").write_text("")
    (root / "nodes" / "comfyui").mkdir(parents=True)
    (root / "nodes" / "__init__.py").write_text(
        "NODE_CLASS_MAPPINGS = {}\nNODE_DISPLAY_NAME_MAPPINGS = {}\n")
    (root / "nodes" / "comfyui" / "host.py").write_text(
        "def set_progress_sink(sink):\n    return None\n")
    (root / "json.py").write_text("raise ImportError('the pack shadows the standard library')\n")
    raw = {"1": {"class_type": "SolidMask", "inputs": {"value": 1, "width": 4, "height": 3}},
           "2": {"class_type": "MaskPreview", "inputs": {"mask": ["1", 0]}}}
    (tmp_path / "m.json").write_text(json.dumps(raw))

    def start(*arguments, options=()):
        return subprocess.run([sys.executable, *options, root / "undegrade", *arguments],
                              cwd=tmp_path, capture_output=True, text=True, timeout=60)

    done = start("run", "m.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"MaskPreview: {Path('output/preview/ComfyUI_00001_.png')}\n"
    told = start("--help", options=("-X", "importtime"))
    assert told.returncode == 0 and "usage: undegrade" in told.stdout
    assert "headless.cli" in told.stderr and "torch" not in told.stderr
