"""What undegrade batch refuses: one sentence each, and nothing under a final name."""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from batch_runs import Calls, batch, files, manifest, workflow, write_pictures
from PIL import Image

from undegrade.headless.cli import main


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with six pictures in `in` and the small workflow in `w.json`."""
    monkeypatch.chdir(tmp_path)
    write_pictures("in", 6)
    Path("w.json").write_text(json.dumps(workflow()))
    return tmp_path


def refused(capsys, *words, status=2, **options):
    """The one sentence that a run with these options says on stderr, which holds the words."""
    out = options.pop("out", "out")
    more = options.pop("more", ())
    assert batch(options.pop("file", "w.json"), out, *more, calls=Calls(), **options) == status
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and text.endswith(".\n"), text
    for word in words:
        assert word in text, text


def test_nothing_matches(place, capsys):
    refused(capsys, "--input in/*.gif: no file matches", pattern="in/*.gif")
    Path("empty").mkdir()
    refused(capsys, "no picture and no video", pattern="empty")
    assert not Path("out").exists()


@pytest.mark.parametrize("out", ["in", "in/out", "in/a/deep/er", "x/../in/out"])
def test_output_inside_the_input(place, capsys, out):
    refused(capsys, "inside the input folder in", out=out)
    assert len(list(Path("in").rglob("*.png"))) == 6 and not Path("in/out").exists()


def test_a_result_that_would_replace_an_input(place, capsys):
    shutil.copy("in/a/p000.png", "only.png")
    whole = Path("only.png").read_bytes()
    refused(capsys, "would replace the input", pattern="only.png", out=".")
    assert Path("only.png").read_bytes() == whole


def test_two_inputs_one_output(place, capsys):
    Image.open("in/a/p000.png").save("in/a/p000.jpg")
    refused(capsys, "p000.jpg", "p000.png", "would both become a/p000.png", pattern="in/**/*.*")


def test_two_inputs_one_output_found_late(place):
    """A numbered output takes the name of another input's: known only when it has run."""
    Path("in/a").joinpath("p000_00001.png").write_bytes(Path("in/a/p000.png").read_bytes())
    shutil.rmtree("in/b")
    more = ("--set", "3.samples=2")
    assert batch("w.json", "out", *more, calls=Calls()) == 1
    assert "written by two inputs" in manifest("out")["a/p000.png"]["error"]


def test_workflows_that_cannot_be_fed(place, capsys):
    cases = {
        "has no LoadImage or LoadImageMask node": {"1": ("EmptyImage", {
            "width": 8, "height": 8, "batch_size": 1, "color": 0})},
        "saves nothing that depends on the input": {"4": None},
        "loads more than one picture": {"7": ("LoadImage", {"image": "in/a/p000.png"})},
        "its seed comes from node 8": {
            "3": ("Restore", {"prior": ["2", 0], "image": ["1", 0], "seed": ["8", 0],
                              "samples": ["8", 0]}), "8": ("PrimitiveInt", {"value": 5})}}
    for sentence, change in cases.items():
        Path("wrong.json").write_text(json.dumps(workflow(**change)))
        refused(capsys, sentence, file="wrong.json")
    assert not Path("out").exists()


def test_a_named_node_and_a_picture_of_the_workflow(place, capsys):
    """The node is named, the other loader's picture goes along."""
    shutil.copy("in/a/p000.png", "second.png")
    Path("two.json").write_text(json.dumps(workflow(**{
        "7": ("LoadImage", {"image": "second.png"}),
        "8": ("ImageBlend", {"image1": ["1", 0], "image2": ["7", 0], "blend_factor": 0.5,
                             "blend_mode": "normal"}),
        "3": ("Restore", {"prior": ["2", 0], "image": ["8", 0], "seed": 5, "samples": 1})})))
    assert batch("two.json", "out", pattern="1=in/**/*.png", calls=Calls()) == 0
    assert len(files("out")) == 6
    refused(capsys, "loads no picture", pattern="3=in/**/*.png", file="two.json")
    refused(capsys, "both an input and a picture", pattern="1=second.png", file="two.json", out="o")


