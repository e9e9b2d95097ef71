"""A hole filled with what the picture has elsewhere: patches of it, copied so that they agree.

No network: fur, grass, wood and brick are in the picture already, where a small prior makes them
smooth. The energy is the sum over the patches that touch the hole of the distance to the nearest
known patch (Wexler, Shechtman and Irani, "Space-Time Completion of Video", PAMI 2007). It is made
smaller by turns, from coarse to fine: the nearest patches, then the pixels as the mean of all that
the patches over them say (Newson, Almansa, Fradet, Gousseau and Perez, "Video Inpainting of Complex
Scenes", SIAM J. Imaging Sciences 2014; for pictures, Image Processing On Line 2017).

| paper     | here            | meaning                                                            |
|-----------|-----------------|--------------------------------------------------------------------|
| H, D      | hole, known     | what is filled, and the middles of patches that lie outside of it  |
| u         | pixels          | the picture, and two channels of texture                           |
| T, lambda | textures, TEXTURE | mean size of the gradient in x and y, and how much it counts     |
| W_p, N_p  | patch           | the p x p pixels around a pixel                                    |
| p + phi(p) | source         | the middle of the known patch nearest to W_p                       |
| s_q^p     | weight          | exp(-d^2 / mean d^2) of the patches over a pixel                   |
| L         | pyramid         | levels, each half as large                                         |

Where we depart, and why:
- The coarsest level is the one where the hole is no broader than a patch, so that its patches see
  all that is around it.
- Patches near the rim count more, 1.3^-depth (as Wexler et al. weigh them), so that what is known
  goes inward.
- The seed leaves out a quarter of the known patches on the coarsest level: another one fills the
  hole with something else.
- In the end each pixel is a copy, from the nearest patch over it, which is as sharp as the picture,
  and seams between copies are evened out (`seams`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators.inpainting import fill_hidden
from ..options import Options, option
from .nearest_patches import MOST, Canvas, grown, improved, inner, moved, nearest_of_all
from .scratches import mean_in_bands
from .seams import even
from .votes import copies, vote

TEXTURE = 50.0
PAIRS = 2**24  # patches times known patches, up to which all are compared
LEAST = 64  # known patches without which nothing is filled
KEPT = 0.75  # share of the known patches that the coarsest level has


@dataclass(frozen=True)
class FillOptions(Options):
    """How a hole is filled with patches."""

    patch: int = option(
        7,
        "Side of a patch in pixels, odd. Larger keeps larger parts together, such as bricks; "
        "smaller fits into narrow surroundings.",
        min=3,
        max=21,
        step=2,
    )
    passes: int = option(
        6,
        "How often patches are looked for and put together, at every size of the picture. More "
        "agree better and take longer.",
        min=1,
        max=50,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patch % 2 == 0:
            raise ValueError(
                f"patch is {self.patch}; give an odd number such as {self.patch + 1}, so that a "
                "patch has a middle."
            )


def completed(
    image: Tensor, hole: Tensor, usable: Tensor, options: FillOptions, seed: int,
    tick: Callable[[], None] = lambda: None,
) -> Iterator[tuple[float, Tensor]]:
    """The share of the work that is done, in (0, 1], and the picture so far; the last is the
    result.

    image: (1, 3, H, W) in [-1, 1]; hole: (H, W) bool, with some of it True; usable: (H, W) bool,
    what may be copied. Looked at is only what lies around the hole, see `surroundings`. tick: is
    called before every chunk of work, and may raise to end it.
    Raises `ValueError` where fewer than `LEAST` known patches are left.
    """
    window = (..., *surroundings(hole, usable, options.patch))
    part, inside = image[window], hole[window]
    levels = pyramid(part, inside, usable[window], options.patch, tick)
    generator, canvas, shown = torch.Generator().manual_seed(seed % 2**64), None, image.clone()
    for level, finer in reversed(list(enumerate(levels))):
        if canvas is None:
            source = first_guess(finer, generator)
        else:
            source = enlarged(canvas, source, finer, generator)
            vote(finer, source, torch.ones(len(source), device=image.device))
        canvas, turns = finer, options.passes if level else -(-options.passes // 2)
        for k in range(turns):
            source, best = searched(canvas, source, generator, first=k == 0)
            vote(canvas, source, best)
            share = 0.25**level * (0.25 + 0.7 * (k + 1) / turns)
            if level == 0:
                shown[window] = canvas.pixels[..., :3].movedim(-1, 0)
            yield share, shown
    result = image.clone()
    result[window] = even(part, inside, copies(canvas, source, best), tick)
    yield 1.0, result


def surroundings(hole: Tensor, usable: Tensor, patch: int) -> tuple[slice, slice]:
    """Rows and columns of the hole, and as much around it as it is long, at least 16 patches; more
    where that has too few patches to copy."""
    rows, columns = (hole.any(axis).nonzero()[:, 0] for axis in (1, 0))
    ends = [(int(at[0]), int(at[-1]) + 1) for at in (rows, columns)]
    margin = max(16 * patch, *(last - first for first, last in ends))
    while True:
        at = tuple(slice(max(0, first - margin), last + margin) for first, last in ends)
        if middles(hole[at], ~usable[at], patch).sum() >= LEAST or margin >= max(hole.shape):
            return at[0], at[1]
        margin *= 2


def pyramid(
    image: Tensor, hole: Tensor, usable: Tensor, patch: int, tick: Callable[[], None] = lambda: None
) -> list[Canvas]:
    """Canvases of half the size each, down to where no patch lies wholly inside of the hole.

    Raises `ValueError` where fewer than `LEAST` patches can be copied.
    """
    masks = [(hole, ~usable)]
    while holds_a_patch(masks[-1][0], patch) and min(masks[-1][0].shape) >= 4 * patch:
        smaller = half(masks[-1][0]), half(masks[-1][1])
        if int(middles(*smaller, patch).sum()) < LEAST:
            break
        masks.append(smaller)
    if (left := int(middles(hole, ~usable, patch).sum())) < LEAST:
        who, less = (("mask leaves", "give") if usable.all() else
                     ("mask and what is not to be copied leave", "let more be copied, or give"))
        raise ValueError(
            f"The {who} {left} patches of {patch}x{patch} pixels to copy from, and {LEAST} "
            f"are needed; {less} a smaller mask, a smaller patch or a larger picture."
        )
    side, found = 2 ** max(1, len(masks) - 1) + 1, []
    x = torch.cat([image, textures(image, hole, side, tick)], 1)
    for at, barred in masks:
        if found:
            x = reduced(x, found[-1].hole)
        pixels = x[0].movedim(0, -1).contiguous()
        found.append(Canvas(pixels, at, middles(at, barred, patch), patch, tick))
    return found


def holds_a_patch(hole: Tensor, patch: int) -> bool:
    """Whether a whole patch lies inside of the hole."""
    return bool((~grown(~hole, patch // 2) & inner(hole, patch // 2)).any())


def half(where: Tensor) -> Tensor:
    """(H, W) bool of half the size: True where any of the four was."""
    return F.max_pool2d(where[None, None].float(), 2, ceil_mode=True)[0, 0] > 0


def middles(hole: Tensor, barred: Tensor, patch: int) -> Tensor:
    """(H, W) bool: middles of the patches that have nothing of either."""
    return ~grown(hole | barred, patch // 2) & inner(hole, patch // 2)


def reduced(x: Tensor, hole: Tensor) -> Tensor:
    """(1, C, H, W) of half the size: means of what is seen."""
    seen = (~hole).to(x)[None, None]
    mass, total = (F.avg_pool2d(v, 2, ceil_mode=True) for v in (seen, seen * x))
    return total / mass.clamp_min(0.1)


def textures(image: Tensor, hole: Tensor, side: int, tick: Callable[[], None]) -> Tensor:
    """(1, 2, H, W): the mean size of the differences to the right and below in a square window,
    of those between pixels that are seen, times the root of lambda."""
    grey, seen = image.mean(1, keepdim=True), (~hole).to(image)[None, None]
    found = []
    for step in ((0, 1), (1, 0)):
        pad = (0, step[1], 0, step[0])
        beside = F.pad(grey, pad, mode="replicate")[..., step[0] :, step[1] :]
        both = seen * F.pad(seen, pad)[..., step[0] :, step[1] :]
        sums = [mean_in_bands(v, side, tick) for v in (both * (grey - beside).abs(), both)]
        found.append(sums[0] / sums[1].clamp_min(1e-6))
    return TEXTURE**0.5 * torch.cat(found, 1)


def first_guess(canvas: Canvas, generator: torch.Generator) -> Tensor:
    """The hole filled from its rim inwards, and the patches nearest to that, (N,).

    Where that would be too many comparisons: filled smoothly, and any patches.
    """
    known = canvas.known.flatten().nonzero()[:, 0]
    if len(canvas.centres) * min(len(known), MOST) > PAIRS:
        seen = (~canvas.hole).to(canvas.pixels)[None, None]
        smooth = fill_hidden(canvas.pixels.movedim(-1, 0)[None] * seen, seen)
        canvas.pixels.copy_(smooth[0].movedim(0, -1))
        return drawn(known, len(canvas.centres), generator)
    kept = torch.rand(len(known), generator=generator) < KEPT
    known = known[kept.to(known.device)]
    height, r, missing = len(canvas.hole), canvas.patch // 2, canvas.hole.clone()
    while missing.any():
        ring = missing & grown(~missing, 1)
        y, x = ring.nonzero().unbind(1)
        at = y.clamp(r, height - 1 - r) * canvas.width + x.clamp(r, canvas.width - 1 - r)
        seen = (~missing[..., None]).to(canvas.pixels).expand_as(canvas.pixels).contiguous()
        source = nearest_of_all(canvas, at, known, seen)
        here = y * canvas.width + x
        canvas.flat[here] = canvas.flat[source + here - at]
        missing &= ~ring
    return nearest_of_all(canvas, canvas.centres, known)


def drawn(known: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(count,) of the known ones, by chance."""
    return known[torch.randint(len(known), (count,), generator=generator).to(known.device)]


