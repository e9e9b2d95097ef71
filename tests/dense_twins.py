"""Small operators and their dense matrices, for tests that solve the normal equations."""

import torch

from undegrade.pipelines.operators.blur import KernelBlur
from undegrade.pipelines.operators.contract import Operator
from undegrade.pipelines.operators.inpainting import Inpainting


def asymmetric(border: str) -> KernelBlur:
    weights = torch.tensor([[0.0, 3.0, 1.0], [0.5, 4.0, 0.0], [0.0, 0.2, 2.0]])
    return KernelBlur(border=border, weights=weights)


def random_mask(batch: int, height: int, width: int) -> Inpainting:
    generator = torch.Generator().manual_seed(3)
    return Inpainting((torch.rand(batch, 1, height, width, generator=generator) < 0.4).float())


def dense(operator: Operator, size: tuple[int, int, int]) -> torch.Tensor:
    """A's matrix, float64, for pictures of (C, H, W)."""
    n = size[0] * size[1] * size[2]
    return operator(torch.eye(n, dtype=torch.float64).reshape(n, *size)).flatten(1).T


def dense_minimum(A, y, x0_hat, rho) -> torch.Tensor:
    """argmin 1/2 |y - A z|^2 + rho/2 |z - x0_hat|^2 per sample, by the normal equations."""
    hessian = A.T @ A + rho * torch.eye(A.shape[1], dtype=torch.float64)
    right = y.double().flatten(1) @ A + rho * x0_hat.double().flatten(1)
    return torch.linalg.solve(hessian, right.T).T.reshape(x0_hat.shape)
