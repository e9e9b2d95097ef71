"""What the tests in ComfyUI's real frontend share: the server, the browser and its pages.

They need what tests/comfyui needs, Playwright's Python package and Debian's Chromium (no browser
of Playwright's own is downloaded). The frontend is the one that the checkout pins, and others by
COMFYUI_FRONTENDS: wheels from `pip download --no-deps comfyui-frontend-package`, with : between
them. BROWSER_SHOTS names a folder for the screenshots, which get a folder for each frontend;
without it they go away with the tests.
"""

import importlib.util
import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import pytest
from browser.canvas import CHROMIUM, Canvas, chromium
from comfyui import checkout

HERE = Path(__file__).resolve().parent
FOLDER = checkout.PACK / "workflows"
TEMPLATES = sorted(FOLDER.glob("*.json"))  # those of the dialog
WORKFLOWS = sorted(FOLDER.rglob("*.json"))
WHEELS = [Path(part) for part in os.environ.get("COMFYUI_FRONTENDS", "").split(os.pathsep) if part]


def why_not() -> str | None:
    """The first thing that is missing, or None."""
    needs = {
        checkout.ABSENT: checkout.checkout(),
        "Playwright is not installed (pip install playwright)": _installed("playwright"),
        "websocket-client is not installed": _installed("websocket"),
        "Chromium is not installed (apt install chromium)": CHROMIUM,
    }
    return next((reason for reason, there in needs.items() if not there), None)


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def pytest_collection_modifyitems(items):
    """Every test of this folder needs all of it."""
    reason = why_not()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(900))
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", params=[None, *WHEELS],
                ids=lambda wheel: wheel.stem.split("-")[1] if wheel else "pinned")  # fmt: skip
def server(request):
    """A server with the pack, a picture and empty files in place of weights, and one frontend."""
    from comfyui.server import Server

    with tempfile.TemporaryDirectory(prefix="undegrade-browser-") as folder:
        started = Server(checkout.checkout(), checkout.python(), Path(folder) / "base",
                         {"undegrade": checkout.PACK})  # fmt: skip
        if request.param:
            with zipfile.ZipFile(request.param) as wheel:
                wheel.extractall(folder)
            static = Path(folder) / "comfyui_frontend_package" / "static"
            started._command += ["--front-end-root", str(static)]
        shutil.copy(FOLDER / "input" / "example.png", started.base / "input")
        for model in models():
            file = started.base / "models" / model["directory"] / model["name"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        with started:
            yield started


def models() -> list[dict]:
    """The published weights that the workflows name: name, url, directory."""
    nodes = [node for path in WORKFLOWS for node in json.loads(path.read_text())["nodes"]]
    found = [model for node in nodes for model in node["properties"].get("models", [])]
    return list({model["name"]: model for model in found}.values())


@pytest.fixture(scope="session")
def browser():
    """One browser for the session."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def open_canvas(server, browser):
    """Open a page of its own, with settings of its own; it is closed in the end."""
    opened = []
    with tempfile.TemporaryDirectory(prefix="undegrade-shots-") as folder:

        def make(**settings) -> Canvas:
            canvas = Canvas(browser, server.url, Path(folder), settings)
            opened.append(canvas)
            canvas.shots = Path(os.environ.get("BROWSER_SHOTS", folder)) / canvas.version
            canvas.shots.mkdir(parents=True, exist_ok=True)
            return canvas

        yield make
        for canvas in opened:
            canvas.close()


@pytest.fixture(scope="session")
def canvas(open_canvas):
    """The page that most tests use."""
    return open_canvas()
