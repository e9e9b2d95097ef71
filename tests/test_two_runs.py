"""Two runs that write into one folder: nothing is lost, and each says what it did."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from batch_runs import ROOT, Calls, batch, files, manifest, workflow, write_pictures

from undegrade.headless.batch.lock import HOLDER, LOCK
from undegrade.headless.batch.store import Manifest, put
from undegrade.headless.folders import Folders, write_new

STAND_IN = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("pack", sys.argv[1] + "/__init__.py",
                                              submodule_search_locations=[sys.argv[1]])
sys.modules["pack"] = importlib.util.module_from_spec(spec)
from pack.headless.batch.lock import held
with held(Path(sys.argv[2]), ()):
    print("ready", flush=True)
    sys.stdin.read()
"""

COMMANDS = """
import sys
sys.path.insert(0, sys.argv[1])
import conftest, batch_runs
main = batch_runs.main
batch = ["batch", "s.json", "--input", "in", "--output", "out", "--set", f"7.amount={sys.argv[2]}"]
status = main([*batch, "--quiet"], pack := batch_runs.pack(batch_runs.Calls()))
sys.exit(main(["run", "s.json", "--output", "run", "--quiet"], pack) or status)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Six pictures in `in`, the small workflow in `w.json`, one of stock nodes in `s.json`."""
    monkeypatch.chdir(tmp_path)
    write_pictures("in", 6)
    Path("w.json").write_text(json.dumps(workflow()))
    stock = {"1": ("LoadImage", {"image": "in/a/p000.png"}), "2": None, "3": None, "5": None,
             "4": ("SaveImage", {"images": ["7", 0], "filename_prefix": "x"}), "6": None,
             "7": ("RepeatImageBatch", {"image": ["1", 0], "amount": 6})}
    Path("s.json").write_text(json.dumps(workflow(**stock)))
    return tmp_path


@pytest.fixture
def holder(place):
    """Keeps a folder as another batch does, from a process of its own: holder(folder)."""
    started = []

    def hold(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen([sys.executable, "-c", STAND_IN, ROOT, folder], text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("theirs", ["out", "out/a", "."], ids=["same", "below", "above"])
def test_a_second_batch_is_told_who_has_the_folder(place, holder, capsys, theirs):
    other = holder(theirs)
    assert batch("w.json", "out", calls=Calls()) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and told.startswith("--output out: another batch ")
    assert f"process {other.pid} on " in told and "since 20" in told
    assert not {*files("out")} - {f"a/{LOCK}", f"a/{HOLDER}", HOLDER}
    other.kill()  # which leaves no lock behind
    other.wait()
    assert batch("w.json", "out", calls=Calls()) == 0
    assert len(list(Path("out").rglob("p*.png"))) == 6 and not Path("out", HOLDER).exists()


def test_two_commands_started_together(place):
    """Each process is a batch and then a run; both share their folders."""
    started = [subprocess.Popen(
        [sys.executable, "-c", COMMANDS, ROOT / "tests", amount], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE) for amount in "12"]
    told = [process.communicate() for process in started]
    assert sorted(process.returncode for process in started) == [0, 2], told
    refusal = next(err for process, (_, err) in zip(started, told, strict=True)
                   if process.returncode)
    assert refusal.count("\n") == 1 and "choose another --output" in refusal
    lines = manifest("out").values()
    assert len({line["job"] for line in lines}) == 1 and len(lines) == 6
    assert sorted(files("out")) == sorted(name for line in lines for name in line["output"])
    said = [line.removeprefix("Save Image: ") for out, _ in told for line in out.splitlines()
            if line.startswith("Save Image: ")]
    assert len(set(said)) == 12 == len(files("run"))
    assert all(Path(name).stat().st_size for name in said)


def test_numbers_are_given_once(tmp_path):
    """Eight writers that all chose the same first number."""
    place, made = Folders(tmp_path).place("p", (1, 1), False), []

    def many(writer):
        for index in range(25):
            text = f"{writer} {index}".encode()
            path = write_new(place.files(index), lambda stream, text=text: stream.write(text))
            made.append((path, text))

    threads = [threading.Thread(target=many, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({path for path, _ in made}) == 200
    assert all(path.read_bytes() == text for path, text in made)
    assert len(list(tmp_path.iterdir())) == 200


def test_part_files_have_names_of_their_own(tmp_path):
    """One writer begins and ends while another is amid the same file."""
    def slow(part):
        part.write_bytes(b"first")
        put(tmp_path / "a.png", lambda path: path.write_bytes(b"second"))
        assert (tmp_path / "a.png").read_bytes() == b"second" and part.read_bytes() == b"first"

    put(tmp_path / "a.png", slow)
    assert files(tmp_path) == {"a.png": b"first"}


def test_what_a_killed_batch_left_is_removed(place):
    for folder in ("out", "out/a"):
        Path(folder).mkdir()
        Path(folder, ".batch-0123456789abcdef.part").write_bytes(b"half")
        Path(folder, ".mine.part").write_bytes(b"not ours")
    assert batch("w.json", "out", calls=Calls()) == 0
    assert {n for n in files("out") if n.endswith("part")} == {".mine.part", "a/.mine.part"}


@pytest.mark.parametrize("change", [
    ("--seed", "2"), ("--set", "3.samples=2"), ("--set", "3.seed=6"), ("--together", "2"),
    ("--scores",), ("--one-noise",), ("--threads", "2")], ids=" ".join)
def test_another_setting_is_never_taken_as_done(place, change, capsys):
    assert batch("w.json", "out", calls=Calls()) == 0
    whole = files("out")
    assert batch("w.json", "out", *change, calls=Calls()) == 2
    assert "results with another workflow, seed or settings" in capsys.readouterr().err
    assert files("out") == whole


def test_a_line_says_which_settings_made_the_file(tmp_path):
    mine, other = Manifest(tmp_path, "mine"), Manifest(tmp_path, "other")
    (tmp_path / "a.png").touch()
    mine.append(input="a", output=["a.png"], error=None)
    other.append(input="b", output=[], error="it failed")
    assert list(mine.finished()) == ["a"]
    mine.append(input="b", output=["b.png"], error=None)
    assert list(mine.finished()) == ["a"]  # no file b.png
