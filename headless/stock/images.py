"""Pictures in, pictures out. IMAGE is (B, H, W, C) float32 in [0, 1]; sizes are in pixels."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from .declare import IMAGE, MASK, node, number, switch, whole

METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]
CROPS = ["disabled", "center"]
LEAST_ALPHA = 0.5 / 255  # below it nothing is seen
BLENDS = ["normal", "multiply", "screen", "overlay", "soft_light", "difference"]


def resize(image: Tensor, width: int, height: int, method: str, crop: str = "disabled") -> Tensor:
    """Scale to (height, width); ``center`` first cuts the picture to the new aspect ratio.

    As in ComfyUI there is no antialiasing except in ``lanczos`` (8 bits, by Pillow), and bicubic
    values may leave [0, 1]. Unlike there, RGBA is weighted by its alpha, as Pillow's lanczos does.
    """
    if crop == "center":
        old_height, old_width = image.shape[1:3]
        old_aspect, aspect = old_width / old_height, width / height
        left = round(max(0.0, old_width - old_width * (aspect / old_aspect)) / 2)
        top = round(max(0.0, old_height - old_height * (old_aspect / aspect)) / 2)
        image = image[:, top:old_height - top, left:old_width - left]
    if method == "lanczos":
        return torch.stack([_lanczos(one, width, height) for one in image]).to(image)
    planes = image.movedim(-1, 1)
    scaled = functional.interpolate(planes, size=(height, width), mode=method)
    if planes.shape[1] == 4 and method != "nearest-exact" and bool((planes[:, 3:] < 1).any()):
        scaled[:, :3] = _weighted(planes, scaled, method)
    return scaled.movedim(1, -1)


def _weighted(planes: Tensor, scaled: Tensor, method: str) -> Tensor:
    """The colours of scaled RGBA (B, 4, H, W), weighted by alpha, so that what lies under
    transparent pixels stays there; where the result is transparent, as they were scaled."""
    colours, alpha = planes[:, :3] * planes[:, 3:], scaled[:, 3:]
    size = (scaled.shape[-2], scaled.shape[-1])
    mixed = functional.interpolate(colours, size=size, mode=method) / alpha
    return torch.where(alpha > LEAST_ALPHA, mixed.clamp(0, 1), scaled[:, :3])


def _lanczos(image: Tensor, width: int, height: int) -> Tensor:
    pixels = (image.float().cpu() * 255).clamp(0, 255).numpy().astype(np.uint8)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    scaled = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))
    return torch.from_numpy(scaled.astype(np.float32) / 255).reshape(height, width, -1)


def _same_channels(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Bring the second to the first's channels: spread grey, add an opaque alpha, or drop one."""
    wanted, there = first.shape[-1], second.shape[-1]
    if there == 1:
        second = second.expand(*second.shape[:-1], wanted)
    elif there < wanted:
        second = functional.pad(second, (0, wanted - there), value=1.0)
    return first, second[..., :wanted]


def image_scale(image: Tensor, upscale_method: str, width: int, height: int, crop: str) -> tuple:
    """Scale to a size; a side of 0 follows from the other, two leave the picture as it is."""
    old_height, old_width = image.shape[1:3]
    if width == height == 0:
        return (image,)
    width = width or max(1, round(old_width * height / old_height))
    height = height or max(1, round(old_height * width / old_width))
    return (resize(image, width, height, upscale_method, crop),)


def image_scale_by(image: Tensor, upscale_method: str, scale_by: float) -> tuple:
    """Scale by a factor."""
    height, width = (round(side * scale_by) for side in image.shape[1:3])
    return (resize(image, width, height, upscale_method),)


def image_crop(image: Tensor, width: int, height: int, x: int, y: int) -> tuple:
    """Cut out a box; one that begins or ends outside is cut at the border."""
    x, y = min(x, image.shape[2] - 1), min(y, image.shape[1] - 1)
    return (image[:, y:y + height, x:x + width],)


def image_invert(image: Tensor) -> tuple:
    """1 - image."""
    return (1 - image,)


def image_batch(image1: Tensor, image2: Tensor) -> tuple:
    """One batch of both; the second is scaled and centre-cropped to the first's size."""
    if image1.shape[1:3] != image2.shape[1:3]:
        image2 = resize(image2, image1.shape[2], image1.shape[1], "bilinear", "center")
    if image1.shape[-1] != image2.shape[-1]:
        raise ValueError(f"image1 has {image1.shape[-1]} channels and image2 {image2.shape[-1]}; "
                         "bring them to one kind first")
    return (torch.cat((image1, image2)),)


def image_from_batch(image: Tensor, batch_index: int, length: int) -> tuple:
    """``length`` pictures from number ``batch_index`` (0, 1, ...), as far as there are any."""
    first = min(batch_index, len(image) - 1)
    return (image[first:first + length].clone(),)


def repeat_image_batch(image: Tensor, amount: int) -> tuple:
    """The whole batch, ``amount`` times one after the other."""
    return (image.repeat(amount, 1, 1, 1),)


