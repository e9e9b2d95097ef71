"""Which ComfyUI the tests of this folder use, and with which interpreter.

COMFYUI_PATH names a checkout; without it comfy-cli's default workspace is taken, where there is
one. COMFYUI_PYTHON names the interpreter that has ComfyUI's requirements and the pack's; without it
the checkout's own virtual environment is taken, or the interpreter of the tests. With
COMFYUI_DEVICE=cuda the server, and what compares a card with the CPU, run on a card. COMFYUI_FLAGS
are added to the server's command line.
"""

import configparser
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACK = HERE.parent.parent
ABSENT = "set COMFYUI_PATH to a ComfyUI checkout (comfy-cli's default workspace is not there)"
CONFIGS = {"win32": "AppData/Local", "darwin": "Library/Application Support"}
WORKSPACES = {"win32": "Documents/comfy/ComfyUI", "darwin": "Documents/comfy/ComfyUI"}


def checkout() -> Path | None:
    """The folder of ComfyUI, or None.

    Raises `FileNotFoundError` when COMFYUI_PATH names another folder.
    """
    if named := os.environ.get("COMFYUI_PATH"):
        path = Path(named).expanduser().resolve()
        if not is_comfyui(path):
            raise FileNotFoundError(f"COMFYUI_PATH is {named}, which holds no ComfyUI (main.py)")
        return path
    return next((path for path in default_workspaces() if is_comfyui(path)), None)


def default_workspaces() -> list[Path]:
    """Where comfy-cli installs: what `comfy set-default` has named, then its own choice."""
    home = Path.home()
    config = configparser.ConfigParser()
    config.read(home / CONFIGS.get(sys.platform, ".config") / "comfy-cli" / "config.ini")
    chosen = config.defaults().get("default_workspace")
    own = home / WORKSPACES.get(sys.platform, "comfy/ComfyUI")
    return [Path(chosen), own] if chosen else [own]


def is_comfyui(folder: Path) -> bool:
    return all((folder / name).exists() for name in ("main.py", "nodes.py", "comfy"))


def python() -> str:
    """The interpreter that runs ComfyUI."""
    folder, name = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
    own = [checkout() / venv / folder / name for venv in (".venv", "venv")] if checkout() else []
    found = next((str(path) for path in own if path.is_file()), sys.executable)
    return os.environ.get("COMFYUI_PYTHON") or found


def device() -> str:
    """What ComfyUI runs on: "cpu", or what COMFYUI_DEVICE names, such as "cuda"."""
    return os.environ.get("COMFYUI_DEVICE", "cpu")


def flags() -> list[str]:
    """What COMFYUI_FLAGS adds to ComfyUI's command line."""
    return os.environ.get("COMFYUI_FLAGS", "").split()


def facts_of(script: str, work: Path, on: str = "cpu") -> dict:
    """What a script, run inside the checkout on a device, prints as JSON on its last line."""
    script = [HERE / script, checkout(), PACK, work]
    command = [python(), *map(str, script)]
    where = {**os.environ, "COMFYUI_DEVICE": on}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=where)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.splitlines()[-1])
