"""InvSR: super-resolution in a few steps from a predicted start.

Reference: Yue, Liao and Loy, "Arbitrary-steps Image Super-resolution via Diffusion Inversion",
CVPR 2025 (arXiv 2412.09013). With z the state (the latent) of the enlarged picture and n the noise
that a network predicted for it (`start_noise`):

    x_0     = z + sigma_0 n
    x0_hat  = denoise(x_i, sigma_i)
    x_{i+1} = x0_hat + sigma_{i+1} eps,  eps = (x_i - x0_hat) / sigma_i     deterministic
                                         eps ~ N(0, 1)                      fresh noise

The last sigma is 0, so that the last x0_hat is the answer. The first form is a Euler step of the
probability flow and what the official code does; the second is what the paper's text says.

Where we depart from the official code, and why:
- Any prior and any table of noise levels; theirs is SD-Turbo's.
- The latent is the autoencoder's mean and not a draw from its posterior, whose deviation is tiny:
  one random number fewer, and a picture that does not change with it.
- Any size: the picture is continued by reflection to the right and below, and cropped again. Theirs
  is continued on all sides to a tile first, which costs a full tile for a small picture.
- The noise is drawn once for the whole picture; `tile_by_tile` is the official way beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ...models.prior import Prior
from ..answers import Finite
from ..level import canvas_size
from ..noise import Noise
from ..operators.canvas import pad_reflect
from ..options import Options, option
from ..schedule import Schedule
from ..step import Step
from ..tiling import TileGrid, opencv_gaussian_weight
from ..transition import transition
from .start_noise import SMALLEST, StartNoise, draw, predict_start


@dataclass(frozen=True)
class InversionOptions(Options):
    """What is asked of a run beside the start's noise."""

    scale: float = option(
        4.0,
        "Size of the result in sizes of the image. The network always enlarges 4 times; for "
        "another scale the picture is resized before or after it, see resize.",
        min=1.0,
        max=16.0,
        step=0.05,
    )
    resize: str = option(
        "after",
        "Where a scale other than 4 is made up for. after: the network sees the image as it is and "
        "its result is resized. before: the image is resized to a quarter of the result first, "
        "which suits large, soft images and is quicker below 4.",
        choices=("after", "before"),
    )
    deterministic: bool = option(
        True,
        "On: one noise for the whole run, the official code. Off: fresh noise at every later step, "
        "the paper's text. No difference with 1 step.",
    )
    tiling: str = option(
        "noise",
        "What is made of tiles. noise: only the predictor works on tiles, their maps are blended "
        "and the noise is drawn once; for large pictures put Tiled Prior before this node. "
        "pictures: every tile is restored on its own and the pictures are blended, the official "
        "way (there tile 128, overlap 64), which is softer where tiles meet.",
        choices=("noise", "pictures"),
        advanced=True,
    )


def schedule_at(timesteps: Sequence[int], sigmas: Tensor) -> Schedule:
    """The noise levels of timesteps.

    timesteps: 1 .. T, falling, the paper's count. sigmas: (T,) ascending, the table of noise
    levels; timestep t is its value t - 1. Raises `ValueError` for a timestep outside the table.
    """
    if not all(1 <= t <= len(sigmas) for t in timesteps):
        raise ValueError(
            f"The timesteps are {', '.join(map(str, timesteps))}; this prior has 1 to "
            f"{len(sigmas)}."
        )
    levels = sigmas.cpu().double()[torch.tensor(timesteps) - 1]
    return schedule_from(torch.cat([levels, levels.new_zeros(1)]))


def schedule_from(sigmas: Tensor) -> Schedule:
    """A schedule of given noise levels, (N + 1,): positive, falling, the last one 0.

    Raises `ValueError` for anything else.
    """
    levels = sigmas.cpu().double().flatten()
    falling = len(levels) > 1 and bool((levels.diff() < 0).all()) and levels[-1] == 0
    if not falling or not torch.isfinite(levels).all():
        said = ", ".join(f"{level:.4g}" for level in levels[:8].tolist())
        raise ValueError(
            f"The noise levels are {said}{', ...' if len(levels) > 8 else ''}; give one or more "
            "positive numbers that fall, and 0 after them."
        )
    return Schedule(levels, (1,) * (len(levels) - 1))


@dataclass(frozen=True, eq=False)
class Start:
    """A picture and the noise predicted for it.

    canvas: (B, 3, h', w') in [-1, 1], the small picture continued by reflection.
    mean, std: (B, c, H', W'), of the noise of its enlarged state, in units of the first sigma.
    scale: how much larger the result is than the small picture. size: (H, W) of the result.
    """

    canvas: Tensor
    mean: Tensor
    std: Tensor
    scale: int
    size: tuple[int, int]

    def to(self, device: torch.device) -> Start:
        """The same on a device."""
        canvas, mean, std = (t.to(device) for t in (self.canvas, self.mean, self.std))
        return Start(canvas, mean, std, self.scale, self.size)


