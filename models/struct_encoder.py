"""StableSR's structure-condition encoder on diffusers' layers.

Reference: Wang et al., "Exploiting Diffusion Prior for Real-World Image Super-Resolution", IJCV
2024 (arXiv 2305.07015). The published one has 200 tensors with 52.5 million parameters.

Half a UNet on the latent z_lr of the degraded picture, told the timestep t of every sample:

    emb = MLP([cos, sin](10000^(-i / d) t)),  i = 0 .. d - 1,  d = 128
    four levels of two residual blocks, self-attention after each but at the last level,
    a stride-2 convolution between levels, and a middle of residual block, attention, residual block

What the first three levels end with, and the middle, each go through one more residual block to
give a map of 256 channels. Maps go by level here; the official code finds them by their width,
which fails where two levels have the same.

Channels are read from the shapes. The number of attention heads leaves no trace in them; it is 4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor, nn

from .adm import ATTENTION, RESIDUAL
from .weights import UnsupportedWeightsError

Tensors = dict[str, Tensor]
HEADS = 4
GROUPS, EPS = 32, 1e-5
BLOCKS = 2  # residual blocks per level


@dataclass(frozen=True)
class Sizes:
    """channels: of each level. sinusoids: of the time embedding. maps: channels of every map.
    attends: whether a level has attention. inputs: channels of the latent."""

    channels: tuple[int, ...] = (256, 256, 512, 512)
    sinusoids: int = 256
    maps: int = 256
    attends: tuple[bool, ...] = (True, True, True, False)
    inputs: int = 4


def residual(inside: int, outside: int, embedding: int) -> nn.Module:
    """diffusers' residual block: h + conv(SiLU(GN(conv(SiLU(GN(h))) + Linear(SiLU(emb)))))."""
    from diffusers.models.resnet import ResnetBlock2D

    return ResnetBlock2D(
        in_channels=inside, out_channels=outside, temb_channels=embedding, groups=GROUPS, eps=EPS
    )


def attention(channels: int) -> nn.Module:
    """diffusers' self-attention over the pixels: h + Linear(SDPA(q, k, v of GN(h)))."""
    from diffusers.models.attention_processor import Attention

    return Attention(
        channels,
        heads=HEADS,
        dim_head=channels // HEADS,
        norm_num_groups=GROUPS,
        eps=EPS,
        bias=True,
        residual_connection=True,
    )


class Level(nn.Module):
    """Residual blocks, with attention after each where `attends`."""

    def __init__(self, inside: int, outside: int, attends: bool, embedding: int) -> None:
        super().__init__()
        widths = [inside] + [outside] * (BLOCKS - 1)
        self.resnets = nn.ModuleList(residual(w, outside, embedding) for w in widths)
        self.attentions = nn.ModuleList(attention(outside) for _ in widths if attends)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        """(B, inside, h, w), (B, embedding) -> (B, outside, h, w)."""
        for j, resnet in enumerate(self.resnets):
            h = resnet(h, emb)
            h = self.attentions[j](h) if self.attentions else h
        return h


