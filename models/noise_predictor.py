"""The noise predictor of InvSR on diffusers' layers.

Reference: Yue, Liao and Loy, "Arbitrary-steps Image Super-resolution via Diffusion Inversion",
CVPR 2025 (arXiv 2412.09013). The published files `noise_predictor_sd_turbo_v5.pth` and
`noise_predictor_sd_turbo_v5_diftune.pth` have 164 tensors with 33,837,576 parameters. They carry
the NTU S-Lab License 1.0, which allows non-commercial use only; the code here is our own.

An encoder like that of a latent autoencoder, told the time: at the resolution of the small picture
three pairs of residual block and self-attention, one halving, three pairs again and a middle of
residual block, attention, residual block. Of its eight output channels four are the mean and four
the log-variance of the noise:

    emb = MLP([cos, sin](10000^(-i / d) t)),  i = 0 .. d - 1,  d = 128
    mean, logvar = encoder(lr, emb),  std = exp(clip(logvar, -30, 20) / 2)

All sizes are read from the shapes. The width of a head leaves no trace in them; it is 64 in the
published files. In half precision the weights and activations are halved, not cast call by call as
in the official code; torch's group normalisation and attention sum in float32 all the same.

Memory: the attention sees every pixel of the small picture at once, 262,144 tokens for 512x512.
torch computes it in blocks, exactly, so that memory grows with the tokens and not their square.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from .known_files import PREDICTORS, known_in
from .noise_table import stable_diffusion_sigmas
from .weights import UnsupportedWeightsError, blank, load_exactly

Tensors = dict[str, Tensor]
HEAD = 64  # channels of an attention head
GROUPS, EPS = 32, 1e-6  # of every group normalisation
WRAPPERS = ("module.", "_orig_mod.")  # of distributed training and of torch.compile
PREFIX = "encoder."
TRAINED = (250, 200, 150, 100)  # timesteps of the starts, 1 .. 1000
RESNET = re.compile(r"down_blocks\.(\d+)\.resnets\.(\d+)\.conv1\.weight")
PUBLISHED = " or ".join(known_in(PREDICTORS))


@dataclass(frozen=True)
class Sizes:
    """Widths of the two levels, of the sinusoids and of the time embedding; pairs per level."""

    channels: tuple[int, int] = (256, 512)
    layers: tuple[int, int] = (3, 3)
    sinusoids: int = 256
    embedding: int = 512
    head: int = HEAD


def residual(inside: int, outside: int, embedding: int) -> nn.Module:
    """diffusers' residual block: h + conv(SiLU(GN(conv(SiLU(GN(h))) + Linear(SiLU(emb)))))."""
    from diffusers.models.resnet import ResnetBlock2D

    return ResnetBlock2D(
        in_channels=inside, out_channels=outside, temb_channels=embedding, groups=GROUPS, eps=EPS
    )


def attention(channels: int, head: int) -> nn.Module:
    """diffusers' self-attention over the pixels: h + Linear(SDPA(q, k, v of GN(h)))."""
    from diffusers.models.attention_processor import Attention

    return Attention(
        channels,
        heads=channels // head,
        dim_head=head,
        norm_num_groups=GROUPS,
        eps=EPS,
        bias=True,
        residual_connection=True,
    )


class Level(nn.Module):
    """Pairs of residual block and attention, then a halving where `halves`."""

    def __init__(self, inside: int, outside: int, layers: int, sizes: Sizes, halves: bool) -> None:
        from diffusers.models.downsampling import Downsample2D

        super().__init__()
        widths = [inside] + [outside] * (layers - 1)
        self.resnets = nn.ModuleList(residual(w, outside, sizes.embedding) for w in widths)
        self.attentions = nn.ModuleList(attention(outside, sizes.head) for _ in widths)
        self.downsamplers = nn.ModuleList()
        if halves:  # one zero to the right and below, stride 2
            self.downsamplers.append(Downsample2D(outside, use_conv=True, padding=0, name="op"))

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        """(B, inside, h, w), (B, embedding) -> (B, outside, h / 2 or h, w / 2 or w)."""
        for resnet, attend in zip(self.resnets, self.attentions, strict=True):
            h = resnet(h, emb)  # no outer reference to what went in: memory
            h = attend(h)
        for down in self.downsamplers:
            h = down(h)
        return h


class Middle(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, channels: int, sizes: Sizes) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            residual(channels, channels, sizes.embedding) for _ in range(2)
        )
        self.attentions = nn.ModuleList([attention(channels, sizes.head)])

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        """(B, channels, h, w), (B, embedding) -> the same shape."""
        return self.resnets[1](self.attentions[0](self.resnets[0](h, emb)), emb)


