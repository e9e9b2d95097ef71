"""How likely a kernel is by the blurred picture's spectrum alone, without a sharp picture.

Natural pictures have spectra that fall as f^-alpha. Blurred by k and noisy, a frequency has

    S(f) = c f^-alpha |K(f)|^2 + s^2,

and the periodogram P(f) of the picture the likelihood of Whittle (1953),

    log p(P | k) = -sum_f (log S(f) + P(f) / S(f)).

That is Levin et al.'s MAP of the kernel alone (CVPR 2009), with a Gaussian prior of pictures: these
are summed over, in closed form. What it sees best are the zeros of a straight line's or a disc's
spectrum, which tell their size (9.0 px at 30 degrees found as 9.0 to 9.4 on three photographs; on a
picture of few edges a line may be taken for a disc of the same width). Of a kernel's phase, such as
which end of a path is the brighter, it knows nothing, so that a kernel of many numbers is for
`kernel_estimation`.

| letter | here   | meaning                                                       |
|--------|--------|---------------------------------------------------------------|
| P      | power  | periodogram of the luminance under a Hann window              |
| K      | |K|^2  | of the kernel, at the same frequencies                        |
| c      | scale  | power of the picture, the most likely for each alpha          |
| s      | noise  | standard deviation of the luminance's noise                   |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from .kernel_kinds import REACH, Shape
from .kernel_update import LUMINANCE_NOISE, luminance

FALLS = (2.0, 2.5, 3.0)  # alpha
BAND = (0.02, 0.45)  # cycles a pixel: below it windows leak, above it demosaicing does
NEWTON = 8  # steps to the most likely c
TURNS = 30  # of the first grid, over half a turn, at most
FINER = (0.5, 0.25, 0.1)  # steps around the best, pixels of size
UNSEEN = tuple(2 ** (i / 2) for i in range(8))  # times the least noise, up to 11 times
ROUGH = 4.0  # times the least noise, by which a shape is found before the noise is known


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The frequencies of one picture that are read.

    power: (n,) float64. falls: (3, n), f^-alpha of `FALLS`. noise: of the luminance. size: (h, w)
    of the picture. read: which of its frequencies are these.
    """

    power: Tensor
    falls: Tensor
    noise: float
    size: tuple[int, int]
    read: Tensor

    def likelihood(self, kernel: Tensor) -> float:
        """log p(P | k) / n, at the best of `FALLS`."""
        k2 = torch.fft.rfft2(kernel.cpu().double(), s=self.size).abs().square()[self.read]
        shape, s2 = k2 * self.falls, self.noise**2
        above = self.power - s2
        c = above.clamp_min(0).sum() / shape.sum(1, keepdim=True)
        for _ in range(NEWTON):  # Fisher's scoring
            weight = shape / (c * shape + s2).square()
            c = (weight @ above)[:, None] / (shape * weight).sum(1, keepdim=True)
            c = c.clamp_min(1e-12)
        expected = c * shape + s2
        return -float((expected.log() + self.power / expected).mean(1).min())


def spectrum_of(y: Tensor, noise_level: float) -> Spectrum:
    """That of a picture, (1, 3, H, W); noise_level: of each of its channels."""
    grey = luminance(y)[0, 0].cpu().double()
    size = (grey.shape[0], grey.shape[1])
    rows, columns = (torch.hann_window(n, periodic=False, dtype=torch.float64) for n in size)
    window = rows[:, None] * columns
    power = torch.fft.rfft2((grey - grey.mean()) * window).abs().square() / window.square().sum()
    across = torch.fft.rfftfreq(size[1], dtype=torch.float64)
    frequency = torch.fft.fftfreq(size[0], dtype=torch.float64)[:, None].hypot(across[None])
    read = (frequency > BAND[0]) & (frequency < BAND[1])
    noise = noise_level * LUMINANCE_NOISE
    falls = torch.stack([frequency[read] ** -fall for fall in FALLS])
    return Spectrum(power[read], falls, noise, size, read)


def likeliest(spectrum: Spectrum, kind: str, side: int) -> tuple[Shape, float]:
    """The shape of this kind, up to (side, side), that the spectrum finds most likely."""
    most = REACH[kind] * side
    step = max(most / 30, 0.5 * REACH[kind])
    sizes = [step * (i + 1) for i in range(int(most / step))]
    turned = kind == "straight motion"
    shapes = [Shape(kind, s, 180 / n * i) for s in sizes for n in [turns(s) if turned else 1]
              for i in range(n)]
    best = likelier(spectrum, shapes, side, most)
    for finer in FINER:
        step, turn = finer * REACH[kind], 60 * finer / max(best[0].size, 1.0)
        around = [-turn, 0.0, turn] if turned else [0.0]
        near = [Shape(kind, best[0].size + i * step, best[0].angle + t)
                for i, t in product((-1, 0, 1), around)]
        best = likelier(spectrum, near, side, most)
    return best


def unseen_noise(y: Tensor, least: float, kinds: Sequence[str], side: int) -> float:
    """The noise level of a picture in whose finest pixels none is seen, (1, 3, H, W): at least
    `least`.

    What rounds the finest away, as JPEG does, errs by more than it leaves to be seen: saved with a
    quality of 95 a picture differs by .012 and has no noise above .004. With so little of it the
    empty frequencies look like a blur's zeros. The likelihood of the most likely shape tells it.
    """
    rough = spectrum_of(y, ROUGH * least)
    shape, _ = max((likeliest(rough, kind, side) for kind in kinds), key=lambda pair: pair[1])
    kernel = shape.kernel(side)
    times = max(UNSEEN, key=lambda times: replace(
        rough, noise=rough.noise * times / ROUGH).likelihood(kernel))
    return times * least


def turns(length: float) -> int:
    """How many directions of a line are told apart: its ends move by half a pixel."""
    return min(max(round(3 * length), 6), TURNS)


def likelier(
    spectrum: Spectrum, shapes: list[Shape], side: int, most: float
) -> tuple[Shape, float]:
    """The likeliest of these that the square holds."""
    held = [shape for shape in shapes if 0.1 <= shape.size <= most]
    found = [(spectrum.likelihood(shape.kernel(side)), shape) for shape in held]
    score, shape = max(found, key=lambda pair: pair[0])
    return shape, score
