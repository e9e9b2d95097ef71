"""At which noise levels a prior is shown pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.prior import PriorSpec

SIGMA_DATA = 0.5
FACTOR_ODDS = (0.6, 0.25, 0.15)
OFTEN = {1: (0.015, 1.0), 2: (0.1, 12.0), 4: (0.3, 80.0)}  # factor -> sigma, where samplers use it
SELDOM, OFTEN_ODDS = (0.005, 80.0), 0.85  # intervals of sigma, ln uniform
CALMER = 0.15  # share of samples that hold less noise than is told
OF_255 = (15, 25, 50)  # noise levels of the validation


def draw_sigmas(factors: Tensor, generator: torch.Generator, spec: PriorSpec) -> Tensor:
    """Noise levels, (B,), for pictures reduced by factors, (B,), within what the prior's table has.

    A reduced picture is met early in a run, at high noise; at times any is drawn for any.
    """
    count = len(factors)
    often, share = torch.rand(count, generator=generator), torch.rand(count, generator=generator)
    own = torch.tensor([OFTEN[int(factor)] for factor in factors])
    bounds = torch.where((often < OFTEN_ODDS)[:, None], own, torch.tensor(SELDOM))
    low, high = bounds.log().unbind(1)
    sigma = (low + (high - low) * share).exp()
    return sigma if spec.sigmas is None else sigma.clamp(spec.sigma_min, spec.sigma_max)


def held_share(count: int, generator: torch.Generator) -> Tensor:
    """The noise that a sample holds over what the network is told, (count,): 1, or less.

    Plug-and-play restoration tells of noise that is not there; without such samples the network
    answered a clean picture with colours far out of range.
    """
    calmer, share = torch.rand(count, generator=generator), torch.rand(count, generator=generator)
    return torch.where(calmer < CALMER, share, 1.0)