def enlarged(small: Canvas, source: Tensor, large: Canvas, generator: torch.Generator) -> Tensor:
    """(N,): for the centres of the next finer level, twice as far as the coarser ones beside them
    were copied from; any known patch where that is none."""
    y, x = large.centres // large.width, large.centres % large.width
    r, height = small.patch // 2, len(small.hole)
    v, u = (y // 2).clamp(r, height - 1 - r), (x // 2).clamp(r, small.width - 1 - r)
    from_ = source[small.row_of[v * small.width + u]]
    down, right = 2 * (from_ // small.width - v), 2 * (from_ % small.width - u)
    found = moved(large, large.centres, down, right)
    others = drawn(large.known.flatten().nonzero()[:, 0], len(found), generator)
    return torch.where(large.known.flatten()[found], found, others)


def searched(
    canvas: Canvas, source: Tensor, generator: torch.Generator, first: bool
) -> tuple[Tensor, Tensor]:
    """Nearer known patches, and how far they are, (N,) each; the nearest where they are few."""
    known = canvas.known.flatten().nonzero()[:, 0]
    if len(source) * min(len(known), MOST) <= PAIRS:
        source = nearest_of_all(canvas, canvas.centres, known)
        return source, canvas.distance(canvas.centres, source)
    for furthest in (max(canvas.hole.shape) if first else 64, 16):
        source, best = improved(canvas, source, furthest, generator)
    return source, best
