"""DPIR and DiffPIR of the library deepinv, with the pack's prior on the pack's measurements.

References: Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior", 2021 (arXiv
2008.13751), and Zhu et al., "Denoising Diffusion Models for Plug-and-Play Image Restoration", 2023
(arXiv 2305.08995). deepinv, and torchvision, which it imports, are no requirements. Its pictures
lie in [0, 1], so with x = 2 u - 1 a measurement y of x is

    (y + A(1)) / 2 = A(u) + noise / 2.

Both are given their best setting of a grid, per task, on the tuning photographs:

    python benchmarks/peers.py [--tasks motion] [--methods DPIR] [--device cuda]

prints their PSNR, and with the best of each that of the photographs figures are reported on, beside
the pack's own sampler.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pack
import torch
from photos import EVALUATION, TUNING, photos
from restoration import SUBDAPS, sample
from tasks import TITLES, measurements
from torch import Tensor

from undegrade.models.prior import Prior
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.metrics import psnr

DPIR_GRID = {"calls": (8, 16, 24), "start": (49 / 255, 0.5, 1.0), "weight": (1.0, 4.0, 10.0)}
DIFFPIR_GRID = {"calls": (50, 100), "zeta": (0.1, 0.5, 1.0), "weight": (1.0, 2.0, 3.0, 7.0)}


def denoiser(prior: Prior) -> torch.nn.Module:
    """The prior as deepinv calls it: pictures and noise levels of [0, 1]."""

    class Denoiser(torch.nn.Module):
        def forward(self, u: Tensor, sigma: Any) -> Tensor:
            level = 2 * torch.as_tensor(sigma, dtype=u.dtype, device=u.device).flatten()
            return (prior.denoise(2 * u - 1, level.expand(len(u))) + 1) / 2

    return Denoiser()


def physics_of(m: Measurement) -> tuple[Any, Tensor]:
    """The operator as deepinv's physics, and the measurement of [0, 1]."""
    import deepinv

    like = m.operator.guess(m.y)
    adjoint = m.operator.vjp(torch.zeros_like(like))[1]
    noise = deepinv.physics.GaussianNoise(m.noise_level / 2)
    physics = deepinv.physics.LinearPhysics(A=m.operator, A_adjoint=adjoint, noise_model=noise)
    return physics.to(m.y.device), (m.y + m.operator(torch.ones_like(like))) / 2


def dpir(prior: Prior, m: Measurement, calls: int, start: float, weight: float) -> Tensor:
    """Restored pictures. start: first noise level of [0, 1]; weight: lambda of Eq. 6."""
    from deepinv.optim import optim_builder
    from deepinv.optim.data_fidelity import L2
    from deepinv.optim.prior import PnP

    physics, y = physics_of(m)
    noise = m.noise_level / 2
    levels = torch.logspace(*torch.tensor([start, noise]).log10().tolist(), calls).to(m.y)
    steps = (levels / noise).square() / weight
    model = optim_builder(
        "HQS", prior=PnP(denoiser=denoiser(prior)), data_fidelity=L2(), max_iter=calls,
        early_stop=False, g_first=False, params_algo={"stepsize": steps, "g_param": levels},
    )  # fmt: skip
    return 2 * model(y, physics, init=(m.operator.guess(m.y) + 1) / 2) - 1


def diffpir(prior: Prior, m: Measurement, calls: int, zeta: float, weight: float) -> Tensor:
    """Restored pictures. zeta: share of fresh noise; weight: lambda of Algorithm 1."""
    from deepinv.optim.data_fidelity import L2
    from deepinv.sampling import DiffPIR

    physics, y = physics_of(m)
    model = DiffPIR(
        denoiser(prior), L2(), sigma=m.noise_level / 2, max_iter=calls, zeta=zeta, lambda_=weight,
        device=m.y.device,
    )  # fmt: skip
    return 2 * model(y, physics, seed=1, x_init=(m.operator.guess(m.y) + 1) / 2) - 1


METHODS = {"DPIR": (dpir, DPIR_GRID), "DiffPIR": (diffpir, DIFFPIR_GRID)}


def main() -> None:
    """Print the grid and what the best of it gives, and write benchmarks/results/<name>.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tasks", default=",".join(TITLES))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", default="peers", help="of the file with the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    prior, found = load_pixel_prior(BUILT_IN), {}
    torch.nn.Module.to(prior.network, options.device)  # type: ignore[attr-defined]
    tuning, truth = photos(TUNING[::2]), photos(EVALUATION)  # three are enough to choose by
    chosen_by, reported = measurements(tuning), measurements(truth)

    def scored(make: Callable[..., Tensor], m: Measurement, truth: Tensor, *rest: Any) -> float:
        m = replace(m, y=m.y.to(options.device))
        return round(psnr(make(prior, m, *rest).cpu(), truth).mean().item(), 3)

    with torch.no_grad():
        for task in options.tasks.split(","):
            found[task] = {"SubDAPS++": scored(sample, reported[task], truth, SUBDAPS)}
            for name in options.methods.split(","):
                method, grid = METHODS[name]
                scores = {}
                for chosen in product(*grid.values()):
                    scores[chosen] = scored(method, chosen_by[task], tuning, *chosen)
                    print(TITLES[task], name, chosen, scores[chosen], flush=True)
                best = max(scores, key=scores.__getitem__)
                score = scored(method, reported[task], truth, *best)
                found[task][name] = {"psnr": score, "setting": dict(zip(grid, best, strict=True))}
                print(TITLES[task], found[task], flush=True)
                pack.write_results(options.name, {"device": options.device, "tasks": found})


if __name__ == "__main__":
    main()
