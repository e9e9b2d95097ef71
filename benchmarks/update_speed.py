"""Speed of the measurement update against a plain implementation of the official recipe.

The recipe, after the SubDAPS++ release: Fletcher-Reeves in which every iteration takes a
forward-mode derivative (primal and tangent) for the step length and a fresh forward and backward
pass for the gradient, 4 J + 2 operator passes; blurs by complex 512 x 512 FFTs with a thresholded
transfer function whose entries are gathered and scattered in order of magnitude; downscaling by
gathering windows along one axis after the other. Written from its description, on autograd alone.

Run: python benchmarks/update_speed.py. Times are process times of one thread, the best of several
interleaved rounds; ratios are what to read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pack
import torch
import torch.nn.functional as F
from photos import photo
from tasks import motion_kernel, random_mask
from torch import Tensor
from tqdm import tqdm

from undegrade.pipelines.measurement import Measurement, simulate
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.blur import GaussianBlur, KernelBlur
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.subdaps.sampler import level_operator
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient

SIGMA, NOISE, ITERATIONS, ROUNDS = 0.2, 0.05, 10, 7
Forward = Callable[[Tensor], Tensor]


def official_blur(kernel: Tensor, side: int) -> Forward:
    """Zero padding to 512, complex FFT, thresholded singular values in sorted order, crop."""
    n = 512
    otf = torch.fft.fft2(kernel, s=(n, n)).flatten()
    magnitude, order = otf.abs().sort(descending=True)
    back = order.argsort()
    singular = torch.where(magnitude < 0.05, 0, magnitude)
    phase = torch.where(otf.abs() > 0, otf / otf.abs(), 0)
    r = kernel.shape[-1] // 2

    def forward(x: Tensor) -> Tensor:
        spectrum = torch.fft.fft2(F.pad(x, (0, n - side, 0, n - side)) + 0j).flatten(-2)
        scaled = singular * spectrum[..., order]
        blurred = torch.fft.ifft2((phase * scaled[..., back]).unflatten(-1, (n, n))).real
        return blurred[..., r : r + side, r : r + side]

    return forward


def official_downscale(operator: Downscale, side: int) -> Forward:
    """One axis after the other: gather the window of every output, weigh and add."""
    rows = operator.matrices(side, side)[0].float()
    taps = int((rows != 0).sum(1).max())
    weight, index = rows.abs().topk(taps, dim=1)
    weight = rows.gather(1, index)

    def along(x: Tensor, dim: int) -> Tensor:
        x = x.transpose(0, dim)
        w = weight[(...,) + (None,) * (x.ndim - 1)]
        return (x[index] * w).sum(1).transpose(0, dim)

    return lambda x: along(along(x, 2), 3)


def official_update(a: Forward, y: Tensor, x0_hat: Tensor, rho: float) -> Tensor:
    """J Fletcher-Reeves steps, every gradient anew by autograd, every step length by jvp."""

    def objective(z: Tensor) -> Tensor:
        return 0.5 * (y - a(z)).square().sum() + 0.5 * rho * (z - x0_hat).square().sum()

    def descent(z: Tensor) -> Tensor:
        z = z.detach().requires_grad_()
        return -torch.autograd.grad(objective(z), z)[0]

    z = x0_hat
    g = descent(z)
    d = g
    for _ in range(ITERATIONS):
        omega = torch.func.jvp(a, (z,), (d,))[1]
        z = z + (g * d).sum() / (rho * (d * d).sum() + (omega * omega).sum()) * d
        g_next = descent(z)
        d = g_next + (g_next * g_next).sum() / (g * g).sum() * d
        g = g_next
    return z


def cases() -> dict[str, tuple[Measurement, Forward]]:
    """Per operator: a measurement, and the same operator as the official code computes it."""
    truth, k = photo("astronaut"), motion_kernel()
    side, gauss = truth.shape[-1], GaussianBlur(border="official", std=3.0)
    mask, down = random_mask(), Downscale(4)
    pairs = {
        "motion blur": (KernelBlur(border="official", weights=k), official_blur(k, side)),
        "Gaussian blur": (gauss, official_blur(gauss.kernel(), side)),
        "downscale x4": (down, official_downscale(down, side)),
        "inpainting 70 %": (Inpainting(mask), lambda z: mask * z),
    }
    return {
        name: (simulate(truth, operator, NOISE, per_sample_noise([0])), a)
        for name, (operator, a) in pairs.items()
    }


def interleaved(functions: dict[str, Callable[[], Tensor]]) -> tuple[dict, dict]:
    """Each function's best process time in ms and its result."""
    best, result = dict.fromkeys(functions, float("inf")), {}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            start = time.process_time()
            result[name] = function()
            best[name] = min(best[name], 1e3 * (time.process_time() - start))
    return best, result


def compare(measurement: Measurement, a: Forward, factor: int) -> dict[str, float]:
    """Both updates on the same prediction at one level."""
    truth = photo("astronaut")
    x0_hat = F.avg_pool2d(truth, factor) if factor > 1 else truth
    x0_hat = (x0_hat + 0.1 * per_sample_noise([1])(x0_hat)).clamp(-1, 1)
    at_level = replace(measurement, operator=level_operator(measurement, (256, 256), factor))
    rho = (NOISE / SIGMA) ** 2
    up = lambda z: F.interpolate(z, scale_factor=factor, mode="nearest")  # noqa: E731
    whole = (lambda z: a(up(z))) if factor > 1 else a
    updates = {
        "official": lambda: official_update(whole, measurement.y, x0_hat, rho),
        "all steps": lambda: ConjugateGradient(**PLAIN)(x0_hat, SIGMA, at_level),
        "default": lambda: ConjugateGradient()(x0_hat, SIGMA, at_level),
    }
    if at_level.operator.structure:
        exact = ConjugateGradient(solver="exact")
        updates["exact"] = lambda: exact(x0_hat, SIGMA, at_level)
    ms, result = interleaved(updates)
    with torch.no_grad():
        difference = {
            f"{name} difference": (result[name] - result["official"]).abs().max().item()
            for name in updates
        }
    return {f"{name} ms": value for name, value in ms.items()} | difference


PLAIN = {"iterations": ITERATIONS, "tolerance": 0.0, "preconditioned": False}
HEADER = [
    "operator, level",
    "official ms",
    "all J ms",
    "ratio",
    "max diff",
    "default ms",
    "ratio",
    "max diff",
    "exact ms",
    "ratio",
    "max diff",
]


def row(name: str, found: dict[str, float]) -> list:
    """One line of the table."""
    cells: list = [name, found["official ms"]]
    for kind in ("all steps", "default", "exact"):
        if f"{kind} ms" not in found:
            cells += ["", "", ""]
            continue
        ratio = found["official ms"] / found[f"{kind} ms"]
        cells += [found[f"{kind} ms"], round(ratio, 1), f"{found[f'{kind} difference']:.1e}"]
    return cells


def main() -> None:
    """Print the table and write benchmarks/results/update_speed.json."""
    torch.set_num_threads(1)
    found = {}
    for name, (measurement, a) in tqdm(cases().items(), desc="operators"):
        for factor in (1, 2, 4):
            found[f"{name}, {256 // factor}"] = compare(measurement, a, factor)
    print(pack.table(HEADER, [row(name, f) for name, f in found.items()]))
    pack.write_results("update_speed", {"iterations": ITERATIONS, "cases": found})


if __name__ == "__main__":
    main()
