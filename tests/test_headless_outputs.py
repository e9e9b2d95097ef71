"""What the command keeps of a picture, and the kinds of files and sheets that it writes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_files import DEEP, SHALLOW, png_of, read
from PIL import Image

from undegrade.headless.cli import main
from undegrade.headless.folders import Folders
from undegrade.headless.harm import harm, of_its_own
from undegrade.headless.load import document
from undegrade.headless.signature import Catalog
from undegrade.headless.stock import stock_classes
from undegrade.headless.stock.files import _without_colours

SCALE = {"class_type": "ImageScaleBy", "inputs": {
    "image": ["1", 0], "upscale_method": "nearest-exact", "scale_by": 2.0}}


def graph(**more):
    return {"1": {"class_type": "LoadImage", "inputs": {"image": "p.png"}}, "2": SCALE,
            "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0],
                                                        "filename_prefix": "x"}}, **more}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a graph on p.png; returns the status and the words on both streams."""
    monkeypatch.chdir(tmp_path)

    def call(nodes, *options):
        Path("w.json").write_text(json.dumps(nodes))
        status = main(["run", "w.json", "--input", "1=p.png", "--quiet", *options])
        return status, capsys.readouterr()

    return call


def test_a_cut_out_stays_one(run):
    pixels = np.full((4, 6, 4), 200, np.uint8)
    pixels[:2, :, 3] = 0
    Image.fromarray(pixels).save("p.png")
    assert run(graph())[0] == 0
    with Image.open("output/x_00001_.png") as saved:
        assert np.array_equal(np.asarray(saved), pixels.repeat(2, 0).repeat(2, 1))
    mask = {"class_type": "MaskPreview", "inputs": {"mask": ["1", 1]}}
    assert run(graph(**{"4": mask}))[0] == 0
    with Image.open("output/x_00002_.png") as saved:  # the mask said what to fill in
        assert saved.mode == "RGB"


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_stay(run, ending):
    Path("p.png").write_bytes(png_of(DEEP, 6, 16))
    assert run(graph(), "--output", f"made.{ending}")[0] == 0
    frame = read(Path(f"made.{ending}").read_bytes())
    both = np.concatenate([frame.colours, frame.alpha[..., None]], -1)
    levels = (both * 65535).round().astype(int)
    assert np.array_equal(levels, DEEP.repeat(2, 0).repeat(2, 1))
    Path("p.png").write_bytes(png_of(257 * SHALLOW.astype(np.uint16), 6, 16))
    assert run(graph(), "--output", f"coarse.{ending}")[0] == 0
    assert read(Path(f"coarse.{ending}").read_bytes()).deep, "of 8 bits' levels, too"


