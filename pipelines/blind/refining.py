"""The kernel goes on being refined while the picture is restored.

After the search the prior takes over. Two steps of the sampler, at the noise levels in which edges
are decided, give a picture x that the kernel allows and the prior finds sharp. From it the kernel
is found anew by least squares,

    k' = argmin over k >= 0 of  |m (k * grad x - grad y)|^2 + weight |m grad x|^2 |k|^2

(`kernel_update`, for the path that a pen draws k' along), and with k' another picture. EM with a
prior runs on from the true kernel to a worse one (`kernel_estimation`), so that each k' is judged:
with a picture of its own, drawn from the same noise, it must leave less of the gradients
unexplained, by `GAIN` of it, and nothing is refined that leaves no more than the noise. Else the
kernel stays as it was. But a path that was searched is far from the true kernel, and is given
`GIVEN` rounds in which it need only not leave much more: one round brought nine of ten such
kernels nearer to it, although the misfit rose for half of them.

The picture is an unfinished one on purpose. A finished restoration fits any kernel: from it the
same step led away from the true kernel in each of three cases, and its misfit was lower for it.
"""

from __future__ import annotations

from torch import Tensor

from ...models.prior import Prior
from .kernel_estimation import Level
from .kernel_update import (
    centred,
    gradients,
    kernel_of,
    luminance,
    path_of,
    penned,
    tidied,
)
from .sharp_picture import explained

WEIGHT = 0.02
DESCENTS = 30
FAINT = 0.02  # of the largest value, and of the sum for an island: below it a kernel is nothing
GIVEN = 2  # rounds
WORSE = 0.05  # of what is left, that these may leave more
GAIN = 0.02  # of what is left, that a round must explain; a kernel that grew worse gained 0.013


def refined(
    prior: Prior,
    level: Level,
    kernel: Tensor,
    noise_level: float,
    noises: list[Tensor],
    rounds: int,
) -> tuple[Tensor, float]:
    """The kernel after so many rounds at most, and what it leaves unexplained, of 1."""
    left, fit = explained(prior, level, kernel, noise_level, noises)
    floor = noise_share(level, noise_level)
    for i in range(rounds):
        if left <= floor:
            break
        path = kernel_of(fit.of_paths(), path_of(kernel), WEIGHT, DESCENTS)
        other = centred(penned(tidied(path, FAINT, FAINT)))
        less, after = explained(prior, level, other, noise_level, noises)
        if less > (1 + WORSE if i < GIVEN else 1 - GAIN) * left:
            break
        kernel, left, fit = other, less, after
    return kernel, left


def noise_share(level: Level, noise_level: float) -> float:
    """How much of the energy of the gradients that are seen is noise."""
    seen = level.seen[..., :-1, :-1]
    energy = float((gradients(luminance(level.y)) * seen).square().sum())
    count = 2 * float(seen.sum())
    return count * level.variance(noise_level) / max(energy, 1e-12)
