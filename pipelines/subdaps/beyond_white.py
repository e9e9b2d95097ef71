"""Light beyond white, which a clipped measurement asks for and no prior has seen.

A lamp is many times as bright as the white that a clipped pixel shows (`AtLeast`), and only so
bright is its glow explained. A network knows pictures in [-1, 1]: shown a light of 5 it errs by
.1 to .3 around it, and the answer rings. So the state without that light is what the network sees,

    x0_hat = D(x - e) + e,   e = max(0, v + a max(0, v - e_before)),   v = x0_y - 1,

e what the last update found beyond white. An update moves it by a share of what is missing only;
going a = 1 times further, as over-relaxation does, finds the lamps within the steps there are.
Ours; what each part is worth is measured by `benchmarks/clipped_lights.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ...models.codec import Codec
from ...models.prior import Prior
from ..level import enlarge
from ..operators.contract import Operator
from ..prediction import predict

WHITE = 1.0
AHEAD = 1.0  # a


@dataclass(eq=False)
class Lamps:
    """e of a run, (B, C, h, w) like its state; None where no measured value is a bound."""

    light: Tensor | None = None

    def predict(
        self, prior: Prior, x: Tensor, *given: float | bool | Tensor
    ) -> tuple[Tensor, Callable[[Tensor], Tensor] | None]:
        """`prediction.predict` of a state and what is `given` with it."""
        if self.light is None:
            return predict(prior, x, *given)  # type: ignore[arg-type]
        x0_hat, pullback = predict(prior, x - self.light, *given)  # type: ignore[arg-type]
        return x0_hat + self.light, pullback

    def follow(self, x0_y: Tensor, operator: Operator, share: float = 1.0) -> None:
        """Take e of an update, or of a state that takes a share of it and keeps the rest."""
        if operator.bounded:
            v = x0_y - WHITE
            before = 0.0 if self.light is None else self.light
            e = (v + AHEAD * (v - before).clamp(min=0)).clamp(min=0)
            self.light = (1 - share) * before + share * e

    def enlarged(self, x0_y: Tensor, q: int, codec: Codec, smooth: bool = False) -> Tensor:
        """`level.enlarge` of a picture, and of e with it."""
        if self.light is not None:
            self.light = enlarge(self.light, q, codec, smooth)
        return enlarge(x0_y, q, codec, smooth)
