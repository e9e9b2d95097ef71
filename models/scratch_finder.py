"""The small network that tells where a photograph is scratched.

Fully convolutional, without normalisation or attention, so nothing depends on the picture's size: a
UNet of four resolutions with additive skips that sees about 100 pixels around each. Attribute names
(`inp`, `enc`, `down`, `up`, `dec`, `out`, and `a`, `b` of a block) are the tensor names of the
weight file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from .weights import UnsupportedWeightsError, blank, load_exactly, read_tensors

BUILT_IN = Path(__file__).parent / "embedded" / "scratches_v2.safetensors"
WIDTHS = (8, 24, 40, 48)


class ConvBlock(nn.Module):
    """x + b(SiLU(a(SiLU(x))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(width, width, 3, padding=1)
        self.b = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, width, h, w)."""
        return x + self.b(F.silu(self.a(F.silu(x))))


class ScratchNetwork(nn.Module):
    """(B, 3, h, w) in [-1, 1] -> logits of bright and of dark scratches, (B, 2, h, w).

    widths: channels per resolution, the finest first; sides must be multiples of
    2^(len(widths) - 1).
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.inp = nn.Conv2d(3, widths[0], 3, padding=1)
        self.enc = nn.ModuleList(ConvBlock(width) for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairs)
        self.dec = nn.ModuleList(ConvBlock(width) for width in widths[:-1])
        self.out = nn.Conv2d(widths[0], 2, 3, padding=1)
        self.multiple_of = 2 ** len(pairs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        h, skips = self.inp(x), []
        for i, block in enumerate(self.enc):
            h = block(h)
            if i < len(self.down):
                skips.append(h)
                h = self.down[i](F.silu(h))
        for i in reversed(range(len(self.dec))):
            h = self.dec[i](F.pixel_shuffle(self.up[i](F.silu(h)), 2) + skips[i])
        return self.out(F.silu(h))


@dataclass(frozen=True, eq=False)
class ScratchFinder:
    """`ScratchNetwork` for pictures of any size."""

    network: nn.Module
    name: str = "scratch finder"

    def likely(self, picture: Tensor) -> Tensor:
        """How likely each pixel is a bright scratch, and a dark one: (B, 2, H, W) in [0, 1].

        picture: (B, 3, H, W) in [-1, 1].
        """
        multiple: int = self.network.multiple_of  # type: ignore[assignment]
        height, width = picture.shape[-2:]
        whole = F.pad(picture, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        return self.network(whole)[..., :height, :width].sigmoid()


def load_scratch_finder(path: Path = BUILT_IN) -> ScratchFinder:
    """The finder in a weight file, on the CPU, in evaluation mode; sizes are read from the shapes.

    Raises `FileNotFoundError`, or `UnsupportedWeightsError` when the file is broken or another's.
    """
    tensors, _ = read_tensors(path)
    shapes = {key: value.shape for key, value in tensors.items()}
    if not {"inp.weight", "enc.0.a.weight", "dec.0.a.weight"} <= tensors.keys():
        raise UnsupportedWeightsError(
            f"{path.name} has {len(tensors)} tensors and is no scratch finder; choose one that "
            "`python training scratches` has made."
        )
    levels = 1 + max(int(key.split(".")[1]) for key in tensors if key.startswith("enc."))
    widths = tuple(shapes.get(f"enc.{i}.a.weight", (1,))[0] for i in range(levels))
    network = blank(lambda: ScratchNetwork(widths), path.name)
    load_exactly(network, {key: value.float() for key, value in tensors.items()}, path.name)
    return ScratchFinder(network.requires_grad_(False).eval(), path.name)


@cache
def built_in() -> ScratchFinder:
    """The one that ships with the pack, read once."""
    return load_scratch_finder()
