"""NOISE for ComfyUI's stock samplers, predicted from the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...models.noise_predictor import NoisePredictor
from ...pipelines.invsr.start_noise import StartNoiseOptions, calls_of, draw, predict_start
from ...pipelines.noise import per_sample_noise
from ..comfyui import host
from ..comfyui.wall import outside
from ..watched import WatchedPredictor


@dataclass(frozen=True, eq=False)
class PredictedNoise:
    """What a NOISE socket carries: `seed`, and `generate_noise(latent) -> noise`.

    lr: (b, 3, h, w) in [-1, 1]. sigma: noise level of the start. Latent i of a batch gets the noise
    of `seed + i`, or of its number in the latent's "batch_index", so that a part of a batch has the
    noise it had in the whole.
    """

    predictor: NoisePredictor
    lr: Tensor
    sigma: float
    seed: int
    options: StartNoiseOptions

    @outside
    def generate_noise(self, input_latent: dict[str, Any]) -> Tensor:
        """(B, 4, H, W) float32 on the CPU, for the latent of that shape.

        Raises `ValueError` where the latent is not of the picture enlarged four times, or the
        numbers of pictures do not go together.
        """
        shape = tuple(input_latent["samples"].shape)
        self.check(shape)
        taken = input_latent.get("batch_index")
        pictures = pictures_of(taken, shape[0], self.lr.shape[0])
        numbers = range(shape[0]) if taken is None else taken
        distinct = sorted(set(pictures))
        mean, std = self.maps(self.lr[distinct])
        places = [distinct.index(picture) for picture in pictures]
        noise = per_sample_noise([self.seed + number for number in numbers])
        return draw(mean[places], std[places], noise, self.options.strength)

    def maps(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation on the CPU, the network under ComfyUI's memory management."""
        device, tiles = host.device(), (self.options.tile, self.options.overlap)
        progress = host.Progress(calls_of(self.predictor, lr, *tiles), "Predicted Noise")
        host.place([self.predictor.network], device)
        watched = WatchedPredictor(self.predictor, progress)
        mean, std = predict_start(watched, lr.to(device), self.sigma, *tiles)
        return mean.cpu(), std.cpu()

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise `ValueError` for a latent that is not of the picture enlarged four times."""
        height, width = self.lr.shape[-2:]
        ratio = self.predictor.scale, self.predictor.factor
        size = tuple(n * ratio[0] // ratio[1] for n in (height, width))
        if len(shape) != 4 or shape[1] != 4 or shape[2:] != size:
            raise ValueError(
                f"The latent has shape {shape}, but for a picture of {width}x{height} pixels it is "
                f"(batch, 4, {size[0]}, {size[1]}): the latent must be the VAE encoding of the 4x "
                "picture, so put Upscale Image By 4 (bicubic) before VAE Encode, and connect the "
                "small picture here."
            )


def pictures_of(taken: list[int] | None, latents: int, pictures: int) -> list[int]:
    """Which picture belongs to each latent.

    taken: the latents' "batch_index", their numbers in the batch they were taken from.
    As many pictures as latents go in order. Otherwise latents whose numbers are all below the
    number of pictures were taken from their batch; else the pictures repeat, as Repeat Latent Batch
    repeats latents. Raises `ValueError` where that does not come out even.
    """
    if latents == pictures:
        return list(range(latents))
    if taken is not None and max(taken) < pictures:
        return list(taken)
    if latents % pictures:
        raise ValueError(
            f"The numbers of latents and pictures are {latents} and {pictures}; give one picture, "
            "as many as latents, or a number that divides them."
        )
    return [i % pictures for i in range(latents)]
