"""The small noise predictor for the built-in pixel prior, in InvSR's spirit.

InvSR (Yue et al., CVPR 2025, arXiv 2412.09013) starts a diffusion model from a noise that a network
has predicted from the low-resolution picture, so that one to five steps are enough. This one works
in pixels: for a low-resolution picture y, four times smaller, and a start level sigma,

    z = bicubic(y),   n = mean(y, sigma) + std(y, sigma) eps,   x = z + sigma n

is a state from which the prior arrives at the high-resolution picture. It knows nothing of the
published predictors (`noise_predictor.py`), whose latent space the built-in prior does not have.

Fully convolutional, without normalisation or attention. Attribute names (`inp`, `enc`, `down`,
`mid`, `up`, `dec`, `out`, `level`) are the tensor names of the weight files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .pixel import FREQUENCIES, Block
from .weights import blank, load_exactly

SCALE = 4
LOG_STD: tuple[float, float] = (-6.0, 2.0)  # natural logarithm; kept inside
START_SIGMAS = (0.7, 0.57, 0.45, 0.4, 0.34, 0.25, 0.22, 0.15)
"""Start levels for reports: those between are trained as well. Among them Stable Diffusion's of
timesteps 250, 200, 150, 100 and 50, within 2 %."""


class PixelPredictorNetwork(nn.Module):
    """(y, ln sigma) -> mean and log std of n: a UNet at the low resolution, with additive skips.

    Its last layer gives sigma times the mean, what is added to z: that is nearly the same at every
    start, and the mean is not.

    widths: channels per resolution, the finest first. Sides must be multiples of
    2^(len(widths) - 1).
    """

    def __init__(
        self, widths: tuple[int, ...] = (48, 80, 112), blocks: int = 2, embedding: int = 64
    ) -> None:
        super().__init__()
        inner = widths[:-1]
        self.inp = nn.Conv2d(3, widths[0], 3, padding=1)
        self.enc = nn.ModuleList(_blocks(width, blocks, embedding) for width in inner)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 2, stride=2) for a, b in zip(inner, widths[1:], strict=True)
        )
        self.mid = _blocks(widths[-1], blocks, embedding)
        self.up = nn.ModuleList(
            nn.Conv2d(b, 4 * a, 1) for a, b in zip(inner, widths[1:], strict=True)
        )
        self.dec = nn.ModuleList(_blocks(width, blocks, embedding) for width in inner)
        self.out = nn.Conv2d(widths[0], 2 * 3 * SCALE**2, 3, padding=1)
        self.level = nn.Sequential(
            nn.Linear(2 * FREQUENCIES + 1, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.multiple_of = 2 ** len(inner)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, y: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        """y: (B, 3, h, w), log_sigma: (B,) -> mean and log std, both (B, 3, 4 h, 4 w)."""
        emb = F.silu(self.level(_features(log_sigma).to(y.dtype)))
        h = self.inp(y)
        skips = []
        for blocks, down in zip(self.enc, self.down, strict=True):
            h = _through(blocks, h, emb)
            skips.append(h)
            h = down(h)
        h = _through(self.mid, h, emb)
        for i in reversed(range(len(self.dec))):
            h = _through(self.dec[i], F.pixel_shuffle(self.up[i](h), 2) + skips[i], emb)
        mean, log_std = self.out(h).chunk(2, dim=1)
        low, high = LOG_STD
        log_std = low + (high - low) * torch.sigmoid(F.pixel_shuffle(log_std, SCALE))
        mean = F.pixel_shuffle(mean, SCALE) / log_sigma.exp()[:, None, None, None].to(mean)
        return mean, log_std


def _features(log_sigma: Tensor) -> Tensor:
    """(B, 33): [sin(c f), cos(c f), c], 16 frequencies f from 0.5 to 8."""
    f = torch.linspace(math.log(0.5), math.log(8), FREQUENCIES, device=log_sigma.device).exp()
    angle = log_sigma[:, None] * f
    return torch.cat([angle.sin(), angle.cos(), log_sigma[:, None]], dim=1)


def _blocks(width: int, count: int, embedding: int) -> nn.ModuleList:
    return nn.ModuleList(Block(width, embedding) for _ in range(count))


def _through(blocks: nn.Module, h: Tensor, emb: Tensor) -> Tensor:
    for block in blocks:  # type: ignore[attr-defined]
        h = block(h, emb)
    return h


@dataclass(frozen=True, eq=False)
class PixelPredictor:
    """`PixelPredictorNetwork` as a StartNoise for pixel priors.

    The network runs in the dtype of its own weights; mean and std leave in float32.
    trained_sigmas: the start levels it was trained at, falling, standard deviations in [-1, 1]
    units.
    """

    network: nn.Module
    name: str = "pixel predictor"
    trained_sigmas: tuple[float, ...] = START_SIGMAS
    scale: int = SCALE
    factor: int = 1
    multiple_of: int = 1  # any size: the picture is continued by its last pixels, and cut again

    def predict(self, lr: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the starting noise, both (B, 3, 4 h, 4 w) float32.

        lr: (B, 3, h, w) in [-1, 1], any size. sigma: (B,) start levels, above 0; outside
        `trained_sigmas` the network guesses.
        """
        dtype = next(self.network.parameters()).dtype
        m: int = self.network.multiple_of  # type: ignore[assignment]
        height, width = lr.shape[-2:]
        whole = F.pad(lr, (0, -width % m, 0, -height % m), mode="replicate")
        y = whole.to(dtype, memory_format=torch.channels_last)
        mean, log_std = self.network(y, sigma.to(lr).float().log())
        rows, columns = slice(self.scale * height), slice(self.scale * width)
        return mean[..., rows, columns].float(), log_std[..., rows, columns].float().exp()


def detect(tensors: dict[str, Tensor]) -> bool:
    """Whether these are the tensors of a `PixelPredictorNetwork`."""
    first = tensors.get("inp.weight")
    named = {"out.weight", "level.2.weight", "enc.0.0.a.weight", "mid.0.a.weight"}
    return named <= tensors.keys() and first is not None and first.shape[1:2] == (3,)


def load(tensors: dict[str, Tensor], metadata: dict[str, str], name: str) -> PixelPredictor:
    """The predictor of a weight file, in float32; sizes are read from the shapes.

    metadata: optional "sigmas", the start levels it was trained at, such as "0.4, 0.25".
    Raises `UnsupportedWeightsError` when the tensors do not fit.
    """
    shapes = {key: value.shape for key, value in tensors.items()}
    inner = 1 + max(int(key.split(".")[1]) for key in tensors if key.startswith("enc."))
    blocks = 1 + max(int(key.split(".")[1]) for key in tensors if key.startswith("mid."))
    keys = [*(f"enc.{i}.0.a.weight" for i in range(inner)), "mid.0.a.weight"]
    widths = tuple(shapes.get(key, (1,))[0] for key in keys)
    embedding = shapes["level.2.weight"][0]
    network = blank(lambda: PixelPredictorNetwork(widths, blocks, embedding), name)
    load_exactly(network, {key: value.float() for key, value in tensors.items()}, name)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sigmas = tuple(float(part) for part in metadata.get("sigmas", "").split(",") if part.strip())
    return PixelPredictor(network, name, sigmas or START_SIGMAS)
