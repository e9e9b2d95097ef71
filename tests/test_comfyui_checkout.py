"""Which ComfyUI the tests of tests/comfyui take."""

from pathlib import Path

import pytest
from comfyui import checkout


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home folder on Linux, and no variables."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(checkout.sys, "platform", "linux")
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.delenv("COMFYUI_PYTHON", raising=False)
    return tmp_path


def made(folder):
    (folder / "comfy").mkdir(parents=True)
    for name in ("main.py", "nodes.py"):
        (folder / name).touch()
    return folder


def test_none_is_there(home):
    assert checkout.checkout() is None


def test_comfy_cli_s_workspaces(home):
    own = made(home / "comfy" / "ComfyUI")
    assert checkout.checkout() == own
    chosen = made(home / "elsewhere")
    config = home / ".config" / "comfy-cli" / "config.ini"
    config.parent.mkdir(parents=True)
    config.write_text(f"[DEFAULT]\ndefault_workspace = {chosen}\n")
    assert checkout.checkout() == chosen
    config.write_text("[DEFAULT]\ndefault_workspace = /gone\n")
    assert checkout.checkout() == own


def test_the_variables_come_first(home, monkeypatch):
    made(home / "comfy" / "ComfyUI")
    named = made(home / "named")
    monkeypatch.setenv("COMFYUI_PATH", str(named))
    assert checkout.checkout() == named
    python = named / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert checkout.python() == str(python)
    monkeypatch.setenv("COMFYUI_PYTHON", "mine")
    assert checkout.python() == "mine"
    monkeypatch.setenv("COMFYUI_PATH", str(home))
    with pytest.raises(FileNotFoundError, match="holds no ComfyUI"):
        checkout.checkout()
