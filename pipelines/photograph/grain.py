"""A filled place gets the grain of what lies around it.

What a prior fills in is smooth, and shows as a patch in a grainy picture. Grain is measured in the
reference within a band around the mask, and drawn anew inside: a random phase texture (Galerne,
Gousseau and Morel, "Random Phase Textures: Theory and Synthesis", IEEE TIP 2011) of the same
standard deviation in each of the two fine bands of `bands.bands`, and of the same covariance of
the colour channels in each. Only what the filled place lacks of it is added.

|              | meaning                                                                    |
|--------------|----------------------------------------------------------------------------|
| C_k          | covariance of R, G and B in band k of the reference around the mask        |
| D_k          | the same of the filled picture inside the mask                             |
| result       | filled + sum_k B_k (C_k - D_k)_+^(1/2) n inside, the reference outside     |

Edges are no grain: what is read is the fifth of the pixels around which the next coarser band is
flattest. Grain of one band says nothing of the other, so that the choice does not bias it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..noise import Noise
from .bands import BANDS, bands, gains

RING = 32  # pixels around the mask in which grain is measured
WINDOW = 9  # side in which flatness is measured
COARSER = 2.0  # the most that grain is stronger in one band than in the finer; outlines are more
FLAT = 0.2  # share of the pixels that is read
LEAST = 64  # pixels from which grain can be told


def with_grain(filled: Tensor, reference: Tensor, mask: Tensor, noise: Noise) -> Tensor:
    """The filled pictures with grain inside the mask and the reference outside of it.

    filled, reference: (B, 3, H, W) in [-1, 1]; mask: (B, 1, H, W), 1 inside; noise: of B samples.
    A mask between 0 and 1 blends the two.
    """
    inside = mask > 0
    ring = (F.max_pool2d(mask, 2 * RING + 1, 1, RING) > 0) & ~inside
    white = bands(noise(filled))
    around, own = bands(reference), bands(filled)
    grain = torch.zeros_like(filled)
    for b in range(len(filled)):
        most = torch.inf
        for k in range(BANDS - 2):
            wanted = covariance(around[k][b], around[k + 1][b], ring[b, 0])
            there = covariance(own[k][b], own[k + 1][b], inside[b, 0])
            if wanted is None or there is None:
                continue
            power = float(wanted.trace()) / gains()[k] ** 2
            wanted = wanted * min(1.0, most / max(power, 1e-12))
            most = COARSER**2 * min(power, most)
            share = root(wanted - there) / gains()[k]
            grain[b] += torch.einsum("ij,jhw->ihw", share, white[k][b])
    return torch.where(inside, torch.lerp(reference, filled + grain, mask), reference)


def covariance(band: Tensor, coarser: Tensor, where: Tensor) -> Tensor | None:
    """(3, 3): the covariance of a band, (3, H, W), over the pixels where the coarser one is flat.

    None where there are too few of them.
    """
    if int(where.sum()) < LEAST:
        return None
    power = coarser.square().sum(0, keepdim=True)
    local = F.avg_pool2d(power[None], WINDOW, 1, WINDOW // 2, count_include_pad=False)[0, 0]
    chosen = local[where]
    bound = chosen.kthvalue(max(1, int(FLAT * len(chosen)))).values
    flat = where & (local <= bound)
    values = band[:, flat]
    return values @ values.mT / values.shape[1]


def root(matrix: Tensor) -> Tensor:
    """The square root of a symmetric matrix without what is negative in it."""
    values, vectors = torch.linalg.eigh(matrix.double())
    return (vectors * values.clamp_min(0).sqrt() @ vectors.mT).to(matrix)
