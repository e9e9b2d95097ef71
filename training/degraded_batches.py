"""Real-World Degradation of whole batches, on their device, without a wait for it.

The chain of `pipelines.degradation.real_world` with a strength, sizes, kernels, noise and qualities
of its own for every sample, drawn from one generator of the device. Pictures whose sizes differ lie
on one canvas and are continued by their last pixels beyond their own size; resizing is a product
with a matrix per sample, so that all shapes are fixed.

Where we depart from that chain: JPEG is written out here (blocks of cosines, the standard tables,
colour at half resolution, the triangle filter of decoders) and rounds its coefficients and the
decoded pixels, not what lies between; Poisson counts are rounded Gaussian ones of that mean and
variance; noise beyond a picture's size is not continued but drawn. A test holds both chains'
statistics side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..pipelines.cosines import cosines
from ..pipelines.degradation.random_blur import SMALLEST_KERNEL
from ..pipelines.degradation.real_world import (
    CHAINS,
    GAUSSIAN_NOISE,
    GREY_NOISE,
    LARGEST_SINC,
    RESIZERS,
    Chain,
    Stage,
)
from ..pipelines.operators.jpeg_blocks import CHROMINANCE, COLOURS, LUMINANCE, SIDE
from .drawn_kernels import Draws, blur_kernels, filtered, sinc_kernels

CUBIC = -0.75  # of torch's bicubic resizing
GREY = COLOURS[0]
MACRO = 16  # pixels: two blocks, since colour is stored at half resolution


class DegradedBatches:
    """Low-resolution versions of batches.

    strengths: of `CHAINS`; the samples of a batch are shared out evenly among them, in this order,
    so that naming one twice doubles its share. scale: the result is so many times smaller.
    """

    def __init__(self, strengths: Sequence[str], device: torch.device, scale: int = 4) -> None:
        chains = [CHAINS[strength] for strength in strengths]
        self.device, self.scale = device, scale
        self.stages = [
            torch.tensor([of_stage(chain.first) for chain in chains], device=device),
            torch.tensor([of_stage(chain.second or chain.first) for chain in chains],
                         device=device),
        ]
        self.ends = torch.tensor([of_end(chain) for chain in chains], device=device)
        self.largest = max(1.0, *(max(s.sizes) for c in chains for s in (c.first, c.second) if s))
        self.codec = Codec(device)

    @torch.no_grad()
    def __call__(self, high: Tensor, generator: torch.Generator) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> (B, 3, S / scale, S / scale), 8-bit values in [-1, 1].

        generator: on the device. Raises `ValueError` for pictures that are not square, or whose
        side `scale` does not divide.
        """
        with torch.autocast(self.device.type, enabled=False):  # pictures are no network's maps
            return self.drawn(high, generator)

    def drawn(self, high: Tensor, generator: torch.Generator) -> Tensor:
        """`__call__` in single precision."""
        count, _, side, width = high.shape
        if side != width or side % self.scale:
            raise ValueError(f"Crops of {width}x{side} pixels came; give squares with a side that "
                             f"is a multiple of {self.scale}.")
        draws = Draws(count, generator, self.device)
        which = torch.arange(count, device=self.device) * len(self.ends) // count
        ends, small = self.ends[which].unbind(1), side // self.scale
        second_order, ringing, lowest, highest = ends
        x, size = (high.float() + 1) / 2, torch.full((count,), float(side), device=self.device)
        x, size = self.stage(x, size, side, self.stages[0][which].unbind(1), draws)
        x2, size2 = self.stage(x, size, small, self.stages[1][which].unbind(1), draws, x.shape[-1])
        again = draws.chance(second_order)
        x, size = torch.where(of(again), x2, x), torch.where(again, size2, size)
        sinc_last = draws.chance(0.5)
        quality = draws.whole(lowest, highest)
        x = torch.where(of(sinc_last), self.codec(x, quality), x)
        x = resized(x, size, torch.full_like(size, small), small, draws.whole(0, 2))
        kernels = sinc_kernels(
            SMALLEST_KERNEL + 2 * draws.whole(0, (LARGEST_SINC - SMALLEST_KERNEL) // 2),
            draws.uniform(math.pi / 3, math.pi),
        )
        x = torch.where(of(draws.chance(ringing)), filtered(x, kernels), x).clamp(0, 1)
        x = torch.where(of(sinc_last), x, self.codec(x, quality))
        return (x * 255).round().clamp(0, 255) / 127.5 - 1

    def stage(
        self, x: Tensor, size: Tensor, side: int, known: Sequence[Tensor], draws: Draws,
        canvas: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """One round; see `real_world.stage`. x: (B, 3, n, n) in [0, 1], of which the first `size`
        rows and columns are the picture. canvas: the result's n, 0 for the least that holds it."""
        blur, sinc, kernel, narrow, wide, up, down, low, high, *rest = known
        kernels = blur_kernels(draws, kernel, narrow, wide, sinc)
        x = torch.where(of(draws.chance(blur)), filtered(x, kernels), x)
        way = draws.share()
        enlarged, reduced = way < up, (way >= up) & (way < up + down)
        factor = torch.where(enlarged, draws.uniform(1.0, high.clamp(min=1)), 1.0)
        factor = torch.where(reduced, draws.uniform(low, 1.0), factor)
        new = (side * factor).floor().clamp(min=1)
        canvas = canvas or math.ceil(side * self.largest / MACRO) * MACRO
        x = resized(x, size, new, canvas, draws.whole(0, len(RESIZERS) - 1))
        x = noisy(x, draws, *rest[:4]).clamp(0, 1)
        return self.codec(x, draws.whole(*rest[4:])), new


def of_stage(stage: Stage) -> tuple[float, ...]:
    """The numbers of a stage, in the order in which they are drawn from."""
    up, down, _ = stage.directions
    return (stage.blur, stage.sinc, float(stage.kernel), *stage.deviation, up, down, *stage.sizes,
            *(level / 255 for level in stage.noise), *stage.poisson, *map(float, stage.quality))


def of_end(chain: Chain) -> tuple[float, ...]:
    """Odds of a second stage and of the last sinc, and the last qualities."""
    return (chain.second_order if chain.second else 0.0, chain.final_sinc,
            *map(float, chain.quality))


def of(samples: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)."""
    return samples[:, None, None, None]


def resized(x: Tensor, size: Tensor, new: Tensor, canvas: int, mode: Tensor) -> Tensor:
    """Each sample from its size to its new one, as `F.interpolate` does.

    mode: (B,), 0 area, 1 bilinear, 2 bicubic. Returns (B, C, canvas, canvas), continued by its last
    pixels beyond `new`.
    """
    matrix = resizing(size, new, x.shape[-1], canvas, mode)
    return matrix[:, None] @ x @ matrix.mT[:, None]


def resizing(size: Tensor, new: Tensor, inside: int, outside: int, mode: Tensor) -> Tensor:
    """The weights that pixel i of the result gives pixel j of the picture, (B, outside, inside)."""
    last = (size - 1)[:, None, None]
    i = torch.arange(outside, device=size.device).minimum((new - 1)[:, None])[..., None]
    j = torch.arange(inside, device=size.device, dtype=torch.float32)
    ratio = (size / new)[:, None, None]
    first, end = (i * ratio + 1e-4).floor(), ((i + 1) * ratio - 1e-4).ceil()
    area = ((j >= first) & (j < end)) / (end - first)
    place = (i + 0.5) * ratio - 0.5
    linear = (1 - (place.clamp(min=0).minimum(last) - j).abs()).clamp(min=0)
    cubic = torch.zeros_like(linear)
    for tap in range(-1, 3):
        at = place.floor() + tap
        weight = cubic_weight((place - at).abs())
        cubic = cubic + torch.where(at.clamp(min=0).minimum(last) == j, weight, 0.0)
    mode = mode[:, None, None]
    return torch.where(mode == 0, area, torch.where(mode == 1, linear, cubic))


def cubic_weight(d: Tensor) -> Tensor:
    """Keys' kernel at distances d from 0 to 2."""
    near = ((CUBIC + 2) * d - (CUBIC + 3)) * d * d + 1
    far = ((CUBIC * d - 5 * CUBIC) * d + 8 * CUBIC) * d - 4 * CUBIC
    return torch.where(d <= 1, near, far)


def noisy(
    x: Tensor, draws: Draws, low: Tensor, high: Tensor, faint: Tensor, strong: Tensor
) -> Tensor:
    """Gaussian or Poisson noise, that of the colours equal at times; see `real_world`."""
    grey, deviation, scale = draws.chance(GREY_NOISE), *(
        draws.uniform(a, b) for a, b in ((low, high), (faint, strong)))
    n = torch.randn(x.shape, generator=draws.generator, device=x.device)
    n = torch.where(of(grey), n[:, :1], n)
    p = (x.clamp(0, 1) * 255).round()
    luma = (GREY[0] * p[:, :1] + GREY[1] * p[:, 1:2] + GREY[2] * p[:, 2:]).round()
    p = torch.where(of(grey), luma, p)
    seen = torch.zeros(len(x), 256, device=x.device).scatter_(1, p.flatten(1).long(), 1.0)
    values = of(2.0 ** seen.sum(1).log2().ceil())
    expected = p / 255 * values
    counted = (expected + expected.sqrt() * n).round().clamp(min=0)
    poisson = of(scale) * (counted - expected) / values
    return x + torch.where(of(draws.chance(GAUSSIAN_NOISE)), of(deviation) * n, poisson)


class Codec:
    """JPEG, compressed and opened again, with a quality of its own for every sample."""

    def __init__(self, device: torch.device) -> None:
        colours = torch.tensor(COLOURS, dtype=torch.float64)
        self.there = colours.float().to(device)
        self.back = torch.linalg.inv(colours).float().to(device)
        of_a_row = cosines(SIDE)
        self.cosines = torch.kron(of_a_row, of_a_row).float().to(device)  # of a block as a row
        self.tables = [torch.tensor(t, device=device).float() for t in (LUMINANCE, CHROMINANCE)]

    def __call__(self, x: Tensor, quality: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> 8-bit values in [0, 1]. quality: (B,), 1 to 100."""
        height, width = x.shape[-2:]
        whole = F.pad(x, (0, -width % MACRO, 0, -height % MACRO), mode="replicate")
        levels = (whole * 255).round().clamp(0, 255)
        luma, *colour = torch.einsum("ij,bjhw->ibhw", self.there, levels).round()
        share = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
        steps = [
            ((t * share[:, None, None] + 50) / 100).floor().clamp(1, 255)[:, None, None]
            for t in self.tables
        ]
        small = F.avg_pool2d(torch.stack(colour, 1), 2).round()
        luma = self.quantised(luma - 128, steps[0]) + 128
        small = torch.stack([self.quantised(c, steps[1]) for c in small.unbind(1)], 1)
        colour = F.interpolate(small, scale_factor=2.0, mode="bilinear").unbind(1)
        opened = torch.einsum("ij,jbhw->bihw", self.back, torch.stack([luma, *colour]))
        return opened[..., :height, :width].round().clamp(0, 255) / 255

    def quantised(self, plane: Tensor, steps: Tensor) -> Tensor:
        """(B, H, W), its blocks' coefficients rounded to whole steps, (B, 1, 1, 8, 8)."""
        blocks = plane.unflatten(-2, (-1, SIDE)).unflatten(-1, (-1, SIDE)).transpose(-2, -3)
        steps = steps.flatten(-2)
        kept = (blocks.flatten(-2) @ self.cosines.T / steps).round() * steps
        opened = (kept @ self.cosines).unflatten(-1, (SIDE, SIDE))
        return opened.transpose(-2, -3).flatten(-2).flatten(-3, -2).round()
