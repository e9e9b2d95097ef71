"""Trains a pixel prior at full, half and quarter resolution, or fine-tunes one to them.

Reference: SubDAPS++ (arXiv 2605.14267), whose one training step is to show a prior pictures that
were reduced by averaging; EDM, Karras et al., 2022 (arXiv 2206.00364), for the loss:

    x = x0 + sigma n,   loss = (sigma^2 + sd^2) / (sigma sd)^2 |D(x, sigma, factor) - x0|^2

with sd = 0.5. For the small network of `models/pixel.py` that is a target of unit variance; for a
network that predicts eps it is the square of its error, up to (1 + sigma^2 / sd^2). Where we depart
from EDM: a share of the samples holds less noise than the network is told (`held_share`).

Without `like` the small network is trained from nothing. With it any pixel prior that the pack
loads goes on from where it was: a file of the pack, an ADM checkpoint, a diffusers folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ..models.discrete import DiscretePrior
from ..models.pixel import PixelPrior
from ..pipelines.metrics import psnr
from ..pipelines.noise import per_sample_noise
from ..pipelines.step import column
from .command import read_options
from .data import source, stream
from .loop import Task, start, train
from .prior_by_clock import train_prior
from .prior_files import FACTORS, PriorOptions, made, write_prior
from .prior_loss import FACTOR_ODDS, OF_255, SIGMA_DATA, draw_sigmas, held_share

HELD_OUT = 8  # crops of the validation, from
UNSEEN = 4  # canvases of another seed


@dataclass(frozen=True, eq=False)
class Resolutions(Dataset):
    """Pictures reduced by averaging: sample i is ((3, side, side) in [-1, 1], its factor).

    crops: data sets of the same pictures with crops of side, 2 side, 4 side, one per factor.
    """

    crops: Sequence[Dataset]
    seed: int

    def __len__(self) -> int:
        """Samples."""
        return len(self.crops[0])  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Sample `index`."""
        level = int(stream(self.seed, index, 2).choice(len(FACTORS), p=FACTOR_ODDS))
        factor = FACTORS[level]
        return F.avg_pool2d(self.crops[level][index], factor), factor


class PriorTask(Task):
    """A prior's network under the loss above."""

    def __init__(self, prior: PixelPrior | DiscretePrior, held_out: Tensor) -> None:
        super().__init__()
        self.network = prior.network.requires_grad_(True)
        self.priors = [replace(prior, clip=None) if isinstance(prior, DiscretePrior) else prior]
        self.held_out = held_out

    def place(self, device: torch.device) -> None:
        """The held-out pictures."""
        self.held_out = self.held_out.to(device)

    def forward(
        self, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The loss at noise levels that are drawn."""
        x0, factors = batch
        sigma = draw_sigmas(factors.cpu(), generator, self.priors[0].spec).to(x0.device)
        s = column(sigma, x0)
        held = sigma * held_share(len(x0), generator).to(x0.device)
        n = torch.randn(x0.shape, generator=generator).to(x0.device)
        x = x0 + column(held, n) * n
        weight = (s**2 + SIGMA_DATA**2) / (s * SIGMA_DATA) ** 2
        total = x0.new_zeros(())
        for factor in FACTORS:
            mine = factors == factor
            if mine.any():
                x0_hat = self.priors[0].denoise(x[mine], sigma[mine], factor)
                total = total + (weight[mine] * (x0_hat - x0[mine]).square()).sum()
        return {"loss": total / x0.numel()}

    def validate(self) -> tuple[dict[str, float], Tensor]:
        """PSNR as a Gaussian denoiser of canvases it has not seen."""
        x0 = self.held_out
        n = per_sample_noise(list(range(len(x0))))(x0)
        scores, shown = {}, [x0[:4]]
        for level in OF_255:
            sigma = torch.full((len(x0),), 2 * level / 255, device=x0.device)
            x0_hat = self.priors[0].denoise(x0 + 2 * level / 255 * n, sigma)
            scores[f"psnr_{level}"] = float(psnr(x0_hat, x0).mean())
            shown.append(x0_hat[:4])
        return scores, torch.cat(shown)


def main(arguments: Sequence[str]) -> int:
    """Train, and write `<out>/prior.safetensors`, or a diffusers folder `<out>/prior`.

    `minutes` trains by the clock: `training/prior_by_clock.py`.
    """
    options = read_options(PriorOptions, arguments, "Trains or fine-tunes a pixel prior.")
    if options.minutes:
        return train_prior(options)
    accelerator = start(options)
    length = options.steps * options.batch * accelerator.num_processes
    with accelerator.main_process_first():  # the others find the canvases drawn
        data = pictures(options, options.seed, length)
        others = replace(options, pictures="", canvases=UNSEEN)
        unseen = pictures(others, options.seed + 1, HELD_OUT).crops[1]
    held_out = torch.stack([unseen[i] for i in range(HELD_OUT)])
    prior = made(options)
    task = PriorTask(prior, held_out)
    for _ in train(task, data, options, accelerator):
        pass
    if accelerator.is_main_process:
        with torch.inference_mode():
            scores, _ = task.eval().validate()
            write_prior(prior, options, scores, task.held_out[:4])
    return 0


def pictures(options: PriorOptions, seed: int, length: int) -> Resolutions:
    """The pictures of a run at three resolutions."""
    crops = [source(options, options.side * factor, seed, length) for factor in FACTORS]
    return Resolutions(crops, seed)
