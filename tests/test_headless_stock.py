"""The stock nodes for pictures, masks and values: pixels, sizes and defaults as ComfyUI's."""

import numpy as np
import pytest
import torch

from undegrade.headless.stock import stock_classes

H, W = 37, 31


@pytest.fixture
def image(draw):
    return draw(3, H, W, 3).mul(0.2).add(0.5).clamp(0, 1)


# Pictures


@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"])
def test_scaling(call, image, method):
    (out,) = call("ImageScale", image=image, upscale_method=method, width=50, height=29,
                  crop="disabled")
    assert out.shape == (3, 29, 50, 3) and out.dtype == torch.float32
    (same,) = call("ImageScale", image=image, upscale_method=method, width=W, height=H,
                   crop="center")
    assert torch.allclose(same, image, atol=1 / 255 if method == "lanczos" else 1e-5)
    flat = torch.full_like(image, 0.2)
    (out,) = call("ImageScaleBy", image=flat, upscale_method=method, scale_by=0.5)
    assert out.shape == (3, 18, 16, 3)  # round half to even, as Python's round
    assert torch.allclose(out, torch.full_like(out, 0.2), atol=1e-6)


def test_area_averages_and_bicubic_does_not_blur(call):
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    board = board.float()[None, ..., None].expand(1, 8, 8, 3)
    scale = {"image": board, "width": 4, "height": 4, "crop": "disabled"}
    (area,) = call("ImageScale", upscale_method="area", **scale)
    assert torch.allclose(area, torch.full((1, 4, 4, 3), 0.5))
    ramp = torch.linspace(0, 1, 32)[None, None, :, None].expand(1, 8, 32, 1)
    (out,) = call("ImageScale", image=ramp, upscale_method="bicubic", width=16, height=8,
                  crop="disabled")
    expected = (torch.arange(16) * 2 + 0.5) / 31  # pixel centres, without antialiasing
    assert torch.allclose(out[0, 0, 2:-2, 0], expected[2:-2], atol=1e-6)


def test_scaling_to_one_side_and_to_none(call, image):
    def scale(width, height):
        return call("ImageScale", image=image, upscale_method="bilinear", crop="disabled",
                    width=width, height=height)[0]

    assert scale(0, 74).shape[1:3] == scale(62, 0).shape[1:3] == (74, 62)
    assert scale(0, 0) is image


def test_centre_crop(call):
    image = torch.zeros(1, 10, 20, 3)
    image[:, :, 5:15] = 1
    (out,) = call("ImageScale", image=image, upscale_method="nearest-exact", width=10, height=10,
                  crop="center")
    assert out.min() == 1
    (out,) = call("ImageScale", image=image.transpose(1, 2), upscale_method="nearest-exact",
                  width=10, height=10, crop="center")
    assert out.min() == 1


def test_crop_and_invert(call, image):
    (out,) = call("ImageCrop", image=image, width=10, height=12, x=25, y=3)
    assert torch.equal(out, image[:, 3:15, 25:31])
    (out,) = call("ImageCrop", image=image, width=10, height=12, x=99, y=99)
    assert torch.equal(out, image[:, -1:, -1:])
    assert torch.equal(call("ImageInvert", image=image)[0], 1 - image)


def test_batches(call, image):
    (both,) = call("ImageBatch", image1=image, image2=1 - image)
    assert torch.equal(both, torch.cat((image, 1 - image)))
    (mixed,) = call("ImageBatch", image1=image, image2=torch.ones(2, 8, 50, 3))
    assert mixed.shape == (5, H, W, 3) and torch.allclose(mixed[3:], torch.ones(2, H, W, 3))
    with pytest.raises(ValueError, match="image1 has 3 channels and image2 4"):
        call("ImageBatch", image1=image, image2=torch.ones(1, H, W, 4))
    assert torch.equal(call("ImageFromBatch", image=image, batch_index=1, length=9)[0], image[1:])
    assert torch.equal(call("ImageFromBatch", image=image, batch_index=9, length=1)[0], image[2:])
    (twice,) = call("RepeatImageBatch", image=image, amount=2)
    assert torch.equal(twice, torch.cat((image, image)))
    assert call("GetImageSize", image=image) == (W, H, 3)


