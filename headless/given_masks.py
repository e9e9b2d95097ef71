"""Mask files that a job is given: which there are, and what in them is the selection."""

import argparse
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


def selections(masks: dict[str, Path], node: str, picture: "Tensor") -> dict[str, list[list]]:
    """The outputs of a node, if it is one that loads a mask: `selected`."""
    return {node: [[selected(masks[node], picture)]]} if node in masks else {}


def selected(path: Path, picture: "Tensor") -> "Tensor":
    """MASK (1, H, W) of 0 and 1: what is white or nearer to white than to black, on transparent
    ground as on black, and what is painted in a colour on black; of the picture itself, IMAGE
    (1, H, W, C), with parts erased, as ComfyUI's mask editor saves it, those parts.

    Raises:
        NodeError: the file is transparent in parts and neither of these, or has white and colours.
    """
    import torch

    from .stock.reading import read_frames

    frame = read_frames(path)[0]
    colours = torch.from_numpy(frame.colours)
    if frame.alpha is None:
        return painted(colours, path)
    alpha = torch.from_numpy(frame.alpha)
    seen = alpha >= 0.5
    shown = colours[seen]
    drawn = len(shown) and bool((shown.amax(0) - shown.amin(0)).max() > ONE_COLOUR)
    if drawn and not bool(seen.all()):
        if colours.shape[:2] == picture.shape[1:3]:
            apart = (colours - picture[0, ..., :3].float().cpu())[seen].abs().mean()
            if apart < ALIKE:
                return (~seen)[None].float()
        between = (shown[:, 0] > GREY[0]) & (shown[:, 0] < GREY[1])
        if between.float().mean() > MOSTLY:
            raise NodeError(f"{path} is transparent in parts, and neither painted white there nor "
                            "the picture with parts erased, so that it does not tell what is "
                            "meant; give a picture that is white on black.")
    return painted(colours * alpha[..., None], path)


def painted(colours: "Tensor", path: Path) -> "Tensor":
    """MASK of what is drawn on black in white or in a colour, from (H, W, C) in [0, 1].

    Raises:
        NodeError: there are both, so that the colour may stand on the white or the white on it.
    """
    low, high = colours.amin(-1), colours.amax(-1)
    white, coloured = low >= 0.5, high - low > TINT
    if min(float(part.float().mean()) for part in (white, coloured)) > SPECK:
        raise NodeError(f"{path} has parts in white and parts in colour, so that it does not tell "
                        "which are meant; give a picture that is white on black.")
    return (white | coloured & (high >= 0.5))[None].float()