def empty_image(width: int, height: int, batch_size: int = 1, color: int = 0) -> tuple:
    """Pictures of one colour, given as 0xRRGGBB."""
    rgb = torch.tensor([color >> 16 & 255, color >> 8 & 255, color & 255]) / 255
    return (rgb.repeat(batch_size, height, width, 1),)


def image_blend(image1: Tensor, image2: Tensor, blend_factor: float, blend_mode: str) -> tuple:
    """image1 (1 - blend_factor) + mode(image1, image2) blend_factor, clipped to [0, 1]."""
    a, b = _same_channels(image1, image2)
    if a.shape != b.shape:
        b = resize(b, a.shape[2], a.shape[1], "bicubic", "center")
    mixed = {
        "normal": lambda: b,
        "multiply": lambda: a * b,
        "screen": lambda: 1 - (1 - a) * (1 - b),
        "overlay": lambda: torch.where(a <= 0.5, 2 * a * b, 1 - 2 * (1 - a) * (1 - b)),
        "soft_light": lambda: torch.where(
            b <= 0.5, a - (1 - 2 * b) * a * (1 - a), a + (2 * b - 1) * (_lit(a) - a)),
        "difference": lambda: a - b,
    }[blend_mode]()
    return ((a * (1 - blend_factor) + mixed * blend_factor).clamp(0, 1),)


def _lit(a: Tensor) -> Tensor:
    """The upper branch of W3C's soft light."""
    return torch.where(a <= 0.25, ((16 * a - 12) * a + 4) * a, a.sqrt())


def image_composite_masked(destination: Tensor, source: Tensor, x: int, y: int,
                           resize_source: bool, mask: Tensor | None = None) -> tuple:
    """Lay ``source`` over ``destination`` at (x, y), where the mask (B, H, W) is 1."""
    below, above = _same_channels(destination, source)
    out = below.clone()
    if resize_source:
        above = resize(above, out.shape[2], out.shape[1], "bilinear")
    count, height, width = len(out), *above.shape[1:3]
    if mask is None:
        weight = torch.ones_like(above[..., :1])
    else:
        weight = resize(mask.reshape(-1, *mask.shape[-2:], 1), width, height, "bilinear")
    above, weight = (t[torch.arange(count) % len(t)] for t in (above, weight))
    target = out[:, y:y + height, x:x + width]
    above, weight = (t[:, :target.shape[1], :target.shape[2]] for t in (above, weight))
    target.copy_(weight * above + (1 - weight) * target)
    return (out,)


def get_image_size(image: Tensor) -> tuple:
    """Width, height and number of pictures."""
    return image.shape[2], image.shape[1], image.shape[0]


SIZE = {"width": whole(512, 1), "height": whole(512, 1)}
NODES = {
    "ImageScale": node(image_scale, ("IMAGE",), "image/upscaling", {
        "image": IMAGE, "upscale_method": (METHODS,), "width": whole(512, 0),
        "height": whole(512, 0), "crop": (CROPS,)}),
    "ImageScaleBy": node(image_scale_by, ("IMAGE",), "image/upscaling", {
        "image": IMAGE, "upscale_method": (METHODS,), "scale_by": number(1.0, 0.01, 8.0)}),
    "ImageCrop": node(image_crop, ("IMAGE",), "image/transform", {
        "image": IMAGE, **SIZE, "x": whole(0, 0), "y": whole(0, 0)}),
    "ImageInvert": node(image_invert, ("IMAGE",), "image", {"image": IMAGE}),
    "ImageBatch": node(image_batch, ("IMAGE",), "image", {"image1": IMAGE, "image2": IMAGE}),
    "ImageFromBatch": node(image_from_batch, ("IMAGE",), "image/batch", {
        "image": IMAGE, "batch_index": whole(0, 0, 4095), "length": whole(1, 1, 4096)}),
    "RepeatImageBatch": node(repeat_image_batch, ("IMAGE",), "image/batch", {
        "image": IMAGE, "amount": whole(1, 1, 4096)}),
    "EmptyImage": node(empty_image, ("IMAGE",), "image", {
        **SIZE, "batch_size": whole(1, 1, 4096), "color": whole(0, 0, 0xFFFFFF, display="color")}),
    "ImageBlend": node(image_blend, ("IMAGE",), "image/postprocessing", {
        "image1": IMAGE, "image2": IMAGE, "blend_factor": number(0.5, 0.0, 1.0),
        "blend_mode": (BLENDS,)}),
    "ImageCompositeMasked": node(image_composite_masked, ("IMAGE",), "image", {
        "destination": IMAGE, "source": IMAGE, "x": whole(0, 0), "y": whole(0, 0),
        "resize_source": switch(False)}, {"mask": MASK}),
    "GetImageSize": node(get_image_size, ("INT", "INT", "INT"), "image", {"image": IMAGE}),
}
TITLES = {"ImageScale": "Upscale Image", "ImageScaleBy": "Upscale Image By",
          "ImageCrop": "Image Crop", "ImageBatch": "Batch Images", "ImageBlend": "Image Blend",
          "GetImageSize": "Get Image Size"}
