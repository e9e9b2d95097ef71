"""The loss under which InvSR's starting noise is trained.

Reference: InvSR, Yue, Liao and Loy, CVPR 2025 (arXiv 2412.09013), section 3. With z the state of
the enlarged low-resolution picture, truth that of the true one, and the prior D frozen,

    n = mean + std eps,   x0 = D(z + sigma n, sigma)
    loss = |x0 - truth|^2 / |z - truth|^2 + v edges(x0, truth) / edges(z, truth)
           + u features(x0, truth) + t texture(x0, truth) / texture(z, truth)
           + g gmsd(x0, truth) / gmsd(z, truth) - w critic(x0, z)

after one step of the prior, from a start level drawn for each sample. The last term, a hinge GAN
(`critic.py`), sets in at step `adversarial_from`; the critic learns from the first, and sees the
enlarged picture beside. The paper's w is 0.1, from step 10,000 of 100,000.

A start is a choice between what is likely and what looks sharp: the last three terms count in full
from `SHARP` on and not at all up to `FAITHFUL`. Where `least_gain` is set, t and w are the most
that they may be: they fall while the sharp starts gain fewer dB over bicubic than that, and rise
while they gain more.

Where we depart: errors are counted in units of bicubic's of the whole batch, so that the terms
weigh alike whatever the pictures. The paper's perceptual term is a VGG16 of its own on latents,
which is not published with a licence that lets it be used here; ours are a distance of gradient
magnitudes at two scales, the deviation of their similarity and, for the pack's pixel priors, one
of their own features (`features.py`). The critic is held to slopes that are not too steep
(`critic.py`). The paper draws its start from four timesteps (`starts` listed); by default ours
covers the interval they lie in. Latents of the true picture are the encoder's mean, no sample
of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models.prior import Prior
from ..models.registry import networks_of
from ..pipelines.invsr.sampler import bicubic
from ..pipelines.metrics import psnr
from ..pipelines.options import Options, option
from .critic import Critic, critic_loss, generator_loss, steepness
from .distances import (
    edge_distance,
    lattice,
    similarity_deviation,
    square_distance,
    texture_distance,
)
from .features import feature_distance, features
from .loop import Task

SCALE = 4  # of `data.DegradedPairs`
SMALL = 1e-4  # keeps the loss of flat pictures finite
FLAT = 1e-3  # the same where each sample has its own units; mean square error of 36 dB
CHECKED_SIGMAS = (0.15, 0.25, 0.4, 0.7)
STARTS = ("interval", "listed", "even")
UNITS = ("batch", "sample")
FAITHFUL, SHARP = 0.3, 0.5  # start levels, between which the critic's say rises
NO_LEAST = -100.0  # dB
REMEMBERED = 0.98  # of the gain, from step to step
RISE, FALL, FIRST = 1.006, 0.985, 0.15  # of the critic's weight per step; its first share of w


@dataclass(frozen=True)
class LossOptions(Options):
    """What counts."""

    starts: str = option(
        "interval",
        "'interval' draws any start level between the largest and the smallest that the predictor "
        "knows, ln uniform; 'even' uniform; 'listed' those alone.",
        choices=STARTS,
    )
    edges: float = option(0.2, "Weight v of the distance of gradient magnitudes.", min=0.0)
    adversarial: float = option(0.0, "Weight w of the hinge GAN; the paper's is 0.1.", min=0.0)
    adversarial_from: int = option(10_000, "Step after which the hinge GAN is counted.", min=0)
    units: str = option(
        "batch",
        "Errors are counted in units of the enlarged pictures': 'batch' those of all samples, so "
        "that the worst pictures weigh most, 'sample' each one's own.",
        choices=UNITS,
    )
    texture: float = option(
        0.0, "Weight t of the distance of gradient magnitudes averaged over windows.", min=0.0
    )
    similarity: float = option(
        0.0, "Weight g of the deviation of gradient magnitude similarity, GMSD.", min=0.0
    )
    lattice: float = option(
        0.0, "Weight of the share of the error that repeats every 8 pixels, a network's pattern.",
        min=0.0,
    )
    features: float = option(
        0.0, "Weight u of the distance of the pixel prior's own features.", min=0.0
    )
    least_gain: float = option(
        NO_LEAST,
        "dB over bicubic below which the hinge GAN loses weight, and above which it gains some, up "
        f"to its full weight; {NO_LEAST:g} leaves it alone.",
        min=NO_LEAST,
    )


class PredictorTask(Task):
    """The predictor's network, and a critic where there is one, under the loss above."""

    def __init__(
        self, predictor: Any, prior: Prior, options: LossOptions,
        held_out: tuple[Tensor, Tensor],
    ) -> None:
        super().__init__()
        self.network, self.predictor, self.options = predictor.network, [predictor], options
        self.frozen, self.held_out, self.step = [prior], held_out, 0
        if options.adversarial:
            self.critic = Critic(2 * prior.spec.channels)
        held = options.least_gain > NO_LEAST
        self.register_buffer("balance", torch.tensor(FIRST if held else 1.0))
        self.register_buffer("gain", torch.tensor(0.0))  # dB over bicubic, of late

    def place(self, device: torch.device) -> None:
        """The prior and the held-out pictures."""
        for network in networks_of(self.frozen[0]):
            network.to(device)
        self.held_out = (self.held_out[0].to(device), self.held_out[1].to(device))

    def forward(
        self, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Terms of the loss at start levels that are drawn."""
        low, high = batch
        with torch.no_grad():
            z, truth = (self.frozen[0].codec.encode(x) for x in (bicubic(low, SCALE), high))
        sigma = self.levels(low.shape[0], generator).to(high.device)
        eps = torch.randn(z.shape, generator=generator, device=generator.device).to(high.device)
        x0, chosen = self.one_step(low, z, sigma, eps), self.options
        terms = {
            "square": self.relative(*(square_distance(x, truth) for x in (x0, z))),
            "edges": chosen.edges * self.relative(*(edge_distance(x, truth) for x in (x0, z))),
        }
        if chosen.features:
            with torch.no_grad():
                known = features(self.frozen[0], truth)
            distance = feature_distance(features(self.frozen[0], x0), known)
            terms["features"] = chosen.features * distance
        if chosen.texture:
            off = self.relative(*(texture_distance(x, truth) for x in (x0, z)), self.share(sigma))
            terms["texture"] = chosen.texture * self.balance.clone() * off
        if chosen.similarity:
            off = (similarity_deviation(x, truth) for x in (x0, z))
            terms["similarity"] = chosen.similarity * self.relative(*off, self.share(sigma))
        if chosen.lattice:
            terms["lattice"] = chosen.lattice * lattice(x0, truth).mean()
        if chosen.adversarial:
            terms |= self.judged(x0, truth, z, sigma, generator)
        if chosen.least_gain > NO_LEAST:
            self.rebalance(x0.detach(), truth, z, self.share(sigma))
        return terms

    def relative(self, off: Tensor, start: Tensor, share: Tensor | float = 1.0) -> Tensor:
        """What is off in units of what the enlarged picture is; both (B,)."""
        if self.options.units == "sample":
            return (share * off / (start + FLAT)).mean()
        return (share * off).mean() / (start.mean() + SMALL)

    def judged(
        self, x0: Tensor, truth: Tensor, z: Tensor, sigma: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The critic's terms, its own and the predictor's."""
        beside, true = torch.cat([x0, z], 1), torch.cat([truth, z], 1)
        share = self.share(sigma)
        weight = self.options.adversarial * self.balance.clone()
        counted = float(self.step > self.options.adversarial_from)
        return {
            "critic": critic_loss(self.critic, beside, true, sigma),
            "steepness": steepness(self.critic, true, sigma, generator),
            "adversarial": counted * weight * generator_loss(self.critic, beside, sigma, share),
        }

    def share(self, sigma: Tensor) -> Tensor:
        """How much a start shall look sharp, (B,) from 0 to 1."""
        return ((sigma - FAITHFUL) / (SHARP - FAITHFUL)).clamp(0, 1)

    @torch.no_grad()
    def rebalance(self, x0: Tensor, truth: Tensor, z: Tensor, share: Tensor) -> None:
        """More of the critic's say, or less, by what the sharp starts gain over bicubic."""
        before, after = (square_distance(x, truth) + FLAT for x in (z, x0))
        gain = (share * 10 * (before / after).log10()).sum() / share.sum().clamp(min=SMALL)
        self.gain.lerp_(gain.nan_to_num(), 1 - REMEMBERED)
        factor = torch.where(self.gain > self.options.least_gain, RISE, FALL)
        self.balance.mul_(factor).clamp_(FIRST / 10, 1.0)

    def levels(self, count: int, generator: torch.Generator) -> Tensor:
        """Start levels, (count,), see `starts`."""
        share = torch.rand(count, generator=generator, device=generator.device)
        known = self.predictor[0].trained_sigmas
        if self.options.starts == "listed":
            return torch.tensor(known).to(share)[(share * len(known)).long()]
        low, high = min(known), max(known)
        if self.options.starts == "even":
            return low + (high - low) * share
        low, high = math.log(low), math.log(high)
        return (low + (high - low) * share).exp()

    def one_step(self, low: Tensor, z: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
        """D(z + sigma (mean + std eps), sigma), the shape of z."""
        mean, std = self.predictor[0].predict(low, sigma)
        x = z + sigma[:, None, None, None] * (mean + std * eps)
        return self.frozen[0].denoise(x, sigma)

    def validate(self) -> tuple[dict[str, float], Tensor]:
        """PSNR on drawn pictures of another seed, and what it looks like at the last level."""
        low, high = self.held_out
        codec, x0, large = self.frozen[0].codec, low, bicubic(low, SCALE)
        z = codec.encode(large)
        scores = {"bicubic": float(psnr(large, high).mean())}
        for sigma in CHECKED_SIGMAS:
            level = torch.full((low.shape[0],), sigma, device=low.device)
            x0 = codec.decode(self.one_step(low, z, level, torch.zeros_like(z)))
            scores[f"psnr_{sigma}"] = float(psnr(x0, high).mean())
        shown = [large[:4], x0[:4], high[:4]]
        return scores, torch.cat(shown)
