"""When to stop adding noise: the official threshold per task against a rule without one.

Every run uses the papers' noise (renoise 1), since the switch decides about that noise. The result
is read twice: as the network's last prediction and from the trajectory corrector.

Three priors: the built-in one on the photographs; the exact denoiser of correlated Gaussian
pictures on pictures drawn from that very distribution, where no approximation clouds the answer;
and the same denoiser with noise on its predictions, for a prior that is strong but not exact.

Run: python benchmarks/switch.py [--photos evaluation|tuning] [--count 8].
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

import pack
import torch
from photos import EVALUATION, TUNING, photos
from tasks import TITLES, measurements
from torch import Tensor
from tqdm import tqdm

from undegrade.models.codec import Codec, Identity
from undegrade.models.prior import MultiResolutionPrior, Prior, PriorSpec
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.level import picture
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.metrics import psnr
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.subdaps.corrector import Corrector
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.subdaps.switch import FixedThreshold, NoiseFloor, SwitchRule, never
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient

OPTIONS = SamplerOptions(steps=30, renoise=1.0)
RULES: dict[str, SwitchRule] = {
    "never": never,
    **{f"tau {tau:.0e}": FixedThreshold(tau) for tau in (1e-6, 1e-5, 1e-4, 3e-4, 1e-3)},
    **{f"noise floor {ratio:g}": NoiseFloor(ratio) for ratio in (0.5, 1.0, 2.0)},
}


def power_spectrum(side: int, exponent: float = 2.0) -> Tensor:
    """Eigenvalues of the covariance of pictures whose power falls as 1 / f^exponent, (side, side).

    Scaled to a pixel's standard deviation of 0.5.
    """
    f = torch.fft.fftfreq(side).square()
    power = (f[:, None] + f[None, :] + 0.25 / side**2) ** (-exponent / 2)
    return 0.25 * power / power.mean()


@dataclass(frozen=True, eq=False)
class SpectralPrior:
    """The exact denoiser of Gaussian pictures with a 1 / f^2 power spectrum.

    x0_hat = C (C + sigma^2)^-1 x, with C the covariance at the level's own resolution (average
    pooling leaves the low frequencies as they are, up to its own response). error: standard
    deviation of the noise added to every prediction as a fraction of the exact posterior's.
    """

    error: float = 0.0
    spec: PriorSpec = field(default_factory=lambda: PriorSpec(name="spectral"))
    codec: Codec = field(default_factory=Identity)

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        """E[x0 | x], with the error."""
        power = pooled_spectrum(x.shape[-1] * factor, factor)
        noise = sigma[:, None, None, None].double() ** 2
        shrink = power / (power + noise)
        exact = torch.fft.ifft2(torch.fft.fft2(x.double()) * shrink).real.float()
        if not self.error:
            return exact
        spread = (power * noise / (power + noise)).mean((-2, -1), keepdim=True).sqrt().float()
        wrong = per_sample_noise([int(1e6 * s) + b for b, s in enumerate(sigma)])(x)
        return exact + self.error * spread * wrong


def pooled_spectrum(side: int, factor: int) -> Tensor:
    """The power spectrum after average pooling: aliases added with the pooling's response."""
    power = power_spectrum(side).double()
    if factor == 1:
        return power
    f = torch.fft.fftfreq(side, dtype=torch.float64)
    response = (
        torch.where(
            f == 0, 1.0, torch.sin(torch.pi * f * factor) / (factor * torch.sin(torch.pi * f))
        )
        .nan_to_num(1.0)
        .square()
    )
    small = side // factor
    weighted = power * response[:, None] * response[None, :]
    folded = weighted.view(factor, small, factor, small).sum((0, 2))
    return folded / factor**2


def drawn_pictures(count: int, side: int = 128) -> Tensor:
    """Pictures of `SpectralPrior`, (count, 3, side, side); a few values lie beyond +-1."""
    like = torch.zeros(count, 3, side, side)
    white = per_sample_noise(range(500, 500 + count))(like)
    amplitude = power_spectrum(side).sqrt()
    return torch.fft.ifft2(torch.fft.fft2(white) * amplitude).real


def run(prior: Prior, m: Measurement, rule: SwitchRule) -> tuple[Tensor, Tensor, float]:
    """(last prediction, corrected, mean share of full-resolution steps that were deterministic)."""
    corrector, turned, last = Corrector("consistent"), [], m.y
    noise = per_sample_noise(range(len(m.y)))
    schedule, update = schedule_for(prior, OPTIONS), ConjugateGradient()
    for step in restore(prior, m, schedule, update, noise, switch=rule, renoise=OPTIONS.renoise):
        corrector.add(step)
        last = picture(step.x0_hat, step.size)
        if step.factor == 1:
            turned.append(step.deterministic.float().mean().item())
    return last, corrector.result(), sum(turned) / len(turned)


def unclipped_psnr(x: Tensor, truth: Tensor) -> Tensor:
    """PSNR with a peak of 2 and without clipping, for pictures that leave [-1, 1]."""
    return -10 * torch.log10((x - truth).square().flatten(1).mean(1) / 4)


def compare(title: str, prior: Prior, truth: Tensor, score) -> dict[str, dict[str, list[float]]]:
    """Task -> rule -> [dB of the last prediction, dB of the corrected, deterministic share]."""
    found: dict[str, dict[str, list[float]]] = {}
    for task, m in tqdm(measurements(truth).items(), desc=title):
        found[task] = {}
        for name, rule in RULES.items():
            last, corrected, share = run(prior, m, rule)
            dB = [score(x, truth).mean().item() for x in (last, corrected)]
            found[task][name] = [round(v, 3) for v in (*dB, share)]
    return found


def report(title: str, found: dict[str, dict[str, list[float]]]) -> None:
    """One row per rule: every task, the mean, and the worst loss to what is best for a task."""
    best = {t: max(max(v[:2]) for v in rules.values()) for t, rules in found.items()}
    rows = []
    for rule in RULES:
        values = {t: rules[rule] for t, rules in found.items()}
        mean = [sum(v[k] for v in values.values()) / len(values) for k in (0, 1)]
        worst = max(best[t] - max(v[:2]) for t, v in values.items())
        cells = [f"{v[0]:.2f} / {v[1]:.2f} ({100 * v[2]:.0f} %)" for v in values.values()]
        rows.append([rule, *cells, f"{mean[0]:.2f} / {mean[1]:.2f}", f"{worst:.2f}"])
    print(f"\n{title}: dB of the last prediction / corrected (deterministic steps)")
    print(pack.table(["rule", *(TITLES[t] for t in found), "mean", "worst loss"], rows))


def main() -> None:
    """Print the tables and write benchmarks/results/switch.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--photos", default="evaluation", choices=["evaluation", "tuning"])
    parser.add_argument("--count", type=int, default=8, help="how many photographs")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = EVALUATION if options.photos == "evaluation" else TUNING
    built_in = load_pixel_prior(BUILT_IN, getattr(torch, options.dtype))
    drawn, truth = drawn_pictures(2), photos(names[: options.count])
    cases = {
        "built-in prior": (built_in, truth, psnr),
        "exact prior": (SpectralPrior(), drawn, unclipped_psnr),
        "prior with error": (SpectralPrior(0.3), drawn, unclipped_psnr),
    }
    found = {}
    with torch.no_grad():
        for title, (prior, pictures, score) in cases.items():
            found[title] = compare(title, MultiResolutionPrior(prior), pictures, score)
    for title, figures in found.items():
        report(title, figures)
    pack.write_results("switch", {"photos": options.photos, "cases": found})


if __name__ == "__main__":
    main()