def test_empty_image(call):
    (out,) = call("EmptyImage", width=3, height=2, batch_size=2, color=0x336699)
    assert out.shape == (2, 2, 3, 3)
    assert torch.allclose(out[1, 1, 2] * 255, torch.tensor([0x33, 0x66, 0x99]).float())


@pytest.mark.parametrize(("mode", "expected"), [
    ("normal", [0.4, 0.4]), ("multiply", [0.08, 0.32]), ("screen", [0.52, 0.88]),
    ("overlay", [0.16, 0.76]), ("soft_light", [0.168, 0.768]), ("difference", [0, 0.4]),
])
def test_blend(call, mode, expected):
    first = torch.tensor([0.2, 0.8]).reshape(1, 1, 2, 1).expand(-1, -1, -1, 3)
    second = torch.full((1, 1, 2, 4), 0.4)  # its alpha is dropped
    (out,) = call("ImageBlend", image1=first, image2=second, blend_factor=1.0, blend_mode=mode)
    assert torch.allclose(out[0, 0, :, 0], torch.tensor(expected), atol=1e-6)
    (half,) = call("ImageBlend", image1=first, image2=second, blend_factor=0.5, blend_mode="normal")
    assert torch.allclose(half[0, 0, :, 2], torch.tensor([0.3, 0.6]))


def test_soft_light_above_one_half(call):
    first = torch.tensor([0.2, 0.8]).reshape(1, 1, 2, 1)
    second = torch.full((1, 1, 2, 1), 0.75)
    (out,) = call("ImageBlend", image1=first, image2=second, blend_factor=1.0,
                  blend_mode="soft_light")
    lit = torch.tensor([((16 * 0.2 - 12) * 0.2 + 4) * 0.2, 0.8**0.5])
    base = torch.tensor([0.2, 0.8])
    assert torch.allclose(out.flatten(), base + 0.5 * (lit - base))


def test_composite(call, image):
    source = torch.ones(1, 10, 8, 3)
    mask = torch.zeros(1, 10, 8)
    mask[:, :5] = 0.5
    arguments = {"destination": image, "source": source, "x": 26, "y": 30}
    before = image.clone()
    (out,) = call("ImageCompositeMasked", **arguments)
    assert torch.equal(image, before)  # inputs are never changed
    assert (out[:, 30:, 26:] == 1).all() and torch.equal(out[:, :30], image[:, :30])
    (out,) = call("ImageCompositeMasked", mask=mask, **arguments)
    assert torch.allclose(out[:, 30:35, 26:], 0.5 + image[:, 30:35, 26:] / 2)
    assert torch.allclose(out[:, 35:, 26:], image[:, 35:, 26:])
    (out,) = call("ImageCompositeMasked", **{**arguments, "x": 0, "y": 0, "resize_source": True})
    assert torch.allclose(out, torch.ones_like(out))
    (out,) = call("ImageCompositeMasked", **{**arguments, "x": 500})
    assert torch.equal(out, image)


# Masks and values


def test_masks(call, image):
    (mask,) = call("ImageToMask", image=image, channel="blue")
    assert torch.equal(mask, image[..., 2])
    with pytest.raises(ValueError, match="3 channels and no alpha"):
        call("ImageToMask", image=image, channel="alpha")
    (back,) = call("MaskToImage", mask=mask)
    assert back.shape == (3, H, W, 3) and torch.equal(back[..., 0], mask)
    assert call("MaskToImage", mask=mask[0])[0].shape == (1, H, W, 3)
    assert torch.equal(call("InvertMask", mask=mask)[0], 1 - mask)
    assert torch.equal(call("SolidMask", value=0.3, width=W, height=H)[0],
                       torch.full((1, H, W), 0.3))
    assert torch.equal(call("CropMask", mask=mask, x=3, y=4, width=5, height=6)[0],
                       mask[:, 4:10, 3:8])
    assert torch.equal(call("ThresholdMask", mask=mask, value=0.5)[0], (mask > 0.5).float())
    colour = torch.tensor([0x33, 0x66, 0x99]) / 255
    image = torch.cat((colour.expand(1, 2, 2, 3), torch.zeros(1, 2, 2, 3)), 1)
    (found,) = call("ImageColorToMask", image=image, color=0x336699)
    assert torch.equal(found[0], torch.tensor([[1.0, 1], [1, 1], [0, 0], [0, 0]]))