def test_every_level_of_alpha_comes_back(run):
    """1 - (1 - a) lies under a for nine of a hundred levels, and was cut."""
    pixels = np.full((16, 16, 4), 90, np.uint8)
    pixels[..., 3] = np.arange(256).reshape(16, 16)
    Image.fromarray(pixels).save("p.png")
    nodes = graph()
    nodes["2"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": 1}}
    assert run(nodes)[0] == 0
    with Image.open("output/x_00001_.png") as saved:
        assert np.array_equal(np.asarray(saved), pixels)
    with Image.open("p.png") as file:
        picture = file.convert("RGBA")
    fine = np.asarray(picture).astype(np.uint16) * 257
    fine[3, 4, 3] += 5  # 16 bits in alpha alone
    Path("p.png").write_bytes(png_of(fine, 6, 16))
    assert run(nodes)[0] == 0
    assert np.array_equal(
        (read(Path("output/x_00002_.png").read_bytes()).alpha * 65535).round(), fine[..., 3])


@pytest.mark.parametrize(("ending", "depth"), [("png", 8), ("tif", 8), ("png", 16), ("tif", 16)])
def test_grey_with_alpha_stays_so(run, ending, depth):
    levels = SHALLOW[..., 2:] if depth == 8 else DEEP[..., 2:]
    Path("p.png").write_bytes(png_of(levels, 4, depth))
    assert run(graph(), "--output", f"made.{ending}")[0] == 0
    frame = read(Path(f"made.{ending}").read_bytes())
    both = np.stack([frame.colours[..., 1], frame.alpha], -1) * (2**depth - 1)
    assert frame.grey and np.array_equal(both.round(), levels.repeat(2, 0).repeat(2, 1))
    if depth == 8:
        assert run(graph(), "--output", "made.jpg")[0] == 0
        with Image.open("made.jpg") as laid_on_white:
            assert laid_on_white.mode == "L"


GREYS = {"L": np.uint8, "I;16": np.uint16}


@pytest.mark.parametrize("mode", GREYS)
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_grey_stays_grey_unless_it_was_given_colours(run, mode, ending):
    levels = (np.arange(24).reshape(4, 6) * (10 if mode == "L" else 2001)).astype(GREYS[mode])
    Image.fromarray(levels).save("p.png")
    assert run(graph(), "--output", f"made.{ending}")[0] == 0
    with Image.open(f"made.{ending}") as saved:
        assert saved.mode == mode
        assert np.array_equal(np.asarray(saved), levels.repeat(2, 0).repeat(2, 1))
    tinted = torch.from_numpy(np.stack([levels / 65535] * 3, -1)).float()
    for more, channels in ((0.005, 1), (0.05, 3)):  # what a network leaves, and a colour
        assert _without_colours(tinted + torch.tensor([more, 0, 0])).shape[-1] == channels
    marked = tinted.repeat(40, 40, 1)
    marked[70:74, 100:106] = torch.tensor([0.8, 0.1, 0.1])  # a stamp from another file
    assert (marked.amax(-1) - marked.amin(-1)).mean() < 1 / 255
    assert torch.equal(_without_colours(marked), marked)


def test_a_format_that_is_not_written_is_no_folder(run):
    Image.new("RGB", (6, 4)).save("p.png")
    for name in ("made.gif", "made.mp4"):
        status, said = run(graph(), "--output", name)
        assert status == 2 and not Path(name).exists()
        assert f"--output {name}: pictures are not written as .{name[-3:]}; name a file" in said.err
        assert ".png, .jpg, .jpeg, .tif, .tiff, .webp, or a folder." in said.err
        assert main(["denoise", "p.png", "--output", name]) == 2
    assert run(graph(), "--output", "v1.2")[0] == 0 and Path("v1.2").is_dir()


@pytest.mark.parametrize(("options", "name", "kind"), [
    (["--output", "made.jpg"], "made.jpg", "JPEG"),
    (["--output", "a/made.webp"], "a/made.webp", "WEBP"),
    (["--format", "tif", "--output", "a"], "a/x_00001_.tif", "TIFF"),
    (["--output", "made.png"], "made.png", "PNG")])
def test_the_format_that_is_asked_for(run, options, name, kind):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    Image.new("RGB", (8, 8), (200, 100, 50)).save("p.png", exif=exif)
    assert run(graph(), *options)[0] == 0
    with Image.open(name) as saved:
        assert saved.format == kind and saved.size == (16, 16)
        assert saved.getexif()[0x010F] == "a camera"
        away = np.asarray(saved.convert("RGB")).astype(int) - (200, 100, 50)
        assert np.abs(away).max() <= 3
    if "made" in name:
        status, said = run(graph(), *options)
        assert status == 2 and "a file of that name" in said.err


def test_two_formats_are_refused(run):
    Image.new("RGB", (8, 8)).save("p.png")
    status, said = run(graph(), "--output", "a.jpg", "--format", "png")
    assert status == 2 and "name two formats" in said.err


def test_a_video_is_sent_to_batch(run):
    Path("clip.mp4").touch()
    status, said = run(graph(), "--input", "1=clip.mp4")
    assert status == 2 and "undegrade batch" in said.err


def test_several_values_make_a_contact_sheet(run):
    Image.new("RGB", (40, 30), "red").save("p.png")
    several = [f"--set=2.scale_by={v}" for v in (1, 2)]
    several += [f"--set=2.upscale_method={v}" for v in ("area", "bicubic", "lanczos")]
    status, said = run(graph(), *several)
    assert status == 0 and "contact sheet: " in said.out and "--set scale_by 2, upsc" in said.out
    with Image.open("output/contact_sheet.png") as sheet:
        assert sheet.size == (3 * (96 + 8) - 8, 2 * (60 + 28 + 8) - 8)
        assert sheet.getpixel((20, 40)) == (255, 0, 0)
    status, said = run(graph(), *several, "--set=3.filename_prefix=a", "--set=3.filename_prefix=b")
    assert status == 2 and "two widgets at most" in said.err


def test_a_box_of_the_workflows_own_is_told(tmp_path):
    folders = Folders(tmp_path)
    classes = {"UndegradeBoxMask": stock_classes(folders)["ImageInvert"], **stock_classes(folders)}
    box = {"class_type": "UndegradeBoxMask", "inputs": {"image": ["1", 0], "left": 0.4}}
    plan = document(graph(**{"4": box}), Catalog(classes, {})).graph()
    said = of_its_own(plan, {"p.png"})
    assert said.startswith("node 4 ") and "(left 0.4), whatever p.png shows there" in said
    assert "undegrade remove p.png --mask FILE" in said and of_its_own(plan, ()) == ""
    assert of_its_own(document(graph(), Catalog(classes, {})).graph(), {"p.png"}) == ""


def test_a_blur_of_the_workflows_own_is_told(tmp_path):
    folders = Folders(tmp_path)
    classes = {"UndegradeMotionBlur": stock_classes(folders)["ImageInvert"],
               **stock_classes(folders)}
    blur = {"class_type": "UndegradeMotionBlur", "inputs": {"length": 11}}
    said = of_its_own(document(graph(**{"4": blur}), Catalog(classes, {})).graph(), {"p.png"})
    assert "is the blur that is undone (length 11), whatever blur p.png has" in said
    assert said.endswith("or let it be found: undegrade sharpen p.png.\n")


def harmed(tmp_path, nodes):
    folders = Folders(tmp_path)
    classes = {"UndegradeDegradeImage": stock_classes(folders)["ImageInvert"],
               "UndegradeX": stock_classes(folders)["ImageInvert"], **stock_classes(folders)}
    return harm(document(nodes, Catalog(classes, {})).graph(), {"p.png"})


def test_harm_is_told(tmp_path):
    spoils = {"class_type": "UndegradeDegradeImage", "inputs": {"image": ["2", 0]}}
    assert "p.png is spoilt by node 4" in harmed(tmp_path, graph(**{"4": spoils}))
    small = {**SCALE, "inputs": {**SCALE["inputs"], "scale_by": 0.25}}
    assert "p.png is spoilt by node 2" in harmed(tmp_path, graph(**{"2": small}))
    ours = {"class_type": "UndegradeX", "inputs": {"image": ["1", 0]}}
    assert harmed(tmp_path, graph(**{"2": ours, "4": spoils})) == ""
    assert harmed(tmp_path, graph()) == ""


def test_alpha_is_joined_and_split(tmp_path):
    nodes = stock_classes(Folders(tmp_path))
    image, clear = torch.rand(2, 8, 6, 3), torch.rand(1, 8, 6)
    (joined,) = nodes["JoinImageWithAlpha"]().run(image=image, alpha=clear)
    assert torch.equal(joined[..., :3], image) and joined.shape == (2, 8, 6, 4)
    colours, mask = nodes["SplitImageWithAlpha"]().run(image=joined)
    assert torch.equal(colours, image)
    assert torch.allclose(mask, clear.expand(2, -1, -1), atol=1e-6)
    assert torch.equal(nodes["SplitImageWithAlpha"]().run(image=image)[1], torch.zeros(2, 8, 6))
    (opaque,) = nodes["JoinImageWithAlpha"]().run(image=image, alpha=torch.zeros(1, 64, 64))
    assert bool((opaque[..., 3] == 1).all())
