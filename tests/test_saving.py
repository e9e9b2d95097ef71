"""What cannot be saved is told before the first step; what still fails is saved somewhere else."""

import errno
import json
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from undegrade.headless import folders, saving
from undegrade.headless.cli import Pack, main

LONG = 255 - len("_00001_.png")


@pytest.fixture
def ran():
    """What the nodes of a run did."""
    return []


@pytest.fixture
def pack(ran):
    class Work:
        """Takes an hour, then calls what the test has put into `ran`."""

        RETURN_TYPES, FUNCTION = ("IMAGE", "STRING"), "run"

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"image": ("IMAGE",), "name": ("STRING", {"default": ""})}}

        def run(self, image, name):
            for action in ran:
                action()
            ran.append(lambda: None)
            return image, name

    return Pack({"Work": Work}, {}, SimpleNamespace(set_progress_sink=lambda sink: None))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a picture of two frames."""
    monkeypatch.chdir(tmp_path)
    frames = [Image.effect_noise((31, 37), 50), Image.effect_noise((31, 37), 90)]
    frames[0].save("photo.png", save_all=True, append_images=frames[1:])
    Path("tmp").mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    return tmp_path


def write(prefix, **more):
    nodes = {"1": ("LoadImage", {"image": "photo.png"}),
             "2": ("Work", {"image": ["1", 0], "name": "../out of it"}),
             "3": ("SaveImage", {"images": ["2", 0], "filename_prefix": prefix}),
             "4": ("PrimitiveString", {"value": "../linked"})} | more
    Path("w.json").write_text(json.dumps({
        i: {"class_type": n[0], "inputs": n[1], "_meta": {"title": n[0]}}
        for i, n in nodes.items()}))


WRONG = {  # prefix -> what the sentence holds
    "../x": "leads out of the output folder", "a/../../x": "leads out of the output folder",
    "/abs/x": "leads out of the output folder", "": "leads out of the output folder",
    ".": "leads out of the output folder", "a/..": "leads out of the output folder",
    "x" * (LONG + 1): "File name too long", "図" * 82: "File name too long",
    "a/" + "x" * 256 + "/b": "File name too long", "a/" * 2100 + "x": "File name too long",
    "%Work.name%" + "x" * 250: "File name too long", "nul\0": "letter of number 0",
    "\ud83d": "cannot hold all of its letters", "%width%" * 60: "File name too long",
    "taken/x": "Not a directory", "taken/b/x": "Not a directory", ("4", 0): "leads out of"}


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("prefix", WRONG, ids=lambda prefix: repr(prefix)[:20])
def test_a_name_that_cannot_be_is_told_before_the_work(place, pack, ran, capsys, command, prefix):
    Path("out").mkdir()
    Path("out/taken").write_text("a file")
    write(list(prefix) if isinstance(prefix, tuple) else prefix)
    assert main([command, "w.json", "--output", "out"], pack) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.endswith(".\n"), err
    assert err.startswith("node 3 (SaveImage): filename_prefix ") and WRONG[prefix] in err
    assert ran == [] and os.listdir("out") == ["taken"]


@pytest.mark.parametrize("prefix", [
    "x", "a/b/c", "x" * LONG, "図" * 81, "%width%x%height%", "%date:yyyy-MM-dd%/x", "a b", "é",
    "..x", "a\\b", "a/../b", "x/", "%batch_num%", ":*?"], ids=lambda prefix: repr(prefix)[:20])
def test_a_name_that_can_be_is_checked_and_written(place, pack, capsys, prefix):
    write(prefix)
    assert main(["check", "w.json", "--output", "out"], pack) == 0
    assert not Path("out").exists()
    assert main(["run", "w.json", "--output", "out", "--quiet"], pack) == 0
    said = [line.removeprefix("SaveImage: ") for line in capsys.readouterr().out.splitlines()[1:]]
    assert len(said) == 2 and all(Path(name).is_file() for name in said)
    assert sum(path.is_file() for path in Path("out").rglob("*")) == 2


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(("output", "sentence"), [
    ("photo.png", "a file of that name"), ("photo.png/a/b", "Not a directory"),
    ("/proc/nothing", "No such file"), ("x" * 300, "File name too long"),
    ("loop", "symbolic links")])
def test_an_output_folder_that_cannot_be(place, pack, ran, capsys, command, output, sentence):
    os.symlink("loop", "loop")
    write("x")
    assert main([command, "w.json", "--output", output], pack) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"--output {output}: cannot write there: ") and sentence in err
    assert err.count("\n") == 1 and ran == []


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_disk_too_small(place, pack, ran, capsys, monkeypatch, command):
    write("x")
    free = 31 * 37 * 3
    monkeypatch.setattr(saving.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert main([command, "w.json", "--output", "out"], pack) == 0
    ran.clear()
    free -= 1
    assert main([command, "w.json", "--output", "out"], pack) == 2
    assert "0.003 MB are free there, and a picture of 31x37 may take" in capsys.readouterr().err
    assert ran == []


def broken_folder():
    shutil.rmtree("out")
    Path("out").write_text("a file in the place of the folder")


def failing(monkeypatch, code):
    def fail(names, write):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(folders, "write_new", fail)


CODES = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG]


@pytest.mark.parametrize("fault", ["folder gone", "name computed", *CODES], ids=str)
def test_what_cannot_be_saved_in_the_end_is_somewhere(place, pack, ran, capsys, monkeypatch, fault):
    """Every picture of the batch, of every saving node; the status says that it went wrong."""
    second = ("SaveImage", {"images": ["1", 0], "filename_prefix": "second"})
    write(["2", 1] if fault == "name computed" else "x", **{"5": second})
    assert main(["run", "w.json", "--output", "whole", "--set", "3.filename_prefix=x"] if fault !=
                "name computed" else ["check", "w.json"], pack) == 0
    capsys.readouterr()
    ran[:] = [broken_folder] if fault == "folder gone" else []
    if isinstance(fault, int):
        failing(monkeypatch, fault)
    assert main(["run", "w.json", "--output", "out", "--quiet"], pack) == 1
    out, err = capsys.readouterr()
    said = [line.removeprefix("SaveImage: ") for line in out.splitlines()]
    assert len(set(said)) == 4
    frames = [frame.tobytes() for frame in _frames("photo.png")]
    assert [Image.open(name).convert("L").tobytes() for name in said] == frames * 2
    lost = [name for name in said if str(place / "tmp") in name]
    assert len(lost) == (2 if fault == "name computed" else 4) == err.count("\n")
    assert all(f"; the picture is in {name}.\n" in err for name in lost)


def _frames(path):
    from PIL import ImageSequence

    with Image.open(path) as picture:
        return [frame.convert("L") for frame in ImageSequence.Iterator(picture)]


def test_a_picture_that_is_taken_away_amid_the_work(place, pack, ran, caplog):
    write("x")
    ran[:] = [Path("photo.png").unlink]
    assert main(["run", "w.json", "--output", "out", "--quiet"], pack) == 0
    assert len(os.listdir("out")) == 2 and "resolution and EXIF are not kept" in caplog.text


def test_nowhere(place, pack, capsys, monkeypatch):
    write("x")
    failing(monkeypatch, errno.ENOSPC)
    monkeypatch.setattr(folders, "rescued", lambda name, write: None)
    assert main(["run", "w.json", "--output", "out", "--quiet"], pack) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "No space left on device; no other folder takes the pic" in err
