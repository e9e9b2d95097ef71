"""The region entropy regressor: what every place of a region still gains from sampling on.

AdaDiffSR (ECCV 2024, arXiv 2410.17752) trains a light convolutional network (MMLE) that predicts
the gain in image quality of a step, in place of measuring it. Its layers are not published; this is
one that is small beside the built-in prior. From what a network call has shown of a region,

    x0_hat,   x / sqrt(1 + sigma^2),   z_LR,   8 (x0_hat - previous) / ln(sigma_previous / sigma)

and from the logarithms of the energy of these four and of their finest detail in every block of
8x8, it predicts two maps at an eighth of the region's side: gain per unit of log noise level,
against a reference and without one,

    gain = sign(y) scale (exp(|y|) - 1),   y the network's output

Fully convolutional, without normalisation or attention, so nothing depends on the region's size.
Attribute names (`inp`, `enc`, `down`, `energy`, `mid`, `hidden`, `out`, `level`) are the tensor
names of the weight files.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .pixel import FREQUENCIES, Block
from .prior import Prior
from .registry import EMBEDDED, innermost
from .sending import sent
from .weights import UnsupportedWeightsError, blank, digest, digests, load_exactly, read_tensors

BUILT_IN_REGRESSOR = EMBEDDED / "regressor_v2.safetensors"
REDUCTION = 8  # of the maps, along a side
WIDTHS = (16, 32, 64)
SHOWN = 4  # pictures
FAINT = 1e-6  # energy below which nothing is told apart
CHANGE = 8.0  # brings the change of a prediction to about unit size
LARGEST = 8.0  # of |y|, so that a foreign state cannot overflow

_prints: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


class RegressorNetwork(nn.Module):
    """Two maps y at an eighth of the side; widths: channels at a half, a quarter, an eighth.

    channels: of the prior's state. Sides must be multiples of 8.
    """

    def __init__(
        self, channels: int = 3, widths: tuple[int, ...] = WIDTHS, embedding: int = 64
    ) -> None:
        super().__init__()
        self.inp = nn.Conv2d(4 * SHOWN * channels, widths[0], 3, padding=1)
        self.enc = nn.ModuleList(Block(width, embedding) for width in widths)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths)
        )
        self.energy = nn.Conv2d(2 * SHOWN, widths[-1], 1)
        self.mid = Block(widths[-1], embedding)
        self.hidden = nn.Conv2d(widths[-1], widths[-1], 1)
        self.out = nn.Conv2d(widths[-1], 2, 1)
        self.level = nn.Sequential(
            nn.Linear(2 * FREQUENCIES + 2, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )

    def forward(self, seen: Tensor, log_sigma: Tensor, first: Tensor) -> Tensor:
        """seen: (B, 4 channels, h, w); log_sigma, first (1 at a first evaluation): (B,).

        Returns y, (B, 2, h / 8, w / 8).
        """
        emb = F.silu(self.level(_features(log_sigma, first).to(seen.dtype)))
        h = self.enc[0](self.inp(F.pixel_unshuffle(seen, 2)), emb)
        for down, block in zip(self.down, list(self.enc)[1:], strict=True):
            h = block(down(h), emb)
        h = h + self.energy(_energies(seen))
        return self.out(F.silu(self.hidden(self.mid(h, emb))))


def _features(log_sigma: Tensor, first: Tensor) -> Tensor:
    """(B, 34): [sin(c f), cos(c f), c, first], 16 frequencies f from 0.5 to 8."""
    f = torch.linspace(math.log(0.5), math.log(8), FREQUENCIES, device=log_sigma.device).exp()
    angle = log_sigma[:, None] * f
    return torch.cat([angle.sin(), angle.cos(), log_sigma[:, None], first[:, None]], dim=1)


def _energies(seen: Tensor) -> Tensor:
    """ln of the mean square of each picture and of its Laplacian in 8x8 blocks, over 4.

    (B, 4 channels, h, w) -> (B, 8, h / 8, w / 8).
    """
    p = F.pad(seen, (1, 1, 1, 1), mode="replicate")
    around = p[..., :-2, 1:-1] + p[..., 2:, 1:-1] + p[..., 1:-1, :-2] + p[..., 1:-1, 2:]
    both = torch.stack([seen, around / 4 - seen], 1).float().square()
    pooled = F.avg_pool2d(both.flatten(1, 2), REDUCTION).unflatten(1, (2 * SHOWN, -1)).mean(2)
    return ((pooled + FAINT).log() / 4).to(seen.dtype)


@dataclass(frozen=True)
class Trained:
    """What a regressor belongs to, and what its gains are shares of.

    prior: name of the prior it was trained with. prints: `fingerprint` of that prior in every
    number format. sigmas: the base grid of its training, descending. scale: of the two gains, see
    the file's head. spans: what a hard region rises by over that grid, by its own predictions, with
    and without a reference. loss: what the grid's steps lose together, a part of the first.
    metrics: what its gains are gains in.
    """

    prior: str
    prints: tuple[str, ...]
    sigmas: tuple[float, ...]
    scale: tuple[float, float]
    spans: tuple[float, float]
    loss: float
    metrics: str

    @staticmethod
    def read(metadata: dict[str, str], name: str) -> Trained:
        """From a file's metadata. Raises `UnsupportedWeightsError` where something is missing."""
        try:
            said: dict[str, Any] = {k: metadata[k] for k in ("prior", "metrics")}
            for key in ("prints", "sigmas", "scale", "spans"):
                said[key] = tuple(json.loads(metadata[key]))
            return Trained(**said, loss=float(metadata["loss"]))
        except (KeyError, ValueError, TypeError) as error:
            raise UnsupportedWeightsError(
                f"{name} does not say which prior and base grid it was trained for ({error}); "
                "train it again with `python training regions`."
            ) from error


