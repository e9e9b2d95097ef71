"""The critic of adversarial training, and the hinge losses.

Reference: Lim and Ye, "Geometric GAN", 2017 (arXiv 1705.02894), as InvSR (arXiv 2412.09013) uses
it: with logits d of several resolutions, averaged,

    critic      (relu(1 - d(truth)) + relu(1 + d(x0))) / 2
    generator   -d(x0)

InvSR's critic is a UNet of 112 million parameters that reads the prompt; this one is a small
stack of convolutions that is told the start's noise level, with a map of logits at each of three
resolutions. States are clamped to +-10, as there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8
NUDGE = 0.02  # r
STEEP = 5.0
EVERY = 4  # of the samples of a batch, one is asked for its slope
LARGEST = 10.0


class Stage(nn.Module):
    """Half the size; (scale, shift) from ln sigma; logits."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inside, outside, 4, stride=2, padding=1)
        self.norm = nn.GroupNorm(GROUPS, outside)
        self.level = nn.Linear(1, 2 * outside)
        self.logits = nn.Sequential(
            nn.Conv2d(outside, outside, 3, padding=1), nn.SiLU(), nn.Conv2d(outside, 1, 1)
        )

    def forward(self, h: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(B, inside, h, w), (B, 1) -> (B, outside, h / 2, w / 2), (B, 1, h / 2, w / 2)."""
        scale, shift = self.level(log_sigma)[:, :, None, None].chunk(2, 1)
        h = F.silu(self.norm(self.down(h)) * (1 + scale) + shift)
        return h, self.logits(h)


class Critic(nn.Module):
    """How true a state looks, place by place."""

    def __init__(self, channels: int, widths: tuple[int, ...] = (64, 128, 192)) -> None:
        super().__init__()
        pairs = zip((channels, *widths), widths, strict=False)
        self.stages = nn.ModuleList(Stage(a, b) for a, b in pairs)

    def forward(self, x: Tensor, sigma: Tensor) -> list[Tensor]:
        """x: (B, channels, h, w), sides of at least 8. sigma: (B,) noise levels of the start.
        Returns the logits of every stage, (B, 1, h / 2^k, w / 2^k).
        """
        h, found = x.clamp(-LARGEST, LARGEST), []
        log_sigma = sigma.log()[:, None]
        for stage in self.stages:
            h, logits = stage(h, log_sigma)
            found.append(logits)
        return found


def critic_loss(critic: Critic, x0: Tensor, truth: Tensor, sigma: Tensor) -> Tensor:
    """What the critic minimises; x0 gets no gradient."""
    false = mean([F.relu(1 + d) for d in critic(x0.detach(), sigma)])
    true = mean([F.relu(1 - d) for d in critic(truth, sigma)])
    return (true + false) / 2


def generator_loss(
    critic: Critic, x0: Tensor, sigma: Tensor, share: Tensor | None = None
) -> Tensor:
    """What the generator minimises; the critic gets no gradient. share: (B,), each sample's say."""
    fixed = {name: parameter.detach() for name, parameter in critic.named_parameters()}
    maps = torch.func.functional_call(critic, fixed, (x0, sigma))
    if share is not None:
        maps = [d * share[:, None, None, None] for d in maps]
    return -mean(maps)


def steepness(critic: Critic, truth: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
    """STEEP (d(truth + r n) - d(truth))^2, what keeps the critic's slopes gentle.

    The gradient penalty R1 (Mescheder et al., 2018, arXiv 1801.04406) by a finite difference along
    noise n, as Lin et al., 2025 (arXiv 2501.08316, section 3.3) have it: no second derivative.
    """
    truth, sigma = truth[::EVERY], sigma[::EVERY]
    n = torch.randn(truth.shape, generator=generator, device=generator.device).to(truth)
    pairs = zip(critic(truth, sigma), critic(truth + NUDGE * n, sigma), strict=True)
    return STEEP * mean([(a - b).square() for a, b in pairs])


def mean(maps: list[Tensor]) -> Tensor:
    """Of the maps' means: every resolution has the same say."""
    return torch.stack([d.mean() for d in maps]).mean()
