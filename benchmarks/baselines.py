"""Classical restorations that the sampler is measured against, with weights chosen by the truth.

Choosing a weight by the true picture is an oracle: no user could do as well, so it favours the
baseline. Pictures are (B, 3, H, W) in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pack  # noqa: F401  (makes `undegrade` importable)
import torch
from torch import Tensor

from undegrade.models.codec import IDENTITY, Codec
from undegrade.models.prior import PriorSpec
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.metrics import psnr
from undegrade.pipelines.operators.blur import Blur

TV_WEIGHTS = tuple(0.0005 * 2.0**k for k in range(8))  # 0.0005 ... 0.064
WIENER_BALANCES = tuple(10.0 ** (k / 4) for k in range(-12, 5))  # 0.001 ... 10
BALANCE = 20.0  # of primal and dual steps; 1 needs ten times the iterations
CONTINUATION = 128  # pixels
OVERSHOOT = 1.3  # bound on sum |w| / sum w of the rows of an operator with negative weights
DENOISING = 0.8  # weight per noise level, best or near it on the tuning photographs from .05 to 1


def best_per_picture(candidates: list[Tensor], truth: Tensor) -> tuple[Tensor, list[int]]:
    """Of several restorations, each picture's best in PSNR, and which one it was."""
    chosen = torch.stack([psnr(c, truth) for c in candidates]).argmax(0)
    return torch.stack([candidates[k][b] for b, k in enumerate(chosen)]), chosen.tolist()


def total_variation(
    measurement: Measurement, weight: Tensor | float, iterations: int, start: Tensor | None = None
) -> Tensor:
    """argmin_x 1/2 |A x - y|^2 + weight sum |grad x|_2 (isotropic, one gradient per channel).

    weight: a number or (B,). Diagonally preconditioned primal-dual iterations (Pock and Chambolle,
    ICCV 2011) for any linear A: dual steps are the inverse row sums, primal ones the inverse
    column sums of the stacked operator (A, grad), balanced for duals much smaller than pictures.
    """
    operator, y = measurement.operator, measurement.y
    x = operator.guess(y) if start is None else start
    lam = torch.as_tensor(weight, dtype=x.dtype).expand(x.shape[0])[:, None, None, None]
    adjoint = operator.vjp(x)[1]
    columns = adjoint(torch.ones_like(y)).clamp(min=0) * OVERSHOOT
    tau, sigma_a, sigma_g = BALANCE / (columns + 4), 1 / OVERSHOOT / BALANCE, 0.5 / BALANCE
    p, (q_y, q_x) = torch.zeros_like(y), (torch.zeros_like(x), torch.zeros_like(x))
    x_bar = x
    for _ in range(iterations):
        p = (p + sigma_a * (operator(x_bar) - y)) / (1 + sigma_a)
        d_y, d_x = gradient(x_bar)
        q_y, q_x = torch.add(q_y, d_y, alpha=sigma_g), torch.add(q_x, d_x, alpha=sigma_g)
        shrink = ((q_y.square() + q_x.square()).sqrt_() / lam).clamp_(min=1)
        q_y, q_x = q_y / shrink, q_x / shrink
        x_next = x - tau * (adjoint(p) - divergence(q_y, q_x))
        x_bar, x = 2 * x_next - x, x_next
    return x


def gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    """Forward differences down and to the right, zero at the last row and column."""
    d_y, d_x = torch.zeros_like(x), torch.zeros_like(x)
    torch.sub(x[..., 1:, :], x[..., :-1, :], out=d_y[..., :-1, :])
    torch.sub(x[..., 1:], x[..., :-1], out=d_x[..., :-1])
    return d_y, d_x


def divergence(q_y: Tensor, q_x: Tensor) -> Tensor:
    """Minus the adjoint of `gradient`."""
    out = torch.zeros_like(q_y)
    out[..., :-1, :] += q_y[..., :-1, :]
    out[..., 1:, :] -= q_y[..., :-1, :]
    out[..., :-1] += q_x[..., :-1]
    out[..., 1:] -= q_x[..., :-1]
    return out


def best_total_variation(
    measurement: Measurement,
    truth: Tensor,
    coarse: int = 100,
    final: int = 300,
    weights: tuple[float, ...] = TV_WEIGHTS,
) -> tuple[Tensor, list[float]]:
    """TV with each picture's best weight: a grid by factors of 2, then converged and refined.

    coarse, final: iterations on the grid and for the result, whose neighbours at factors of 1.4
    are tried as well. Returns the pictures and their weights.
    """
    grid = [total_variation(measurement, w, coarse) for w in weights]
    start, chosen = best_per_picture(grid, truth)
    centre = torch.tensor([weights[k] for k in chosen])
    factors = (2**-0.5, 1.0, 2**0.5)
    refined = [total_variation(measurement, centre * f, final, start) for f in factors]
    pictures, fine = best_per_picture(refined, truth)
    return pictures, [float(w) * factors[k] for w, k in zip(centre, fine, strict=True)]


def wiener(measurement: Measurement, balance: float) -> Tensor:
    """skimage's Wiener filter with a Laplacian prior, for blurs.

    The filter takes the picture to repeat without end, which no photograph does: it is continued by
    half its side, falling linearly to zero, and cropped again (of several continuations the one
    that scored best on the motion blur, 1 to 3 dB ahead of the others).
    """
    from skimage.restoration import wiener as filtered

    operator = measurement.operator
    if not isinstance(operator, Blur):
        raise ValueError("The Wiener filter needs a blur; choose a blur operator.")
    kernel = operator.kernel().double().numpy()
    r = CONTINUATION
    pictures = []
    for picture in measurement.y.double().numpy():
        padded = [np.pad(plane, r, mode="linear_ramp") for plane in picture]
        planes = [np.asarray(filtered(p, kernel, balance, clip=False)) for p in padded]
        pictures.append(torch.from_numpy(np.stack(planes)[:, r:-r, r:-r]))
    return torch.stack(pictures).float()


def best_wiener(measurement: Measurement, truth: Tensor) -> tuple[Tensor, list[float]]:
    """The Wiener filter with each picture's best balance, and the balances."""
    candidates = [wiener(measurement, balance) for balance in WIENER_BALANCES]
    pictures, chosen = best_per_picture(candidates, truth)
    return pictures, [WIENER_BALANCES[k] for k in chosen]


@dataclass(frozen=True)
class TotalVariationPrior:
    """A Prior without a network: total-variation denoising (Chambolle, 2004), skimage's.

    Its weight follows the noise level it is told, so a sampler can use it in a network's place.
    """

    spec: PriorSpec = field(default_factory=lambda: PriorSpec(trained_factors=(1, 2, 4)))
    codec: Codec = IDENTITY

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        """x0_hat, (B, C, h, w); `factor` makes no difference."""
        from skimage.restoration import denoise_tv_chambolle as denoised

        weights = (DENOISING * sigma).tolist()
        pairs = zip(x.numpy(), weights, strict=True)
        found = [denoised(picture, w, max_num_iter=100, channel_axis=0) for picture, w in pairs]
        return torch.from_numpy(np.stack(found)).to(x)