class StructEncoder(nn.Module):
    """(z_lr, t) -> one map per level, finest first."""

    def __init__(self, sizes: Sizes) -> None:
        from diffusers.models.embeddings import TimestepEmbedding, Timesteps

        super().__init__()
        embedding, channels = 4 * sizes.sinusoids, sizes.channels
        self.sinusoids = Timesteps(sizes.sinusoids, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(sizes.sinusoids, embedding)
        self.conv_in = nn.Conv2d(sizes.inputs, channels[0], 3, padding=1)
        before = channels[:1] + channels[:-1]
        self.levels = nn.ModuleList(
            Level(inside, outside, attends, embedding)
            for inside, outside, attends in zip(before, channels, sizes.attends, strict=True)
        )
        self.halvings = nn.ModuleList(
            nn.Conv2d(w, w, 3, stride=2, padding=1) for w in channels[:-1]
        )
        last = channels[-1]
        self.middle = nn.ModuleList(
            [residual(last, last, embedding), attention(last), residual(last, last, embedding)]
        )
        self.maps = nn.ModuleList(residual(w, sizes.maps, embedding) for w in channels)

    def forward(self, z_lr: Tensor, t: Tensor) -> list[Tensor]:
        """z_lr: (B, 4, h, w) in the model's own units, any h and w. t: (B,) timesteps 0 .. 999.

        Returns maps (B, 256, h, w), (B, 256, h / 2, w / 2), .. with sides rounded up.
        """
        emb = self.time_embedding(self.sinusoids(t).to(z_lr.dtype))
        h, ends = self.conv_in(z_lr), []
        for i, level in enumerate(self.levels):
            h = level(h, emb)
            if i < len(self.halvings):
                ends.append(h)
                h = self.halvings[i](h)
        first, attend, second = self.middle
        ends.append(second(attend(first(h, emb)), emb))
        return [head(end, emb) for head, end in zip(self.maps, ends, strict=True)]


def sizes_of(tensors: Tensors, name: str) -> Sizes:
    """What the shapes say. Raises `UnsupportedWeightsError` where they are no such encoder's."""
    found = [int(m[1]) for key in tensors if (m := re.match(r"fea_tran\.(\d+)\.", key))]
    count = max(found, default=-1) + 1
    starts = [1 + (BLOCKS + 1) * level for level in range(count)]
    wanted = ["input_blocks.0.0.weight", "time_embed.0.weight", "fea_tran.0.out_layers.3.weight"]
    wanted += [f"input_blocks.{i}.0.out_layers.3.weight" for i in starts]
    missing = [key for key in wanted if key not in tensors]
    if missing or not count:
        raise UnsupportedWeightsError(
            f"{name} lacks tensors of StableSR's structure encoder "
            f"({', '.join(missing[:3]) or 'fea_tran'}); download it again."
        )
    first, sinusoids, maps, *levels = (tensors[key].shape for key in wanted)
    channels = tuple(shape[0] for shape in levels)
    if any(width % (GROUPS * HEADS) for width in channels):
        raise UnsupportedWeightsError(
            f"{name} has levels of {channels} channels, where StableSR's are multiples of "
            f"{GROUPS * HEADS}; choose another file."
        )
    attends = tuple(f"input_blocks.{i}.1.qkv.weight" in tensors for i in starts)
    return Sizes(channels, sinusoids[1], maps[0], attends, first[1])


def translate(tensors: Tensors, sizes: Sizes) -> Tensors:
    """The tensors by this network's names; what is unknown keeps its own, for `load_exactly`."""
    names = {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        **{f"middle_block.{j}": f"middle.{j}" for j in range(3)},
    }
    for level in range(len(sizes.channels)):
        names[f"fea_tran.{level}"] = f"maps.{level}"
        first = 1 + (BLOCKS + 1) * level
        names[f"input_blocks.{first + BLOCKS}.0.op"] = f"halvings.{level}"
        for j in range(BLOCKS):
            names[f"input_blocks.{first + j}.0"] = f"levels.{level}.resnets.{j}"
            names[f"input_blocks.{first + j}.1"] = f"levels.{level}.attentions.{j}"
    renamed: Tensors = {}
    for key, value in tensors.items():
        module = next((m for m in sorted(names, key=len)[::-1] if key.startswith(f"{m}.")), "")
        place, rest = names.get(module, module), key[len(module) :].lstrip(".")
        part, _, kind = rest.rpartition(".")
        if part == "qkv":
            renamed |= separated(f"{place}.to_", kind, value)
            continue
        value = value.squeeze(-1) if part == "proj_out" and value.ndim == 3 else value
        part = {**RESIDUAL, **ATTENTION}.get(part, part)
        renamed[".".join(filter(None, (place, part, kind)))] = value
    return renamed


def separated(prefix: str, kind: str, value: Tensor) -> Tensors:
    """Queries, keys and values, stored head by head as (heads, 3, width, ..), one by one."""
    split = value.reshape(HEADS, 3, -1, *value.shape[1:2]).unbind(1)
    return {f"{prefix}{a}.{kind}": w.flatten(0, 1) for a, w in zip("qkv", split, strict=True)}
