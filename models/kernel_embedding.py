"""The blur network of Tran et al., "Explore Image Deblurring via Encoded Blur Kernel Space" (CVPR
2021, arXiv 2104.00317).

Only its generator, which applies an encoded blur to a sharp picture; the extractor, which encodes
the blur between two pictures, is not needed here. Mathematics and tensor names are those of the
official code (VinAIResearch/blur-kernel-space-exploring, Apache-2.0), so that its weights
`GOPRO_wVAE.pth` load; the code is our own.

A picture is reduced to 1/4, passes residual blocks, and a U-net of five halvings whose innermost
features stand beside the code; then residual blocks, and two enlargements by pixel shuffle. The
result is a correction that is added to the picture.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .weights import UnsupportedWeightsError, blank, load_exactly, read_tensors

EXTRACTOR = "kernel_extractor."
FIRST_BLOCK = 6  # number of the first residual block in the official feature_extractor
LAST_WIDTH = 64  # of the full-resolution layers, whatever the rest is
WIDTHS = (1, 2, 4, 8, 8)  # of the U-net, in multiples of `features`


class ResidualBlock(nn.Module):
    """h + conv(relu(conv(h))), without normalisation."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return h + self.conv2(F.relu(self.conv1(h)))


class KernelWizard(nn.Module):
    """The generator G(picture, code).

    features: width at 1/4 resolution, 64 in the published weights, where the code has 8 times as
    many channels. front, back: residual blocks before and after the U-net, 10 and 20.
    """

    stride = 128

    def __init__(self, features: int = 64, front: int = 10, back: int = 20) -> None:
        super().__init__()
        self.code_channels = WIDTHS[-1] * features
        self.reduce = nn.ModuleList(
            nn.Conv2d(c, features, 3, stride=s, padding=1)
            for c, s in ((3, 1), (features, 2), (features, 2))
        )
        self.front = nn.ModuleList(ResidualBlock(features) for _ in range(front))
        widths = [features, *(features * width for width in WIDTHS)]
        self.down = nn.ModuleList(
            nn.Conv2d(outer, inner, 4, stride=2, padding=1, bias=False)
            for outer, inner in pairwise(widths)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * inner, outer, 4, stride=2, padding=1, bias=k == 0)
            for k, (outer, inner) in enumerate(pairwise(widths))
        )
        self.back = nn.ModuleList(ResidualBlock(features) for _ in range(back))
        self.enlarge = nn.ModuleList(
            (
                nn.Conv2d(features, 4 * features, 3, padding=1),
                nn.Conv2d(features, 4 * LAST_WIDTH, 3, padding=1),
            )
        )
        self.finish = nn.Conv2d(LAST_WIDTH, LAST_WIDTH, 3, padding=1)
        self.colour = nn.Conv2d(LAST_WIDTH, 3, 3, padding=1)

    def forward(self, picture: Tensor, code: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1], (B, code_channels, H / 128, W / 128) -> (B, 3, H, W), not
        clipped."""
        h = picture
        for conv in self.reduce:
            h = F.leaky_relu(conv(h), 0.1)
        for block in self.front:
            h = block(h)
        h = self.adapt(h, code)
        for block in self.back:
            h = block(h)
        for conv in self.enlarge:
            h = F.leaky_relu(F.pixel_shuffle(conv(h), 2), 0.1)
        return picture + self.colour(F.leaky_relu(self.finish(h), 0.1))

    def adapt(self, h: Tensor, code: Tensor) -> Tensor:
        """The U-net: (B, features, H / 4, W / 4) -> the same shape, in [-1, 1].

        In the official code a skip connection carries what has passed the leaky ReLU, which works
        in place; the ReLU on the way up makes both the same.
        """
        skips = []
        for level, conv in enumerate(self.down):
            if level > 0:
                skips.append(h)
                h = F.leaky_relu(h, 0.2)
            h = conv(h)
        besides = (code, *reversed(skips))
        for conv, beside in zip(reversed(list(self.up)), besides, strict=True):
            h = conv(F.relu(torch.cat((h, beside), 1)))
        return torch.tanh(h)


def load_kernel_wizard(path: str | Path) -> KernelWizard:
    """The generator with the weights of a file such as `GOPRO_wVAE.pth`, frozen.

    Widths and numbers of blocks are read from the tensors. The extractor's tensors are left out.
    Raises `FileNotFoundError`, or `UnsupportedWeightsError` naming what is missing, unexpected or
    of another shape.
    """
    tensors, _ = read_tensors(path)
    return kernel_wizard_of(tensors, Path(path).name)


def kernel_wizard_of(tensors: dict[str, Tensor], name: str = "The state dict") -> KernelWizard:
    """`load_kernel_wizard` for tensors under their official names."""
    first = tensors.get("feature_extractor.0.weight")
    if first is None or first.ndim != 4:
        raise UnsupportedWeightsError(
            f"{name} holds no blur network (it has no tensor feature_extractor.0.weight); give "
            "GOPRO_wVAE.pth of blur-kernel-space-exploring."
        )
    front = max(last_block(tensors, "feature_extractor") - FIRST_BLOCK + 1, 0)
    back = last_block(tensors, "recon_trunk") + 1
    names = official_names(front, back)
    network = blank(lambda: KernelWizard(len(first), front, back), name)
    wanted = network.state_dict().keys()
    missing = [key for layer in names for key in parts(layer) if renamed(key, names) in wanted]
    missing = [key for key in missing if key not in tensors]
    if missing:
        raise UnsupportedWeightsError(
            f"{name} lacks {len(missing)} tensors of the blur network ({', '.join(missing[:3])}); "
            "download it again."
        )
    theirs = {key: value for key, value in tensors.items() if not key.startswith(EXTRACTOR)}
    load_exactly(network, {renamed(key, names): value for key, value in theirs.items()}, name)
    return network.eval().requires_grad_(False)


def last_block(tensors: dict[str, Tensor], part: str) -> int:
    """The number of the last residual block in a part of the network, -1 where there is none."""
    found = (re.fullmatch(rf"{part}\.(\d+)\.conv1\.weight", key) for key in tensors)
    return max((int(match[1]) for match in found if match), default=-1)


def parts(layer: str) -> tuple[str, str]:
    """The names that a layer's tensors can have."""
    return f"{layer}.weight", f"{layer}.bias"


def official_names(front: int, back: int) -> dict[str, str]:
    """Official layer name -> ours, for these numbers of residual blocks."""
    names = {f"feature_extractor.{2 * k}": f"reduce.{k}" for k in range(3)}
    for k in range(front):
        block = f"feature_extractor.{FIRST_BLOCK + k}"
        names |= {f"{block}.conv{c}": f"front.{k}.conv{c}" for c in (1, 2)}
    for k in range(len(WIDTHS)):
        level = "adapter.model" + k * ".submodule"
        names |= {f"{level}.down.{min(k, 1)}": f"down.{k}", f"{level}.up.1": f"up.{k}"}
    for k in range(back):
        names |= {f"recon_trunk.{k}.conv{c}": f"back.{k}.conv{c}" for c in (1, 2)}
    last = {0: "enlarge.0", 3: "enlarge.1", 6: "finish", 8: "colour"}
    return names | {f"recon_trunk.{back + k}": ours for k, ours in last.items()}


def renamed(key: str, names: dict[str, str]) -> str:
    """Our name of an official tensor; an unknown one keeps its own."""
    layer, _, kind = key.rpartition(".")
    return f"{names[layer]}.{kind}" if layer in names else key
