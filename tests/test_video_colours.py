"""Videos that nothing changes come back as they were: colours, geometry, and what is refused."""

import itertools
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from batch_runs import Calls, batch, manifest, workflow

from undegrade.headless.batch import video
from undegrade.headless.batch.coding import WHITE, pixels

av = pytest.importorskip("av")

WIDTH, HEIGHT, COUNT = 32, 24, 2
WHOLE = {"libx264": {"qp": "0"}, "ffv1": {}}  # without loss


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A workflow that changes nothing, and coding without loss, so that ours shows alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(video, "OPTIONS", {"qp": "0", "bf": "0"})
    Path("in").mkdir()
    untouched = {"4": ("SaveImage", {"images": ["1", 0], "filename_prefix": "x"})}
    Path("same.json").write_text(json.dumps(workflow(**untouched)))
    return tmp_path


def make(path, form, planes, codec="libx264", matrix=None, shape=None, interlaced=False, **tags):
    """A video of the same planes, COUNT times."""
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25, options=WHOLE[codec])
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, form
        for name, value in tags.items():
            setattr(context, name, value)
        if shape:
            context.sample_aspect_ratio = shape
        if interlaced:
            context.flags |= av.codec.context.Flags.interlaced_dct
        if matrix:
            stream.set_display_matrix(matrix)
        frame = av.VideoFrame(WIDTH, HEIGHT, form)
        fill(frame, planes)
        for i in range(COUNT):
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def fill(frame, values):
    """Write planes of samples, which are cut to what each has room for."""
    for plane, value in zip(frame.planes, values, strict=False):
        kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
        room = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size).view(kind)
        each = value if np.ndim(value) else np.full((HEIGHT, room.shape[1]), value)
        rows, columns = (min(a, b) for a, b in zip(room.shape, each.shape, strict=True))
        room[:rows, :columns] = each[:rows, :columns]


def frames(path):
    """Every frame of a video's first stream, and the stream's shape of pixels."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return list(container.decode(stream)), stream.sample_aspect_ratio or Fraction(1)


def samples(frame):
    """Luma and chroma as they were decoded."""
    kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    return [np.frombuffer(p, np.uint8).reshape(-1, p.line_size).view(kind)[:p.height, :p.width]
            .astype(int) for p in frame.planes]


def tags(frame):
    return frame.colorspace, frame.color_primaries, frame.color_trc


def waves(depth):
    """Samples inside what RGB can show: detail in luma, soft and sharp edges in chroma."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    scale = 1 << (depth - 8)
    luma = 126 + 22 * np.sin(x * 1.9) * np.cos(y * 1.3)
    blue, red = 128 + 14 * np.sin(x * 0.7 + y), 128 + 12 * np.sign(np.cos(y * 0.9 + x * 0.4))
    return [np.rint(v * scale).astype(int) + (scale > 1) for v in (luma, blue, red)]


FORMS = [f"yuv{layout}p{deep}" for layout in (420, 422, 444) for deep in ("", "10le")]
COLOURS = {  # matrix, primaries, transfer
    "untagged": (2, 2, 2), "bt709": (1, 1, 1), "pal": (5, 5, 5), "ntsc": (6, 6, 6),
    "240m": (7, 7, 7), "fcc": (4, 4, 4), "srgb": (1, 1, 13), "bt2020": (9, 9, 14),
    "p3": (1, 12, 13), "xvycc": (1, 1, 11)}
CLIPS = {f"{form}-{name}-{levels}": (form, colour, levels) for (name, colour), form, levels in
         itertools.product(COLOURS.items(), FORMS, (1, 2))
         if name == "bt709" or (form, levels) in (("yuv420p", 1), ("yuv420p10le", 2))}


def test_what_nothing_changes_comes_back_sample_by_sample(place):
    for name, (form, colour, levels) in CLIPS.items():
        depth = 10 if "10" in form else 8
        make(f"in/{name}.mp4", form, waves(depth), color_range=levels,
             **dict(zip(("colorspace", "color_primaries", "color_trc"), colour, strict=True)))
    assert batch("same.json", "out", pattern="in", calls=Calls()) == 0
    for name, (form, colour, levels) in CLIPS.items():
        (before, *_), _ = frames(f"in/{name}.mp4")
        after, _ = frames(f"out/{name}.mp4")
        assert len(after) == COUNT and after[0].format.name.replace("yuvj", "yuv") == form, name
        assert after[0].color_range == levels
        told = tags(after[0])
        assert told == ((6, 2, 2) if colour[0] == 2 else colour), name
        for frame in after:
            for a, b in zip(samples(before), samples(frame), strict=True):
                assert np.abs(a - b).max() == 0, name


