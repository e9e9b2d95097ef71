"""What the built-in pair of noise predictor and prior gains over bicubic, on eight photographs.

    python benchmarks/predictor_scores.py [--write]

Fixed degradations at a reduction by 4 (Gaussian blur of the large picture, area mean, noise, JPEG)
and the random ones of Real-World Degradation. Per degradation the means of PSNR, SSIM, GMSD (lower
is better) and sharpness, the mean gradient over the truth's (1 is best). Controls: the same sampler
from noise that nothing predicted, and the predicted mean without the prior.
`--write` puts the table's PSNR into the metadata of the shipped predictor.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import pack
import torch
import torch.nn.functional as F
from photos import EVALUATION, photos
from torch import Tensor

from undegrade.models.predictors import BUILT_IN_PREDICTOR, load_noise_predictor
from undegrade.models.prior import Prior
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.models.weights import read_tensors
from undegrade.pipelines.degradation.real_world import RealWorldDegradation, degrade, jpeg
from undegrade.pipelines.invsr.sampler import Start, bicubic, invert, predicted, schedule_from
from undegrade.pipelines.invsr.start_noise import StartNoise
from undegrade.pipelines.metrics import gmsd, psnr, ssim
from undegrade.pipelines.noise import per_sample_noise

STARTS = (0.15, 0.25, 0.4, 0.7)
SEVERAL = (0.569, 0.342, 0.223)  # Stable Diffusion's timesteps 200, 100, 50
SEED = 100


@dataclass(frozen=True)
class Fixed:
    """blur: deviation in pixels of the large picture; noise: deviation in [-1, 1] units."""

    blur: float
    noise: float
    quality: int

    def __call__(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H / 4, W / 4)."""
        from kornia.filters import gaussian_blur2d

        soft = gaussian_blur2d(x, (13, 13), (self.blur, self.blur))
        small = F.avg_pool2d(soft, 4)
        noise = per_sample_noise([SEED + b for b in range(len(x))])(small)
        noisy = ((small + self.noise * noise + 1) / 2).clamp(0, 1)
        return torch.cat([jpeg(picture, self.quality) for picture in noisy.split(1)]) * 2 - 1


@dataclass(frozen=True)
class Drawn:
    """Real-World Degradation of some strength."""

    strength: str

    def __call__(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H / 4, W / 4)."""
        return degrade(x, RealWorldDegradation(self.strength), range(SEED, SEED + len(x)))


DEGRADATIONS = {
    "mild (blur .4, noise .02, JPEG 95)": Fixed(0.4, 0.02, 95),
    "mixed (blur .8, noise .05, JPEG 80)": Fixed(0.8, 0.05, 80),
    "heavy (blur 1.5, noise .1, JPEG 50)": Fixed(1.5, 0.1, 50),
    "Real-World Degradation, mild": Drawn("mild"),
    "Real-World Degradation, StableSR": Drawn("StableSR"),
    "Real-World Degradation, InvSR": Drawn("InvSR"),
}


def sharpness(x: Tensor, truth: Tensor) -> Tensor:
    """Mean Sobel gradient of luminance over the truth's, (B,)."""
    from kornia.color import rgb_to_grayscale
    from kornia.filters import sobel

    a, b = (sobel(rgb_to_grayscale(p)).flatten(1).mean(1) for p in (x.clamp(-1, 1), truth))
    return a / b


def restored(
    prior: Prior, predictor: StartNoise, lr: Tensor, sigmas: tuple[float, ...], strength: float = 1
) -> Tensor:
    """The sampler's answer."""
    start = predicted(prior, predictor, lr, sigmas[0])
    return run(prior, start, sigmas, strength)


def unpredicted(prior: Prior, predictor: StartNoise, lr: Tensor, sigma: float) -> Tensor:
    """One step from noise that nothing predicted."""
    start = predicted(prior, predictor, lr, sigma)
    zero, one = torch.zeros_like(start.mean), torch.ones_like(start.std)
    return run(prior, Start(start.canvas, zero, one, start.scale, start.size), (sigma,))


def run(prior: Prior, start: Start, sigmas: tuple[float, ...], strength: float = 1) -> Tensor:
    """The last prediction of a deterministic run, cropped."""
    noise = per_sample_noise([SEED + b for b in range(len(start.mean))])
    schedule = schedule_from(torch.tensor([*sigmas, 0.0]))
    *_, last = invert(prior, start, schedule, noise, strength=strength)
    height, width = start.size
    return last.x0_hat[..., :height, :width]


def answers(prior: Prior, predictor: StartNoise, lr: Tensor) -> dict[str, Tensor]:
    """Every method's picture."""
    z = bicubic(lr, predictor.scale)
    found = {"bicubic": z}
    for sigma in STARTS:
        found[f"1 step, start {sigma}"] = restored(prior, predictor, lr, (sigma,))
    found["1 step, start 0.25, mean only"] = restored(prior, predictor, lr, (0.25,), 0.0)
    found["3 steps"] = restored(prior, predictor, lr, SEVERAL)
    found["control: random noise"] = unpredicted(prior, predictor, lr, 0.25)
    start = predicted(prior, predictor, lr, 0.25)
    found["control: no prior"] = (z + 0.25 * start.mean)[..., : z.shape[-2], : z.shape[-1]]
    return found


def main() -> None:
    """Print the tables and write them."""
    parser = argparse.ArgumentParser(description="What the built-in pair gains.")
    parser.add_argument("--predictor", type=Path, default=BUILT_IN_PREDICTOR)
    parser.add_argument("--write", action="store_true", help="PSNR into the predictor's metadata")
    given = parser.parse_args()
    prior, predictor = load_pixel_prior(BUILT_IN), load_noise_predictor(given.predictor)
    truth, figures = photos(), {}
    for name, degradation in DEGRADATIONS.items():
        with torch.no_grad():
            found = answers(prior, predictor, degradation(truth))
        scores = {
            method: {m.__name__: m(x, truth) for m in (psnr, ssim, gmsd, sharpness)}
            for method, x in found.items()
        }
        rows = [[k, *(float(v.mean()) for v in s.values())] for k, s in scores.items()]
        print(f"\n{name}\n" + pack.table(["method", "PSNR", "SSIM", "GMSD", "sharpness"], rows))
        figures[name] = {
            method: {k: [round(n, 4) for n in v.tolist()] for k, v in s.items()}
            for method, s in scores.items()
        }
    pack.write_results("predictor_scores", {"photographs": EVALUATION, "degradations": figures})
    if given.write:
        write_scores(given.predictor, figures)


def write_scores(file: Path, figures: dict) -> None:
    """Mean PSNR per degradation and method into the file's metadata."""
    from safetensors.torch import save_file

    tensors, metadata = read_tensors(file)
    means = {
        name: {method: round(sum(s["psnr"]) / len(s["psnr"]), 2) for method, s in methods.items()}
        for name, methods in figures.items()
    }
    said = "mean PSNR in dB on eight photographs of scikit-image, 256x256, never trained on"
    save_file(tensors, str(file), {**metadata, "scores": json.dumps({said: means})})


if __name__ == "__main__":
    main()