def predicted(
    prior: Prior, predictor: StartNoise, lr: Tensor, sigma: float, tile: int = 0, overlap: int = 0
) -> Start:
    """Predict the noise; the prior is only asked what it works on.

    lr: (B, 3, h, w) in [-1, 1], sides of at least 8. sigma: the first noise level. tile, overlap:
    of the predictor's tiles in pixels of lr, see `predict_start`.
    Raises `ValueError` for a picture that is too small, a predictor of another latent space, and
    where `predict_start` does; `FloatingPointError` where the prediction is not finite.
    """
    height, width = lr.shape[-2:]
    if min(height, width) < SMALLEST:
        raise ValueError(
            f"The picture has {width}x{height} pixels; give one with sides of at least "
            f"{SMALLEST} pixels."
        )
    canvas = pad_reflect(lr, *canvas_size((height, width), canvas_multiple(prior, predictor)))
    mean, std = predict_start(predictor, canvas, sigma, tile, overlap)
    if not (mean.isfinite().all() & std.isfinite().all()):
        raise FloatingPointError(
            f"{predictor.name} predicted NaN or infinite noise; load it in float32, or another "
            "weight file."
        )
    state = [side * predictor.scale // prior.codec.factor for side in canvas.shape[-2:]]
    if mean.shape[1:] != (prior.spec.channels, *state):
        given, needed = shape_of(mean.shape[1:]), shape_of((prior.spec.channels, *state))
        raise ValueError(
            f"{predictor.name} predicts noise of {given}, but the prior {prior.spec.name} works on "
            f"{needed}; load a predictor made for this prior."
        )
    scale = predictor.scale
    return Start(canvas, mean, std, scale, (scale * height, scale * width))


def invert(
    prior: Prior,
    start: Start,
    schedule: Schedule,
    noise: Noise,
    *,
    strength: float = 1.0,
    deterministic: bool = True,
) -> Iterator[Step]:
    """Sample from the predicted start, one yielded `Step` per noise level.

    noise: one stream per sample. strength: multiplies the predicted deviation. The last step's
    x0_hat is the state of the result; `level.picture` decodes and crops it.
    Raises `FloatingPointError` when a prediction is not finite.
    """
    sigmas, last = schedule.sigmas.tolist(), schedule.steps - 1
    x = draw(start.mean, start.std, noise, strength).mul_(sigmas[0])
    x += prior.codec.encode(bicubic(start.canvas, start.scale))
    size = start.size
    del start  # its maps are as large as the result
    kept = torch.full((len(x),), deterministic, device=x.device)
    finite = Finite()
    for i in range(schedule.steps):  # i = 0 is the noisiest
        sigma = sigmas[i]
        x0_hat = prior.denoise(x, torch.full((len(x),), sigma, device=x.device))
        finite.check(x0_hat, sigma, last=i == last)
        yield Step(i, last + 1, sigma, sigma, 1, x, x0_hat, x0_hat, kept, size)
        if i < last:
            n = None if deterministic else noise(x)
            x = transition(x, x0_hat, sigma, sigmas[i + 1], float(deterministic), n)


def bicubic(lr: Tensor, scale: int) -> Tensor:
    """(B, 3, h, w) -> (B, 3, scale h, scale w), without antialiasing; overshoot at edges is
    kept."""
    size = [side * scale for side in lr.shape[-2:]]
    return F.interpolate(lr, size=size, mode="bicubic", align_corners=False)


def canvas_multiple(prior: Prior, predictor: StartNoise) -> int:
    """What the sides of the small picture must be multiples of: 16 for Stable Diffusion."""
    state = prior.codec.factor * prior.spec.multiple_of
    needed = state // math.gcd(state, predictor.scale)
    return math.lcm(needed, predictor.multiple_of)


def shape_of(shape: Sequence[int]) -> str:
    """The shape (c, h, w) of a state for messages."""
    channels, height, width = shape
    return f"{channels} channels of {width}x{height}"


def tile_by_tile(
    lr: Tensor, scale: int, tile: int, overlap: int, enlarge: Callable[[Tensor], Tensor]
) -> Tensor:
    """The official tiling: every tile is enlarged on its own, and pictures are blended.

    lr: (B, 3, h, w), also smaller than a tile. tile, overlap: pixels of lr; the official overlap is
    tile / 2. enlarge: (B, 3, tile, tile) -> (B, 3, scale tile, scale tile), called once per tile.
    Weights are OpenCV's Gaussian. Overlaps are means of pictures with different noise, which
    softens them. Returns (B, 3, scale h, scale w).
    """
    grid = TileGrid(lr.shape[-2], lr.shape[-1], tile, overlap)
    large = TileGrid(*(scale * n for n in (*lr.shape[-2:], tile, overlap)))
    pieces = rearrange(grid.cut(lr), "(b t) c h w -> t b c h w", t=grid.count)
    done = torch.stack([enlarge(piece) for piece in pieces], 1)
    weight = opencv_gaussian_weight(scale * tile)
    return large.stitch(rearrange(done, "b t c h w -> (b t) c h w"), weight)


def sides(length: int, scale: float, network: int, before: bool) -> tuple[int, int]:
    """(what the network sees, what comes out) of a side of `length` pixels.

    Out comes scale * length, rounded to the nearest whole number. The network sees the side itself,
    or with `before` what it enlarges to that size or just above.
    """
    out = math.floor(scale * length + 0.5)
    return (-(-out // network) if before else length), out
