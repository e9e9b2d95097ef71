"""Whatever the console is, it never ends a run: encodings, closed pipes, full disks, none."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from batch_runs import ROOT, Calls, batch, files, manifest, pack, workflow, write_pictures

from undegrade.headless.cli import main

TITLE = "naïve 図 🙂 \ud83d \udcff \x1b[2J"
CONSOLES = ["ascii", "cp1252", "latin-1", "shift_jis", "cp437", "utf-8", "utf-16"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two pictures whose names few consoles can show, and a node whose title none can."""
    monkeypatch.chdir(tmp_path)
    write_pictures("in", 1)
    os.rename("in/a/p000.png", "in/a/図 é.png")
    Path(os.fsdecode(b"in/a/\xff\xfe.png")).write_bytes(b"no picture")
    raw = workflow(**{"7": ("PreviewAny", {"source": TITLE})})
    for node in raw.values():
        node["_meta"] = {"title": TITLE}
    Path("w.json").write_text(json.dumps(raw))
    return tmp_path


def commands():
    """Each command, what it does and the status it has."""
    return {"--help": 0, "nodes": 0, "check": 0, "run": 0, "batch": 1}


def call(command):
    options = {"check": ["w.json"], "run": ["w.json", "--output", "run", "--quiet"],
               "batch": ["w.json", "--output", "out"]}.get(command, [])
    more = {"batch": ["--input", "in"]}.get(command, ["--input", "in/a/図 é.png"])
    status = main([command, *options, *(more if options else [])], pack(Calls()))
    assert status == commands()[command]
    if command == "run":
        assert list(files("run")) == ["preview/ComfyUI_00001_.png", "restored_00001_.png"]
    if command == "batch":
        assert list(files("out")) == ["a/図 é.png"] and len(manifest("out")) == 2


@pytest.mark.parametrize("command", commands())
@pytest.mark.parametrize("encoding", CONSOLES)
def test_any_encoding(place, monkeypatch, command, encoding):
    shown = {name: io.TextIOWrapper(io.BytesIO(), encoding, "strict") for name in ("out", "err")}
    for name, stream in shown.items():
        monkeypatch.setattr(sys, f"std{name}", stream)
    call(command)
    monkeypatch.undo()
    texts = {n: stream.buffer.getvalue().decode(encoding) for n, stream in shown.items()}
    if command == "batch":
        assert "2 inputs: 0 finished before, 1 now, 1 failed" in texts["out"]
        assert "a/\\udcff\\udcfe.png: " in texts["err"]
    if command == "run":
        assert "\\ud83d" in texts["out"] and "restored_00001_.png" in texts["out"]


def gone():
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w", 1)


def full():
    return open("/dev/full", "w", 1)


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("command", commands())
@pytest.mark.parametrize("kind", [gone, full, closed, lambda: None],
                         ids=["reader gone", "disk full", "closed", "none"])
def test_nobody_reads(place, monkeypatch, command, kind):
    streams = [kind(), kind()]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    call(command)
    for stream in filter(None, streams):
        stream.close()  # nothing waits in a buffer, to fail at the end of the process


def test_a_reader_that_has_had_enough():
    """undegrade nodes | head -1, with Python's own end of the process."""
    process = subprocess.Popen([sys.executable, ROOT / "undegrade", "nodes"], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 0)
    process.stderr.close()


def test_the_console_is_given_back(place, capsys):
    before = sys.stdout, sys.stderr
    assert batch("w.json", "out", pattern="in", calls=Calls()) == 1
    assert (sys.stdout, sys.stderr) == before
