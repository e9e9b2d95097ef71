"""The small convolutional denoiser that ships with the pack.

Fully convolutional, without normalisation or attention, so nothing depends on the picture's size.
EDM preconditioning (Karras et al., 2022, arXiv 2206.00364, section 5):

    x0_hat = c_skip x + c_out F(c_in x, ln(sigma) / 4, level)
    c_skip = sd^2 / (sigma^2 + sd^2)
    c_out = sigma sd / sqrt(sigma^2 + sd^2)
    c_in = 1 / sqrt(sigma^2 + sd^2)

with sd = 0.5. `level` is 0, 1, 2 for pictures at full, half and quarter resolution. Attribute names
(`inp`, `enc`, `down`, `up`, `dec`, `out`, `emb`, and `a`, `b`, `e` of a block) are the tensor names
of the weight files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as modules

from .codec import Codec, Identity
from .prior import ErrorCurve, PriorSpec
from .weights import blank, load_exactly

FREQUENCIES = 16
MAPS = 7  # of the finest, at half resolution, that a call has at once: 392 to 420 bytes a pixel


class Block(nn.Module):
    """x + b(SiLU(a(x) (1 + scale) + shift)), with scale and shift from the embedding."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(width, width, 3, padding=1)
        self.b = nn.Conv2d(width, width, 3, padding=1)
        self.e = nn.Linear(embedding, 2 * width)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x: (B, width, h, w), emb: (B, embedding)."""
        scale, shift = self.e(emb)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(torch.addcmul(shift, self.a(x), 1 + scale))
        return self.b(h).add_(x)  # in place: a fifth of the time goes into reading and writing

    def modulated(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """The same from what `modulations` gives, (B, width, 1, 1) each."""
        h = torch.addcmul(shift, F.conv2d(x, self.a.weight, padding=1), scale)
        return self.b(F.silu(h, inplace=True)).add_(x)

    @property
    def plain(self) -> bool:
        """Whether its layers are torch's own, as they were made, and nobody waits for a call of
        them: what stands in a layer's place (LoRA) may do more than its weights say."""
        a, e = self.a, self.e
        torchs_own = type(a) is nn.Conv2d and type(e) is nn.Linear and a.padding_mode == "zeros"
        return torchs_own and not any(
            layer._forward_hooks
            or layer._forward_pre_hooks
            or {"forward", "_conv_forward"} & vars(layer).keys()
            for layer in (self, a, e)
        )


