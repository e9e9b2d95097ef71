"""undegrade batch in one process: names, metadata, seeds, manifest, resume, memory."""

import json
from pathlib import Path

import pytest
from batch_runs import (
    QUICK,
    SHIPPED,
    Calls,
    batch,
    files,
    manifest,
    pack,
    workflow,
    write_pictures,
)
from PIL import Image

from undegrade.headless.batch.plan import Job, picture_seed
from undegrade.headless.batch.store import put
from undegrade.headless.batch.worker import Picture, Worker
from undegrade.headless.cli import main


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with six pictures in `in` and the small workflow in `w.json`."""
    monkeypatch.chdir(tmp_path)
    write_pictures("in", 6)
    Path("w.json").write_text(json.dumps(workflow()))
    return tmp_path


def test_names_metadata_and_manifest(place):
    calls = Calls()
    assert batch("w.json", "out", "--scores", "--set", "3.samples=1", calls=calls) == 0
    names = [f"{'ab'[i % 2]}/p{i:03}.png" for i in range(6)]
    assert sorted(files("out")) == sorted(names)
    assert calls.loads == 1 and calls.rows == [1] * 18
    for name, line in manifest("out").items():
        assert line["output"] == [name] and line["error"] is None and line["seconds"] >= 0
        assert line["seed"] == picture_seed(0, name)
        assert list(line["scores"]["5 Sharpness"]) == ["sharpness"]
        prompt = json.loads(Image.open(f"out/{name}").text["prompt"])
        assert prompt["1"]["inputs"]["image"] == name
        assert prompt["3"]["inputs"]["seed"] == 5 + line["seed"]
    assert len(set(line["seed"] for line in manifest("out").values())) == 6


def test_the_picture_in_the_metadata_is_the_one_that_ran(place):
    """Running the workflow that an output carries, on its input, gives the same pixels."""
    assert batch(SHIPPED, "out", *QUICK) == 0
    for name in ("a/p000.png", "b/p003.png"):
        assert main(["run", f"out/{name}", "--input", f"in/{name}", "--output", "again",
                     "--quiet"]) == 0
        again = max(Path("again").rglob("*x4_*.png"))
        assert Image.open(again).tobytes() == Image.open(f"out/{name}").tobytes()
        assert "workflow" in Image.open(f"out/{name}").text


def test_order_and_company_do_not_matter(place):
    assert batch("w.json", "all", calls=Calls()) == 0
    assert batch("w.json", "some", pattern="in/**/p003.png", calls=Calls()) == 0
    assert batch("w.json", "other", "--seed", "1", calls=Calls()) == 0
    some, every, other = files("some"), files("all"), files("other")
    assert some == {"b/p003.png": every["b/p003.png"]}
    assert all(other[name] != every[name] for name in every)


def test_several_saves_and_several_samples(place):
    second = ("SaveImage", {"images": ["1", 0], "filename_prefix": "x/input"})
    Path("w.json").write_text(json.dumps(workflow(**{"7": second})))
    assert batch("w.json", "out", "--set", "3.samples=2", pattern="in/a/p000.png",
                 calls=Calls()) == 0
    assert sorted(files("out")) == [
        "p000_input.png", "p000_restored_00001.png", "p000_restored_00002.png"]
    Path("w.json").write_text(json.dumps(workflow(**{"7": (
        "SaveImage", {"images": ["1", 0], "filename_prefix": "restored"})})))
    assert batch("w.json", "ids", pattern="in/a/p000.png", calls=Calls()) == 0
    assert sorted(files("ids")) == ["p000_4.png", "p000_7.png"]


def test_a_seed_behind_an_int_node(place):
    linked = {"3": ("Restore", {"prior": ["2", 0], "image": ["1", 0], "seed": ["8", 0],
                                "samples": 1}), "8": ("PrimitiveInt", {"value": 5})}
    Path("linked.json").write_text(json.dumps(workflow(**linked)))
    assert batch("w.json", "out", calls=Calls()) == batch("linked.json", "linked", calls=Calls())
    for name in files("out"):
        assert Image.open(f"out/{name}").tobytes() == Image.open(f"linked/{name}").tobytes()


def test_resume_does_what_is_missing_and_appends(place):
    assert batch("w.json", "out", calls=Calls()) == 0
    whole, before = files("out"), Path("out/manifest.jsonl").read_bytes()
    Path("out/a/p002.png").unlink()
    text = before.decode().splitlines(keepends=True)
    Path("out/manifest.jsonl").write_text("".join(text[:-1]) + text[-1][:20])  # cut off
    cut = Path("out/manifest.jsonl").read_bytes()
    calls = Calls()
    assert batch("w.json", "out", calls=calls) == 0
    assert files("out") == whole and len(calls.rows) == 3 * 2
    assert Path("out/manifest.jsonl").read_bytes().startswith(cut + b"\n")
    calls = Calls()
    assert batch("w.json", "out", calls=calls) == 0
    assert calls.rows == [] and calls.loads == 0


def test_broken_pictures_are_reported_and_do_not_stop_the_others(place, capsys):
    whole = Path("in/a/p000.png").read_bytes()
    Path("in/a/broken.png").write_bytes(whole[:len(whole) // 2])
    Path("in/a/text.png").write_text("no picture")
    Path("in/a/gone.png").symlink_to("nowhere")
    Image.new("RGB", (8, 8), "white").save("in/b/white.png")
    assert batch("w.json", "out", calls=Calls()) == 1
    assert len(files("out")) == 6
    told = {name: line["error"] for name, line in manifest("out").items() if line["error"]}
    assert sorted(told) == ["a/broken.png", "a/gone.png", "a/text.png", "b/white.png"]
    assert "cannot read a/broken.png as a picture" in told["a/broken.png"]
    assert "cannot read a/text.png as a picture: no picture format" in told["a/text.png"]
    assert "object at 0x" not in told["a/text.png"]
    assert "No such file" in told["a/gone.png"] and "white" in told["b/white.png"]
    assert "4 failed" in capsys.readouterr().out
    Path("in/a/broken.png").write_bytes(whole)
    for name in ("a/text.png", "a/gone.png", "b/white.png"):
        Path("in", name).unlink()
    assert batch("w.json", "out", calls=Calls()) == 0
    assert len(files("out")) == 7


def test_dry_run_prints_and_writes_nothing(place, capsys):
    assert batch("w.json", "out", "--dry-run", calls=Calls()) == 0
    shown = capsys.readouterr().out
    seed = picture_seed(0, "b/p001.png")
    assert f"in/b/p001.png -> out/b/p001.png  seed {seed}\n" in shown
    assert "6 inputs: 0 finished, 6 would run;" in shown and not Path("out").exists()
    assert batch("w.json", "out", "--dry-run", calls=Calls(), pattern="in/b/p001.png") == 0
    assert "\n1 input: 0 finished, 1 would run;" in capsys.readouterr().out


def test_the_bar_tells_speed_and_time_left(place, capsys):
    assert main(["batch", str(SHIPPED), "--input", "in", "--output", "out", *QUICK]) == 0
    assert "pictures/s" in (err := capsys.readouterr().err) and "6/6 [" in err and "<" in err


def test_memory_stays_flat(place):
    write_pictures("many", 400, sides=((8, 8),))
    calls = Calls()
    assert batch("w.json", "out", pattern="many", calls=calls) == 0
    grown = max(calls.resident[300:]) - max(calls.resident[90:110])
    assert len(calls.resident) == 400 and grown < 2**20, grown


def test_a_worker_gives_no_input_back(place):
    data = Path("in/a/p000.png").read_bytes()
    worker = Worker(Job(json.dumps(workflow()), "1"), pack(Calls()))
    outcome, = worker.work([Picture("x.png", data, 1, item=7)])
    assert outcome.picture == Picture("x.png", b"", 1, item=7) and list(outcome.files) == [""]


def test_a_failed_write_leaves_nothing(tmp_path):
    def half(path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put(tmp_path / "x" / "a.png", half)
    assert files(tmp_path) == {}


def test_pictures_are_written_in_the_format_that_was_asked_for(place, capsys):
    assert batch("w.json", "out", "--format", "jpg", calls=Calls()) == 0
    names = [name for name in files("out") if name != "manifest.jsonl"]
    assert names and all(name.endswith(".jpg") for name in names)
    with Image.open(Path("out", names[0])) as result:
        assert result.format == "JPEG"
    assert batch("w.json", "out", calls=Calls()) == 2
    assert "another workflow, seed or settings" in capsys.readouterr().err
