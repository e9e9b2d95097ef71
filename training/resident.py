"""Pictures that live on the device, and crops of them drawn there in whole batches.

The samples are those of `training/data.py`: a picture reduced by averaging, seen at times from
further away, turned, mirrored and recoloured. Here a batch is drawn at once from a generator of the
device, by tensor operations alone: the host waits for nothing, and a graph can hold them. All
pictures of a batch are reduced by one factor; a mixture of factors is made of several batches.
Averages are made once, to 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .data import ENDINGS, GREY, REDUCTION_ODDS, REDUCTIONS, pictures_below

FACTORS = (1, 2, 4)
SHOWN, SHOWN_SIDE = 12, 256  # pictures of a validation, and their sides
TOTALS = tuple(sorted({f * r for f in FACTORS for r in REDUCTIONS}))  # reductions that are kept
PERMUTED, OTHERWISE = 0.3, 0.5  # shares with other colours; with each of the changes below
SATURATION, CONTRAST, GAMMA = (0.3, 1.2), (0.6, 1.2), (0.7, 1.4)
FADED, FADED_TO = 0.1, (0.15, 0.6)  # share with little contrast about their mean, and how little


class Resident:
    """The pictures of a folder and of its folders as bytes on a device, with their averages.

    drawn: more pictures, (n, h, w, 3) uint8, from which the `share` of all samples comes. Raises
    `ValueError` for a folder without pictures.
    """

    def __init__(
        self, folder: Path, device: torch.device, drawn: np.ndarray | None = None, share: float = 0
    ) -> None:
        files = pictures_below(folder)
        if not files:
            raise ValueError(f"{folder} has no pictures; give a folder with {', '.join(ENDINGS)}.")
        self.folder, self.device, self.share = folder, device, share if drawn is not None else 0.0
        self.sizes: list[tuple[int, int]] = []
        self.folder_count = len(files)
        bytes_of: list[Tensor] = []
        starts: list[list[int]] = []
        total = 0
        for pixels in (*_read(files), *(() if drawn is None else drawn)):
            self.sizes.append((pixels.shape[0], pixels.shape[1]))
            starts.append([])
            for averages in _pyramid(torch.from_numpy(pixels).to(device)):
                starts[-1].append(total)
                bytes_of.append(averages)
                total += len(averages)
        self.pixels = torch.cat(bytes_of)
        self.starts = torch.tensor(starts, device=device)  # (pictures, TOTALS), rows of pixels
        self.heights, self.widths = torch.tensor(self.sizes, device=device).unbind(1)
        self._odds = torch.tensor(REDUCTION_ODDS, device=device).cumsum(0)[:-1]
        self._totals = torch.tensor(TOTALS, device=device)
        self._fitting: dict[tuple[int, int], tuple[Tensor, int]] = {}

    def crops(self, generator: torch.Generator, count: int, side: int, factor: int = 1) -> Tensor:
        """Augmented crops of pictures reduced by factor, (count, 3, side, side) in [-1, 1].

        float32, channels last. generator: of this device; the same state gives the same crops.
        factor: 1, 2 or 4. Raises `ValueError` where no picture is large enough for a crop.
        """
        return augment(self._cut(generator, count, side, factor), generator) * 2 - 1

    def _cut(self, generator: torch.Generator, count: int, side: int, factor: int) -> Tensor:
        """Crops in their own colours, each in one of 8 orientations, (count, 3, side, side)."""
        u = torch.rand(7, count, generator=generator, device=self.device)
        fitting, photographs = self.fitting(side, factor)
        pick = _below(u[0], photographs)
        if (others := len(fitting) - photographs) and self.share:
            pick = torch.where(u[1] < self.share, photographs + _below(u[0], others), pick)
        which = fitting[pick]
        height, width = self.heights[which], self.widths[which]
        most = torch.minimum(height, width) // (side * factor)
        reduction = torch.minimum(1 + torch.bucketize(u[2], self._odds), most)
        total = reduction * factor
        level = torch.bucketize(total, self._totals)  # its place there
        height, width = height // total, width // total
        top, left = _below(u[3], height - side + 1), _below(u[4], width - side + 1)
        down, along = width, torch.ones_like(width)  # steps through the rows of `pixels`
        start = self.starts[which, level] + top * width + left
        for turned, step in ((u[5] < 0.5, down), (u[6] < 0.5, along)):
            start = torch.where(turned, start + (side - 1) * step, start)
        down, along = torch.where(u[5] < 0.5, -down, down), torch.where(u[6] < 0.5, -along, along)
        crossed = torch.rand(count, generator=generator, device=self.device) < 0.5
        down, along = torch.where(crossed, along, down), torch.where(crossed, down, along)
        place = torch.arange(side, device=self.device)
        rows = (start[:, None] + down[:, None] * place)[:, :, None]
        return self.pixels[rows + along[:, None, None] * place].permute(0, 3, 1, 2).float() / 255

    def fitting(self, side: int, factor: int) -> tuple[Tensor, int]:
        """The pictures that hold such a crop, and how many of them, at the front, are the folder's.

        Raises `ValueError` where there is none in the folder.
        """
        if (key := (side, factor)) not in self._fitting:
            held = [i for i, size in enumerate(self.sizes) if min(size) >= side * factor]
            photographs = sum(i < self.folder_count for i in held)
            if not photographs:
                raise ValueError(
                    f"No picture of {self.folder} has {side * factor} pixels a side, which crops "
                    f"of {side} reduced by {factor} need; make the crops smaller."
                )
            self._fitting[key] = torch.tensor(held, device=self.device), photographs
        return self._fitting[key]


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Colours changed within reason, at times to grey. x: (B, 3, h, w) in [0, 1], and so is it.

    Saturation is the distance from a pixel's mean, contrast a factor; some pictures fade to their
    mean colour, as walls and skies are.
    """
    u = torch.rand(10, len(x), 1, 1, 1, generator=generator, device=x.device)
    orders = torch.rand(len(x), 3, generator=generator, device=x.device).argsort(1)
    orders = torch.where(u[0, :, :, 0, 0] < PERMUTED, orders, torch.arange(3, device=x.device))
    last = x.permute(0, 2, 3, 1)  # keeps channels last
    x = last.gather(3, orders[:, None, None].expand_as(last)).permute(0, 3, 1, 2)
    grey = x.mean(1, keepdim=True)
    saturation = torch.where(u[1] < GREY, 0.0, _drawn(u[2], u[3], SATURATION))
    x = (grey + saturation * (x - grey)).clamp(0, 1)
    mean = x.mean((2, 3), keepdim=True)
    fading = torch.where(u[4] < FADED, FADED_TO[0] + (FADED_TO[1] - FADED_TO[0]) * u[5], 1.0)
    x = (mean + fading * (x - mean)) * _drawn(u[6], u[7], CONTRAST)
    return x.clamp(0, 1).pow(_drawn(u[8], u[9], GAMMA))