class NoisePredictorNetwork(nn.Module):
    """The encoder. Its tensors have the names of the published file, without "encoder."."""

    def __init__(self, sizes: Sizes) -> None:
        from diffusers.models.embeddings import TimestepEmbedding, Timesteps

        super().__init__()
        first, second = sizes.channels
        self.sinusoids = Timesteps(sizes.sinusoids, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(sizes.sinusoids, sizes.embedding)
        self.conv_in = nn.Conv2d(3, first, 3, padding=1)
        self.down_blocks = nn.ModuleList(
            (
                Level(first, first, sizes.layers[0], sizes, halves=True),
                Level(first, second, sizes.layers[1], sizes, halves=False),
            )
        )
        self.mid_block = Middle(second, sizes)
        self.conv_norm_out = nn.GroupNorm(GROUPS, second, EPS)
        self.conv_out = nn.Conv2d(second, 8, 3, padding=1)

    def forward(self, lr: Tensor, index: Tensor) -> Tensor:
        """(B, 3, h, w) in [-1, 1], h and w even, and (B,) time indices 0 .. 999
        -> (B, 8, h / 2, w / 2): mean and log-variance, four channels each."""
        emb = self.time_embedding(self.sinusoids(index).to(lr.dtype))
        h = self.conv_in(lr)
        for level in self.down_blocks:
            h = level(h, emb)
        h = self.mid_block(h, emb)
        return self.conv_out(F.silu(self.conv_norm_out(h)))


@dataclass(frozen=True, eq=False)
class NoisePredictor:
    """The published predictor, conforming to `pipelines.invsr.start_noise.StartNoise`.

    network: runs in the dtype of its own weights; pictures and maps stay float32.
    """

    network: NoisePredictorNetwork
    name: str = "noise predictor"
    scale: int = 4
    factor: int = 8
    multiple_of: int = 16  # the latent of the enlarged picture is then a multiple of 8
    sigmas: Tensor = field(default_factory=stable_diffusion_sigmas)

    @property
    def trained_sigmas(self) -> tuple[float, ...]:
        """Those of the timesteps 250, 200, 150 and 100: 0.693, 0.569, 0.454 and 0.342."""
        return tuple(self.sigmas[t - 1].item() for t in TRAINED)

    def index_of(self, sigma: Tensor) -> Tensor:
        """(B,) noise levels -> (B,) time indices 0 .. 999, the timestep less one: the nearest in
        log sigma, as ComfyUI chooses it."""
        table, level = self.sigmas.cpu().double().log(), sigma.cpu().double().log()
        return (level[:, None] - table).abs().argmin(1)

    def predict(self, lr: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the noise, see `StartNoise.predict`.

        lr: (B, 3, h, w) in [-1, 1], h and w even. sigma: (B,). Returns two of (B, 4, h / 2, w / 2).
        """
        return self.predict_at(lr, self.index_of(sigma))

    def predict_at(self, lr: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """`predict` for (B,) time indices 0 .. 999."""
        weight = self.network.conv_in.weight
        moments = self.network(lr.to(weight.dtype), index.to(lr.device).float()).float()
        mean, logvar = moments.chunk(2, 1)
        return mean, (logvar.clamp(-30, 20) / 2).exp()


def unwrapped(tensors: Tensors) -> Tensors:
    """The tensors without what distributed training and compilation put before their names."""
    for _ in WRAPPERS:
        for wrapper in WRAPPERS:
            if all(key.startswith(wrapper) for key in tensors):
                tensors = {key.removeprefix(wrapper): value for key, value in tensors.items()}
    return tensors


def detect(tensors: Tensors) -> bool:
    """Whether these are the tensors of a noise predictor of InvSR, of any version."""
    names = {"conv_in.weight", "conv_out.weight", "time_embedding.linear_1.weight"}
    return {PREFIX + name for name in names} <= unwrapped(tensors).keys()


def load(tensors: Tensors, metadata: dict[str, str], name: str, head: int = HEAD) -> NoisePredictor:
    """The predictor of a state dict, in float32.

    head: channels of an attention head. Tensors outside "encoder." belong to other networks of a
    training run and are left out.
    Raises `UnsupportedWeightsError` for another version, and where the tensors do not fit.
    """
    mine = {
        key.removeprefix(PREFIX): value
        for key, value in unwrapped(tensors).items()
        if key.startswith(PREFIX)
    }
    sizes = sizes_of(mine, name, head)
    network = blank(lambda: NoisePredictorNetwork(sizes), name)
    load_exactly(network, mine, name)
    return NoisePredictor(network, name)


def sizes_of(tensors: Tensors, name: str, head: int) -> Sizes:
    """What the shapes say. Raises `UnsupportedWeightsError` for another version of the network."""
    pictures, moments = (size(tensors, key, name) for key in ("conv_in", "conv_out"))
    if pictures[1] != 3 or moments[0] != 8:
        raise UnsupportedWeightsError(
            f"{name} takes {pictures[1]} and gives {moments[0]} channels, where the noise "
            f"predictor takes 3 and gives 8; choose {PUBLISHED}."
        )
    found = [match.groups() for key in tensors if (match := RESNET.fullmatch(key))]
    layers = [sum(level == str(k) for level, _ in found) for k in range(2)]
    if len({level for level, _ in found}) != 2 or not all(layers):
        raise UnsupportedWeightsError(
            f"{name} has {len({level for level, _ in found})} levels, where the noise predictor "
            f"has 2; choose {PUBLISHED}."
        )
    channels = pictures[0], size(tensors, "down_blocks.1.resnets.0.conv1", name)[0]
    if any(width % unit for width in channels for unit in (GROUPS, head)):
        raise UnsupportedWeightsError(
            f"{name} has levels of {channels[0]} and {channels[1]} channels, which attention heads "
            f"of {head} channels do not divide; choose {PUBLISHED}."
        )
    embedding, sinusoids = size(tensors, "time_embedding.linear_1", name, 2)
    return Sizes(channels, (layers[0], layers[1]), sinusoids, embedding, head)


def size(tensors: Tensors, layer: str, name: str, dimensions: int = 4) -> tuple[int, ...]:
    """The shape of a layer's weight."""
    weight = tensors.get(f"{layer}.weight")
    if weight is None or weight.ndim != dimensions:
        raise UnsupportedWeightsError(
            f"{name} lacks a proper tensor {PREFIX}{layer}.weight; download it again or choose "
            f"{PUBLISHED}."
        )
    return tuple(weight.shape)
