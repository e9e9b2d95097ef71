"""An operator around another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from .contract import Operator


@dataclass(frozen=True, eq=False)
class WrappedOperator(Operator):
    """What operators around another one share: all of it. They differ in what they override.

    Every method and attribute of `Operator` is the wrapped one's, except `__call__`, `matrices`,
    `trusted_vjp` and `constant`, which build on the others and keep what they keep by themselves.
    """

    operator: Operator

    @property
    def linear(self) -> bool:  # type: ignore[override]
        """Whether A(a x + b z) = a A(x) + b A(z)."""
        return self.operator.linear

    @property
    def smooth(self) -> bool:  # type: ignore[override]
        """Whether the last bit of x stays a last bit."""
        return self.operator.smooth

    @property
    def quantises(self) -> bool:  # type: ignore[override]
        """Whether `before` says what a picture was before it was rounded."""
        return self.operator.quantises

    @property
    def structure(self) -> frozenset[str]:  # type: ignore[override]
        """What is known of the matrix."""
        return self.operator.structure

    @property
    def count(self) -> int:
        """How many pictures it does different things to."""
        return self.operator.count

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Those it runs."""
        return self.operator.networks

    def forward(self, x: Tensor) -> Tensor:
        """A(x)."""
        return self.operator(x)

    def surrogate(self, x: Tensor) -> Tensor:
        """The smooth stand-in."""
        return self.operator.surrogate(x)

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """J v."""
        return self.operator.jvp(x, v)

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """A(x) and u -> J^T u."""
        return self.operator.vjp(x)

    def checked_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """`vjp`, held against `forward`."""
        return self.operator.checked_vjp(x)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of the image."""
        return self.operator.input_size(height, width)

    def guess(self, y: Tensor) -> Tensor:
        """A first image."""
        return self.operator.guess(y)

    def observe(self, y: Tensor) -> Tensor:
        """y without what was not measured."""
        return self.operator.observe(y)

    @property
    def bounded(self) -> bool:
        """Whether values of y may be bounds."""
        return self.operator.bounded

    def residual(self, difference: Tensor) -> Tensor:
        """What of y - A(z) speaks against z."""
        return self.operator.residual(difference)

    def silence(self, y: Tensor) -> Tensor:
        """0 wherever y says what was measured."""
        return self.operator.silence(y)

    def of_sample(self, b: int, count: int) -> Operator:
        """What it does to one sample."""
        return self.operator.of_sample(b, count)

    def upsampled(self, factor: int) -> Operator | None:
        """A U, where one operator is quicker than two."""
        return self.operator.upsampled(factor)

    def check_size(self, height: int, width: int) -> None:
        """Raise `ValueError` for a size that A cannot take."""
        self.operator.check_size(height, width)

    def axes(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """(M_h, M_w)."""
        return self.operator.axes(height, width)

    def split(self) -> tuple[Operator | None, Operator]:
        """The chain's parts."""
        return self.operator.split()

    def before(
        self, y: Tensor, v: Tensor, r: float, noise_level: float, error: Tensor | None = None
    ) -> Tensor:
        """E[v] given what became of it."""
        return self.operator.before(y, v, r, noise_level, error)
