"""What the code of Inversion Sampler costs beside its networks.

Time outside the networks (predict, encode, denoise, decode) as a share of the node's run, from a
128 x 128 IMAGE to a 512 x 512 one: on a random Stable Diffusion layout of small width, where the
share is larger than with the real one, and on the built-in pair.

Run: python benchmarks/inversion_overhead.py [--rounds 5] [--threads 1].
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from typing import Any

import pack
import torch
from photos import EVALUATION, photos
from tqdm import tqdm

from undegrade.models.codec import Identity
from undegrade.models.discrete import DiscretePrior
from undegrade.models.latent import SD_SCALE, AutoencoderCodec, PromptedNetwork
from undegrade.models.noise_predictor import NoisePredictor, NoisePredictorNetwork, Sizes
from undegrade.models.noise_table import stable_diffusion_sigmas
from undegrade.models.predictors import BUILT_IN_PREDICTOR, load_noise_predictor
from undegrade.models.prior import Prior, PriorSpec
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.nodes.images import to_image
from undegrade.nodes.inversion.sampler import InversionSampler
from undegrade.pipelines.invsr.start_noise import StartNoise

CALLS = ("predict", "encode", "denoise", "decode")


@dataclass
class Clock:
    """Seconds spent in networks."""

    seconds: dict[str, float] = field(default_factory=dict)

    def timed(self, name: str, function):
        """`function`, with its time added to `name`."""

        def run(*given):
            begun = time.perf_counter()
            made = function(*given)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun
            return made

        return run


class Timed:
    """A prior, codec or predictor whose methods run on a clock."""

    def __init__(self, inner: Any, clock: Clock, *methods: str) -> None:
        self.inner: Any = inner
        for name in methods:
            setattr(self, name, clock.timed(name, getattr(inner, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def small_stable_diffusion() -> tuple[Prior, StartNoise]:
    """Random weights: an autoencoder of 4 channels at 1/8, a UNet that reads a text, a predictor
    of the published layout."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,  # type: ignore[arg-type]
        up_block_types=("UpDecoderBlock2D",) * 4,  # type: ignore[arg-type]
        block_out_channels=(32, 64, 128, 128),  # type: ignore[arg-type]
        layers_per_block=1,
    )
    unet = UNet2DConditionModel(
        block_out_channels=(64, 128, 256, 256), layers_per_block=1, cross_attention_dim=64
    )
    text = torch.zeros(1, 8, 64)
    network = PromptedNetwork(unet, text, text, 1.0)
    predictor = NoisePredictorNetwork(Sizes((64, 128), (1, 1), 64, 128, 64))
    for part in (vae, network, predictor):
        part.requires_grad_(False).eval()
    sigmas = stable_diffusion_sigmas()
    spec = PriorSpec(4, 8, 512, sigmas[0].item(), sigmas[-1].item(), sigmas, name="random SD")
    codec = AutoencoderCodec(vae, 8, 4, SD_SCALE)
    return DiscretePrior(network, spec, "epsilon", None, codec), NoisePredictor(predictor, "random")


def overhead(prior: Prior, predictor: StartNoise, steps: int, rounds: int) -> dict[str, float]:
    """Seconds of the networks and of the rest, and the rest's share, in the median run."""
    image = to_image(photos(EVALUATION[:1])[..., ::2, ::2])
    required = InversionSampler.INPUT_TYPES()["required"]
    widgets = {n: known[1]["default"] for n, known in required.items() if "default" in known[1]}
    runs: list[dict[str, float]] = []
    for _ in tqdm(range(rounds + 1), desc=f"{steps} step(s)", leave=False):
        clock = Clock()
        watched: Any = Timed(prior, clock, "denoise")
        if not isinstance(prior.codec, Identity):
            watched.codec = Timed(prior.codec, clock, "encode", "decode")
        timed: Any = Timed(predictor, clock, "predict")
        begun = time.perf_counter()
        InversionSampler().sample(watched, timed, image, **{**widgets, "steps": steps})
        total = time.perf_counter() - begun
        rest = total - sum(clock.seconds.values())
        runs.append({**clock.seconds, "rest": rest, "total": total, "share": rest / total})
    runs = sorted(runs[1:], key=lambda run: run["share"])  # the first one warms up
    return runs[len(runs) // 2]


def main() -> None:
    """Print the table and write benchmarks/results/inversion_overhead.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    built_in = load_pixel_prior(BUILT_IN), load_noise_predictor(BUILT_IN_PREDICTOR)
    pairs = {"random SD, small": small_stable_diffusion(), "built-in": built_in}
    found = {}
    with torch.no_grad():
        for name, (prior, predictor) in pairs.items():
            for steps in (1, 3):
                measured = overhead(prior, predictor, steps, options.rounds)
                found[f"{name}, {steps} step(s)"] = measured
    rows = [
        [name, *(v.get(call, 0.0) for call in CALLS), v["rest"], v["total"],
         f"{100 * v['share']:.2f} %"]
        for name, v in found.items()
    ]
    header = ["128 -> 512, seconds", *CALLS, "rest", "total", "rest's share"]
    print(pack.table(header, rows))
    pack.write_results("inversion_overhead", {"rounds": options.rounds, "runs": found})


if __name__ == "__main__":
    main()
