"""What speaks against a kernel before anything is restored by it.

Where all edges of a picture run one way, the blur along them is not seen, and a search fills the
kernel with whatever lies there. Two signs of it, both free:

- **edges**: the gradients' energy in the direction that has least of it, above the noise's. At half
  the size, where a blurred picture still has its energy and white noise a quarter of its own.
- **room**: a kernel that reaches through nearly all of its square has wandered there, or does not
  fit into it.

Where a shape was asked for there is a third:

- **kind**: the picture's gradients lead from the shape to a kernel that the spectrum finds
  likelier. A shape of the right kind and size has too few numbers to be wrong by much: whatever
  fits the gradients better fits their noise, and the spectrum says so.

| here     | meaning                                                                         |
|----------|---------------------------------------------------------------------------------|
| y        | blurred picture, (1, 3, H, W) in [-1, 1]                                        |
| seen     | 1 where nothing clipped reaches, (1, 1, H, W)                                   |
| S        | structure tensor, the mean of g g^T over the gradients g that are seen, less the |
|          | noise's variance                                                                |

`LIKELIER` was chosen on four photographs: 59 right shapes gain -.42 to +.07, four whose size JPEG
had hidden +.07 to +.15; of wrong kinds, lines and paths taken for others gain +.13 to +.93 (one
path that is nearly a line: -.02), and discs and Gaussians taken for each other, which are much
alike, .00 to +.21.

On 109 drawn cases of `benchmarks/blind.py` these doubt 4 of the 12 kernels that were trusted and
made the picture worse, and none of the 74 others that were.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .halves import AGAIN
from .kernel_estimation import Level, annealed
from .kernel_update import LUMINANCE_NOISE, gradients, luminance
from .spectrum import spectrum_of

EDGES = 4.0  # least energy over noise; wrong kernels had up to 2.1, right ones from 6 on
ROOM = 0.75  # of the square's side
LIKELIER = 0.1  # of the logarithm of a frequency's likelihood
FAINT = 0.03  # of the largest value, below which a kernel's reach is not counted


def doubts(level: Level, kernel: Tensor, noise_level: float) -> list[str]:
    """Why the kernel of the finest level may be wrong, a sentence each."""
    found = []
    if edges(level.y, level.seen, noise_level) < EDGES:
        found.append("the edges run in one direction or drown in noise, so that the blur along "
                     "them is not seen")
    side = kernel.shape[-1]
    if max(reach(kernel)) > ROOM * side:
        found.append("the kernel fills its square of kernel_size")
    return found


def another_kind(
    level: Level, kernel: Tensor, noise_level: float, kind: str, tick: Callable[[], None]
) -> list[str]:
    """Why the shape that was found may be the wrong one, a sentence or none; of 'any', which has
    no shape, none. `tick` is called after each of `AGAIN`'s rounds."""
    if kind == "any":
        return []
    free = annealed(level.posterior(), kernel, level.variance(noise_level), AGAIN, tick)
    spectrum = spectrum_of(level.y, noise_level)
    if spectrum.likelihood(free) <= spectrum.likelihood(kernel) + LIKELIER:
        return []
    return ["the picture's spectrum speaks for another kernel"]


def edges(y: Tensor, seen: Tensor, noise_level: float) -> float:
    """The smaller eigenvalue of S over the variance of the noise in a gradient."""
    half, there = F.avg_pool2d(luminance(y), 2), -F.max_pool2d(-seen, 2)[..., :-1, :-1]
    g = gradients(half) * there
    variance = 2 * (LUMINANCE_NOISE * noise_level / 2) ** 2
    s = torch.einsum("bihw,bjhw->ij", g, g) / there.sum().clamp(min=1)
    return float(torch.linalg.eigvalsh(s.cpu())[0]) / variance - 1


def reach(kernel: Tensor) -> tuple[int, int]:
    """Its height and width in pixels."""
    rows, columns = ((kernel.amax(d) > FAINT * kernel.max()).nonzero() for d in (1, 0))
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1