@dataclass(frozen=True, eq=False)
class RegionRegressor:
    """`RegressorNetwork` with what it belongs to. It runs in the dtype of its own weights."""

    network: nn.Module
    trained: Trained
    name: str = "region regressor"

    @property
    def channels(self) -> int:
        """Of the states it sees."""
        return self.network.inp.weight.shape[1] // (4 * SHOWN)  # type: ignore[union-attr, return-value]

    def predict(
        self, x: Tensor, x0_hat: Tensor, previous: Tensor, z_lr: Tensor, sigma: Tensor,
        sigma_previous: Tensor,
    ) -> Tensor:
        """Gain per unit of log noise level of every block of 8x8, (B, 2, h / 8, w / 8) float32.

        x, x0_hat, previous, z_lr: (B, C, h, w), any size: they are continued by their last pixels.
        sigma, sigma_previous: (B,), equal at a first evaluation. Map 0 is the gain against the
        region's own final result, map 1 that without a reference.
        """
        y = self.outputs(x, x0_hat, previous, z_lr, sigma, sigma_previous).float()
        scale = torch.tensor(self.trained.scale)[:, None, None]
        scale = sent(scale, y.device)
        return y.sign() * scale * y.abs().clamp(max=LARGEST).expm1()

    def outputs(
        self, x: Tensor, x0_hat: Tensor, previous: Tensor, z_lr: Tensor, sigma: Tensor,
        sigma_previous: Tensor,
    ) -> Tensor:
        """y, as the network gives it."""
        log_sigma, before = sigma.double().log(), sigma_previous.double().log()
        gone = sent(before - log_sigma, x)[:, None, None, None]
        first = gone == 0
        change = CHANGE * (x0_hat - previous) / torch.where(first, torch.ones_like(gone), gone)
        level = sent(sigma, x)[:, None, None, None]
        seen = torch.cat([x0_hat, x / (1 + level**2).sqrt(), z_lr, change], dim=1)
        height, width = seen.shape[-2:]
        seen = F.pad(seen, (0, -width % REDUCTION, 0, -height % REDUCTION), mode="replicate")
        dtype = next(self.network.parameters()).dtype
        seen = seen.to(dtype, memory_format=torch.channels_last)
        return self.network(seen, sent(log_sigma, x), first.flatten().to(x))

    def check(self, prior: Prior) -> None:
        """Raise `ValueError` for a prior it was not trained with."""
        if fingerprint(prior) not in self.trained.prints:
            raise ValueError(
                f"The regressor {self.name} was trained with {self.trained.prior}, and the prior "
                f"is {prior.spec.name} with other weights; connect that prior, or leave regressor "
                "empty."
            )


def fingerprint(prior: Prior) -> str:
    """SHA-256 of the names, shapes and values of a prior's network; "" where it shows none.

    The codec's network, where there is one, is left out.
    """
    network = getattr(innermost(prior), "network", None)
    if not isinstance(network, nn.Module):
        return ""
    if network not in _prints:
        _prints[network] = digest(network.state_dict())
    return _prints[network]


def fingerprints(prior: Prior) -> tuple[str, ...]:
    """`fingerprint` in float32, bfloat16 and float16; the prior is left as it is."""
    return digests(innermost(prior).network.state_dict())  # type: ignore[attr-defined]


def detect(tensors: dict[str, Tensor]) -> bool:
    """Whether these are the tensors of a `RegressorNetwork`."""
    named = {"inp.weight", "enc.0.a.weight", "mid.a.weight", "hidden.weight", "out.weight"}
    return named <= tensors.keys() and tensors["out.weight"].shape[:1] == (2,)


def load(tensors: dict[str, Tensor], metadata: dict[str, str], name: str) -> RegionRegressor:
    """The regressor of a weight file, in float32; sizes are read from the shapes.

    Raises `UnsupportedWeightsError` when tensors or metadata do not fit.
    """
    levels = 1 + max(int(key.split(".")[1]) for key in tensors if key.startswith("enc."))
    shapes = {key: value.shape for key, value in tensors.items()}
    widths = tuple(shapes.get(f"enc.{i}.a.weight", (1,))[0] for i in range(levels))
    embedding = shapes.get("level.2.weight", (1,))[0]
    seen = shapes["inp.weight"][1] // (4 * SHOWN)
    network = blank(lambda: RegressorNetwork(seen, widths, embedding), name)
    load_exactly(network, {key: value.float() for key, value in tensors.items()}, name)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return RegionRegressor(network.requires_grad_(False).eval(), Trained.read(metadata, name), name)


def load_region_regressor(path: str | Path) -> RegionRegressor:
    """The regressor in a weight file, on the CPU, in evaluation mode.

    Raises `FileNotFoundError`, or `UnsupportedWeightsError` when the file is broken or another's.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path)
    if not detect(tensors):
        some = ", ".join(list(tensors)[:3])
        raise UnsupportedWeightsError(
            f"{path.name} has {len(tensors)} tensors ({some}, ...) and is no region regressor; "
            "choose one that `python training regions` has made."
        )
    return load(tensors, metadata, path.name)


def empty(prior: Prior, widths: tuple[int, ...] = WIDTHS) -> Any:
    """A network for a prior's states, to be trained."""
    network = RegressorNetwork(prior.spec.channels, widths)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
