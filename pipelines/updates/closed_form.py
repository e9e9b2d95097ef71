"""The minimum of 1/2 |y - A z|^2 + rho/2 |z - x0_hat|^2 in closed form.

With r = y - A x0_hat the minimum is z = x0_hat + (A^T A + rho I)^-1 A^T r, so one diagonalisation
of A^T A is enough:
- one_to_one: A^T A is diagonal, and its diagonal is A^T A 1;
- circulant:  the FFT diagonalises A^T A; its eigenvalues are the FFT of A^T A delta;
- separable:  A z = M_h z M_w^T; with M^T M = V diag(l) V^T per axis the eigenvalues are l_h l_w^T.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators.contract import Operator

NAMES = "masks, downscaling, Gaussian blurs, and blurs with the border 'circular'"


def minimise_exactly(operator: Operator, y: Tensor, x0_hat: Tensor, rho: float) -> Tensor:
    """argmin over z, (B, C, h, w) like x0_hat.

    Computed in float64: where A^T A is nearly zero, rounding errors are divided by rho, which is
    1e-7 at the first noise levels (float32 is off by 0.02 to 2 there). A device without float64
    hands the solve to the CPU.
    Raises `ValueError` when the operator is nonlinear or nothing is known of its structure.
    """
    for name, solve in SOLVERS.items():
        if operator.linear and name in operator.structure:
            device = "cpu" if x0_hat.device.type == "mps" else x0_hat.device
            z, y = x0_hat.to(device, torch.float64), y.to(device, torch.float64)
            a_z, adjoint = operator.trusted_vjp(z)
            return (z + solve(operator, adjoint(y - a_z), rho)).to(x0_hat)
    raise ValueError(
        f"{type(operator).__name__} has no closed-form update on this canvas; it exists for "
        f"{NAMES}. Choose the solver 'conjugate gradient'."
    )


def gram_of_ones(operator: Operator, like: Tensor) -> Tensor:
    """A^T A 1 for images of `like`'s shape and precision, kept with the operator."""

    def computed() -> Tensor:
        a_1, adjoint = operator.trusted_vjp(torch.ones_like(like))
        return adjoint(a_1)

    return operator.constant(("A^T A 1", like.shape, like.dtype, like.device), computed)


def solve_diagonal(operator: Operator, b: Tensor, rho: float) -> Tensor:
    """(A^T A + rho)^-1 b with the diagonal A^T A 1."""
    return b / (gram_of_ones(operator, b) + rho)


def solve_circulant(operator: Operator, b: Tensor, rho: float) -> Tensor:
    """(A^T A + rho)^-1 b with the FFT of A^T A delta."""

    def transformed() -> Tensor:
        delta = torch.zeros_like(b)
        delta[..., 0, 0] = 1
        a_delta, adjoint = operator.trusted_vjp(delta)
        return torch.fft.rfft2(adjoint(a_delta)).real

    key = ("FFT of A^T A delta", b.shape, b.dtype, b.device)
    eigenvalues = operator.constant(key, transformed)
    return torch.fft.irfft2(torch.fft.rfft2(b) / (eigenvalues + rho), s=b.shape[-2:])


def solve_separable(operator: Operator, b: Tensor, rho: float) -> Tensor:
    """(A^T A + rho)^-1 b with the eigenvectors of M_h^T M_h and M_w^T M_w."""
    height, width = b.shape[-2:]

    def decomposed() -> tuple[Tensor, Tensor, Tensor]:
        pairs = (torch.linalg.eigh(m.T @ m) for m in operator.matrices(height, width))
        (l_h, v_h), (l_w, v_w) = pairs
        return v_h.to(b), v_w.to(b), (l_h[:, None] * l_w[None, :]).to(b)

    key = ("eigenvectors", height, width, b.dtype, b.device)
    v_h, v_w, eigenvalues = operator.constant(key, decomposed)
    return v_h @ ((v_h.T @ b @ v_w) / (eigenvalues + rho)) @ v_w.T


SOLVERS = {
    "one_to_one": solve_diagonal,
    "circulant": solve_circulant,
    "separable": solve_separable,
}
