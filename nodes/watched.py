"""Priors and operators that count as progress and may be interrupted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor

from ..models.codec import Codec, Identity, preview
from ..models.prior import WrappedPrior
from ..pipelines.invsr.start_noise import StartNoise
from ..pipelines.operators.contract import Operator
from ..pipelines.operators.wrapped import WrappedOperator
from .comfyui import host


@dataclass(frozen=True, eq=False)
class WatchedPrior(WrappedPrior):
    """A prior whose every `denoise` counts as progress and may be interrupted."""

    progress: host.Progress

    @property
    def codec(self) -> Codec:
        """The wrapped prior's; one with a network may be interrupted too."""
        codec = self.prior.codec
        return codec if isinstance(codec, Identity) else WatchedCodec(codec)

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        """The wrapped prior's, then one tick."""
        host.check_interrupted()
        x0_hat = self.prior.denoise(x, sigma, factor)
        self.progress.advance()
        return x0_hat


@dataclass(frozen=True, eq=False)
class WatchedCodec:
    """A codec that may be interrupted before every pass."""

    codec: Codec

    @property
    def factor(self) -> int:
        """The wrapped codec's, as is everything else here."""
        return self.codec.factor

    def encode(self, image: Tensor) -> Tensor:
        """Pixels -> latent."""
        host.check_interrupted()
        return self.codec.encode(image)

    def decode(self, z: Tensor) -> Tensor:
        """Latent -> pixels."""
        host.check_interrupted()
        return self.codec.decode(z)

    def preview(self, z: Tensor) -> Tensor:
        """A cheap picture of a latent."""
        return preview(self.codec, z)

    def plain_attention(self) -> AbstractContextManager[object]:
        """A block in which `decode` takes no fused attention, where the codec can do without."""
        return getattr(self.codec, "plain_attention", nullcontext)()


@dataclass(frozen=True, eq=False)
class InterruptiblePrior(WrappedPrior):
    """A prior whose every network call may be interrupted, for wrappers that make several of them.

    Progress is counted outside, where the number of calls is known.
    """

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        """The wrapped prior's."""
        host.check_interrupted()
        return self.prior.denoise(x, sigma, factor)


@dataclass(frozen=True, eq=False)
class WatchedOperator(WrappedOperator):
    """An operator that may be interrupted at every pass, for updates that take many.

    A chain's parts are not watched: they are quick.
    """

    def forward(self, x: Tensor) -> Tensor:
        """A(x)."""
        host.check_interrupted()
        return super().forward(x)

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """J v."""
        host.check_interrupted()
        return super().jvp(x, v)

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """A(x) and u -> J^T u."""
        host.check_interrupted()
        return super().vjp(x)

    def checked_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """`vjp`, held against `forward`."""
        host.check_interrupted()
        return super().checked_vjp(x)

    def of_sample(self, b: int, count: int) -> Operator:
        """What it does to one sample, watched."""
        return WatchedOperator(super().of_sample(b, count))

    def upsampled(self, factor: int) -> Operator | None:
        """A U, watched too."""
        quicker = super().upsampled(factor)
        return WatchedOperator(quicker) if quicker else None


@dataclass(frozen=True, eq=False)
class WatchedPredictor:
    """A noise predictor whose every network call counts as progress and may be interrupted."""

    predictor: StartNoise
    progress: host.Progress

    @property
    def name(self) -> str:
        """The wrapped predictor's, as is everything else here."""
        return self.predictor.name

    @property
    def scale(self) -> int:
        """How much larger the output is."""
        return self.predictor.scale

    @property
    def multiple_of(self) -> int:
        """Of the sides it is given."""
        return self.predictor.multiple_of

    @property
    def trained_sigmas(self) -> tuple[float, ...]:
        """The starts it knows."""
        return self.predictor.trained_sigmas

    def predict(self, lr: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The wrapped predictor's, then one tick."""
        host.check_interrupted()
        maps = self.predictor.predict(lr, sigma)
        self.progress.advance()
        return maps
