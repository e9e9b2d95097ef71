"""What a video has beside its pictures comes out: sound, subtitles, chapters, titles, times."""

import json
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from batch_runs import Calls, batch, manifest, workflow
from PIL import Image

from undegrade.headless.batch.inputs import Item

av = pytest.importorskip("av")
from video_clips import HEIGHT, MS, TIMES, WIDTH, make, times  # noqa: E402 - needs PyAV

SUBTITLES = {"mkv": ("subrip", "ass", "webvtt"), "mp4": ("mov_text",), "mov": ("mov_text",)}
TITLES = {  # what a container may say of its contents, by kind
    "plain": {"title": "Strand", "artist": "Ada"}, "comment": {"comment": "by the sea"},
    "full": {"title": "Größe 1", "comment": "c", "description": "d", "synopsis": "s",
             "genre": "g", "date": "1999", "copyright": "me", "album": "a"},
    "own": {"com.apple.quicktime.make": "Camera", "location": "+48+011/", "title": "t"},
    "none": {}}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A workflow that changes nothing."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    untouched = {"4": ("SaveImage", {"images": ["1", 0], "filename_prefix": "x"})}
    Path("same.json").write_text(json.dumps(workflow(**untouched)))
    return tmp_path


def subtitle(codec):
    """Adds a text of 500 ms."""
    def add(out):
        stream = out.add_mux_stream(codec, time_base=MS)
        stream.metadata.update(language="ita", title=f"Testo {codec}")
        stream.disposition = av.stream.Disposition.forced
        text = {"mov_text": b"\x00\x04Ciao", "ass": b"0,0,Default,,0,0,0,,Ciao"}.get(codec, b"Ciao")
        packet = av.Packet(text)
        packet.stream, packet.time_base = stream, MS
        packet.pts = packet.dts = 20
        packet.duration = 500
        return packet
    return add


def cover(out):
    """Adds a cover, which is read as a video stream of one picture."""
    data = BytesIO()
    Image.new("RGB", (8, 8), "red").save(data, "PNG")
    if out.format.name == "matroska":
        out.add_attachment("cover.png", "image/png", data.getvalue())
        return None
    stream = out.add_mux_stream("png", width=8, height=8, time_base=Fraction(1, 90000))
    stream.disposition = av.stream.Disposition.attached_pic
    packet = av.Packet(data.getvalue())
    packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 0, 0, True
    return packet


def font(out):
    out.add_attachment("face.ttf", "font/ttf", b"no font")


def chapters(out):
    out.set_chapters([
        {"id": i + 1, "start": 200 * i, "end": 200 * (i + 1), "time_base": MS,
         "metadata": {"title": f"Kapitel {i}"}} for i in range(2)])


def seen(path):
    """All that must survive, times in seconds."""
    with av.open(str(path)) as container:
        kinds = [(s.type, s.name if s.type != "video" or s.disposition else "pictures",
                  s.disposition, s.language, s.metadata.get("title") or s.metadata.get("name"))
                 for s in container.streams]
        told = {k.lower(): v for k, v in container.metadata.items()}
        parts = [(float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]),
                  c["metadata"]) for c in container.chapters()]
        length = container.duration
        others = [s for s in container.streams if s.type in ("audio", "subtitle")
                  or s.disposition & av.stream.Disposition.attached_pic]
        packets = [(p.stream.index, bytes(p), *(float((t or 0) * p.time_base)
                                                for t in (p.pts, p.duration)))
                   for p in container.demux(others) if p.size]
    return kinds, told, parts, length, sorted(packets), times(path)


OWN = ("encoder", "major_brand", "minor_version", "compatible_brands")


def kept(before, after, name):
    """Compare what two files tell; of the titles the new one has one more, the workflow."""
    told = {k: v for k, v in before[1].items() if k not in OWN}
    assert after[1].items() >= told.items(), name
    rest = {k: v for k, v in after[1].items() if k not in told and k not in OWN}
    assert len(rest) == 1 and "prompt" in json.loads(*rest.values()), (name, rest)
    assert after[0] == before[0], name
    assert after[2] == before[2], name
    assert after[4] == before[4], name
    assert after[5] == before[5], name
    assert abs(after[3] - before[3]) < 1500, name  # microseconds


def test_streams_chapters_titles_and_times_survive(place):
    for ending, texts in SUBTITLES.items():
        for name, titles in TITLES.items():
            options = {"movflags": "use_metadata_tags"} if name == "own" else {}
            make(f"in/{name}.{ending}", titles=titles, beside=(chapters,),
                 options_of_file=options)
        beside = [subtitle(codec) for codec in texts] + [cover] * (ending != "mov")
        make(f"in/beside.{ending}", beside=[*beside, *[font] * (ending == "mkv")])
    assert batch("same.json", "out", pattern="in", calls=Calls()) == 0
    for path in sorted(Path("in").iterdir()):
        before, after = seen(path), seen(Path("out", path.name))
        assert before[5][0] == [t / 1000 for t in TIMES]
        kept(before, after, path.name)


