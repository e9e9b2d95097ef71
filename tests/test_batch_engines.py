"""The same files from a local loop and from Ray, before and after SIGKILL at random moments."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batch_runs import QUICK, ROOT, SHIPPED, batch, files, manifest, write_pictures

COUNT = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with pictures of two sizes."""
    folder = tmp_path_factory.mktemp("engines")
    write_pictures(folder / "in", COUNT, sides=((16, 24), (12, 20)))
    return folder


@pytest.fixture(scope="module")
def whole(place):
    """What a local run that nobody kills gives."""
    assert run(place, "whole") == 0
    return files(place / "whole")


@pytest.fixture(scope="module")
def cluster():
    """The address of a running Ray cluster on two CPUs."""
    pytest.importorskip("ray")
    ray = Path(sys.executable).with_name("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false",
               "--disable-usage-stats", "--node-ip-address=127.0.0.1", "--block"]
    process = subprocess.Popen([ray, "start", *options], start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: answers(port))
    yield f"127.0.0.1:{port}"
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def answers(port):
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def run(place, out, *options):
    return batch(SHIPPED, place / out, *QUICK, *options, pattern=str(place / "in/**/*.png"))


def killed(place, out, lines, *options):
    """Start the command and SIGKILL it a random moment after so many lines of the manifest."""
    moment = random.uniform(0, 0.15)
    process = subprocess.Popen(
        [sys.executable, ROOT / "undegrade", "batch", SHIPPED, "--input", place / "in/**/*.png",
         "--output", place / out, "--quiet", *QUICK, *options],
        stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    record = place / out / "manifest.jsonl"
    wait_until(lambda: process.poll() is not None or (
        record.exists() and record.read_bytes().count(b"\n") >= lines))
    time.sleep(moment)
    process.kill()
    process.wait()
    return moment


def parts(found):
    """The files of a run without what a killed one may leave under a temporary name."""
    left = (".part", ".undegrade.holder")
    return {name: data for name, data in found.items() if not name.endswith(left)}


def test_killed_at_random_moments(place, whole):
    for lines in (0, 2, 4):
        moment = killed(place, "killed", lines)
        assert parts(files(place / "killed")).items() <= whole.items(), (lines, moment)
    before = (place / "killed/manifest.jsonl").read_bytes()
    assert run(place, "killed") == 0
    assert files(place / "killed") == whole
    assert (place / "killed/manifest.jsonl").read_bytes().startswith(before)


def test_ray_killed_and_gone_on_with_by_a_cluster(place, whole, cluster, capsys):
    """Ray starts itself with one worker and is killed; two workers of a cluster do the rest."""
    killed(place, "ray", 2, "--engine", "ray", "--workers", "1")
    assert parts(files(place / "ray")).items() <= whole.items()
    assert len(manifest(place / "ray")) >= 2
    broken = place / "in" / "a" / "broken.png"
    broken.write_bytes(b"no picture")
    joined = ("--engine", "ray", "--address", cluster)
    try:
        assert run(place, "ray", *joined, "--workers", "3") == 2
        assert "--workers 3: they need 3 CPU, but the cluster has 2" in capsys.readouterr().err
        assert run(place, "ray", *joined, "--workers", "2") == 1
    finally:
        broken.unlink()
    assert files(place / "ray") == whole
    assert "cannot read a/broken.png" in manifest(place / "ray")["a/broken.png"]["error"]


def test_a_port_that_is_no_cluster(place, capsys):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    assert run(place, "none", "--engine", "ray", "--address", address) == 2
    assert "no Ray cluster answers there" in capsys.readouterr().err
