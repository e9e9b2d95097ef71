"""Predictors of starting noise in closed form, a latent space without a network, and runs."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from undegrade.models.prior import GaussianPrior, PriorSpec
from undegrade.pipelines.invsr.sampler import invert, predicted, schedule_from
from undegrade.pipelines.level import picture
from undegrade.pipelines.noise import per_sample_noise


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """mean = bias + slope sigma * picture, brought to the size of the state; std constant."""

    bias: float = 0.2
    slope: float = 0.0
    std: float = 0.5
    channels: int = 3
    factor: int = 1  # pixels of a state's pixel
    multiple_of: int = 1
    scale: int = 4
    name: str = "closed form"
    trained_sigmas: tuple[float, ...] = (0.7, 0.4, 0.25)
    calls: list = field(default_factory=list)

    def predict(self, lr: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        self.calls.append((tuple(lr.shape), sigma.tolist()))
        assert not any(side % self.multiple_of for side in lr.shape[-2:])
        size = [side * self.scale // self.factor for side in lr.shape[-2:]]
        seen = F.interpolate(lr.mean(1, keepdim=True), size=size, mode="nearest")
        seen = seen.expand(-1, self.channels, -1, -1)
        mean = self.bias + self.slope * sigma[:, None, None, None] * seen
        return mean, torch.full_like(mean, self.std)


class Blocks:
    """A codec: 4 channels, each pixel the mean of a factor x factor block, times 0.5."""

    def __init__(self, factor: int = 8) -> None:
        self.factor = factor

    def encode(self, image: Tensor) -> Tensor:
        planes = F.avg_pool2d(image, self.factor) / 2
        return torch.cat([planes, planes.mean(1, keepdim=True)], 1)

    def decode(self, z: Tensor) -> Tensor:
        return 2 * F.interpolate(z[:, :3], scale_factor=self.factor, mode="nearest")


@dataclass(frozen=True, eq=False)
class Strict(GaussianPrior):
    """A Gaussian prior that refuses sides which are no multiples of what it says it needs."""

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        assert x.shape[1] == self.spec.channels
        assert not any(side % self.spec.multiple_of for side in x.shape[-2:])
        return super().denoise(x, sigma, factor)


def pixel_prior(multiple_of: int = 16, std: float = 0.5) -> Strict:
    return Strict(std=std, spec=PriorSpec(multiple_of=multiple_of, name="pixels"))


def latent_prior(std: float = 0.5) -> Strict:
    return Strict(std=std, spec=PriorSpec(4, 8, name="latents"), codec=Blocks())


def latent_predictor(**given) -> ClosedForm:
    return ClosedForm(channels=4, factor=8, multiple_of=16, **given)


def run(prior, predictor, lr, schedule, seeds=None, tile=0, overlap=0, **given):
    """All steps, under inference_mode as ComfyUI runs them."""
    noise = per_sample_noise(seeds or range(len(lr)))
    with torch.inference_mode():
        start = predicted(prior, predictor, lr, schedule.sigmas[0].item(), tile, overlap)
        return list(invert(prior, start, schedule, noise, **given))


def result(prior, steps):
    return picture(steps[-1].x0_hat, steps[-1].size, prior.codec)


def levels(*sigmas):
    return schedule_from(torch.tensor([*sigmas, 0.0]))
