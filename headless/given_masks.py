"""Mask files that a job is given: which there are, and what in them is the selection."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .blueprints import MASK, SPARED, widgets
from .execution import NodeError

if TYPE_CHECKING:
    from torch import Tensor

ALIKE = 2 / 255  # mean difference from the picture, below which a file shows that picture
ONE_COLOUR = 8 / 255  # between the least and the most of a channel, for paint of one colour
TINT, SPECK = 0.25, 0.001  # spread of the channels of a colour; share of the picture that counts
GREY, MOSTLY = (0.1, 0.9), 0.5  # levels of what is no mask, and the share that may have them
BETWEEN = 0.4  # that share where nothing is transparent; photographs have 0.66 and more
MOST = 0.5  # of a picture, that a mask hides without --force
BRIGHT = "white or in a bright colour"


def masks_of(options: argparse.Namespace) -> dict[str, Path]:
    """The mask files that were given, by the nodes that load them."""
    given = {MASK: options.mask, SPARED: options.do_not_copy}
    return {key: path for key, path in given.items() if path}


def check_masks(options: argparse.Namespace) -> None:
    """Raise `WorkflowError` for a mask beside settings of how one is found, or one that cannot be
    written."""
    from .graph import WorkflowError

    if options.job.marks and options.mask:
        given = [f"--{name}" for name in widgets(options.job)
                 if getattr(options, f"at {name}") is not None]
        if given or options.mask_out:
            raise WorkflowError(f"--mask is taken in place of what would be found, so leave "
                                f"{', '.join([*given, *['--mask-out'] * bool(options.mask_out)])} "
                                "out, or --mask.")
    if (path := options.mask_out) is not None:
        if path.suffix.lower() != ".png":
            raise WorkflowError(f"--mask-out {path}: a mask is written as PNG; name a file that "
                                "ends in .png.")
        try:  # now, rather than find out when all is done
            path.touch(exist_ok=False)
            path.unlink()
        except OSError as error:
            why = ("there is a file of that name; choose another name or delete it"
                   if isinstance(error, FileExistsError) else f"there is no folder {path.parent}"
                   if isinstance(error, FileNotFoundError) else error.strerror)
            raise WorkflowError(f"--mask-out {path}: cannot write there: {why}.") from error


def selections(options: argparse.Namespace, node: str, picture: "Tensor") -> dict[str, list[list]]:
    """The outputs of a node, if it is one that loads a mask: `selected`.

    Raises:
        NodeError: the file is no mask, or its mask hides nothing or most of the picture.
    """
    if (path := masks_of(options).get(node)) is None:
        return {}
    mask = selected(path, picture, options.force)
    share, filled = float(mask.mean()), node == MASK
    if not share:
        drawn = _is_drawn(path)
        dark = "; what is painted there is too dark: paint it white" if drawn else ""
        if filled or drawn:
            raise NodeError(f"nothing in {path} is {BRIGHT}, and that is what is "
                            f"{'filled in' if filled else 'not copied'}{dark}.")
        sys.stderr.write(f"nothing in {path} is {BRIGHT}, so that all may be copied.\n")
    if filled and share > MOST and not options.force:
        raise NodeError(f"--mask: {100 * share:.0f} % of {path} is white, and white is what is "
                        "filled in; is it inverted? To fill in as much as that, add --force.")
    return {node: [[mask]]}


def _is_drawn(path: Path) -> bool:
    """Whether a file shows anything, dark as it may be."""
    from .stock.reading import read_frames

    frame = read_frames(path)[0]
    alpha = frame.alpha
    parts = frame.colours if alpha is None else frame.colours * alpha[..., None]
    cut_out = alpha is not None and bool(alpha.min() < 0.5 <= alpha.max())
    return cut_out or bool(parts.max() - parts.min() > ONE_COLOUR)


def selected(path: Path, picture: "Tensor", force: bool = False) -> "Tensor":
    """MASK (1, H, W) of 0 and 1: what is white or nearer to white than to black, on transparent
    ground as on black, and what is painted in a colour on black; of the picture itself, IMAGE
    (1, H, W, C), with parts erased, as ComfyUI's mask editor saves it, those parts.

    Raises:
        NodeError: the file is transparent in parts and neither of these, has white and colours, or
            is no mask but a photograph, unless that is forced.
    """
    import torch

    from .stock.reading import read_frames

    frame = read_frames(path)[0]
    colours = torch.from_numpy(frame.colours)
    if frame.alpha is None:
        return painted(colours, path, force)
    alpha = torch.from_numpy(frame.alpha)
    seen = alpha >= 0.5
    shown = colours[seen]
    drawn = len(shown) and bool((shown.amax(0) - shown.amin(0)).max() > ONE_COLOUR)
    if drawn and not bool(seen.all()):
        if colours.shape[:2] == picture.shape[1:3]:
            apart = (colours - picture[0, ..., :3].float().cpu())[seen].abs().mean()
            if apart < ALIKE:
                return (~seen)[None].float()
        if _between(shown[:, 0]) > MOSTLY:
            raise NodeError(f"{path} is transparent in parts, and neither painted white there nor "
                            "the picture with parts erased, so that it does not tell what is "
                            "meant; give a picture that is white on black.")
    return painted(colours * alpha[..., None], path, force)


def painted(colours: "Tensor", path: Path, force: bool = False) -> "Tensor":
    """MASK of what is drawn on black in white or in a colour, from (H, W, C) in [0, 1].

    Raises:
        NodeError: there are both, so that the colour may stand on the white or the white on it; or
            much is neither black nor as bright as the brightest, and that is not forced.
    """
    low, high = colours.amin(-1), colours.amax(-1)
    greys = _between(high / high.max().clamp(min=0.5))
    if greys > BETWEEN and not force:
        raise NodeError(f"{100 * greys:.0f} % of {path} is between black and white, as in a "
                        "photograph, and a mask has little of that beside soft edges; give a "
                        "picture that is white on black. To take what is nearer to white, add "
                        "--force.")
    white, coloured = low >= 0.5, high - low > TINT
    if min(float(part.float().mean()) for part in (white, coloured)) > SPECK:
        raise NodeError(f"{path} has parts in white and parts in colour, so that it does not tell "
                        "which are meant; give a picture that is white on black.")
    return (white | coloured & (high >= 0.5))[None].float()


def _between(levels: "Tensor") -> float:
    """The share of levels that are those of no mask."""
    return float(((levels > GREY[0]) & (levels < GREY[1])).float().mean())
