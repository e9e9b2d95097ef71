"""How much a region still gains from a step: read off the predictions, without trained weights.

Reference: AdaDiffSR (ECCV 2024, arXiv 2410.17752), which trains a regressor of image quality
metrics for this. Two gains steer a region: full-reference (is it still changing?) and no-reference
(is it still getting sharper?). Here the first is the local error of a step of the base grid, and
the second the energy of the finest detail in bits:

    e_b  = mean over channels and an 8x8 block of (x0_hat - previous)^2
    rho  = sqrt(97th percentile of e_b)                a small island of detail counts
    v    = rho / ln(sigma_previous / sigma)            change per unit of log noise level
    g^F  = v ln(sigma / sigma_next) / S                per base step, part of a hard region's rise
    loss = ln(sigma / sigma_next) g^F / 2              error of one Euler step, in units of S
    R^N  = 97th percentile of bits_b / S_N,  bits_b = log2(1 + E_b / eps^2) / log2(1 + 1 / eps^2)
    g^N  = (R^N - R^N_previous) / base steps since then

with E_b the mean square of a 3x3 Laplacian of norm 1 in the block, eps = 0.05. Dividing by the way
gone keeps a region's class from following its own interval: without it a long skip looks like a
large gain.

A trained regressor replaces `WeightFree` by any other `InformationGain`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 8  # pixels of the state, along a side
PERCENTILE = 0.97
VISIBLE = 0.05  # eps: amplitude below which the finest detail is not seen, in state units
LATENT_SPEED, LATENT_SHARPNESS = 0.113, 0.047  # of a hard region in a closed-form latent toy
PIXEL_SPEED, PIXEL_SHARPNESS = 0.065, 0.14  # of the built-in prior with feature injection


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one network call showed of B regions.

    x, x0_hat, previous, z_lr: (B, C, h, w): the noisy state, its prediction, the region's
    prediction before (the same tensor's values at a first evaluation), the degraded picture.
    sigma, sigma_previous, sigma_next: (B,) float64 noise levels of this evaluation, of the one
    before (equal at a first one), and of the next node of the base grid.
    steps: (B,) float64, base steps between the two evaluations, 0 at a first one.
    """

    x: Tensor
    x0_hat: Tensor
    previous: Tensor
    z_lr: Tensor
    sigma: Tensor
    sigma_previous: Tensor
    sigma_next: Tensor
    steps: Tensor


@dataclass(frozen=True, eq=False)
class Gain:
    """g^F and g^N, (B,) float64 on the CPU: gain per base step as a part of a hard region's rise.

    Both are 0 at a region's first evaluation.
    """

    full_reference: Tensor
    no_reference: Tensor


class InformationGain(Protocol):
    """The regressor's place: what a region gains per base step."""

    def __call__(self, seen: Evaluation) -> Gain:
        """Every row depends on that row of `seen` alone."""
        ...


@dataclass(frozen=True)
class Spans:
    """What a hard region goes through on one base grid, so that a threshold means the same for all.

    full_reference: S, the length of its way, sum of rho, rms in state units, above 0.
    no_reference:   S_N, how far its bits rise, above 0.
    loss:           what all N base steps lose together, in units of S.
    sigmas:         (N,) the base grid they hold on.
    measured:       False for the closed form that stands in for a calibration.
    """

    full_reference: float
    no_reference: float
    loss: float
    sigmas: tuple[float, ...]
    measured: bool = True


def closed_form(sigmas: Tensor, factor: int) -> Spans:
    """The spans of a hard region that changes evenly in log sigma: loss = ln(s_0 / s_last) / 2 N.

    sigmas: (N,) descending, without the final 0. factor: the codec's; 1 (pixels) takes the speed
    measured for the built-in prior, more (latents) that of a closed-form toy.
    """
    way = math.log(sigmas[0].item() / sigmas[-1].item())
    pixels = factor == 1
    speed = PIXEL_SPEED if pixels else LATENT_SPEED
    sharpness = PIXEL_SHARPNESS if pixels else LATENT_SHARPNESS
    loss = way / (2 * len(sigmas))
    return Spans(max(speed * way, 1e-12), sharpness, loss, tuple(sigmas.tolist()), measured=False)


@dataclass(frozen=True)
class WeightFree:
    """g^F and g^N as in this file's head."""

    spans: Spans

    def __call__(self, seen: Evaluation) -> Gain:
        """The gains of every region."""
        moves = block_means((seen.x0_hat - seen.previous).square())
        # All that the host must know of a call, brought there at once.
        maps = torch.stack([moves, bits(seen.x0_hat), bits(seen.previous)]).cpu()
        moved, now, before = (upper(blocks) for blocks in maps)
        first = seen.steps == 0
        gone = torch.where(first, torch.ones_like(seen.sigma), seen.sigma_previous / seen.sigma)
        speed = moved.sqrt() / torch.where(first, gone, gone.log())
        rise = speed * (seen.sigma / seen.sigma_next).log() / self.spans.full_reference
        return Gain(rise, (now - before) / self.spans.no_reference / seen.steps.clamp(min=1))


def change(x0_hat: Tensor, previous: Tensor) -> Tensor:
    """rho, (B,) float64 on the CPU: how far the most changing blocks have moved, rms."""
    return upper(block_means((x0_hat - previous).square())).sqrt()


def detail(x0_hat: Tensor) -> Tensor:
    """The bits of the blocks with most detail, (B,) float64 on the CPU, 0 for a flat region.

    1 stands for finest detail of mean square 1.
    """
    return upper(bits(x0_hat))


def bits(x0_hat: Tensor) -> Tensor:
    """bits_b of every block, (B, blocks)."""
    return torch.log1p(block_means(laplacian(x0_hat).square()) / VISIBLE**2) / math.log1p(
        1 / VISIBLE**2
    )


def laplacian(x: Tensor) -> Tensor:
    """3x3 Laplacian of norm 1 with replicated borders, (B, C, h, w) -> the same.

    Sums of shifted copies: a convolution's rounding would depend on the batch.
    """
    p = F.pad(x, (1, 1, 1, 1), mode="replicate")
    around = p[..., :-2, 1:-1] + p[..., 2:, 1:-1] + p[..., 1:-1, :-2] + p[..., 1:-1, 2:]
    return (around - 4 * x) / math.sqrt(20)


def block_means(values: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, blocks), means over channels and 8x8 blocks, smaller at the border."""
    size = (min(BLOCK, values.shape[-2]), min(BLOCK, values.shape[-1]))
    pooled = F.avg_pool2d(values, size, ceil_mode=True, count_include_pad=False)
    planes = pooled.unbind(1)
    return (sum(planes[1:], planes[0]) / len(planes)).flatten(1)


def upper(blocks: Tensor) -> Tensor:
    """The 97th percentile of each row, (B,) float64 on the CPU."""
    return torch.quantile(blocks.cpu().double(), PERCENTILE, dim=1)