RED = {  # matrix, range and depth -> the samples of pure red, as the standards print them
    (5, 1, 8): (81, 90, 240), (6, 1, 8): (81, 90, 240), (1, 1, 8): (63, 102, 240),
    (6, 2, 8): (76, 85, 255), (1, 2, 8): (54, 99, 255), (1, 1, 10): (250, 409, 960),
    (9, 1, 10): (294, 387, 960), (2, 1, 8): (81, 90, 240)}


@pytest.mark.parametrize("key", RED, ids=str)
def test_a_workflow_sees_the_colours_that_were_meant(key, tmp_path):
    matrix, levels, depth = key
    make(tmp_path / "a.mp4", f"yuv420p{'10le' if depth == 10 else ''}", RED[key],
         colorspace=matrix, color_range=levels)
    seen = pixels(frames(tmp_path / "a.mp4")[0][0]) / WHITE * 255
    assert np.abs(seen - [255, 0, 0]).max() < 2


@pytest.mark.parametrize("form", ["yuv420p", "yuv422p"])
def test_chroma_is_spread_evenly(form):
    frame = av.VideoFrame(WIDTH, HEIGHT, form)
    rows = HEIGHT // 2 if form == "yuv420p" else HEIGHT
    fill(frame, [100, 128, 112 + 2 * np.mgrid[:rows, :WIDTH // 2].sum(0) / 2])
    frame.color_range = 1
    red = pixels(frame)[..., 0].astype(float)
    steps = np.diff(red[4:-4, 4:-4], axis=1)
    assert steps.min() > 0 and steps.max() < 4 * steps.mean()


def test_untagged_pictures_of_hd_are_taken_as_players_take_them(tmp_path):
    frame = av.VideoFrame(1280, 720, "yuv420p")
    for plane, value in zip(frame.planes, RED[1, 1, 8], strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    assert np.abs(pixels(frame) / WHITE * 255 - [255, 0, 0]).max() < 2


ODD = {  # a source's form -> the form it comes out in; what it shows must be the same
    "gray": "yuv420p", "gray10le": "yuv420p10le", "yuv410p": "yuv420p", "yuv411p": "yuv422p",
    "yuv440p": "yuv444p", "yuv420p12le": "yuv420p10le", "yuv444p16le": "yuv444p10le",
    "yuva420p": "yuv420p", "bgr0": "yuv444p10le", "gbrp10le": "yuv444p10le",
    "bgra": "yuv444p10le", "rgb48le": "yuv444p10le"}


def test_odd_forms_show_what_they_showed(place):
    for form in ODD:
        deep = av.VideoFormat(form).components[0].bits
        noise = np.random.default_rng(0).integers(0, 1 << deep, (HEIGHT, 4 * WIDTH))
        tint = noise if form in ("bgr0", "bgra", "rgb48le") else waves(deep)[0]
        make(f"in/{form}.mkv", form, [tint, *(v << (deep - 8) for v in (140, 118, 255))], "ffv1")
    assert batch("same.json", "out", pattern="in", calls=Calls()) == 0
    for form, expected in ODD.items():
        before, after = frames(f"in/{form}.mkv")[0][0], frames(f"out/{form}.mkv")[0][0]
        assert after.format.name.replace("yuvj", "yuv") == expected
        assert np.abs(pixels(before).astype(int) - pixels(after)).max() < 0.6 * WHITE / 255, form


UNIT = 65536
MATRICES = {  # a, b, c, d of x' = a x + c y, y' = b x + d y -> what becomes of a picture
    (1, 0, 0, 1): lambda p: p, (-1, 0, 0, 1): np.fliplr, (1, 0, 0, -1): np.flipud,
    (-1, 0, 0, -1): lambda p: np.rot90(p, 2), (0, 1, -1, 0): lambda p: np.rot90(p, -1),
    (0, -1, 1, 0): np.rot90, (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
    (0, -1, -1, 0): lambda p: np.rot90(p.swapaxes(0, 1), 2)}


def nine(a, b, c, d):
    return [int(a * UNIT), int(b * UNIT), 0, int(c * UNIT), int(d * UNIT), 0, 0, 0, 1 << 30]


@pytest.mark.skipif(not hasattr(av.VideoFrame, "interlaced_frame") or not hasattr(
    av.video.stream.VideoStream, "set_display_matrix"), reason="PyAV 18 writes display matrices")
@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_geometry_is_what_a_player_shows(ending, place):
    corner = np.full((HEIGHT, WIDTH), 90)
    corner[:8, :12] = 200
    names = {matrix: f"{i}.{ending}" for i, matrix in enumerate(MATRICES)}
    for i, (matrix, name) in enumerate(names.items()):
        shape = (None, Fraction(16, 11))[i % 2 if ending == "mp4" else 1]
        make(f"in/{name}", "yuv444p", [corner, 128, 128], matrix=nine(*matrix), shape=shape)
    assert batch("same.json", "out", pattern="in", calls=Calls()) == 0
    for matrix, name in names.items():
        (before, *_), old = frames(f"in/{name}")
        (after, *_), new = frames(f"out/{name}")
        turned = MATRICES[matrix](samples(before)[0])
        assert np.array_equal(samples(after)[0], turned), matrix
        assert after.rotation == 0 and not any(
            s.type.name == "DISPLAYMATRIX" for s in after.side_data)
        assert new == (1 / old if matrix[0] == 0 else old), matrix


def test_interlaced_stays_marked_so_at_any_even_height(place):
    make("in/a.mp4", "yuv420p", waves(8), interlaced=True)
    for height in (24, 22):
        crop = {"7": ("ImageCrop", {"image": ["1", 0], "width": 32, "height": height, "x": 0,
                                    "y": 0}),
                "4": ("SaveImage", {"images": ["7", 0], "filename_prefix": "x"})}
        Path("crop.json").write_text(json.dumps(workflow(**crop)))
        assert batch("crop.json", f"out{height}", pattern="in", calls=Calls()) == 0
        after, _ = frames(f"out{height}/a.mp4")
        assert all(frame.interlaced_frame and frame.height == height for frame in after)


REFUSED = {  # what is in a sentence -> how such a video is made
    "PQ (HDR)": {"color_trc": 16, "colorspace": 9, "color_primaries": 9},
    "HLG (HDR)": {"color_trc": 18, "colorspace": 9, "color_primaries": 9},
    "linear light": {"color_trc": 8}, "logarithmic": {"color_trc": 9}, "SMPTE 428":
    {"color_trc": 17}, "matrix 10 of": {"colorspace": 10}, "matrix 8 of": {"colorspace": 8},
    "matrix 14 of": {"colorspace": 14}, "no multiple of 90": {"matrix": nine(0.7, 0.7, -0.7, 0.7)}}
TOLD = {  # likewise, and its form and codec
    "12 bits become 10": ("yuv420p12le", {}), "transparency": ("yuva420p", {})}


def test_what_cannot_be_kept_is_said_before_the_work(place, capsys):
    for i, how in enumerate(REFUSED.values()):
        make(f"in/no{i}.mp4", "yuv420p10le", waves(10), **how)
    for i, (form, how) in enumerate(TOLD.values()):
        make(f"in/yes{i}.mkv", form, waves(8), "ffv1", **how)
    make("in/lines.mp4", "yuv420p", waves(8), interlaced=True)
    assert batch("same.json", "out", "--dry-run", pattern="in", calls=Calls()) == 0
    shown = capsys.readouterr().out
    calls = Calls()
    Path("w.json").write_text(json.dumps(workflow()))
    assert batch("w.json", "out", pattern="in/no*", calls=calls) == 1
    assert calls.rows == [] and calls.loads == 0
    errors = manifest("out")
    for i, words in enumerate(REFUSED):
        assert words in errors[f"no{i}.mp4"]["error"] and words in shown
    assert batch("same.json", "rest", pattern="in/[yl]*", calls=Calls()) == 0
    told = capsys.readouterr().err
    for words in [*TOLD, "interlaced"]:
        assert words in shown and words in told