def modulations(blocks: Sequence[Block], emb: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """1 + scale of every block, and shift plus (1 + scale) times a's bias: six kernels for all of
    them, where a block would launch three, and a convolution one more for its bias."""
    layers = [block.e for block in blocks]
    weight, bias = (
        torch.cat([half for i in (0, 1) for t in of for half in t.chunk(2)[i : i + 1]])
        for of in ([layer.weight for layer in layers], [layer.bias for layer in layers])
    )
    scale, shift = F.linear(emb, weight, bias)[:, :, None, None].chunk(2, dim=1)
    scale, widths = 1 + scale, [len(block.a.bias) for block in blocks]
    own = torch.cat([block.a.bias for block in blocks])[:, None, None]
    shift = torch.addcmul(shift, scale, own)
    return zip(scale.split(widths, 1), shift.split(widths, 1), strict=True)


class PixelNetwork(nn.Module):
    """F: a UNet over pixel_unshuffle(2), with additive skips.

    widths: channels per resolution, the finest first; sides must be multiples of 2^len(widths).
    """

    def __init__(
        self, widths: tuple[int, ...] = (32, 64, 96, 160), blocks: int = 2, embedding: int = 64
    ) -> None:
        super().__init__()
        inner = widths[:-1]
        self.inp = nn.Conv2d(12, widths[0], 3, padding=1)
        self.enc = nn.ModuleList(_blocks(width, blocks, embedding) for width in widths)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 2, stride=2) for a, b in zip(inner, widths[1:], strict=True)
        )
        self.up = nn.ModuleList(
            nn.Conv2d(b, 4 * a, 1) for a, b in zip(inner, widths[1:], strict=True)
        )
        self.dec = nn.ModuleList(_blocks(width, blocks, embedding) for width in inner)
        self.out = nn.Conv2d(widths[0], 12, 3, padding=1)
        self.emb = nn.Sequential(
            nn.Linear(2 * FREQUENCIES + 3, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.multiple_of = 2 ** len(widths)

    def forward(self, x: Tensor, c_noise: Tensor, level: Tensor) -> Tensor:
        """x: (B, 3, h, w); c_noise = ln(sigma) / 4 and level = log2(factor), both (B,)."""
        emb = F.silu(self.emb(self._features(c_noise, level).to(x.dtype)))
        through = self._through(emb)
        h = self.inp(F.pixel_unshuffle(x, 2))
        skips = []
        for i, encoder in enumerate(self.enc):
            for block in encoder:  # type: ignore[union-attr]
                h = through(block, h)
            if i < len(self.down):
                skips.append(h)
                h = self.down[i](h)
        for i in reversed(range(len(self.dec))):
            h = skips[i] + F.pixel_shuffle(self.up[i](h), 2)  # the first says how the sum lies
            for block in self.dec[i]:  # type: ignore[union-attr]
                h = through(block, h)
        return F.pixel_shuffle(self.out(h), 2)

    def _through(self, emb: Tensor) -> Callable[[Block, Tensor], Tensor]:
        """What takes a block and its input to its output. On a card, where a small kernel takes as
        long as a large one, and without a derivative, all blocks' embeddings are made at once."""
        blocks = [block for part in (*self.enc, *self.dec) for block in part]  # type: ignore
        each = emb.device.type == "cpu" or torch.is_grad_enabled()
        if each or modules._has_any_global_hook() or not all(block.plain for block in blocks):
            return lambda block, x: block(x, emb)
        known = dict(zip(blocks, modulations(blocks, emb), strict=True))
        return lambda block, x: block.modulated(x, *known[block])

    @staticmethod
    def _features(c: Tensor, level: Tensor) -> Tensor:
        """(B, 35): [sin(c f), cos(c f), c, level, level^2 / 2], 16 frequencies f from 0.5 to 8."""
        f = torch.linspace(math.log(0.5), math.log(8), FREQUENCIES, device=c.device).exp()
        c, level = c[:, None], level[:, None]
        angle = c * f
        return torch.cat([angle.sin(), angle.cos(), c, level, level**2 / 2], dim=1)


def _blocks(width: int, count: int, embedding: int) -> nn.ModuleList:
    return nn.ModuleList(Block(width, embedding) for _ in range(count))


@dataclass(frozen=True, eq=False)
class PixelPrior:
    """`PixelNetwork` as a Prior.

    The network runs in the dtype of its own weights; states, and the preconditioning, stay float32.
    """

    network: nn.Module
    spec: PriorSpec
    sigma_data: float = 0.5
    codec: Codec = field(default_factory=Identity)

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        """x0_hat, (B, 3, h, w) float32; see `Prior`. h and w: multiples of `spec.multiple_of`."""
        sigma = sigma.to(x)
        return self.denoise_levels(x, sigma, torch.full_like(sigma, math.log2(factor)))

    def denoise_levels(self, x: Tensor, sigma: Tensor, level: Tensor) -> Tensor:
        """`denoise` of pictures of several reductions. sigma, level = log2(factor): (B,), as x."""
        parameter = next(self.network.parameters())
        s, sd = sigma[:, None, None, None], self.sigma_data
        inverse = (s * s + sd**2).rsqrt()
        k = sd * inverse
        together = parameter.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if together else torch.contiguous_format
        x_in = (x * inverse).to(parameter.dtype, memory_format=layout)
        f = self.network(x_in, sigma.log() / 4, level)
        return torch.addcmul(k * k * x, s * k, f.float())


def suit(network: nn.Module, device: torch.device) -> None:
    """Lay weights out as convolutions on the device take them: in float32 on CUDA channel by
    channel, where each convolution would turn its maps round and back again; all others as loaded,
    channels together."""
    if device.type == "cuda" and next(network.parameters()).dtype == torch.float32:
        nn.Module.to(network, memory_format=torch.contiguous_format)


def detect(tensors: dict[str, Tensor]) -> bool:
    """Whether these are the tensors of a `PixelNetwork`."""
    return {"inp.weight", "out.weight", "emb.2.weight", "enc.0.0.a.weight"} <= tensors.keys()


def load(tensors: dict[str, Tensor], metadata: dict[str, str], name: str) -> PixelPrior:
    """The prior of a weight file, in float32; sizes are read from the shapes.

    metadata: optional "sigma_min" and "sigma_max", the noise levels it was trained for, and
    "error_curve" (`ErrorCurve.text`). Raises `UnsupportedWeightsError` when the tensors do not fit,
    `ValueError` for a broken curve.
    """
    levels = 1 + max(int(key.split(".")[1]) for key in tensors if key.startswith("enc."))
    blocks = 1 + max(int(key.split(".")[2]) for key in tensors if key.startswith("enc.0."))
    shapes = {key: value.shape for key, value in tensors.items()}
    widths = tuple(shapes.get(f"enc.{i}.0.a.weight", (1,))[0] for i in range(levels))
    network = blank(lambda: PixelNetwork(widths, blocks, shapes["emb.2.weight"][0]), name)
    load_exactly(network, {key: value.float() for key, value in tensors.items()}, name)
    spec = PriorSpec(
        multiple_of=network.multiple_of,
        sigma_min=float(metadata.get("sigma_min", 0.01)),
        sigma_max=float(metadata.get("sigma_max", 80.0)),
        trained_factors=(1, 2, 4),
        name=name,
        errors=ErrorCurve.read(metadata.get("error_curve")),
        bytes_per_pixel=MAPS * 4 * widths[0] / 4,
    )
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return PixelPrior(network, spec)
