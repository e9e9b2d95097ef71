"""The stock nodes that load and save pictures: pixels, masks, metadata, file names."""

import json
import os
import time

import numpy as np
import pytest
import torch
from PIL import Image

from undegrade.headless.folders import Folders, fill_in, fill_in_widgets, write_new

H, W = 37, 31


# Comparing


def test_compare_writes_what_is_connected(call, folders):
    left, right = torch.zeros(1, H, W, 3), torch.ones(2, H, W, 3)
    both = call("ImageCompare", image_a=left, image_b=right)["ui"]
    assert [len(both[side]) for side in ("a_images", "b_images")] == [1, 2]
    assert all(shown["type"] == "temp" for side in both.values() for shown in side)
    assert list(call("ImageCompare", image_b=right)["ui"]) == ["b_images"]


# Loading


def test_load_rgba(call, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (H, W, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    image, mask = call("LoadImage", image="p.png")
    assert image.shape == (1, H, W, 3) and image.dtype == torch.float32
    assert torch.equal(image[0], torch.from_numpy(pixels[..., :3].astype(np.float32) / 255))
    assert torch.equal(mask[0], 1 - torch.from_numpy(pixels[..., 3].astype(np.float32) / 255))
    (alpha,) = call("LoadImageMask", image="p.png", channel="alpha")
    (green,) = call("LoadImageMask", image="p.png", channel="green")
    assert torch.equal(alpha, mask)
    assert torch.equal(green, image[..., 1])


@pytest.mark.parametrize("kind", ["L", "1", "P", "CMYK"])
def test_load_other_modes(call, tmp_path, kind):
    picture = Image.linear_gradient("L").resize((W, H)).convert(kind)
    picture.save(tmp_path / "p.tif")
    image, mask = call("LoadImage", image="p.tif")
    expected = np.asarray(picture.convert("RGB")).astype(np.float32) / 255
    assert np.array_equal(image[0].numpy(), expected)
    assert torch.equal(mask, torch.zeros(1, 64, 64))
    (opaque,) = call("LoadImageMask", image="p.tif", channel="alpha")
    assert torch.equal(opaque, torch.zeros(1, H, W))


def test_load_palette_with_transparency(call, tmp_path):
    picture = Image.fromarray(np.arange(H * W, dtype=np.uint8).reshape(H, W) % 3, "P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(tmp_path / "p.png", transparency=1)
    _, mask = call("LoadImage", image="p.png")
    assert torch.equal(mask[0], torch.from_numpy(np.asarray(picture) == 1).float())


def test_load_16_bit(call, tmp_path):
    deep = np.linspace(0, 65535, H * W).astype(np.uint16).reshape(H, W)
    Image.fromarray(deep).save(tmp_path / "p.png")
    image, _ = call("LoadImage", image="p.png")
    assert image.shape == (1, H, W, 3)
    expected = torch.from_numpy(deep.astype(np.float32) / 65535)
    assert all(torch.equal(image[0, ..., c], expected) for c in range(3))
    assert image.unique().numel() > 1000  # not cut to 8 bits


def test_load_turns_as_exif_says(call, tmp_path):
    pixels = np.zeros((H, W, 3), np.uint8)
    pixels[0, :] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "p.png", exif=exif)
    image, _ = call("LoadImage", image="p.png")
    assert image.shape == (1, W, H, 3)
    assert image[0, :, -1].min() == 1 and image[0, :, :-1].max() == 0


def test_load_frames_of_one_size(call, tmp_path):
    frames = [Image.new("RGB", (W, H), (i * 60, 0, 0)) for i in range(3)]
    frames[0].save(tmp_path / "p.png", save_all=True, append_images=frames[1:])
    image, mask = call("LoadImage", image="p.png")
    assert image.shape == (3, H, W, 3) and mask.shape == (3, 64, 64)
    assert torch.allclose(image[:, 0, 0, 0] * 255, torch.tensor([0.0, 60, 120]))
    odd = [Image.new("L", (W, H)), Image.new("L", (W, H + 1)), Image.new("L", (W, H), 9)]
    odd[0].save(tmp_path / "p.tif", save_all=True, append_images=odd[1:])
    assert call("LoadImage", image="p.tif")[0].shape == (2, H, W, 3)


def test_load_what_is_no_picture(call, tmp_path):
    (tmp_path / "p.png").write_text("hello")
    with pytest.raises(ValueError, match=r"cannot read .*p.png as a picture"):
        call("LoadImage", image="p.png")
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    with pytest.raises(ValueError, match=r"cannot read .*half.png as a picture"):
        call("LoadImage", image="half.png")


def test_where_pictures_are_looked_for(tmp_path, monkeypatch):
    home, here = tmp_path / "flows", tmp_path / "here"
    for folder in (home / "input", home / "inputs", here, tmp_path / "out" / "preview"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    folders = Folders.around(home / "w.json", tmp_path / "out")
    (here / "p.png").touch()
    assert folders.find("p.png") == here / "p.png"
    for folder in (home / "inputs", home / "input", home):  # each goes before the one before
        (folder / "p.png").touch()
        assert folders.find("p.png") == folder / "p.png"
    (tmp_path / "out" / "o.png").touch()
    (tmp_path / "out" / "preview" / "t.png").touch()
    assert folders.find("o.png [output]") == tmp_path / "out" / "o.png"
    assert folders.find("t.png [temp]") == tmp_path / "out" / "preview" / "t.png"
    assert folders.find("p.png [input]") == home / "p.png"
    assert folders.find(str(here / "p.png")) == here / "p.png"
    for name in ("o.png", "", "."):
        with pytest.raises(FileNotFoundError, match="was not found in"):
            folders.find(name)
    monkeypatch.chdir(home)
    named = Folders.around(home / "w.json", tmp_path / "out").sources
    assert sorted(named) == sorted({*named}), "no folder is named twice"


# Saving


def test_save_clips_cuts_and_carries_the_workflow(call, tmp_path):
    image = torch.tensor([-1.0, 0.0, 0.4999, 0.5, 0.999, 1.0, 2.0, 128.9 / 255]).reshape(1, 2, 4, 1)
    workflow, prompt = {"nodes": [], "title": "übung"}, {"1": {"inputs": {"seed": 2**64 - 1}}}
    shown = call("SaveImage", images=image.expand(2, -1, -1, 3), filename_prefix="deep/pic",
                 prompt=prompt, extra_pnginfo={"workflow": workflow})
    assert shown["ui"]["images"] == [
        {"filename": f"pic_0000{i}_.png", "subfolder": "deep", "type": "output"} for i in (1, 2)]
    with Image.open(tmp_path / "out" / "deep" / "pic_00002_.png") as saved:
        assert json.loads(saved.text["workflow"]) == workflow
        assert json.loads(saved.text["prompt"]) == prompt
        values = np.asarray(saved)[..., 0].ravel().tolist()
    assert values == [0, 0, 127, 127, 254, 255, 255, 128]
    assert sorted(os.listdir(tmp_path / "out" / "deep")) == ["pic_00001_.png", "pic_00002_.png"]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_save_and_load_again(call, tmp_path, channels, mode):
    image = torch.linspace(0, 255, H * W * channels).round().reshape(1, H, W, channels) / 255
    call("SaveImage", images=image + 1e-4, filename_prefix="x")
    with Image.open(tmp_path / "out" / "x_00001_.png") as saved:
        assert saved.mode == mode
    again, mask = call("LoadImage", image="x_00001_.png [output]")
    assert torch.allclose(again, image[..., :3].expand(-1, -1, -1, 3), atol=1e-6)
    if channels == 4:
        assert torch.allclose(1 - mask, image[..., 3], atol=1e-6)


def test_save_numbers_on(call, tmp_path):
    image = torch.zeros(1, 2, 2, 3)
    (tmp_path / "out").mkdir()
    for name in ("a_00007_.png", "a_b_00050_.png", "ab_00090_.png", "a_x.png", ".a_00099_.1.part"):
        (tmp_path / "out" / name).touch()
    answer = call("SaveImage", images=image, filename_prefix="a")
    assert answer["ui"]["images"][0]["filename"] == "a_00008_.png"
    assert answer["result"][0] is image  # as it came


def test_save_refuses(call):
    for shape in ((2, 2, 3), (1, 2, 2, 2)):
        with pytest.raises(ValueError, match=r"expected pictures of shape \(B, H, W"):
            call("SaveImage", images=torch.zeros(shape))


def test_previews_have_a_folder_of_their_own(call, tmp_path):
    pictures, masks = torch.rand(1, 2, 2, 3), torch.ones(2, 5, 4)
    assert call("PreviewImage", images=pictures)["result"][0] is pictures
    answer = call("MaskPreview", mask=masks)
    shown = answer["ui"]["images"]
    assert answer["result"][0] is masks
    assert [s["type"] for s in shown] == ["temp", "temp"]
    assert len(os.listdir(tmp_path / "out" / "preview")) == 3
    with Image.open(tmp_path / "out" / "preview" / shown[0]["filename"]) as saved:
        assert saved.size == (4, 5) and saved.getpixel((0, 0)) == (255, 255, 255)


def test_files_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / "p.png"
    seen = []

    def stopped(stream):
        stream.write(b"half")
        stream.flush()
        seen.extend(os.listdir(tmp_path))
        raise KeyboardInterrupt

    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_new([tmp_path / "q.png"], stopped)
    assert len(seen) == 2  # there was a part file
    assert os.listdir(tmp_path) == ["p.png"]


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_name_that_is_taken_is_left_alone(tmp_path, monkeypatch, links):
    """Taken between the choice of a number and the writing, as by another run."""
    if not links:
        def refuse(*_):
            raise PermissionError(1, "Operation not permitted")  # what FAT says

        monkeypatch.setattr(os, "link", refuse)
    place = Folders(tmp_path).place("p", (W, H), False)

    def write(stream):
        (tmp_path / "p_00002_.png").write_bytes(b"another's")
        stream.write(b"ours")

    assert write_new(place.files(1), write) == tmp_path / "p_00003_.png"
    assert (tmp_path / "p_00002_.png").read_bytes() == b"another's"
    assert (tmp_path / "p_00003_.png").read_bytes() == b"ours"
    assert len(os.listdir(tmp_path)) == 2


def test_words_in_file_names(monkeypatch):
    moment = time.struct_time((2026, 3, 9, 4, 5, 6, 0, 68, 0))
    monkeypatch.setattr(time, "localtime", lambda: moment)
    assert fill_in("%width%x%height%_%year%%month%%day%", (W, H)) == "31x37_20260309"
    assert fill_in("%date:yyyy-MM-dd%/%date:yy.M.d_hhmmss%", (1, 1)) == "2026-03-09/26.3.9_040506"
    assert fill_in("100%", (1, 1)) == "100%"
    assert fill_in("%other%", (1, 1)) == "%other%"
    prompt = {"3": {"class_type": "Sampler", "inputs": {"seed": 5, "name": "a/b"},
                    "_meta": {"title": "My sampler"}}}
    assert fill_in_widgets("%Sampler.seed%_%My sampler.name%", prompt) == "5_a_b"
    assert fill_in_widgets("%Sampler.nothing%", prompt) == "%Sampler.nothing%"
