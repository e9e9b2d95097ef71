"""A StableSR module: the structure encoder and the modulation of a UNet's 22 residual blocks.

Reference: Wang et al., "Exploiting Diffusion Prior for Real-World Image Super-Resolution", IJCV
2024 (arXiv 2305.07015); the modulation is that of SPADE (arXiv 1903.07291). Written from published
facts; the weights carry the NTU S-Lab License 1.0, for non-commercial use only.

In a residual block, after its last convolution and before its skip is added,

    h <- GN(h) (1 + gamma(m)) + beta(m),   GN of 32 groups with its own weight and bias,

gamma and beta being convolutions of ReLU(conv(m)), 128 channels, and m the structure map of the
block's level. With the published `strength` of 1 this is StableSR; less of it is ours,
h + strength (modulated h - h).

Files: `webui_768v_139.ckpt` and the one in `webui_512v_models.zip` hold exactly these 376 tensors;
of the full checkpoints (000117, 768v_000139, turbo) the same two groups are taken. They are pickles
that name a class of pytorch_lightning; see `read_module`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from .known_files import STABLESR, known_in
from .struct_encoder import GROUPS, Sizes, StructEncoder, sizes_of, translate
from .weights import UnsupportedWeightsError, blank, digest, load_exactly, read_tensors

Tensors = dict[str, Tensor]
ENCODER = "structcond_stage_model."
BLOCK = r"(?:input_blocks\.\d+\.0|middle_block\.[02]|output_blocks\.\d+\.0)"
MODULATION = re.compile(rf"(?:.+\.)?({BLOCK})\.spade\.(.+)")
BLOCKS = (  # the residual blocks of a UNet of four levels with two on the way down, three up
    *(f"input_blocks.{i}.0" for i in (1, 2, 4, 5, 7, 8, 10, 11)),
    *("middle_block.0", "middle_block.2"),
    *(f"output_blocks.{k}.0" for k in range(12)),
)
LEVELS = 4
PUBLISHED = " or ".join(list(known_in(STABLESR))[:2])  # the modules alone


class Modulation(nn.Module):
    """One block's, with the published names."""

    def __init__(self, channels: int, maps: int, hidden: int) -> None:
        super().__init__()
        self.param_free_norm = nn.GroupNorm(GROUPS, channels)
        self.mlp_shared = nn.Sequential(nn.Conv2d(maps, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, h: Tensor, m: Tensor) -> Tensor:
        """h: (B, channels, h, w). m: (B, maps, h, w). Returns the shape of h."""
        shared = self.mlp_shared(m)
        return self.param_free_norm(h) * (1 + self.mlp_gamma(shared)) + self.mlp_beta(shared)


class StableSRNetwork(nn.Module):
    """channels: block name -> channels of its h.

    fingerprint: `weights.digest` of the layers that make the maps, as its file has them; it tells
    one module from another after any change of the number format.
    """

    fingerprint = ""

    def __init__(self, sizes: Sizes, channels: dict[str, int], hidden: int) -> None:
        super().__init__()
        self.encoder = StructEncoder(sizes)
        self.modulations = nn.ModuleDict(
            {plain(b): Modulation(n, sizes.maps, hidden) for b, n in channels.items()}
        )

    def channels_of(self, block: str) -> int:
        """Channels of a block's h."""
        return self._modulation(block).mlp_gamma.out_channels

    def modulate(self, block: str, h: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """h of a residual block, modulated by the map of its level.

        h: (B, channels, h, w) in any dtype. maps: those of `encoder` for the same samples.
        """
        m = maps[level_of(block)]
        return self._modulation(block)(h.to(m.dtype), m).to(h.dtype)

    def _modulation(self, block: str) -> Modulation:
        found = self.modulations[plain(block)]
        assert isinstance(found, Modulation)
        return found


def plain(block: str) -> str:
    """A block's name as torch allows it for a submodule."""
    return block.replace(".", "_")


def level_of(block: str) -> int:
    """0 for the full size of the latent, 3 for an eighth of it."""
    kind, number = block.split(".")[:2]
    if kind == "middle_block":
        return LEVELS - 1
    return (int(number) - 1) // 3 if kind == "input_blocks" else LEVELS - 1 - int(number) // 3


def detect(tensors: Tensors) -> bool:
    """Whether a file holds a StableSR module, alone or in a full checkpoint."""
    return any(MODULATION.fullmatch(key) for key in tensors) and any(
        key.startswith(ENCODER) for key in tensors
    )


def load(tensors: Tensors, name: str) -> StableSRNetwork:
    """The module of a state dict, in float32 on the CPU, in evaluation mode; others are left.

    Raises `UnsupportedWeightsError` where there is none, or where tensors do not fit.
    """
    if not detect(tensors):
        some = ", ".join(list(tensors)[:3])
        raise UnsupportedWeightsError(
            f"{name} has {len(tensors)} tensors ({some}, ...) and no StableSR module among them; "
            f"choose {PUBLISHED}."
        )
    encoder = {k.removeprefix(ENCODER): v for k, v in tensors.items() if k.startswith(ENCODER)}
    found = {(m[1], m[2]): v for k, v in tensors.items() if (m := MODULATION.fullmatch(k))}
    norms = {block: found.get((block, "param_free_norm.weight")) for block in BLOCKS}
    shared = found.get((BLOCKS[0], "mlp_shared.0.weight"))
    absent = [block for block, norm in norms.items() if norm is None]
    if absent or shared is None:
        raise UnsupportedWeightsError(
            f"{name} lacks the modulation of {len(absent)} blocks ({', '.join(absent[:3])}); "
            f"download it again or choose {PUBLISHED}."
        )
    sizes = sizes_of(encoder, name)
    if len(sizes.channels) != LEVELS or shared.shape[1] != sizes.maps:
        raise UnsupportedWeightsError(
            f"{name} has {len(sizes.channels)} maps of {sizes.maps} channels for modulation that "
            f"takes {shared.shape[1]}; choose {PUBLISHED}."
        )
    channels = {block: len(norm) for block, norm in norms.items() if norm is not None}
    network = blank(lambda: StableSRNetwork(sizes, channels, shared.shape[0]), name)
    named = {f"encoder.{key}": value for key, value in translate(encoder, sizes).items()}
    named |= {f"modulations.{plain(b)}.{key}": value for (b, key), value in found.items()}
    load_exactly(network, named, name)
    network.fingerprint = digest(network.encoder.maps.state_dict())
    return network.requires_grad_(False).eval()


def read_module(path: str | Path) -> StableSRNetwork:
    """The module in a weight file; see `load`.

    The published files name `ModelCheckpoint` of pytorch_lightning, a class of training, beside the
    weights. torch refuses to unpickle unknown names; for this one it is given an empty class of
    ours, so that still no code of the file or of another package runs.
    Raises `FileNotFoundError`, or `UnsupportedWeightsError`.
    """
    path = Path(path)
    allow = getattr(torch.serialization, "safe_globals", None)  # torch 2.5 and later
    with allow([ModelCheckpoint]) if allow else nullcontext():
        tensors, _ = read_tensors(path)
    return load(tensors, path.name)


class ModelCheckpoint:
    """What a pickle finds under the name below; nothing of it is used."""


ModelCheckpoint.__module__ = "pytorch_lightning.callbacks.model_checkpoint"
