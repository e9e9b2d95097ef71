"""Blind deconvolution against the known kernel, classical methods, and the blurred picture.

Run: python benchmarks/blind.py [--levin FILE] [--few] [--side 512] [--bare] [--quick]
     [--photos astronaut,coffee] [--kernels walk21,disc3] [--noise 0.01]
     [--part 3/12 --name blind_3]

Without more all photographs, kernels and noise levels are crossed; `--few` takes `FEW`, a sample.
`--part k/n` takes every n-th of all in an order that is drawn: a fair sample when time is up.

Photographs are blurred from a larger piece of themselves, so that what lies beyond the border is
the photograph and no assumption; noise is added, then 8 bits. Scores are of the interior, after the
best shift (a kernel is known up to a shift). `--levin` adds the eight kernels of Levin et al.
(2009), kernels/Levin09.mat of the SubDAPS repository, for which h5py is needed.

| figure | meaning                                                                     |
|--------|-----------------------------------------------------------------------------|
| corr   | largest normalised correlation with the true kernel                         |
| ratio  | squared error over that with the true kernel (Levin's error ratio)          |
| known  | PSNR of the sampler with the true kernel; blind: with the one that is found |
| UW, RL | scikit-image's unsupervised Wiener and Richardson-Lucy, with the true kernel |
| L0     | the sampler with the kernel of a classical blind method (Pan et al., 2014)  |
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from itertools import product

import blind_l0
import numpy as np
import pack
import torch
from photos import EVALUATION, read_photo
from torch import Tensor

from undegrade.models.prior import MultiResolutionPrior, Prior
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.blind.blur_estimate import estimate_blur
from undegrade.pipelines.blind.blur_options import BlurOptions
from undegrade.pipelines.blind.kernel_kinds import Shape
from undegrade.pipelines.blind.kernel_update import correlation
from undegrade.pipelines.blind.seen import bounded_blur
from undegrade.pipelines.level import picture
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.blur import KernelBlur
from undegrade.pipelines.operators.contract import Operator
from undegrade.pipelines.operators.motion_blur import RandomMotionBlur
from undegrade.pipelines.schedule import THIRDS
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient

MARGIN = 16  # pixels around the picture that blur into it
CROP = 16  # pixels of the border that are not scored
SHIFT = 3  # pixels
QUICK, SOONER = {"steps": 22, "sigma_min": 0.02}, (0.25, 0.55)  # of "Sharpen a blurred photo"
SHAPES = {
    "line9": Shape("straight motion", 9.0, 30.0),
    "line15": Shape("straight motion", 15.0, 100.0),
    "disc3": Shape("out of focus", 3.0),
    "disc5": Shape("out of focus", 5.0),
    "gauss1.5": Shape("Gaussian", 1.5),
    "gauss2.5": Shape("Gaussian", 2.5),
}
FEW = (
    ("astronaut", "gauss1.5", 0.01), ("coins", "walk15", 0.01), ("chelsea", "levin4", 0.01),
    ("camera", "levin7", 0.03), ("rocket", "disc3", 0.01), ("astronaut", "walk21", 0.03),
    ("astronaut", "levin0", 0.01), ("chelsea", "disc5", 0.03), ("coffee", "line9", 0.01),
    ("coffee", "levin3", 0.01), ("camera", "line15", 0.03), ("ihc", "levin2", 0.01),
    ("coins", "gauss2.5", 0.03), ("chelsea", "walk31", 0.01), ("rocket", "levin5", 0.01),
    ("brick", "levin1", 0.01),
)  # fmt: skip


def kernels(levin: str | None) -> dict[str, Tensor]:
    """Name -> kernel, (k, k) of sum 1."""
    found = {f"walk{side}": RandomMotionBlur(side=side, intensity=0.5, seed=1).kernel()
             for side in (15, 21, 31)}
    for name, shape in SHAPES.items():
        side = 2 * math.ceil(shape.size * (4 if shape.kind == "Gaussian" else 1)) + 1
        found[name] = shape.kernel(side)
    if levin:
        import h5py  # type: ignore[import-not-found]

        with h5py.File(levin) as file:
            for i, reference in enumerate(file["kernels"][()].ravel()):
                found[f"levin{i}"] = KernelBlur(weights=torch.tensor(
                    np.array(file[reference])).float()).weights
    return found


def blurred(truth: Tensor, k: Tensor, noise_level: float, seed: int) -> Tensor:
    """What a camera would have taken: (1, 3, H - 2 margin, W - 2 margin), 8 bits."""
    y = KernelBlur(weights=k)(truth)[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    y = y + noise_level * per_sample_noise([seed])(y)
    return ((y.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def restored(
    prior: Prior, y: Tensor, operator: Operator, noise_level: float, quick: bool
) -> Tensor:
    """The sampler's picture; `quick` as the workflow, in half of the time of the defaults."""
    options = SamplerOptions(**QUICK) if quick else SamplerOptions()
    prior = MultiResolutionPrior(prior, (4, 2, 1), SOONER if quick else THIRDS)
    measurement = Measurement(operator.observe(y), operator, noise_level)
    *_, last = restore(prior, measurement, schedule_for(prior, options), ConjugateGradient(),
                       per_sample_noise([0]), renoise=options.renoise,
                       complementary=options.complementary)
    return picture(last.x0_hat, last.size)


