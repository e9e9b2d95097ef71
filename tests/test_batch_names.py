"""Names of every kind: each input has its output and its line, whatever it is called."""

import errno
import hashlib
import json
import os
import unicodedata
from pathlib import Path

import pytest
from batch_runs import Calls, batch, files, manifest, workflow, write_pictures

from undegrade.headless import trial
from undegrade.headless.batch import driver, store
from undegrade.headless.batch.plan import picture_seed

NAMES = [b"\xff\xfe", "図".encode() * 83, b"x" * 251, b"caf\xc3\xa9", b"cafe\xcc\x81", b"CASE",
         b"case", b"a\nb", b"\x1b[31m", b"[1]", b"*", b"?", b"%batch_num%", b"-x", b"a=b", b" ",
         b"trailing ", b"a.b.c", b"\\", b"'\"", b"#00000001", b"{}", b"x [output]", b"\xed\xa0\x80",
         "🙂".encode(), b"NUL", b"~"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with one picture and the small workflow in `w.json`."""
    monkeypatch.chdir(tmp_path)
    write_pictures("one", 1)
    Path("w.json").write_text(json.dumps(workflow()))
    Path("in").mkdir()
    return tmp_path


def give(*names):
    data = Path("one/a/p000.png").read_bytes()
    for name in names:
        path = os.path.join(b"in", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)


def outputs(folder=b"out"):
    return {os.path.relpath(os.path.join(here, name), folder) for here, _, names in os.walk(folder)
            for name in names if name.endswith(b".png")}


def test_every_name_has_its_output_and_its_line(place, capsys):
    names = [name + b".png" for name in NAMES] + [b"\xfe/" + NAMES[1] + b".png"]
    give(*names)
    assert batch("w.json", "out", pattern="in", calls=Calls()) == 0
    assert outputs() == set(names)
    told = {os.fsencode(line["input"]) for line in manifest("out").values()}
    assert told == set(names)
    Path("out/manifest.jsonl").read_bytes().decode("utf-8")  # and nothing else in it
    calls = Calls()
    assert batch("w.json", "out", pattern="in", calls=calls) == 0
    assert calls.rows == [] and f"{len(names)} finished before" in capsys.readouterr().out


def test_a_seed_comes_from_the_bytes_of_a_name():
    for name in NAMES:
        digest = hashlib.sha256(b"7/" + name).digest()
        assert picture_seed(7, os.fsdecode(name)) == int.from_bytes(digest[:4], "big")


def test_lines_are_the_same_under_every_locale(tmp_path, monkeypatch):
    """A name that this locale decodes, and one that it does not, are one line."""
    store.Manifest(tmp_path, "j").append(input="\u00e9.png", output=[], error=None)
    whole = (tmp_path / "manifest.jsonl").read_bytes()
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode("ascii", "surrogateescape"))
    monkeypatch.setattr(os, "fsdecode", lambda data: data.decode("ascii", "surrogateescape"))
    assert list(store.Manifest(tmp_path, "j").finished()) == ["\udcc3\udca9.png"]
    store.Manifest(tmp_path, "j").append(input="\udcc3\udca9.png", output=[], error=None)
    assert (tmp_path / "manifest.jsonl").read_bytes() == whole * 2


def test_a_name_that_becomes_too_long_is_told_before_the_work(place):
    """By what several saving nodes add to it; the others are done."""
    Path("w.json").write_text(json.dumps(workflow(**{
        "7": ("SaveImage", {"images": ["1", 0], "filename_prefix": "input"})})))
    give(b"y" * 251 + b".png", b"b.png")
    calls = Calls()
    assert batch("w.json", "out", pattern="in", calls=calls) == 1
    told = {name: line["error"] for name, line in manifest("out").items()}
    assert told.pop("b.png") is None
    assert "File name too long; rename the input" in told["y" * 251 + ".png"]
    assert calls.rows == [1] * 3 and outputs() == {b"b_input.png", b"b_restored.png"}


def test_one_output_that_cannot_be_written_stops_nothing(place):
    give(b"a/x.png", b"b/x.png", b"c.png")
    for folder in ("out", "out/c.png"):
        Path(folder).mkdir()
    Path("out/a").write_text("a file where a folder should be")
    Path("out/manifest.jsonl").touch()
    assert batch("w.json", "out", pattern="in", calls=Calls()) == 1
    told = {name: line["error"] for name, line in manifest("out").items()}
    assert told["b/x.png"] is None
    assert "Not a directory" in told["a/x.png"] and "a folder of that name" in told["c.png"]
    assert Path("out/a").read_text() == "a file where a folder should be"


@pytest.mark.parametrize(("code", "status_of_others"), [
    (errno.EILSEQ, "done"), (errno.EINVAL, "done"), (errno.EACCES, "done"), (errno.EFBIG, "done"),
    (errno.ENOSPC, "stopped"), (errno.EDQUOT, "stopped"), (errno.EROFS, "stopped"),
    (errno.EIO, "stopped")])
def test_what_cannot_be_saved_in_the_end_is_somewhere(place, monkeypatch, capsys, code,
                                                      status_of_others):
    give(b"a.png", b"b.png")
    assert batch("w.json", "whole", pattern="in", calls=Calls()) == 0
    put = driver.put

    def fail(path, write):
        if path.name == "a.png":
            with store._telling(path):
                raise OSError(code, os.strerror(code))
        put(path, write)

    monkeypatch.setattr(driver, "put", fail)
    monkeypatch.setattr(trial.tempfile, "gettempdir", lambda: str(place))
    capsys.readouterr()
    assert batch("w.json", "out", pattern="in", calls=Calls()) == 1
    err = capsys.readouterr().err
    found, = place.glob("undegrade-*/a.png")
    assert found.read_bytes() == Path("whole/a.png").read_bytes() and f"; it is in {found}" in err
    assert err.count("\n") == 1 and os.strerror(code) in err
    assert ("run the same command again" in err) == (status_of_others == "stopped")
    assert sorted(files("out")) == ([] if status_of_others == "stopped" else ["b.png"])


CLASHES = [(b"CASE", b"case"), (b"caf\xc3\xa9", b"cafe\xcc\x81"), (b"d/X", b"D/x")]


@pytest.mark.parametrize("names", CLASHES, ids=repr)
def test_names_that_a_file_system_takes_for_one(place, monkeypatch, capsys, names):
    """Where the output folder does, one result would replace the other: refused. Here it does not.

    The file system is a pretended one; mounting one that folds names takes rights and a kernel.
    """
    give(*(name + b".png" for name in names))

    def folded(path):
        folder, name = os.path.split(unicodedata.normalize("NFC", str(path)).casefold())
        return name in {unicodedata.normalize("NFC", n).casefold() for n in os.listdir(folder)}

    assert batch("w.json", "plain", pattern="in", calls=Calls()) == 0
    assert len(outputs(b"plain")) == 2
    capsys.readouterr()
    monkeypatch.setattr(trial.os.path, "lexists", folded)
    assert batch("w.json", "out", pattern="in", calls=Calls()) == 2
    assert "would both become" in capsys.readouterr().err and not Path("out").exists()


def test_numbered_outputs_of_two_inputs(place):
    """Also where the one was finished by an earlier run."""
    give(b"x.png")
    more = ("--set", "3.samples=2")
    assert batch("w.json", "out", *more, pattern="in", calls=Calls()) == 0
    before = files("out")
    give(b"x_00001.png")
    Path("w2.json").write_text(Path("w.json").read_text())
    assert batch("w.json", "out", *more, pattern="in", calls=Calls()) == 0
    assert files("out").items() > before.items()
    assert sorted(files("out")) == ["x_00001.png", "x_00001_00001.png", "x_00001_00002.png",
                                    "x_00002.png"]
