"""Noise taken out of a photograph by a prior that knows white noise only.

A prior is E[x | x + sigma n] with n white and of one level. Noise of photographs is neither: it
grows with brightness, and JPEG, demosaicing and enlarging leave it coarse. What it is
was measured (`noise_curve.NoiseModel`); here it is made what the prior knows:

1. Variance is stabilised: z = f(x) has noise of one level at every brightness.
2. In every band and channel the noise that is missing to the strongest is added:

       z' = z + sum_k B_k sqrt(sigma^2 - s_k^2) n,   sigma = max s_k

   with B_k the bands of `bands.bands` and s_k their levels. z' = f(x) + sigma white noise,
   and D(z', sigma) is an honest estimate from it. White noise lacks nothing, and none is added.
   Told the level alone, the network takes blotches for structure and keeps them.
3. The mean over several draws of n takes back most of what was added; each draw is also turned or
   mirrored in another way, which helps for white noise too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.codec import Identity
from ...models.prior import Prior
from ..level import canvas_size
from ..noise import per_sample_noise
from ..operators.canvas import pad_reflect
from ..opponent import from_opponent
from .bands import bands
from .noise_bands import FLOOR
from .noise_curve import NoiseModel, stabilised, unstabilised

ORIENTATIONS = 8
LEFT = "left as it is"


def denoised(prior: Prior, picture: Tensor, model: NoiseModel, passes: int) -> Tensor:
    """The picture, (3, H, W) in [-1, 1], of any size, without its noise.

    passes: network calls, 1 or more. Noise is drawn from a stream of its own, always the same.
    A clean picture is given back, without a call. Raises `ValueError` for a latent prior.
    """
    if not isinstance(prior.codec, Identity):
        raise ValueError(
            f"{prior.spec.name} is a latent prior, which would repaint the picture through its "
            "codec; connect a pixel prior such as Load Pixel Prior."
        )
    sigma = model.level
    if not sigma:
        return picture
    height, width = picture.shape[-2:]
    z = stabilised(picture[None], model.tilt)
    z = pad_reflect(z, *canvas_size((height, width), prior.spec.multiple_of))
    noise = per_sample_noise([0])
    told = torch.full((1,), sigma, device=z.device)
    total = torch.zeros_like(z)
    for k in range(passes):
        whitened = z if model.white else z + missing(noise(z), model)
        total += turned_back(prior.denoise(turned(whitened, k), told), k)
    clean = unstabilised(total / passes, model.tilt, sigma / model.times)[0, :, :height, :width]
    grey = bool((picture == picture[:1]).all())
    return clean.mean(0, keepdim=True).expand_as(clean) if grey else clean


def report(model: NoiseModel, taken: float = 0.0) -> str:
    """What was found, in words. taken: the level that counts in place of what was found."""
    instead = f"taken as {taken:.3g}" if taken else ""
    if model.drawn:
        return f"letters, strokes or a pattern, no noise that is seen: {instead or LEFT}"
    if model.texture:
        left = instead or f"{LEFT}; give a noise_level"
        return f"dense texture, which noise cannot be told from: {left}"
    if not model.level:
        left = instead or f"nothing to gain, {LEFT}"
        return f"no noise above {FLOOR * 127.5:.1f} of 255: {left}"
    grey, dark, bright = (model.at(x) for x in (0.0, -0.8, 0.8))
    where = f" ({dark:.3f} in dark parts, {bright:.3f} in bright ones)" if model.tilt else ""
    kind = ", blotchy" if model.blotchy else ""
    found = f"noise {grey:.3f}{where}, {grey * 127.5:.1f} of 255{kind}"
    return f"{found}; {instead}" if taken else found


def missing(white: Tensor, model: NoiseModel) -> Tensor:
    """White noise, (1, 3, H, W), filtered to what the picture's own lacks."""
    shares = (model.level**2 - model.levels.square()).clamp_min(0).sqrt().to(white)
    split = bands(white)
    mixed = sum(share[:, None, None] * band for share, band in zip(shares, split, strict=True))
    return from_opponent(mixed)  # white noise is as white in opponent channels as in RGB


def turned(x: Tensor, k: int) -> Tensor:
    """One of eight orientations; the first is x itself."""
    k %= ORIENTATIONS
    return torch.rot90(x.flip(3) if k >= 4 else x, k % 4, (2, 3))


def turned_back(x: Tensor, k: int) -> Tensor:
    """`turned` undone."""
    k %= ORIENTATIONS
    x = torch.rot90(x, -(k % 4), (2, 3))
    return x.flip(3) if k >= 4 else x
