"""What a folder holds: every file is an input or is named as skipped, and the counts add up."""

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from batch_runs import Calls, batch, files, manifest, workflow, write_pictures
from PIL import Image, ImageFile

from undegrade.headless.batch import inputs
from undegrade.headless.batch.inputs import NOT_PICTURES, VIDEOS, gather, picture_endings

COMPANION, ENDING = "another system's companion", "no picture and no video by its ending"
SKIPPED = {  # name -> why; each beside pictures
    "notes.txt": ENDING, "a/p000.xmp": ENDING, "a/photo.NEF": ENDING, "a/doc.pdf": ENDING,
    "program.eps": ENDING, "clip.mp3": ENDING, "none": ENDING,
    "._p000.png": COMPANION, "a/._clip.mp4": COMPANION, ".DS_Store": COMPANION,
    "a/Thumbs.db": COMPANION, "b/desktop.ini": COMPANION,
    ".hidden.png": "hidden", ".thumbnails": "hidden",
    "__MACOSX": "another system's folder", "a/@eaDir": "another system's folder",
    "linked": "a link to a folder", "loop": "a link to a folder", "pipe.png": "no regular file",
    "b/same.png": "the same file as in/a/p000.png"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Four pictures and a file of every kind that is no input."""
    monkeypatch.chdir(tmp_path)
    write_pictures("in", 4)
    Path("w.json").write_text(json.dumps(workflow()))
    for name, why in SKIPPED.items():
        path = Path("in", name)
        if why in ("hidden", "another system's folder") and not path.suffix:
            path.mkdir()
            (path / "p.png").write_bytes(b"not looked at")
        elif not why.startswith(("a link", "no regular", "the same")):
            path.write_bytes(b"no picture")
    write_pictures("elsewhere", 1)
    os.symlink(os.path.abspath("elsewhere"), "in/linked")
    os.symlink(os.path.abspath("in"), "in/loop")
    os.symlink("../a/p000.png", "in/b/same.png")
    os.symlink(os.path.abspath("elsewhere/a/p000.png"), "in/b/from_elsewhere.png")
    os.mkfifo("in/pipe.png")
    return tmp_path


def test_every_file_is_taken_or_named(place, capsys):
    Path("in/a/broken.png").write_bytes(b"no picture")
    os.symlink("nowhere", "in/a/gone.jpg")
    os.symlink("round.png", "in/round.png")
    assert batch("w.json", "out", pattern="in", calls=Calls()) == 1
    told = capsys.readouterr().out
    lines = manifest("out")
    skipped = {name: line["skipped"] for name, line in lines.items() if "skipped" in line}
    assert skipped.keys() == SKIPPED.keys()
    assert all(skipped[name].startswith(why) for name, why in SKIPPED.items()), skipped
    failed = {name for name, line in lines.items() if line["error"]}
    assert failed == {"a/broken.png", "a/gone.jpg", "round.png"}
    assert len(files("out")) == 5 and "b/from_elsewhere.png" in files("out")
    found, left, inputs, before, now, wrong = map(int, re.findall(r"(?<![\w.])\d+(?= )", re.sub(
        r"\([^)]*\)|and \d+ more", "", told)))
    assert (found, left, inputs) == (len(SKIPPED) + 8, len(SKIPPED), 8)
    assert inputs == before + now + wrong and (before, now, wrong) == (0, 5, 3)
    size = len(lines)
    assert batch("w.json", "out", pattern="in", calls=Calls()) == 1
    again = Path("out/manifest.jsonl").read_text().splitlines()
    assert sum("skipped" in line for line in again) == len(SKIPPED) == size - 8  # told once


def test_a_disk_that_will_hardly_do_is_told(place, capsys, monkeypatch):
    size = sum(item.path.stat().st_size for item in gather("in/**/p*.png").items)
    for free in (size, size - 1):
        monkeypatch.setattr(inputs.shutil, "disk_usage", lambda _, f=free: SimpleNamespace(free=f))
        assert batch("w.json", f"out{free}", pattern="in/**/p*.png", calls=Calls()) == 0
        assert ("when it is full the run stops" in capsys.readouterr().err) == (free < size)


def test_what_was_skipped_may_become_an_input(place):
    assert batch("w.json", "out", pattern="in", calls=Calls()) == 0
    assert "skipped" in manifest("out")["b/same.png"]
    Path("in/b/same.png").unlink()
    Path("in/b/same.png").write_bytes(Path("in/b/p001.png").read_bytes())
    assert batch("w.json", "out", pattern="in", calls=Calls()) == 0
    assert manifest("out")["b/same.png"]["output"] == ["b/same.png"]


def test_a_dry_run_names_them_too(place, capsys):
    assert batch("w.json", "out", "--dry-run", pattern="in", calls=Calls()) == 0
    shown = capsys.readouterr().out
    assert all(f"skipped {name}: {why}" in shown for name, why in SKIPPED.items())


PATTERNS = {  # pattern -> names of what it gives
    "in/**/*.png": ["a/p000.png", "a/p002.png", "b/from_elsewhere.png", "b/p001.png",
                    "b/p003.png", "b/same.png"],
    "in/*/p00?.png": ["a/p000.png", "a/p002.png", "b/p001.png", "b/p003.png"],
    "in/**": ["a/p000.png", "a/p002.png", "b/from_elsewhere.png", "b/p001.png", "b/p003.png",
              "b/same.png"],
    "in/lin*/a/*": ["linked/a/p000.png"], "in/linked": ["a/p000.png"],
    "in/b/[fp]*[1e].*": ["from_elsewhere.png", "p001.png"],
    "in/.hid*": [".hidden.png"], "in/*.NEF": None, "in/a/*.NEF": ["photo.NEF"], "in/notes.txt": [
        "notes.txt"], "in/*.txt": ["notes.txt"], "in/._*": None, "in/nothing/*.png": None}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(place, pattern):
    """A pattern that ends in an ending asks for it; links to folders are not walked into by **."""
    if PATTERNS[pattern] is None:
        with pytest.raises(ValueError, match="no file matches"):
            gather(pattern)
        return
    assert [item.name for item in gather(pattern).items] == PATTERNS[pattern]


def test_one_file_by_two_ways_is_one_input(place):
    """The one that is no link, and where none is the first."""
    patterns = ("--input", "in/a", "--input", "in/loop/a/*.png")
    assert batch("w.json", "out", *patterns, pattern="in/a/p000.png", calls=Calls()) == 0
    assert sorted(files("out")) == ["p000.png", "p002.png"]


def test_a_folder_that_cannot_be_read_is_named(place, monkeypatch):
    scan = os.scandir

    def refuse(folder):
        if os.path.basename(folder) == "b":
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    found = gather("in")
    assert found.skipped["b"] == "cannot be read: Permission denied" and len(found.items) == 2


def test_every_ending_that_pillow_reads():
    """What Pillow opens and is not taken is a name only (stubs), a program, or a video."""
    Image.init()
    left = {e: kind for e, kind in Image.registered_extensions().items()
            if kind in Image.OPEN and e not in picture_endings()}
    for ending, kind in left.items():
        opener = Image.OPEN[kind][0]
        assert kind in NOT_PICTURES or issubclass(opener, ImageFile.StubImageFile), ending
    assert {".mpo", ".jfif", ".psd", ".jp2", ".ppm", ".tga", ".apng"} < picture_endings()
    assert not picture_endings() & VIDEOS


def test_every_ending_of_videos():
    """Those that FFmpeg's own makers of films write, as far as they hold pictures."""
    av = pytest.importorskip("av")
    known = {f".{ending}" for name in av.formats_available
             if (kind := av.ContainerFormat(name)).is_input or kind.is_output
             for ending in kind.extensions}
    others = {".mpe", ".divx", ".qt", ".wtv", ".ogm", ".m1v", ".rmvb"}
    assert VIDEOS - known <= others
    usual = {"mp4", "mov", "matroska", "webm", "avi", "flv", "mpeg", "mpegts", "asf", "mxf", "3gp",
             "dv", "nut", "vob", "yuv4mpegpipe"}
    made = {f".{ending}" for name in usual & av.formats_available
            for ending in av.ContainerFormat(name).extensions}
    no_film = {".avif", ".heic", ".heif", ".isma", ".ism", ".ismv", ".m3u8", ".m4a", ".m4b", ".mka",
               ".mks", ".psp", ".wma", ".dif"}  # pictures, sound, lists and pieces of streams
    assert made - VIDEOS <= no_film