@pytest.mark.parametrize("expand", [0, 1, 3, -2])
@pytest.mark.parametrize("tapered", [True, False])
def test_grow_mask_is_grey_morphology(call, draw, expand, tapered):
    ndimage = pytest.importorskip("scipy.ndimage")
    mask = draw(2, H, W).sigmoid()
    corner = 0 if tapered else 1
    footprint = np.array([[corner, 1, corner], [1, 1, 1], [corner, 1, corner]])
    change = ndimage.grey_dilation if expand > 0 else ndimage.grey_erosion
    expected = mask.numpy()
    for _ in range(abs(expand)):
        expected = np.stack([change(one, footprint=footprint) for one in expected])
    (out,) = call("GrowMask", mask=mask, expand=expand, tapered_corners=tapered)
    assert np.array_equal(out.numpy(), expected)


@pytest.mark.parametrize(("operation", "expected"), [
    ("multiply", [0.18, 0.54]), ("add", [0.9, 1]), ("subtract", [0, 0.3]), ("and", [0, 1]),
    ("or", [1, 1]), ("xor", [1, 0]),
])
def test_mask_composite(call, operation, expected):
    below = torch.tensor([0.3, 0.9]).expand(1, 4, 2).clone()
    above = torch.full((1, 2, 2), 0.6)
    (out,) = call("MaskComposite", destination=below, source=above, x=0, y=3, operation=operation)
    assert torch.allclose(out[0, 3], torch.tensor(expected).float())
    assert torch.equal(out[0, :3], below[0, :3])


@pytest.mark.parametrize(("value", "text"), [
    ("as it is", "as it is"), (3, "3"), (0.5, "0.5"), (True, "True"), (None, "None"),
    ([1, {"a": "b"}], '[1, {"a": "b"}]'), ({1}, "{1}"),
])
def test_preview_any(call, value, text):
    assert call("PreviewAny", source=value) == {"ui": {"text": (text,)}, "result": (text,)}


def test_primitives(folders):
    classes = stock_classes(folders)
    for name, value, kind in (("Int", 3, "INT"), ("Float", 0.5, "FLOAT"), ("String", "a", "STRING"),
                              ("StringMultiline", "a", "STRING"), ("Boolean", True, "BOOLEAN")):
        node = classes[f"Primitive{name}"]
        assert node().run(value=value) == (value,)
        assert list(node.RETURN_TYPES) == [kind]


@pytest.mark.parametrize("method", ["bilinear", "area", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(50, 60), (9, 7)])
def test_scaling_mixes_no_hidden_colour_into_the_rim(call, method, size):
    y, x = torch.meshgrid(torch.arange(24), torch.arange(20), indexing="ij")
    alpha = (7 - ((y - 12) ** 2 + (x - 10) ** 2).sqrt()).clamp(0, 1)[None, ..., None]
    colour = torch.tensor([230, 153, 77]) / 255
    outs = []
    for hidden in (0.0, 1.0):
        image = torch.cat([torch.where(alpha > 0, colour, hidden), alpha], -1)
        (out,) = call("ImageScale", image=image, upscale_method=method, width=size[0],
                      height=size[1], crop="disabled")
        outs.append(out[out[..., 3] > 1 / 255])
    assert torch.equal(*outs) and len(outs[0]) > 10
    if method != "lanczos":  # Pillow cuts its overshoots, of alpha sooner than of colours
        assert (outs[0][:, :3] - colour).abs().max() < 1e-4


@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"])
def test_scaling_an_opaque_picture_gives_what_it_gives_without_alpha(call, method):
    image = torch.rand(1, 11, 13, 4, generator=torch.Generator().manual_seed(3))
    image[..., 3] = 1
    given = {"upscale_method": method, "width": 20, "height": 17, "crop": "disabled"}
    (out,) = call("ImageScale", image=image, **given)
    (plain,) = call("ImageScale", image=image[..., :3], **given)
    assert torch.equal(out[..., :3], plain)
