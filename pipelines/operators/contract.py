"""The degradation operator A of y = A(x0) + noise: write `forward`, get the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..constants import Constants
from .adjoint import check_linear, check_nonlinear


class Operator(Constants, ABC):
    """A differentiable map from an image to what was measured of it.

    Images are (B, C, H, W) float32 in [-1, 1]. Sample b of the output depends on sample b of the
    input alone. A subclass writes `forward`; calling the operator checks shapes on both sides, and
    `jvp` and `vjp` are derived with `torch.func`. Outside of `torch.inference_mode`: before torch
    2.13 they are wrong there, which `trusted_vjp` refuses.

    linear:    True when A(a x + b z) = a A(x) + b A(z).
    smooth:    False where the last bit of x may become another picture: rounding, corners, phases.
      Samples are then restored one by one (`apart`).
    quantises: whether `before` says what a picture was before it was rounded.
    structure: what is known of a linear operator's matrix, for updates in closed form; a subset of
      "one_to_one"  every measured value reads at most one pixel, so A^T A is diagonal;
      "circulant"   a cyclic shift of the image becomes a cyclic shift of the measurement, so the
                    FFT diagonalises A^T A;
      "separable"   A x = M_h x M_w^T with the matrices that `axes` returns.

    Where the derived `vjp` or `jvp` is much slower than what is known of A, a subclass may override
    it (`Blur`, `HDRClip`, `Compose`); the tests hold every override against the derived one.
    """

    linear: ClassVar[bool] = True
    smooth: ClassVar[bool] = True
    quantises: ClassVar[bool] = False
    structure: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """A(x): (B, C, H, W) in [-1, 1] -> the measurement without noise."""

    def surrogate(self, x: Tensor) -> Tensor:
        """A smooth stand-in for A whose derivative a line search uses; A itself unless
        overridden."""
        return self.forward(x)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of the image whose measurement is height x width."""
        return height, width

    def guess(self, y: Tensor) -> Tensor:
        """A first image for the measurement y, of `input_size`: y itself, enlarged bicubically.

        Only a starting point: samplers start there and no result depends on its quality.
        """
        size = self.input_size(*y.shape[-2:])
        if tuple(y.shape[-2:]) == size:
            return y
        return F.interpolate(y, size=size, mode="bicubic", align_corners=False)

    def observe(self, y: Tensor) -> Tensor:
        """y without the values that were not measured; all of it unless overridden."""
        return y

    @property
    def bounded(self) -> bool:
        """Whether values of y may be bounds from below, so that there may be light beyond white."""
        return False

    def residual(self, difference: Tensor) -> Tensor:
        """What of y - A(z) speaks against z: all of it, unless values of y are only bounds."""
        return difference

    def silence(self, y: Tensor) -> Tensor:
        """The measurement that would be 0 wherever y says what was measured."""
        return torch.zeros_like(y)

    @property
    def count(self) -> int:
        """How many pictures it does different things to; 1 unless samples differ."""
        return 1

    def of_sample(self, b: int, count: int) -> Operator:
        """What it does to sample b of a batch of `count`; itself unless samples differ."""
        return self

    @property
    def networks(self) -> tuple[torch.nn.Module, ...]:
        """The networks it runs, which must lie where its images do; none unless overridden."""
        return ()

    def check_size(self, height: int, width: int) -> None:
        """Raise `ValueError` for an image of a size that A cannot take; none unless overridden."""

    def matrices(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """(M_h, M_w) in float64 with A x = M_h x M_w^T for an image of height x width; a subclass
        writes `axes`. Raises `ValueError` for a size that A cannot take."""
        self.check_size(height, width)
        return self.axes(height, width)

    def axes(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """`matrices` of a size that A takes."""
        raise NotImplementedError(f"{type(self).__name__} is not separable.")

    def upsampled(self, factor: int) -> Operator | None:
        """A U with nearest enlargement U by `factor`, where one operator is quicker than two."""
        return None

    def split(self) -> tuple[Operator | None, Operator]:
        """(what happens first, what happens last) of a chain; None where it is one operator."""
        return None, self

    def before(
        self, y: Tensor, v: Tensor, r: float, noise_level: float, error: Tensor | None = None
    ) -> Tensor:
        """E[v] given that v became y with noise of that level.

        v is believed as far as N(v, r^2), or to be off by r times what `error` is an example of.
        """
        raise NotImplementedError(f"{type(self).__name__} does not quantise.")

    def __call__(self, x: Tensor) -> Tensor:
        """A(x) with the shapes checked.

        Raises `ValueError` when x is not (B, C, H, W), has a size that A cannot take, or `forward`
        gives another batch size.
        """
        check_image(x, type(self).__name__)
        self.check_size(*x.shape[-2:])
        y = self.forward(x)
        if y.ndim != 4 or y.shape[0] != x.shape[0]:
            raise ValueError(
                f"{type(self).__name__} turned {tuple(x.shape)} into {tuple(y.shape)}; "
                "an operator must return (B, C, h, w) with the same B."
            )
        return y

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """J v, the directional derivative of `surrogate` at x along v; A v for a linear
        operator."""
        if self.linear:
            return self(v)
        return torch.func.jvp(self.surrogate, (x,), (v,))[1]

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """(A(x), u -> J^T u) at x. For a linear operator J^T is the adjoint, whatever x is."""
        y, pullback = torch.func.vjp(self.__call__, x)[:2]
        return y, lambda u: pullback(u)[0]

    def trusted_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """`vjp`, held against `forward` the first time that it is asked for images of this size,
        and for more of them than ever before.

        Raises `ArithmeticError` where the two do not belong together; see `adjoint`.
        """
        trusted = vars(self).setdefault("_trusted", {})
        key = (x.shape[1:], x.dtype, x.device, torch.is_inference_mode_enabled())
        if len(x) <= trusted.get(key, 0):
            return self.vjp(x)
        y, pullback = self.checked_vjp(x)
        trusted[key] = len(x)
        return y, pullback

    def checked_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """`vjp`, held against `forward`. Raises `ArithmeticError`."""
        y, pullback = self.vjp(x)
        check = check_linear if self.linear else check_nonlinear
        check(type(self).__name__, self.__call__, x, pullback, y)
        return y, pullback


def check_image(x: Tensor, where: str) -> None:
    """Raise `ValueError` unless x is a non-empty (B, C, H, W) tensor; `where` opens the
    sentence."""
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"{where} got a tensor of shape {tuple(x.shape)}; give (B, C, H, W).")