def classical(y: Tensor, k: Tensor) -> dict[str, Tensor]:
    """scikit-image's methods with the true kernel, each colour by itself."""
    from skimage.restoration import richardson_lucy, unsupervised_wiener

    def each(method: Callable[[np.ndarray], np.ndarray]) -> Tensor:
        planes = [torch.from_numpy(np.ascontiguousarray(method(c))) for c in y[0].double().numpy()]
        return torch.stack(planes)[None].float()

    psf = k.double().numpy()
    lucy = each(lambda c: 2 * richardson_lucy((c + 1) / 2, psf, num_iter=20) - 1)
    return {"UW": each(lambda c: unsupervised_wiener(c, psf, rng=0)[0]), "RL": lucy}


def shifted(x: Tensor, down: float, right: float) -> Tensor:
    """x moved by parts of pixels, through the FFT."""
    height, width = x.shape[-2:]
    phase = torch.fft.fftfreq(height)[:, None] * down + torch.fft.rfftfreq(width) * right
    spectrum = torch.fft.rfft2(x) * torch.exp(-2j * math.pi * phase)
    return torch.fft.irfft2(spectrum, s=(height, width))


def error(x: Tensor, truth: Tensor) -> float:
    """Mean square error of the interior after the best shift, to a quarter of a pixel."""
    inside = (..., slice(CROP, -CROP), slice(CROP, -CROP))

    def of(place: tuple[float, float]) -> float:
        return float((shifted(x, *place).clamp(-1, 1) - truth)[inside].square().mean())

    best = min(((float(d), float(r)) for d in range(-SHIFT, SHIFT + 1)
                for r in range(-SHIFT, SHIFT + 1)), key=of)
    for step in (0.5, 0.25):
        best = min(((best[0] + d, best[1] + r) for d in (-step, 0, step)
                    for r in (-step, 0, step)), key=of)
    return of(best)


def decibel(mean_square: float) -> float:
    """PSNR with a peak of 2."""
    return 10 * math.log10(4 / mean_square)


