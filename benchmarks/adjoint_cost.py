"""What it costs a run that no derivative is taken on trust (`pipelines/operators/adjoint.py`).

Seconds inside the checks against seconds of the whole run, default settings of the built-in prior,
one picture: the four tasks at three resolutions, and DPS, where the prior itself is tried.

Run: python benchmarks/adjoint_cost.py [--side 256] [--rounds 3].
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pack
import torch
from photos import photo
from tasks import TITLES, measurements

from undegrade.models.prior import MultiResolutionPrior
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines import prediction
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators import contract
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient
from undegrade.pipelines.updates.gradient import LikelihoodGradient


@contextmanager
def timed() -> Iterator[list[float]]:
    """The seconds of every check in the block."""
    spent: list[float] = []

    def clocked(check: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            start = time.perf_counter()
            check(*arguments)
            spent.append(time.perf_counter() - start)

        return call

    checks = [(contract, "check_linear"), (contract, "check_nonlinear")]
    checks.append((prediction, "check_nonlinear"))
    kept = [getattr(module, name) for module, name in checks]
    try:
        for (module, name), check in zip(checks, kept, strict=True):
            setattr(module, name, clocked(check))
        yield spent
    finally:
        for (module, name), check in zip(checks, kept, strict=True):
            setattr(module, name, check)


def share(prior: Any, measurement: Any, update: Any) -> tuple[float, float, int]:
    """(seconds of the run, those of its checks, how many there were)."""
    schedule = schedule_for(prior, SamplerOptions())
    start = time.perf_counter()
    with timed() as spent:
        for _ in restore(prior, measurement, schedule, update, per_sample_noise([0])):
            pass
    return time.perf_counter() - start, sum(spent), len(spent)


def main() -> None:
    """Print the table and write benchmarks/results/adjoint_cost.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    truth = photo("astronaut")[..., : given.side, : given.side]
    plain = load_pixel_prior(BUILT_IN)
    several = MultiResolutionPrior(plain, (4, 2, 1), (1 / 3, 2 / 3))
    runs: dict[str, tuple[Any, str, Any]] = {
        TITLES[task]: (several, task, ConjugateGradient()) for task in measurements(truth)
    }
    runs["DPS, super-resolution x4"] = (plain, "super_resolution", LikelihoodGradient())
    rows, found = [], {}
    with torch.no_grad():
        share(plain, measurements(truth)["inpainting"], ConjugateGradient())  # what loads, loads
        for title, (prior, task, update) in runs.items():
            tries = [share(prior, measurements(truth)[task], update) for _ in range(given.rounds)]
            seconds, checks, count = min(tries)
            found[title] = {"run s": seconds, "checks s": checks, "checks": count}
            per_cent = f"{100 * checks / seconds:.2f} %"
            rows.append([title, f"{seconds:.2f}", f"{checks:.3f}", count, per_cent])
    print(pack.table(["run", "s", "checks s", "checks", "share"], rows))
    pack.write_results("adjoint_cost", {"side": given.side, "rounds": given.rounds, "runs": found})


if __name__ == "__main__":
    main()