def _drawn(whether: Tensor, share: Tensor, bounds: tuple[float, float]) -> Tensor:
    """A factor within bounds, or 1 for half of the samples."""
    return torch.where(whether < OTHERWISE, bounds[0] + (bounds[1] - bounds[0]) * share, 1.0)


def _below(share: Tensor, end: Tensor | int) -> Tensor:
    """Whole numbers from 0 to end - 1, of shares in [0, 1)."""
    whole = (share * end).long()
    return whole.clamp(max=end - 1)  # a share of nearly 1 may be rounded up


def some_of(folder: Path) -> list[np.ndarray]:
    """Up to `SHOWN` of a folder's pictures, (H, W, 3) uint8, to validate on."""
    files = pictures_below(folder)
    return _read(files[:: max(1, len(files) // SHOWN)][:SHOWN])


def middles(pictures: Sequence[np.ndarray], side: int, folder: Path) -> Tensor:
    """The middles of those that are large enough, (B, 3, side, side) in [-1, 1].

    Raises `ValueError` where none is, which names the folder.
    """
    found = []
    for pixels in pictures:
        top, left = ((n - side) // 2 for n in pixels.shape[:2])
        if min(top, left) >= 0:
            found.append(pixels[top : top + side, left : left + side])
    if not found:
        raise ValueError(f"{folder} has no picture of {side} pixels a side.")
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _read(files: Sequence[Path]) -> list[np.ndarray]:
    """The pictures, (H, W, 3) uint8."""
    from PIL import Image

    def read(file: Path) -> np.ndarray:
        with Image.open(file) as image:
            return np.array(image.convert("RGB"))

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(read, files))


def _pyramid(pixels: Tensor) -> list[Tensor]:
    """Averages over squares of `TOTALS` pixels, each (rows, 3) uint8; empty where none fits."""
    x = pixels.permute(2, 0, 1).float()
    found = [pixels.reshape(-1, 3)]
    for total in TOTALS[1:]:
        if total > min(pixels.shape[:2]):
            found.append(pixels.new_zeros(0, 3))
            continue
        averages = F.avg_pool2d(x, total).round().byte()
        found.append(averages.permute(1, 2, 0).reshape(-1, 3))
    return found