def case(
    prior: Prior, name: str, k: Tensor, noise_level: float, options: argparse.Namespace
) -> dict:
    """All figures of one photograph, kernel and noise level."""
    whole = read_photo(name, options.side + 2 * MARGIN)
    truth = whole[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    y = blurred(whole, k, noise_level, seed=len(name))
    start, asked = time.process_time(), BlurOptions(kernel_size=options.size, kind=options.kind)
    found = estimate_blur(prior, y, asked, per_sample_noise([0]))
    seconds = time.process_time() - start
    level = found.noise_level
    errors = {"blurred": error(y, truth)}
    for method, operator in (("blind", found.operator), ("known", bounded_blur(k, found.clipped))):
        errors[method] = error(restored(prior, y, operator, level, options.quick), truth)
    if not options.bare:
        rival = bounded_blur(blind_l0.kernel(y, options.size), found.clipped)
        errors["L0"] = error(restored(prior, y, rival, level, options.quick), truth)
    errors |= {m: error(x, truth) for m, x in classical(y, k).items()}
    return {"corr": correlation(found.kernel, k), "ratio": errors["blind"] / errors["known"],
            "confidence": found.confidence, "seconds": seconds, "name": found.name,
            "varies": found.varies, "against": list(found.against),
            **{m: decibel(e) for m, e in errors.items()}}


def summary(rows: list[dict]) -> dict[str, float]:
    """What the figures must reach: medians, and shares of the cases."""
    def of(key: str) -> np.ndarray:
        return np.array([row[key] for row in rows])

    behind = of("known") - of("blind")
    return {"cases": len(rows), "median behind known, dB": float(np.median(behind)),
            "error ratio under 3, %": float(100 * (of("ratio") < 3).mean()),
            "median correlation": float(np.median(of("corr"))),
            "worse than blurred": int((of("blind") < of("blurred")).sum()),
            "median seconds": float(np.median(of("seconds")))}


def by_kernel(rows: list[dict]) -> str:
    """The summary's figures for every kind of kernel and noise level, as a table in Markdown."""
    kinds = sorted({(row["kernel"].rstrip("0123456789."), row["noise"]) for row in rows})
    lines = ["|kernel, noise|cases|behind, dB|correlation|ratio under 3|worse|", "|---" * 6 + "|"]
    for kind, noise in kinds:
        s = summary([row for row in rows if row["noise"] == noise and kind in row["kernel"]])
        _, behind, ratio, corr, worse, _ = s.values()
        figures = kind, noise, s["cases"], f"{behind:.1f}", f"{corr:.2f}", f"{ratio:.0f} %", worse
        lines.append("|{}, {:g}|{}|{}|{}|{}|{}|".format(*figures))
    return "\n".join(lines)


def cases_of(options: argparse.Namespace, names: list[str]) -> list[tuple[str, str, float]]:
    """(photograph, kernel, noise level) of every case that is asked for."""
    photos, noises = options.photos.split(","), map(float, options.noise.split(","))
    if options.few:
        return [found for found in FEW if found[0] in photos and found[1] in names]
    crossed = list(product(photos, names, noises))
    part, parts = map(int, options.part.split("/"))
    order = np.random.default_rng(0).permutation(len(crossed))
    return [crossed[i] for i in order[part::parts]]


def main() -> None:
    """Print a row per case and the summary, write benchmarks/results/blind.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--levin", help="Levin09.mat")
    parser.add_argument("--photos", default=",".join(EVALUATION))
    parser.add_argument("--kernels", default="")
    parser.add_argument("--noise", default="0.01,0.03")
    parser.add_argument("--kind", default="any")
    parser.add_argument("--size", type=int, default=31)
    parser.add_argument("--side", type=int, default=256, help="of the photographs")
    parser.add_argument("--few", action="store_true", help="a sample of the cases")
    parser.add_argument("--quick", action="store_true", help="the workflow's restorations")
    parser.add_argument("--bare", action="store_true", help="without L0")
    parser.add_argument("--part", default="0/1", help="k/n, k from 0")
    parser.add_argument("--name", default="blind", help="of the file with the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = kernels(options.levin)
    names = options.kernels.split(",") if options.kernels else list(known)
    prior, rows = load_pixel_prior(BUILT_IN), []
    with torch.no_grad():
        for photo, name, noise in cases_of(options, names):
            row = case(prior, photo, known[name], noise, options)
            rows.append({"photo": photo, "kernel": name, "noise": noise, **row})
            print(" ".join(f"{v:.3g}" if isinstance(v, float) else str(v)
                           for v in rows[-1].values()), flush=True)
            pack.write_results(options.name, {"summary": summary(rows), "cases": rows})
    print(", ".join(rows[0]))
    print("\n".join(f"{k}: {v:.3g}" for k, v in summary(rows).items()))
    print(by_kernel(rows))


if __name__ == "__main__":
    main()
