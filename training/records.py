"""What regions go through under a prior, kept to train the region entropy regressor on.

Every crop is degraded, enlarged and cut into tiles, which are sampled at every node of a base grid
as in a run: what is injected and where a tile ends belong to what regions go through. Kept are all
states, the predictions, and their quality block by block: against the tile's own final prediction,
and without a reference (`adadiffsr.quality_maps`). No high-resolution truth is needed for that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ..models.prior import Prior
from ..pipelines.adadiffsr import quality_maps
from ..pipelines.adadiffsr.calibration import EVERY_STEP
from ..pipelines.adadiffsr.information_gain import BLOCK, Evaluation, Gain, Spans, upper
from ..pipelines.adadiffsr.injection import Injection
from ..pipelines.adadiffsr.regions import RegionOptions, Task
from ..pipelines.adadiffsr.sampler import RegionRun
from ..pipelines.degradation.real_world import RealWorldDegradation, degrade
from ..pipelines.invsr.sampler import bicubic
from ..pipelines.noise import per_sample_noise
from ..pipelines.tiling import TileGrid
from .data import stream
from .no_reference import Quality, quality_of

SCALE = 4
STRENGTHS = ("none", "mild", "StableSR", "InvSR")
STRENGTH_ODDS = (0.4, 0.3, 0.15, 0.15)
TOGETHER = 2  # crops sampled in one call
LONGEST = 4  # base steps between two evaluations
FIRST = 0.05  # how often a sample is a region's first evaluation
LATENT = quality_of("latent", torch.device("cpu"))


@dataclass(frozen=True, eq=False)
class Records:
    """K tiles at N nodes. states: (K, N, 2, C, h, w) half, x and x0_hat. z_lr: (K, C, h, w) half.

    quality: (K, N, 2, rows, columns) float32, R^F and R^N of x0_hat. sigmas: (N,) float64.
    """

    states: Tensor
    z_lr: Tensor
    quality: Tensor
    sigmas: Tensor

    @property
    def steps(self) -> Tensor:
        """ln(sigma_i / sigma_(i+1)), (N - 1,)."""
        return self.sigmas.log().diff().neg()

    @property
    def rises(self) -> Tensor:
        """Forward gain of every block per unit of log noise level, (K, N - 1, 2, rows, columns)."""
        return self.quality.diff(dim=1) / self.steps[:, None, None, None].float()

    def seen(self, k: int, node: int, back: int) -> dict[str, Tensor]:
        """What an evaluation at `node` shows of tile k, `back` base steps after the last."""
        x, x0_hat = self.states[k, node].float()
        return {
            "x": x,
            "x0_hat": x0_hat,
            "previous": self.states[k, node - back, 1].float(),
            "z_lr": self.z_lr[k].float(),
            "sigma": self.sigmas[node],
            "sigma_previous": self.sigmas[node - back],
        }

    def evaluation(self, node: int) -> Evaluation:
        """All tiles at a node after the one before, as a sampler shows them."""
        rows = [self.seen(k, node, min(node, 1)) for k in range(len(self.states))]
        last = len(self.sigmas) - 1
        following = self.sigmas[min(node + 1, last)].expand(len(rows))
        steps = torch.full((len(rows),), float(min(node, 1)), dtype=torch.float64)
        tensors = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
        return Evaluation(**tensors, sigma_next=following, steps=steps)


@dataclass(frozen=True, eq=False)
class Samples(Dataset):
    """Sample i: an evaluation of a tile at some node some steps after the last, one of 8
    orientations, with the `rises` that follow as `target` and whether g^N counts as `late`."""

    records: Records
    half: float
    seed: int
    length: int
    rises: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rises", self.records.rises)

    def __len__(self) -> int:
        """Samples."""
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample `index`."""
        rng, records = stream(self.seed, index, 2), self.records
        k = int(rng.integers(len(records.states)))
        node = int(rng.integers(len(records.sigmas) - 1))
        back = min(node, int(rng.integers(1, LONGEST + 1))) if rng.random() > FIRST else 0
        seen = {**records.seen(k, node, back), "target": self.rises[k, node]}
        turns, flip = int(rng.integers(4)), rng.random() < 0.5
        for key, value in seen.items():
            if value.ndim == 3:
                turned = torch.rot90(value, turns, (1, 2))
                seen[key] = (turned.flip(2) if flip else turned).contiguous()
        return {**seen, "late": (records.sigmas[node] <= self.half).float()}


@dataclass(eq=False)
class Notes:
    """An `InformationGain` that gains nothing and keeps what was seen."""

    states: list[Tensor] = field(default_factory=list)

    def __call__(self, seen: Evaluation) -> Gain:
        """Keep x and x0_hat."""
        self.states.append(torch.stack([seen.x, seen.x0_hat], 1))
        nothing = torch.zeros(len(seen.sigma), dtype=torch.float64)
        return Gain(nothing, nothing)