def test_options_that_do_not_fit(place, capsys):
    refused(capsys, "--workers is for workers that Ray starts", more=("--workers", "2"))
    refused(capsys, "--address is for workers", more=("--address", "auto"))
    refused(capsys, "has no widget 'stepps'", more=("--set", "3.stepps=1"))
    assert batch("w.json", "out", "--together", "0", calls=Calls()) == 2
    assert "'0' is not a whole number from 1" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no.such.host.invalid:6379", "here"])
def test_an_address_that_does_not_answer(place, capsys, address):
    refused(capsys, f"--address {address}: ", more=("--engine", "ray", "--address", address))
    assert files("out") == {}


def test_another_job_and_files_of_others(place, capsys):
    assert batch("w.json", "out", calls=Calls()) == 0
    capsys.readouterr()
    refused(capsys, "results with another workflow, seed or settings", more=("--seed", "2"))
    Path("out/manifest.jsonl").unlink()
    whole = files("out")
    refused(capsys, "is there already")
    assert files("out") == whole


def test_optional_packages(place, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "av", None)
    refused(capsys, "needs Ray: pip install ray, or", more=("--engine", "ray"))
    Path("in/clip.mp4").write_bytes(b"")
    refused(capsys, "need PyAV: pip install av, or", pattern="in")
    monkeypatch.setitem(sys.modules, "av", SimpleNamespace(__version__="16.1.0"))
    refused(capsys, "PyAV 17 or newer, and 16.1.0", pattern="in")


def test_what_all_pictures_share_fails(place, capsys):
    Path("mask.png").write_text("no picture")
    Path("w.json").write_text(json.dumps(workflow(**{
        "7": ("LoadImage", {"image": "mask.png"}),
        "8": ("ImageBlend", {"image1": ["1", 0], "image2": ["7", 0], "blend_factor": 0.5,
                             "blend_mode": "normal"}),
        "4": ("SaveImage", {"images": ["8", 0], "filename_prefix": "x"})})))
    refused(capsys, "cannot read mask.png as a picture", pattern="1=in/**/*.png", status=1)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 16 KiB, and a function that makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder, lambda: subprocess.run(
        ["mount", "-o", "remount,size=8m", str(folder)], check=True)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(place, small_disk, capsys, monkeypatch):
    folder, enlarge = small_disk
    monkeypatch.setattr(tempfile, "tempdir", str(place))  # where the last picture is saved to
    assert batch("w.json", "whole", calls=Calls()) == 0
    whole = files("whole")
    capsys.readouterr()
    refused(capsys, "No space left", "run the same command again", out=folder, status=1)
    assert set(files(folder).items()) < set(whole.items())
    enlarge()
    assert batch("w.json", folder, calls=Calls()) == 0
    assert files(folder) == whole


def test_files_that_grow_too_large(place, capsys):
    """The same by a limit on a file's size, which needs no rights."""
    assert batch("w.json", "whole", calls=Calls()) == 0
    whole = files("whole")
    least = min(map(len, whole.values()))
    capsys.readouterr()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (least - 1, hard))
        assert batch("w.json", "out", calls=Calls()) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    told = capsys.readouterr().err.splitlines()  # one too large does not stop the others
    assert len(told) == 6 and all("File too large." in line for line in told)
    assert files("out") == {}
    assert batch("w.json", "out", calls=Calls()) == 0
    assert files("out") == whole


def test_help(capsys):
    assert main(["batch", "--help"]) == 0
    text = capsys.readouterr().out
    for option in ("--input", "--output", "--set", "--workers", "--engine", "--address",
                   "--dry-run", "--together", "--memory", "--one-noise", "--scores"):
        assert option in text
