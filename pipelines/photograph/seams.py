"""Copies from many places put together without seams.

Two copies that meet differ a little in brightness, as a sky does from top to bottom. What is copied
is then not the pixels but their differences, and the picture that has them is found by least
squares from the rim (Perez, Gangnet and Blake, "Poisson Image Editing", SIGGRAPH 2003; for copies
from many places, Pritch, Kav-Venaki and Peleg, "Shift-Map Image Editing", ICCV 2009).

| paper     | here        | meaning                                                                |
|-----------|-------------|------------------------------------------------------------------------|
| f         | v           | the pixels of the hole that are looked for                             |
| f*        | image       | the picture, known outside of the hole                                 |
| v_pq      | difference  | what f(p) - f(q) should be for neighbours p and q                      |
| M(p)      | copied[p]   | the pixel that p is a copy of                                          |

v_pq is the mean of the difference beside M(p) and the one beside M(q), so that a seam has none.
Where they meet by force, an outline on one side and none on the other, that would smear its colour
over the hole: there v_pq stays the difference of the two copies themselves. In between both are
mixed by exp(-(m / APART)^2), m the most by which the two copies disagree about p or q.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

APART = 0.3  # of [-1, 1]
EXACT = 2e-5  # of [-1, 1], root mean square of what is left of the equations
LOOK = 20  # iterations between two looks at that


def even(
    image: Tensor, hole: Tensor, copied: Tensor, tick: Callable[[], None] = lambda: None
) -> Tensor:
    """The picture with its hole filled by copies, without their seams.

    image: (1, 3, H, W) in [-1, 1]; hole: (H, W) bool; copied: (H W,), the number of the known pixel
    that each is a copy of, its own outside of the hole; `tick` is called before every iteration.
    """
    height, width = hole.shape
    known = image[0].flatten(1).mT.contiguous()
    at = hole.flatten().nonzero()[:, 0]
    row_of = torch.full((hole.numel(),), len(at), device=at.device)
    row_of[at] = torch.arange(len(at), device=at.device)
    right_side, degree, beside = torch.zeros_like(known[at]), torch.zeros_like(known[at, :1]), []
    for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        tick()
        y, x = at // width + down, at % width + right
        inside = ((y >= 0) & (y < height) & (x >= 0) & (x < width))[:, None]
        q = torch.where(inside[:, 0], y * width + x, at)
        wanted = difference(known, copied[at], copied[q], down, right, hole)
        fixed = known[q].where(row_of[q, None] == len(at), 0)
        right_side += (wanted + fixed).where(inside, 0)
        degree += inside
        beside.append(row_of[q].where(inside[:, 0], len(at)))
    v = solved(right_side, degree, beside, known[copied[at]], 2 * sum(hole.shape), tick)
    known[at] = v
    return known.mT.reshape(image.shape)


def difference(
    known: Tensor, p: Tensor, q: Tensor, down: int, right: int, hole: Tensor
) -> Tensor:
    """(n, 3): v_pq for pixels copied from p and their neighbours copied from q.

    What would lie in the hole, or beyond the edge, is no neighbour: the other one says it alone,
    and without either v_pq is the difference of the copies.
    """
    beside_p, has_p = shifted(p, down, right, hole)
    beside_q, has_q = shifted(q, -down, -right, hole)
    at_p, at_q, next_p, next_q = (known[k] for k in (p, q, beside_p, beside_q))
    apart = torch.maximum((at_q - next_p).abs() * has_p, (at_p - next_q).abs() * has_q)
    share = torch.exp(-((apart.amax(1, keepdim=True) / APART) ** 2)) / (has_p + has_q).clamp_min(1)
    smooth = has_p * (at_p - next_p) + has_q * (next_q - at_q)
    return share * smooth + (1 - share * (has_p + has_q)) * (at_p - at_q)


def shifted(at: Tensor, down: int, right: int, hole: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel numbers one further, and (n, 1): 1 where that one is seen, else 0."""
    height, width = hole.shape
    y, x = at // width + down, at % width + right
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    found = torch.where(inside, y * width + x, at)
    return found, (inside & ~hole.flatten()[found])[:, None].float()


def solved(
    right_side: Tensor,
    degree: Tensor,
    beside: list[Tensor],
    v: Tensor,
    most: int,
    tick: Callable[[], None],
) -> Tensor:
    """(n, 3): v with degree v - sum of its neighbours = right_side, by conjugate gradients.

    beside: four of (n,), the rows of the neighbours, n for one that is none.
    """

    def applied(x: Tensor) -> Tensor:
        x = torch.cat([x, torch.zeros_like(x[:1])])
        return degree * x[:-1] - sum(x[k] for k in beside)

    r = right_side - applied(v)
    z = r / degree
    d, power = z, (r * z).sum(0)
    for k in range(most):
        tick()
        if k % LOOK == 0 and bool((power < EXACT**2 * len(v)).all()):
            break
        step = applied(d)
        alpha = power / (d * step).sum(0).clamp_min(1e-20)
        v, r = v + alpha * d, r - alpha * step
        z = r / degree
        before, power = power, (r * z).sum(0)
        d = z + power / before.clamp_min(1e-20) * d
    return v
