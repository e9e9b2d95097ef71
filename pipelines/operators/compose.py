"""One operator after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

from torch import Tensor, nn

from .adjoint import Map
from .contract import Operator

MERGED_SIDE = 160  # pixels; beyond it dense products cost more than the members' own ways


@dataclass(frozen=True, eq=False)
class Compose(Operator):
    """A = A_K ... A_2 A_1: `operators[0]` is applied first.

    Linear when all are; its structure is what all of them share (each kind of structure is closed
    under composition). Raises `ValueError` when the list is empty or any but the last is bounded,
    `TypeError` when a member is no Operator.
    """

    operators: tuple[Operator, ...]

    def __post_init__(self) -> None:
        if not self.operators:
            raise ValueError("Compose got no operator; give one or more.")
        for operator in self.operators:
            if not isinstance(operator, Operator):
                raise TypeError(
                    f"Compose got {type(operator).__name__}; give degradation operators."
                )
        if any(operator.bounded for operator in self.operators[:-1]):
            raise ValueError(
                "Compose got clipped pixels before another operator, and only what is measured "
                "can be a bound; give the operator with clipped pixels last."
            )

    @property
    def linear(self) -> bool:  # type: ignore[override]
        """True when every member is linear."""
        return all(operator.linear for operator in self.operators)

    @property
    def smooth(self) -> bool:  # type: ignore[override]
        """True when every member is."""
        return all(operator.smooth for operator in self.operators)

    @property
    def count(self) -> int:
        """The most of any member."""
        return max(operator.count for operator in self.operators)

    def of_sample(self, b: int, count: int) -> Operator:
        """The chain of the members' own."""
        members = tuple(operator.of_sample(b, count) for operator in self.operators)
        return self if members == self.operators else Compose(members)

    @property
    def structure(self) -> frozenset[str]:  # type: ignore[override]
        """What is known of all members' matrices."""
        return reduce(frozenset.intersection, (operator.structure for operator in self.operators))

    def forward(self, x: Tensor) -> Tensor:
        """A_K(... A_1(x))."""
        if self._merges(x):
            rows, columns = self._merged(x)
            return rows @ x @ columns.T
        for operator in self.operators:
            x = operator(x)
        return x

    def _merges(self, x: Tensor) -> bool:
        """Whether two small matrices do the whole chain's work, as at the coarse levels."""
        small = max(x.shape[-2:]) <= MERGED_SIDE
        return small and self.linear and "separable" in self.structure

    def _merged(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The products of all rows' and of all columns' matrices.

        One small pair in place of a chain that goes through the full size.
        """
        height, width = x.shape[-2:]
        key = (height, width, x.dtype, x.device)
        rows = self.constant(("rows", *key), lambda: self.matrices(height, width)[0].to(x))
        columns = self.constant(("columns", *key), lambda: self.matrices(height, width)[1].to(x))
        return rows, columns

    def surrogate(self, x: Tensor) -> Tensor:
        """The members' stand-ins, chained."""
        for operator in self.operators:
            x = operator.surrogate(x)
        return x

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The chain rule over the members' own `jvp`."""
        if self.linear:
            return self(v)
        *first, last = self.operators
        for operator in first:
            x, v = operator.surrogate(x), operator.jvp(x, v)
        return last.jvp(x, v)

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The chain rule over the members' own `vjp`, so that their overrides are used."""
        if self._merges(x):
            rows, columns = self._merged(x)
            return self(x), lambda u: rows.T @ u @ columns
        return self._chained(x, lambda operator, x: operator.vjp(x))

    def checked_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """A nonlinear chain member by member, so that its linear ones are held to rounding."""
        if self.linear:
            return super().checked_vjp(x)
        return self._chained(x, lambda operator, x: operator.trusted_vjp(x))

    def _chained(
        self, x: Tensor, vjp: Callable[[Operator, Tensor], tuple[Tensor, Map]]
    ) -> tuple[Tensor, Map]:
        """The chain rule over what `vjp` gives of each member."""
        pullbacks: list[Map] = []
        for operator in self.operators:
            x, pullback = vjp(operator, x)
            pullbacks.insert(0, pullback)
        return x, lambda u: reduce(lambda v, pullback: pullback(v), pullbacks, u)

    def split(self) -> tuple[Operator | None, Operator]:
        """All but the innermost last member, and that."""

        def parted() -> tuple[Operator, Operator]:
            *first, last = self.operators
            inner, end = last.split()
            chain = (*first, *(() if inner is None else (inner,)))
            return (chain[0] if len(chain) == 1 else Compose(chain)), end

        return self.constant("split", parted) if len(self.operators) > 1 else (None, self)

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """All members'."""
        return tuple(network for operator in self.operators for network in operator.networks)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of the image at the chain's start."""
        for operator in reversed(self.operators):
            height, width = operator.input_size(height, width)
        return height, width

    def guess(self, y: Tensor) -> Tensor:
        """The members' guesses, from the last to the first."""
        for operator in reversed(self.operators):
            y = operator.guess(y)
        return y

    def upsampled(self, factor: int) -> Operator | None:
        """The first member's quicker way, and the others after it."""
        quicker = self.operators[0].upsampled(factor)
        return Compose((quicker, *self.operators[1:])) if quicker else None

    def observe(self, y: Tensor) -> Tensor:
        """The last member's."""
        return self.operators[-1].observe(y)

    @property
    def bounded(self) -> bool:
        """The last member's."""
        return self.operators[-1].bounded

    def residual(self, difference: Tensor) -> Tensor:
        """The last member's."""
        return self.operators[-1].residual(difference)

    def silence(self, y: Tensor) -> Tensor:
        """The last member's."""
        return self.operators[-1].silence(y)

    def axes(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """The products of the members' matrices."""
        rows, columns = self.operators[0].matrices(height, width)
        for operator in self.operators[1:]:
            m_h, m_w = operator.matrices(rows.shape[0], columns.shape[0])
            rows, columns = m_h @ rows, m_w @ columns
        return rows, columns
