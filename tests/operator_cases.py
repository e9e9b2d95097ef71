"""Every degradation operator, at 37x31 or the nearest legal size; what joins `CASES` is tested."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from undegrade.nodes.degradation.operators import OPERATORS as MENU
from undegrade.pipelines.operators.at_least import AtLeast
from undegrade.pipelines.operators.blur import GaussianBlur, KernelBlur
from undegrade.pipelines.operators.canvas import Crop, NearestUpsample
from undegrade.pipelines.operators.compose import Compose
from undegrade.pipelines.operators.contract import Operator
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.operators.hdr import HDRClip
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.operators.jpeg import JPEG
from undegrade.pipelines.operators.motion_blur import RandomMotionBlur, StraightMotionBlur
from undegrade.pipelines.operators.nonlinear_blur import NonlinearBlur
from undegrade.pipelines.operators.upsampled_blur import UpsampledBlur


@dataclass(frozen=True)
class Case:
    make: Callable[[], Operator]
    size: tuple[int, int] = (37, 31)


def kernel(side: int) -> torch.Tensor:
    """Asymmetric, so that a flipped or transposed kernel is noticed."""
    return torch.rand(side, side, generator=torch.Generator().manual_seed(side)) ** 4


def mask(height: int, width: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return (torch.rand(batch, 1, height, width, generator=generator) < 0.4).float()


class WaveNetwork:
    """A blur network of one line, smooth and of any precision."""

    code_channels, stride = 3, 4

    def __call__(self, picture, code):
        code = code.repeat_interleave(4, -2).repeat_interleave(4, -1)
        return picture + 0.2 * torch.sin(3 * picture.roll(1, -1) + code * picture)


LINEAR = {
    **{
        f"{border} blur": Case(lambda border=border: KernelBlur(border=border, weights=kernel(7)))
        for border in ("replicate", "reflect", "circular", "official")
    },
    "gaussian blur": Case(lambda: GaussianBlur(std=1.7)),
    "kernel wider than the picture": Case(lambda: KernelBlur(weights=kernel(61))),
    "wrapped kernel": Case(lambda: KernelBlur(border="circular", weights=kernel(61))),
    "straight motion blur": Case(lambda: StraightMotionBlur(length=9.5, angle=30)),
    "random motion blur": Case(lambda: RandomMotionBlur(border="reflect", side=15, seed=4)),
    **{
        f"{kind} / {f}": Case(lambda kind=kind, f=f: Downscale(f, kind), size)
        for kind in ("bicubic", "bilinear", "area")
        for f, size in (*((f, (38, 30)) for f in (1.5, 2, 2.5)), (3, (36, 30)), (4, (36, 32)))
    },
    "mask": Case(lambda: Inpainting(mask(37, 31))),
    "mask per sample": Case(lambda: Inpainting(mask(37, 31, 3))),
    "clipped, and a mask": Case(
        lambda: Compose((KernelBlur(weights=kernel(5)),
                         AtLeast(mask(37, 31), clipped=mask(37, 31).flip(-1))))
    ),
    "nearest x 3": Case(lambda: NearestUpsample(3), (13, 11)),
    "crop": Case(lambda: Crop(30, 31)),
    "blur through a level": Case(
        lambda: Compose((NearestUpsample(2), Crop(37, 31), KernelBlur(weights=kernel(5)))), (20, 16)
    ),
    "circular blur through a level": Case(
        lambda: Compose((NearestUpsample(2), KernelBlur(border="circular", weights=kernel(5))))
    ),
    "downscale through a level": Case(
        lambda: Compose((NearestUpsample(4), Crop(36, 30), Downscale(3))), (10, 8)
    ),
    "any size through a level": Case(
        lambda: Compose((NearestUpsample(2), Crop(37, 31), Downscale(4))), (20, 16)
    ),
    "mask through a level": Case(
        lambda: Compose((NearestUpsample(2), Crop(37, 31), Inpainting(mask(37, 31)))), (20, 16)
    ),
    "polyphase blur": Case(lambda: UpsampledBlur(kernel(7) / kernel(7).sum(), 3), (13, 11)),
    "blur, then downscale": Case(lambda: Compose((GaussianBlur(std=1.2), Downscale(4))), (36, 32)),
}
NONLINEAR = {
    "jpeg": Case(lambda: JPEG(quality=40)),
    "nonlinear blur": Case(lambda: NonlinearBlur(WaveNetwork(), seed=3)),
    "hdr through a level": Case(
        lambda: Compose((NearestUpsample(2), Crop(37, 31), HDRClip(gain=3.0))), (20, 16)
    ),
    "blur, clip, mask": Case(
        lambda: Compose((KernelBlur(weights=kernel(5)), HDRClip(), Inpainting(mask(37, 31))))
    ),
}
NONLINEAR |= {title: Case(operator) for operator, title in MENU.values() if not operator.linear}
CASES = LINEAR | NONLINEAR


def cases(table):
    return pytest.mark.parametrize("case", table.values(), ids=table.keys())
