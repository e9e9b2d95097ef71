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
    """parameters: of two or more dimensions each; the first counts as rows.

    Matrices of one shape go through the iterations as one stack. The rate of a group may be a
    tensor on the parameters' device, so that a captured graph sees its changes.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float | Tensor) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step with the gradients that are there."""
        for group in self.param_groups:
            stacks: dict[tuple, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    key = (parameter.shape, parameter.is_contiguous())
                    stacks.setdefault(key, []).append(parameter)
            for alike in stacks.values():
                self._move(alike, group["lr"])

    def _move(self, alike: list[nn.Parameter], rate: float | Tensor) -> None:
        for parameter in alike:
            if not (state := self.state[parameter]):
                state["momentum"] = torch.zeros_like(parameter)
        last = alike[0].ndim == 4 and not alike[0].is_contiguous()
        gradients = [_rows(parameter.grad, last) for parameter in alike]  # type: ignore[arg-type]
        momenta = [_rows(self.state[parameter]["momentum"], last) for parameter in alike]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        updates = torch.stack(torch._foreach_lerp(gradients, momenta, MOMENTUM))
        length = LENGTH * max(updates.shape[1:]) ** 0.5
        moves = orthogonal(updates) * (rate * length)
        weights = [_rows(parameter, last) for parameter in alike]
        torch._foreach_mul_(weights, 1 - rate * DECAY)
        torch._foreach_sub_(weights, list(moves.unbind()))


def _rows(weight: Tensor, channels_last: bool) -> Tensor:
    """(outputs, inputs x window), sharing the memory of a weight that lies so."""
    return (weight.permute(0, 2, 3, 1) if channels_last else weight).flatten(1)


def orthogonal(matrices: Tensor) -> Tensor:
    """O(U), (k, n, m): singular values become about 1, singular vectors stay. float32.

    On a card the iterations run in bfloat16, as in the reference: they correct their own rounding.
    A CPU without such units takes ten times longer for it than for float32.
    """
    a, b, c = QUINTIC
    kind = torch.bfloat16 if matrices.is_cuda else torch.float32
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(kind)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()


def optimizers(parameters: list[nn.Parameter], name: str, rate: float | Tensor) -> list:
    """'adamw' for all, or 'muon' for matrices and AdamW for the rest.

    A rate that is a tensor on a card is changed in place, by a captured graph too.
    """
    capturable = isinstance(rate, Tensor) and rate.is_cuda
    if name == "adamw":
        return [torch.optim.AdamW(parameters, lr=rate, capturable=capturable)]
    matrices = [p for p in parameters if p.ndim >= 2]
    rest = [p for p in parameters if p.ndim < 2]
    others = [torch.optim.AdamW(rest, lr=rate, capturable=capturable)] if rest else []
    return [Muon(matrices, rate), *others]


def rate_at(step: int, steps: int, warm_up: int, highest: float) -> float:
    """The learning rate of a step: a linear rise, times a cosine down to `FINAL_RATE`."""
    falling = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * step / steps))
    return highest * min(1.0, step / max(1, warm_up)) * falling


def set_rate(steppers: Iterable[torch.optim.Optimizer], rate: float) -> None:
    """Give every group of parameters this learning rate."""
    for stepper in steppers:
        for group in stepper.param_groups:
            group["lr"] = rate
