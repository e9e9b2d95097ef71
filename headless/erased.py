"""Parts that were erased from a picture, which are to be seen where they are filled in."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def uncovered(picture: "Tensor", mask: "Tensor | None") -> "Tensor":
    """IMAGE with what a mask file had filled in opaque; where the mask is what was erased from the
    picture itself, the soft rim of that, too.

    picture: (B, H, W, C). mask: (1, H, W), 0 or 1.
    """
    if mask is None or picture.shape[-1] < 4:
        return picture
    seen, filled = picture.clone(), (mask > 0).to(picture.device)
    for alpha in seen[..., 3]:
        own = bool(((alpha < 0.5) == filled[0]).all())
        opaque = _reached(filled[0], alpha < 1) if own else filled[0]
        alpha.clamp_(min=opaque.to(alpha))
    return seen


def _reached(start: "Tensor", inside: "Tensor") -> "Tensor":
    """What of a region, bool (H, W), hangs together with a start in it, by rows and columns."""
    now, before = start, ~start
    while bool((now != before).any()):
        before = now
        for dim in (0, 1):
            now = _along(now, inside, dim)
    return now


def _along(start: "Tensor", inside: "Tensor", dim: int) -> "Tensor":
    """Every stretch of a region along an axis in which a start lies, and the start."""
    import torch

    stretch = (~inside).cumsum(dim)  # one number from a pixel outside on to the next
    shape = [side + (axis == dim) for axis, side in enumerate(stretch.shape)]
    begun = torch.zeros(shape, dtype=torch.uint8, device=stretch.device)
    begun.scatter_reduce_(dim, stretch, (start & inside).byte(), "amax")
    return begun.gather(dim, stretch).bool() & inside | start
