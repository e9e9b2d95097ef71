"""Videos: timestamps and sound kept, frames resumed, one noise for all of them."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from batch_runs import Calls, batch, files, manifest, workflow, write_pictures

from undegrade.headless.batch import driver, video
from undegrade.headless.batch.frames import LoadFrame, SaveFrame
from undegrade.headless.batch.in_memory import Collector, Memory

av = pytest.importorskip("av")

COUNT, SIZE, CLOCK, RATE = 7, (24, 16), Fraction(1, 1000), 16000


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two videos with uneven frame times and sound, and a workflow that leaves frames alone."""
    monkeypatch.chdir(tmp_path)
    Path("in/deep").mkdir(parents=True)
    make("in/deep/clip.mp4")
    make("in/other.mkv")
    untouched = {"4": ("SaveImage", {"images": ["1", 0], "filename_prefix": "x"})}
    Path("same.json").write_text(json.dumps(workflow(**untouched)))
    Path("w.json").write_text(json.dumps(workflow()))
    return tmp_path


def make(path, still=False, size=SIZE):
    """A video of moving gradients with a tone; ``still`` repeats one frame."""
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "5", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = CLOCK
        sound = out.add_stream("aac", rate=RATE, layout="mono")
        y, x = np.mgrid[:size[1], :size[0]]
        for i in range(COUNT):
            shift = 0 if still else 6 * i
            pixels = np.stack([x * 5 + shift, y * 9 + 40, (x + y) * 3 + shift], -1)
            frame = av.VideoFrame.from_ndarray(pixels.clip(0, 255).astype(np.uint8))
            frame.pts, frame.time_base = 40 * i + 7 * (i % 3), CLOCK
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        tone = (np.sin(np.arange(4 * 1024) / 9) * 9000).astype(np.int16)
        for k in range(4):
            frame = av.AudioFrame.from_ndarray(tone[None, 1024 * k:1024 * (k + 1)], "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 1024 * k, Fraction(1, RATE)
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))


def read(path):
    """Times and pixels of the frames, times and bytes of the sound."""
    with av.open(str(path)) as container:
        frames = [(f.pts * f.time_base, f.to_ndarray(format="rgb24"))
                  for f in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = [(p.pts * p.time_base, bytes(p)) for p in container.demux(audio=0)
                 if p.dts is not None]
    return [t for t, _ in frames], np.stack([p for _, p in frames]).astype(int), sound


def test_times_and_sound_are_kept(place):
    assert batch("same.json", "out", pattern="in", calls=Calls()) == 0
    assert sorted(files("out")) == ["deep/clip.mp4", "other.mkv"]
    for name in files("out"):
        before, after = read(f"in/{name}"), read(f"out/{name}")
        assert len(before[0]) == COUNT and after[0] == before[0]
        assert len(before[2]) >= 4 and after[2] == before[2]
        assert np.abs(after[1] - before[1]).mean() < 2  # CRF 16
        with av.open(f"out/{name}") as container:
            comment = {k.lower(): v for k, v in container.metadata.items()}["comment"]
        assert json.loads(comment)["prompt"]["1"]["inputs"]["image"] == f"{name}#00000000"
        assert manifest("out")[name]["output"] == [name]


def test_one_noise_for_all_frames(place):
    make("in/still.mp4", still=True)
    for out, options in (("each", ()), ("one", ("--one-noise",))):
        assert batch("w.json", out, *options, pattern="in/still.mp4", calls=Calls()) == 0
    flicker = {out: np.abs(np.diff(read(f"{out}/still.mp4")[1], axis=0)).mean()
               for out in ("each", "one")}
    assert flicker["each"] > 5 and flicker["one"] < 1, flicker


def test_a_stop_amid_a_video_loses_no_frame(place, monkeypatch):
    write_pictures("in", 2, sides=((16, 24),))
    assert batch("w.json", "whole", pattern="in", calls=Calls()) == 0
    take, taken = driver.Driver._take, []

    def stop(self, outcome):
        taken.append(outcome.picture.name)
        if len(taken) == 6:
            raise KeyboardInterrupt
        take(self, outcome)

    monkeypatch.setattr(driver.Driver, "_take", stop)
    assert batch("w.json", "out", pattern="in", calls=Calls()) == 130
    monkeypatch.setattr(driver.Driver, "_take", take)
    calls = Calls()
    assert batch("w.json", "out", pattern="in", calls=calls) == 0
    assert files("out") == files("whole")  # and the folders of frames are gone
    assert len(calls.rows) == 3 * (2 + 2 * COUNT - 5)


def test_frames_shared_among_calls(place):
    assert batch("w.json", "out", "--together", "4", pattern="in/other.mkv", calls=Calls()) == 0
    calls = Calls()
    assert batch("w.json", "both", "--together", "4", pattern="in", calls=calls) == 0
    assert files("both")["other.mkv"] == files("out")["other.mkv"]


def test_broken_videos_are_reported(place):
    whole = Path("in/deep/clip.mp4").read_bytes()
    Path("in/half.mp4").write_bytes(whole[:len(whole) // 2])
    Path("in/text.mkv").write_text("no video")
    assert batch("same.json", "out", pattern="in", calls=Calls()) == 1
    told = {n: line["error"] for n, line in manifest("out").items() if line["error"]}
    assert sorted(told) == ["half.mp4", "text.mkv"]
    assert all("as a video" in text for text in told.values())
    assert sorted(files("out")) == ["deep/clip.mp4", "other.mkv"]


def test_a_workflow_that_gives_two_pictures(place):
    assert batch("w.json", "out", "--set", "3.samples=2", pattern="in/other.mkv",
                 calls=Calls()) == 1
    assert "one picture for each frame; this one saved 2" in manifest("out")["other.mkv"]["error"]


def test_frames_keep_16_bits_and_no_transparency():
    memory = Memory(Path())
    memory.current.picture = collector = Collector("clip#0", b"", is_frame=True)
    save = type("Save", (SaveFrame,), {"folders": memory})().save_images
    levels = torch.arange(65536).reshape(1, 256, 256, 1) / 65535
    save(levels)
    collector.data = collector.saved[""][0]
    load = type("Load", (LoadFrame,), {"folders": memory})().load_image
    assert torch.equal(load("clip#0")[0], levels.expand(-1, -1, -1, 3))
    with pytest.raises(ValueError, match="a video keeps no transparency"):
        save(torch.zeros(1, 4, 4, 4))


def test_odd_sides_and_a_failed_encoding(place, monkeypatch):
    crop = {"7": ("ImageCrop", {"image": ["1", 0], "width": 9, "height": 7, "x": 3, "y": 2}),
            "4": ("SaveImage", {"images": ["7", 0], "filename_prefix": "x"})}
    Path("odd.json").write_text(json.dumps(workflow(**crop)))
    assert batch("odd.json", "out", pattern="in/other.mkv", calls=Calls()) == 0
    assert read("out/other.mkv")[1].shape == (COUNT, 7, 9, 3)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(video, "_encode", full)
    assert batch("same.json", "full", pattern="in/other.mkv", calls=Calls()) == 1
    assert not Path("full/other.mkv").exists()
    monkeypatch.undo()
    monkeypatch.chdir(place)
    calls = Calls()
    assert batch("same.json", "full", pattern="in/other.mkv", calls=calls) == 0
    assert sorted(files("full")) == ["other.mkv"]
    shutil.rmtree("full")
