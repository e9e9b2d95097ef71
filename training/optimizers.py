"""Muon: steps of equal length in all directions, for weights that are matrices.

Reference: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the
scale, by which one learning rate serves Muon and AdamW alike, is that of Liu et al., 2025 (arXiv
2502.16982, Eq. 4):

    M <- mu M + (1 - mu) G,   U = (1 - mu) G + mu M   (Nesterov)
    W <- (1 - rate decay) W - rate 0.2 sqrt(max(n, m)) O(U)

with O(U) = A B^T of the singular value decomposition U = A S B^T, found by five Newton-Schulz
iterations. A convolution counts as a matrix of (outputs, inputs x window). On the small pixel prior
it reached AdamW's loss in about half the steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

FINAL_RATE = 0.01  # of the highest
MOMENTUM = 0.95
DECAY = 0.01  # of the weights, per unit of the rate; AdamW's default
LENGTH = 0.2  # root mean square of a step per unit of the rate, about AdamW's
QUINTIC = (3.4445, -4.7750, 2.0315)  # pulls singular values to 1, within 0.7 and 1.2
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """parameters: of two or more dimensions each; the first counts as rows."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step with the gradients that are there."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group["lr"])

    def _move(self, parameter: nn.Parameter, rate: float) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        update = orthogonal(gradient.lerp(momentum, MOMENTUM).flatten(1))
        length = LENGTH * max(update.shape) ** 0.5
        parameter.mul_(1 - rate * DECAY).sub_(update.view_as(parameter), alpha=rate * length)


def orthogonal(matrix: Tensor) -> Tensor:
    """O(U), (n, m): singular values become about 1, singular vectors stay. float32.

    The iterations run in bfloat16, as in the reference: they correct their own rounding.
    """
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).float()


def optimizers(parameters: list[nn.Parameter], name: str, rate: float) -> list:
    """'adamw' for all, or 'muon' for matrices and AdamW for the rest."""
    if name == "adamw":
        return [torch.optim.AdamW(parameters, lr=rate)]
    matrices = [p for p in parameters if p.ndim >= 2]
    rest = [p for p in parameters if p.ndim < 2]
    return [Muon(matrices, rate), *([torch.optim.AdamW(rest, lr=rate)] if rest else [])]


def rate_at(step: int, steps: int, warm_up: int, highest: float) -> float:
    """The learning rate of a step: a linear rise, times a cosine down to `FINAL_RATE`."""
    falling = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * step / steps))
    return highest * min(1.0, step / max(1, warm_up)) * falling


def set_rate(steppers: Iterable[torch.optim.Optimizer], rate: float) -> None:
    """Give every group of parameters this learning rate."""
    for stepper in steppers:
        for group in stepper.param_groups:
            group["lr"] = rate