COUNTED = {"clock": Fraction(1, 25), "times": range(9), "last": 1}
MPEG = {"codec": "mpeg2video", "sound": False, "options": {"bf": "2"}, **COUNTED}
CLOCKS = {  # name -> how it is made
    "late.mp4": {"times": (500, 540, 590)}, "late.mkv": {"times": (500, 540, 590)},
    "b.mp4": {"options": {"bf": "2"}}, "b.mkv": {"options": {"bf": "2"}},
    "one.mp4": {"times": (0,)}, "ntsc.mov": {"clock": Fraction(1, 30000), "last": 1001,
                                             "times": tuple(1001 * i for i in range(5))},
    "x.avi": {"codec": "mpeg4", "options": {"bf": "2"}, **COUNTED},
    "x2.avi": {"options": {"bf": "2"}, **COUNTED},
    "v.webm": {"codec": "libvpx-vp9", "options": {}, "sound": False},
    "a.ts": {"form": "mpegts"}, "f.flv": {}, "n.nut": {}, "k.3gp": {"sound": False},
    "m.vob": {"form": "vob", **MPEG}, "m1.mpg": {"form": "mpeg", **MPEG, "codec": "mpeg1video"},
    "m2.m2v": {"form": "mpeg2video", **MPEG}, "m3.mxf": {"form": "mxf", **MPEG},
    "w.wmv": {**MPEG, "codec": "wmv2", "options": {}},
    "y.y4m": {"form": "yuv4mpegpipe", **MPEG, "codec": "rawvideo", "options": {}}}


def test_frame_times_of_every_kind_survive(place):
    for name, how in CLOCKS.items():
        make(f"in/{name}", **how)
    assert batch("same.json", "out", pattern="in", calls=Calls()) == 0
    for name, how in CLOCKS.items():
        output = Path("out", Item(Path(name), name).output())
        before, after = times(f"in/{name}"), times(output)
        assert len(after[0]) == len(how.get("times", TIMES)), name
        assert np.allclose(before[0], after[0], atol=6e-4), name  # Matroska counts milliseconds
        if output.suffix != ".mkv":
            assert abs(before[1] - after[1]) < 1e-4, name


@pytest.mark.parametrize("ending", ["mov", "mp4"])
def test_time_codes_survive(ending, place, capsys):
    make(f"in/a.{ending}", titles={"timecode": "01:02:03:04"}, **COUNTED)
    assert batch("same.json", "out", pattern="in", calls=Calls()) == 0
    assert capsys.readouterr().err == ""
    codes = []
    for folder in ("in", "out"):
        with av.open(f"{folder}/a.{ending}") as container:
            codes.append([(s.type, s.metadata.get("timecode")) for s in container.streams])
    assert codes[0] == codes[1] and codes[0][0] == ("video", "01:02:03:04")


def test_titles_in_an_old_encoding_stop_nothing(place):
    make("in/a.mp4", titles={"title": "Größe"}, metadata_encoding="latin-1")
    make("in/b.mkv", titles={"title": "Größe"}, metadata_encoding="latin-1")
    assert batch("same.json", "out", pattern="in", calls=Calls()) == 0
    for name in ("a.mp4", "b.mkv"):
        with av.open(f"out/{name}", metadata_encoding="latin-1") as container:
            assert container.metadata["title"] == "Größe"


def test_captions_inside_the_pictures_survive(place):
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.options = Fraction(1, 25), {"bf": "0", "tune": "zerolatency"}
    with av.open("in/cc.ts", "w", format="mpegts") as out:
        stream = out.add_mux_stream("h264", rate=25, width=WIDTH, height=HEIGHT)
        for i in range(5):
            frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([99]) * plane.buffer_size)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            for coded in encoder.encode(frame):
                text = b"\xb5\x001GA94\x03A\xff\xfc\x94" + bytes([32 + i, 255])  # ATSC A/53
                packet = av.Packet(b"\0\0\0\1\6\4" + bytes([len(text)]) + text + b"\x80"
                                   + bytes(coded))
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                packet.pts, packet.dts, packet.is_keyframe = i, i, coded.is_keyframe
                out.mux(packet)
    assert batch("same.json", "out", pattern="in", calls=Calls()) == 0
    with av.open("out/cc.mkv") as container:
        found = [bytes(data)[2] for frame in container.decode(video=0)
                 for data in frame.side_data if data.type.name == "A53_CC"]
    assert found == [32, 33, 34, 35, 36]


def test_streams_that_the_new_file_cannot_have_are_named_before_the_work(place, capsys):
    def signals(out):
        stream = out.add_data_stream("klv")
        packet = av.Packet(b"anything")
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, MS
        return packet

    make("in/a.mkv", beside=[signals], form="mpegts")
    calls = Calls()
    assert batch("same.json", "out", "--dry-run", pattern="in", calls=calls) == 0
    assert "data stream 2 (klv) cannot be kept in .mkv" in capsys.readouterr().out
    assert batch("same.json", "out", pattern="in", calls=calls) == 0
    assert "data stream 2 (klv) cannot be kept in .mkv" in capsys.readouterr().err
    assert [kind for kind, *_ in seen("out/a.mkv")[0]] == ["video", "audio"]


def test_a_cover_is_no_moving_picture(place):
    with av.open("in/song.mp4", "w") as out:
        tone = out.add_stream("aac", rate=16000, layout="mono")
        picture = cover(out)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), "s16", "mono")
        frame.sample_rate, frame.pts = 16000, 0
        out.mux([*tone.encode(frame), *tone.encode(None), picture])
    assert batch("same.json", "out", pattern="in", calls=Calls()) == 1
    assert "no moving pictures" in manifest("out")["song.mp4"]["error"]


def test_a_frame_without_a_time_is_refused_before_the_work(place):
    make("in/raw.mkv", codec="libx264", sound=False, form="h264")
    calls = Calls()
    assert batch("same.json", "out", pattern="in", calls=calls) == 1
    assert "frame 0: it has no timestamp" in manifest("out")["raw.mkv"]["error"]
    assert calls.loads == 0