def enlarged(picture: Tensor, seed: int, index: int) -> Tensor:
    """What a sampler gets to see of crop `index`, (3, H, W) -> the same, sides a multiple of 4."""
    rng = stream(seed, index, 3)
    strength = str(rng.choice(STRENGTHS, p=STRENGTH_ODDS))
    if strength == "none":
        low = F.interpolate(picture[None], scale_factor=1 / SCALE, mode="bicubic", antialias=True)
    else:
        options = RealWorldDegradation(strength, SCALE)
        low = degrade(picture[None], options, [int(rng.integers(2**62))])
    return bicubic(low, SCALE)[0]


def sampled(
    prior: Prior, z_lr: Tensor, grid: TileGrid, sigmas: Tensor, seeds: Sequence[int],
    options: RegionOptions, injection: Injection | None,
) -> Tensor:
    """x and x0_hat of pictures' tiles at every node, (K, N, 2, C, h, w) float32 on the CPU.

    z_lr: (B, C, H, W), the enlarged pictures, on the device of the prior.
    """
    tiles, notes = grid.cut(z_lr), Notes()
    noise = grid.cut(per_sample_noise(seeds)(z_lr))
    task = Task(grid, tiles, noise, sigmas, float("inf"))
    nothing = Spans(1.0, 1.0, 1.0, tuple(sigmas.tolist()))
    run = RegionRun(
        lambda x, sigma, _: prior.denoise(x, sigma), task, EVERY_STEP, notes, nothing, options,
        injection, len(tiles),
    )
    for call in run:  # the least advanced first: every call is all tiles at one node
        assert [k for k, *_ in call.evaluated] == list(range(len(tiles)))
    return torch.stack(notes.states, 1).cpu()


def qualities(prior: Prior, predictions: Tensor, none: Quality = LATENT) -> Tensor:
    """R^F and R^N of tiles' predictions, (K, N, C, h, w) -> (K, N, 2, rows, columns)."""
    found = []
    for own in predictions:
        pixels = prior.codec.decode(own)
        reference = pixels[-1:].clamp(-1, 1).expand_as(pixels)
        full = quality_maps.full_reference(pixels, reference, BLOCK * prior.codec.factor)
        found.append(torch.stack([full, none(own, pixels).to(full)], 1))
    return torch.stack(found)


def collected(
    prior: Prior, pictures: Dataset, seed: int, tile: int, sigmas: Tensor, options: RegionOptions,
    injection: Injection | None, device: torch.device, none: Quality = LATENT,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(states, z_lr, quality) of `Records`, a few crops at a time."""
    count, codec = len(pictures), prior.codec  # type: ignore[arg-type]
    for start in range(0, count, TOGETHER):
        places = range(start, min(start + TOGETHER, count))
        seen = torch.stack([enlarged(pictures[i], seed, i) for i in places]).to(device)
        z_lr = codec.encode(seen)
        grid = TileGrid(z_lr.shape[-2], z_lr.shape[-1], tile // codec.factor, 0)
        seeds = [int(stream(seed, i, 4).integers(2**62)) for i in places]
        states = sampled(prior, z_lr, grid, sigmas, seeds, options, injection)
        quality = qualities(prior, states[:, :, 1].to(device), none).cpu()
        yield states.half(), grid.cut(z_lr).cpu().half(), quality.float()


def record(
    file: Path, prior: Prior, pictures: Dataset, seed: int, tile: int, sigmas: Tensor,
    options: RegionOptions, injection: Injection | None, device: torch.device,
    none: Quality = LATENT,
) -> Records:
    """The records of a data set, from the file where it is there. It appears whole or not at all.
    """
    from safetensors.torch import load_file, save_file
    from tqdm import tqdm

    if not file.is_file():
        count = -(-len(pictures) // TOGETHER)  # type: ignore[arg-type]
        with torch.inference_mode():
            parts = collected(
                prior, pictures, seed, tile, sigmas, options, injection, device, none
            )
            tensors = zip(*tqdm(parts, desc="sampling tiles", total=count), strict=True)
            states, z_lr, quality = (torch.cat(part) for part in tensors)
        part = file.with_suffix(f".part-{os.getpid()}")
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"states": states, "z_lr": z_lr, "quality": quality}, str(part))
        part.replace(file)
    return Records(**load_file(str(file)), sigmas=sigmas)


def true_gains(records: Records) -> Tensor:
    """Forward gains of every tile per base step, (K, N - 1, 2) float64: the 97th percentile of
    those of its blocks."""
    rises = records.rises
    pooled = upper(rises.flatten(0, 2).flatten(1)).reshape(rises.shape[:3])
    return pooled * records.steps[:, None]


def hard(gains: Tensor) -> tuple[float, float]:
    """What a hard region rises by with gains (K, N - 1, 2), its 90th percentile over tiles: on the
    whole way against its last prediction, and up to its best node without a reference."""
    ways = gains.cumsum(1)
    full, none = ways[:, -1, 0], ways[..., 1].max(1).values
    return torch.quantile(full, 0.9).item(), torch.quantile(none, 0.9).item()


def ranks(values: Tensor) -> Tensor:
    """Places in ascending order, equal values sharing their mean place, (n,) float64."""
    _, groups, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    return (ends - (counts.double() - 1) / 2)[groups]


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's, of two (n,) tensors."""
    return float(np.corrcoef(ranks(a).numpy(), ranks(b).numpy())[0, 1])
