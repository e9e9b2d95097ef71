"""Masks. MASK is (B, H, W) float32 in [0, 1]."""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from .declare import IMAGE, MASK, MAX_SIDE, node, number, switch, whole
from .images import resize

CHANNELS = ["red", "green", "blue", "alpha"]


def image_to_mask(image: Tensor, channel: str) -> tuple:
    """One channel of a picture."""
    index = CHANNELS.index(channel)
    if index >= image.shape[-1]:
        raise ValueError(f"the picture has {image.shape[-1]} channels and no {channel}; "
                         "choose another channel")
    return (image[..., index],)


def mask_to_image(mask: Tensor) -> tuple:
    """The mask as grey picture (B, H, W, 3)."""
    return (mask.reshape(-1, *mask.shape[-2:], 1).expand(-1, -1, -1, 3),)


def image_color_to_mask(image: Tensor, color: int) -> tuple:
    """1 where the picture, in 8 bits, has exactly the colour 0xRRGGBB."""
    wanted = torch.tensor([color >> 16 & 255, color >> 8 & 255, color & 255])
    pixels = (image[..., :3].clamp(0, 1) * 255).round().int()
    return ((pixels == wanted.to(pixels.device)).all(-1).float(),)


def split_alpha(image: Tensor) -> tuple:
    """The colours of a picture, and a mask that is 1 where it is transparent."""
    clear = 1 - image[..., 3] if image.shape[-1] == 4 else torch.zeros_like(image[..., 0])
    return image[..., :3], clear


def join_alpha(image: Tensor, alpha: Tensor) -> tuple:
    """A picture that is transparent where the mask is 1; the mask is scaled to it."""
    alpha = alpha.reshape(-1, *alpha.shape[-2:])[..., None].to(image)
    clear = resize(alpha, image.shape[2], image.shape[1], "bilinear")
    count = max(len(image), len(clear))
    image, clear = (t[torch.arange(count) % len(t)] for t in (image[..., :3], clear))
    return (torch.cat((image.expand(-1, -1, -1, 3), 1 - clear), -1),)


def solid_mask(value: float, width: int, height: int) -> tuple:
    """One value everywhere, (1, H, W)."""
    return (torch.full((1, height, width), value),)


def invert_mask(mask: Tensor) -> tuple:
    """1 - mask."""
    return (1 - mask,)


def crop_mask(mask: Tensor, x: int, y: int, width: int, height: int) -> tuple:
    """Cut out a box."""
    return (mask.reshape(-1, *mask.shape[-2:])[:, y:y + height, x:x + width],)


def threshold_mask(mask: Tensor, value: float) -> tuple:
    """1 where the mask is above the value, else 0."""
    return ((mask > value).float(),)


def grow_mask(mask: Tensor, expand: int, tapered_corners: bool) -> tuple:
    """Grow bright regions by ``expand`` pixels, or shrink them where it is negative.

    Grey dilation (erosion) repeated ``|expand|`` times, by a plus where corners are tapered, else
    by a full 3x3 square.
    """
    sign = 1 if expand >= 0 else -1
    grown = sign * mask.reshape(-1, 1, *mask.shape[-2:])
    for _ in range(abs(expand)):
        tall, wide = (max_pool2d(grown, size, 1, pad)
                      for size, pad in (((3, 1), (1, 0)), ((1, 3), (0, 1))))
        grown = torch.maximum(tall, wide) if tapered_corners else max_pool2d(grown, 3, 1, 1)
    return (sign * grown[:, 0],)


def mask_composite(destination: Tensor, source: Tensor, x: int, y: int, operation: str) -> tuple:
    """Combine ``source``, laid at (x, y), with what is there; the result is clipped to [0, 1]."""
    out = destination.reshape(-1, *destination.shape[-2:]).clone()
    source = source.reshape(-1, *source.shape[-2:])
    target = out[:, y:y + source.shape[1], x:x + source.shape[2]]
    source = source[:, :target.shape[1], :target.shape[2]]
    result = {
        "multiply": lambda: target * source,
        "add": lambda: target + source,
        "subtract": lambda: target - source,
        "and": lambda: target.round().bool() & source.round().bool(),
        "or": lambda: target.round().bool() | source.round().bool(),
        "xor": lambda: target.round().bool() ^ source.round().bool(),
    }[operation]()
    target.copy_(result)
    return (out.clamp(0, 1),)


OPERATIONS = ["multiply", "add", "subtract", "and", "or", "xor"]
NODES = {
    "ImageToMask": node(image_to_mask, ("MASK",), "mask", {
        "image": IMAGE, "channel": (CHANNELS,)}),
    "MaskToImage": node(mask_to_image, ("IMAGE",), "mask", {"mask": MASK}),
    "ImageColorToMask": node(image_color_to_mask, ("MASK",), "mask", {
        "image": IMAGE, "color": whole(0, 0, 0xFFFFFF, display="color")}),
    "SplitImageWithAlpha": node(split_alpha, ("IMAGE", "MASK"), "image/compositing", {
        "image": IMAGE}),
    "JoinImageWithAlpha": node(join_alpha, ("IMAGE",), "image/compositing", {
        "image": IMAGE, "alpha": MASK}),
    "SolidMask": node(solid_mask, ("MASK",), "mask", {
        "value": number(1.0, 0.0, 1.0), "width": whole(512, 1), "height": whole(512, 1)}),
    "InvertMask": node(invert_mask, ("MASK",), "mask", {"mask": MASK}),
    "CropMask": node(crop_mask, ("MASK",), "mask", {
        "mask": MASK, "x": whole(0, 0), "y": whole(0, 0), "width": whole(512, 1),
        "height": whole(512, 1)}),
    "ThresholdMask": node(threshold_mask, ("MASK",), "mask", {
        "mask": MASK, "value": number(0.5, 0.0, 1.0)}),
    "GrowMask": node(grow_mask, ("MASK",), "mask", {
        "mask": MASK, "expand": whole(0, -MAX_SIDE), "tapered_corners": switch(True)}),
    "MaskComposite": node(mask_composite, ("MASK",), "mask", {
        "destination": MASK, "source": MASK, "x": whole(0, 0), "y": whole(0, 0),
        "operation": (OPERATIONS,)}),
}
TITLES = {"ImageToMask": "Convert Image to Mask", "MaskToImage": "Convert Mask to Image",
          "SplitImageWithAlpha": "Split Image with Alpha",
          "JoinImageWithAlpha": "Join Image with Alpha"}
