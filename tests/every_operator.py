"""Every operator of the pipelines, small, and pictures for them."""

import torch
from latent_codecs import Curved
from test_nonlinear_blur import pseudo_weights

from undegrade.models.kernel_embedding import kernel_wizard_of
from undegrade.nodes.degradation.operators import OPERATORS as MENU
from undegrade.pipelines.operators.at_least import AtLeast
from undegrade.pipelines.operators.blur import BORDERS, GaussianBlur, KernelBlur
from undegrade.pipelines.operators.canvas import Crop, NearestUpsample
from undegrade.pipelines.operators.compose import Compose
from undegrade.pipelines.operators.decode import ThroughDecoder
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.operators.jpeg import JPEG
from undegrade.pipelines.operators.motion_blur import RandomMotionBlur, StraightMotionBlur
from undegrade.pipelines.operators.nonlinear_blur import NonlinearBlur
from undegrade.pipelines.operators.upsampled_blur import UpsampledBlur
from undegrade.pipelines.operators.wrapped import WrappedOperator

SIZE = (2, 3, 32, 48)


def seen():
    generator = torch.Generator().manual_seed(3)
    return (torch.rand(1, 1, *SIZE[2:], generator=generator) < 0.4).float()


KERNEL = torch.arange(9.0).reshape(3, 3)
OPERATORS = {
    **{f"gaussian {border}": lambda border=border: GaussianBlur(border) for border in BORDERS},
    **{f"kernel {border}": lambda border=border: KernelBlur(border, KERNEL) for border in BORDERS},
    "straight motion": lambda: StraightMotionBlur(length=5.0),
    "random motion": lambda: RandomMotionBlur(side=9),
    "upsampled blur": lambda: UpsampledBlur(KernelBlur(weights=KERNEL).kernel(), 2),
    **{f"downscale {kernel}": lambda kernel=kernel: Downscale(2, kernel)
       for kernel in ("bicubic", "area", "bilinear")},
    "mask": lambda: Inpainting(seen()),
    "clipped": lambda: AtLeast(seen(), clipped=seen().flip(-1)),
    **{name.removeprefix("Undegrade"): operator for name, (operator, _) in MENU.items()},
    "nonlinear": lambda: NonlinearBlur(kernel_wizard_of(pseudo_weights())),
    "upsample": lambda: NearestUpsample(2),
    "wrapped": lambda: WrappedOperator(Crop(20, 30)),
    "crop": lambda: Crop(20, 30),
    "composed": lambda: Compose((GaussianBlur(), Downscale(2))),
    "composed, nonlinear": lambda: Compose((Downscale(2), JPEG())),
    "through a decoder": lambda: ThroughDecoder(Curved(), Downscale(2)),
}  # fmt: skip


def pictures(channels=3):
    generator = torch.Generator().manual_seed(1)
    shape = (SIZE[0], channels, *SIZE[2:])
    return 0.4 * torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
