"""What the tests in the real ComfyUI share: the server, its catalog of nodes, and the command."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy
import pytest
from comfyui import checkout
from comfyui.graphs import catalog
from comfyui.server import Server
from PIL import Image

HERE = Path(__file__).resolve().parent
PHOTO = (48, 40)  # width, height


def pytest_collection_modifyitems(items):
    """Every test of this folder needs ComfyUI."""
    try:
        absent = not checkout.checkout()
    except FileNotFoundError as error:
        raise pytest.UsageError(str(error)) from None
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.comfyui)
            item.add_marker(pytest.mark.timeout(900))
            if absent:
                item.add_marker(pytest.mark.skip(reason=checkout.ABSENT))


def pytest_terminal_summary(terminalreporter):
    """The figures that tests recorded."""
    for kind in ("passed", "failed"):
        for report in terminalreporter.stats.get(kind, []):
            for name, value in report.user_properties:
                terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def place():
    """A folder that goes away in the end: weights and results take 2 GB."""
    with tempfile.TemporaryDirectory(prefix="undegrade-comfyui-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def photo(place):
    """A small picture with flat and lively parts, as a file."""
    path = place / "example.png"
    rows, columns = numpy.mgrid[: PHOTO[1], : PHOTO[0]]
    lively = numpy.random.default_rng(0).integers(0, 90, (*rows.shape, 3))
    planes = numpy.stack([4 * columns, 5 * rows, 120 + 2 * columns - rows], -1)
    picture = numpy.where((columns > 24)[..., None], planes * 0.6 + lively, planes)
    Image.fromarray(picture.clip(0, 255).astype(numpy.uint8)).save(path)
    return path


def start(base: Path, *flags: str, **environment: str) -> Server:
    """A server with the pack and the probe; a context manager. flags: of its command line."""
    packs = {"undegrade": checkout.PACK, "probe": HERE / "probe"}
    given = {"UNDEGRADE_NUMBERS": str(base / "numbers"), **environment}
    (base / "numbers").mkdir(parents=True)
    made = Server(checkout.checkout(), checkout.python(), base, packs, given)
    made._command += flags
    return made


@pytest.fixture(scope="session")
def server(place, photo):
    """One server for the session."""
    with start(place / "server") as started:
        (started.base / "input" / photo.name).write_bytes(photo.read_bytes())
        yield started


@pytest.fixture(scope="session")
def known(server):
    """Every node of the server."""
    return catalog(server.get("/object_info"))


@pytest.fixture(scope="session")
def weights(server):
    """Random weights in the server's models folder; returns that folder."""
    script, models = HERE / "random_weights.py", server.base / "models"
    command = [checkout.python(), script, checkout.checkout(), checkout.PACK, models]
    on_cpu = {**os.environ, "COMFYUI_DEVICE": "cpu"}  # with dynamic VRAM networks have no weights
    made = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=on_cpu
    )
    assert made.returncode == 0, made.stderr[-3000:]
    return models


class Command:
    """`undegrade run` in ComfyUI's interpreter; `numbers` is where KeepNumbers writes."""

    def __init__(self, folder: Path):
        self.numbers, self.errors = folder / "numbers", folder / "stderr.txt"
        folder.mkdir()
        script = [HERE / "run_headless.py", checkout.PACK, HERE / "probe"]
        self.process = subprocess.Popen(
            [checkout.python(), *map(str, script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.errors.open("w"), text=True,
            env={**os.environ, "UNDEGRADE_NUMBERS": str(self.numbers)})

    def run(self, *arguments: object) -> None:
        """Run a workflow to its end."""
        self.process.stdin.write(json.dumps(["run", *map(str, arguments), "--quiet"]) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == "0", self.errors.read_text()[-3000:]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)


@pytest.fixture(scope="session")
def command(place):
    """`undegrade run`, ready to run."""
    running = Command(place / "headless")
    yield running
    running.close()
