"""ADM checkpoints (guided diffusion, DPS, SubDAPS++) on diffusers' `UNet2DModel`.

Architecture: Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", 2021 (arXiv
2105.05233), with scale-shift normalisation, residual up- and downsampling and heads of 64 channels.
The files of the DPS and SubDAPS++ repositories (`ffhq_10m.pt`: 93,563,910 parameters in 362
tensors; `imagenet256.pt`, `256x256_diffusion_uncond.pt`: 552,814,086 in 566) have this layout. All
sizes are read from the shapes. The width of a head and the order of queries, keys and values (head
by head) leave no trace in them and are taken to be as published.

The network is discrete in time, t = 0 .. 999 of `vp_sigmas`, and predicts the noise eps in the
variance-preserving state x_vp = x / sqrt(1 + sigma^2). From it

    x0_hat = clip(x - sigma eps(x_vp, t), -1, 1)

Three output channels are eps; three more, where present, are a learned variance that no sampler
here uses, and are dropped. The clip is the official code's.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from .discrete import DiscretePrior
from .noise_table import vp_sigmas
from .prior import PriorSpec
from .weights import UnsupportedWeightsError, blank, load_exactly

Tensors = dict[str, Tensor]
HEAD = 64  # channels of an attention head
GROUPS = 32  # of every group normalisation
INPUT_BLOCK = re.compile(r"input_blocks\.(\d+)\.")
FLAT = ("time_embed.", "middle_block.", "out.")  # where a module's name has two parts, not three
LEVEL_END = re.compile(r"output_blocks\.(\d+)\.[12]\.(in|emb|out)_layers\.")  # upsampling block
RESIDUAL = {  # of a residual block: ADM's name -> diffusers'
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
ATTENTION = {"norm": "group_norm", "proj_out": "to_out.0"}
PARTS = {**RESIDUAL, **ATTENTION}


def detect(tensors: Tensors) -> bool:
    """Whether these are the tensors of an ADM network on RGB pixels, with class labels or not."""
    first, last = tensors.get("input_blocks.0.0.weight"), tensors.get("out.2.weight")
    return (
        first is not None
        and last is not None
        and first.shape[1:2] == (3,)
        and last.shape[:1] in ((3,), (6,))
        and "input_blocks.1.0.emb_layers.1.weight" in tensors
        and not any("transformer_blocks" in key for key in tensors)
    )


def load(tensors: Tensors, metadata: dict[str, str], name: str) -> DiscretePrior:
    """The prior of an ADM checkpoint, in float32.

    Weights fine-tuned at several resolutions (SubDAPS++) and stock ones have the same names and
    shapes and cannot be told apart, so `spec.trained_factors` is (1, 2, 4) for both, although a
    stock network saw full resolution only. The noise levels are those the official code samples at.
    Raises `UnsupportedWeightsError` for a class-conditional network, and where the tensors do not
    fit.
    """
    if any(key.startswith("label_emb.") for key in tensors):
        raise UnsupportedWeightsError(
            f"{name} needs class labels, which no sampler here gives; choose the unconditional "
            "checkpoint of the same model."
        )
    from diffusers import UNet2DModel  # pyright: ignore[reportPrivateImportUsage]

    config = configuration(tensors, name)
    weights = translate(tensors, name).items()
    network = blank(lambda: UNet2DModel(**config), name)
    load_exactly(network, {k: v.float() if v.is_floating_point() else v for k, v in weights}, name)
    sigmas, levels = vp_sigmas(torch.float32), len(config["block_out_channels"])
    spec = PriorSpec(
        multiple_of=2 ** (levels - 1),
        native_size=2 ** (levels + 2),  # six levels in the published networks of 256 pixels
        sigma_min=sigmas[0].item(),
        sigma_max=sigmas[-1].item(),
        sigmas=sigmas,
        trained_factors=(1, 2, 4),
        name=name,
    )
    return DiscretePrior(network, spec)


def configuration(tensors: Tensors, name: str) -> dict[str, Any]:
    """`UNet2DModel`'s arguments. Raises `UnsupportedWeightsError` for a network it cannot be."""
    layers, levels = depth(tensors, name)
    starts = [1 + level * (layers + 1) for level in range(levels)]
    widths = [size(tensors, f"input_blocks.{i}.0.out_layers.3.weight", 0, name) for i in starts]
    attends = [f"input_blocks.{i}.1.qkv.weight" in tensors for i in starts]
    heads = [w for w, a in zip(widths, attends, strict=True) if a] + widths[-1:]
    embedded = size(tensors, "time_embed.0.weight", 1, name)
    if any(w % GROUPS for w in widths) or any(w % HEAD for w in heads) or embedded != widths[0]:
        raise UnsupportedWeightsError(
            f"{name} has levels of {widths} channels, attention in {heads}, times of {embedded}; "
            f"choose one with multiples of {GROUPS}, of {HEAD}, and times as the first level."
        )
    down = ["AttnDownBlock2D" if a else "ResnetDownsampleBlock2D" for a in attends]
    up = ["AttnUpBlock2D" if a else "ResnetUpsampleBlock2D" for a in reversed(attends)]
    return {
        "in_channels": 3,
        "out_channels": size(tensors, "out.2.weight", 0, name),
        "layers_per_block": layers,
        "block_out_channels": tuple(widths),
        "down_block_types": tuple(down),
        "up_block_types": tuple(up),
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "resnet_time_scale_shift": "scale_shift",
        "attention_head_dim": HEAD,
        "attn_norm_num_groups": GROUPS,  # without it the middle attention has no normalisation
        "norm_num_groups": GROUPS,
        "norm_eps": 1e-5,
        "freq_shift": 0,
        "flip_sin_to_cos": True,
    }


def depth(tensors: Tensors, name: str) -> tuple[int, int]:
    """(residual blocks per level on the way down, levels)."""
    ends = sorted(int(match[1]) for key in tensors if (match := LEVEL_END.match(key)))
    if not ends:
        raise UnsupportedWeightsError(
            f"{name} has no residual upsampling blocks (resblock_updown), which this layout needs; "
            "choose a checkpoint of DPS, SubDAPS++ or guided diffusion."
        )
    layers = ends[0]
    count = 1 + max(int(match[1]) for key in tensors if (match := INPUT_BLOCK.match(key)))
    levels, rest = divmod(count, layers + 1)
    if rest or levels < 2:
        raise UnsupportedWeightsError(
            f"{name} has {count} input blocks, which do not divide into levels of {layers + 1}; "
            "download it again or choose another file."
        )
    return layers, levels


def size(tensors: Tensors, key: str, axis: int, name: str) -> int:
    """One length of one tensor's shape."""
    if key not in tensors or tensors[key].ndim <= axis:
        raise UnsupportedWeightsError(
            f"{name} lacks a proper tensor {key}; download it again or choose another file."
        )
    return tensors[key].shape[axis]


def translate(tensors: Tensors, name: str) -> Tensors:
    """The tensors by diffusers' names. Raises `UnsupportedWeightsError` for one that has none."""
    modules = block_names(tensors, *depth(tensors, name))
    renamed: Tensors = {}
    for key, value in tensors.items():
        module = ".".join(key.split(".")[: 2 if key.startswith(FLAT) else 3])
        heads = value.shape[0] / (3 * HEAD) if ".qkv." in key and value.ndim else 0
        if module not in modules or heads != int(heads):
            raise UnsupportedWeightsError(
                f"{name} has a tensor {key} of shape {tuple(value.shape)}, which this layout does "
                "not have; download it again or choose another file."
            )
        renamed |= rename(modules[module], key[len(module) + 1 :], value)
    return renamed


def block_names(tensors: Tensors, layers: int, levels: int) -> dict[str, str]:
    """ADM's module names -> diffusers'.

    input_blocks: a stem, then per level `layers` residual blocks (with attention as `.1`) and one
    downsampling block. output_blocks: per level, the coarsest first, layers + 1 residual blocks,
    the last of them followed by the upsampling block.
    """
    names = {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        "middle_block.0": "mid_block.resnets.0",
        "middle_block.1": "mid_block.attentions.0",
        "middle_block.2": "mid_block.resnets.1",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
    }
    for k in range(levels * (layers + 1)):
        level, j = divmod(k, layers + 1)
        first = f"resnets.{j}" if j < layers else "downsamplers.0"
        attends = f"output_blocks.{k}.1.qkv.weight" in tensors
        second = f"attentions.{j}" if attends else "upsamplers.0"
        names |= {
            f"input_blocks.{k + 1}.0": f"down_blocks.{level}.{first}",
            f"input_blocks.{k + 1}.1": f"down_blocks.{level}.attentions.{j}",
            f"output_blocks.{k}.0": f"up_blocks.{level}.resnets.{j}",
            f"output_blocks.{k}.1": f"up_blocks.{level}.{second}",
            f"output_blocks.{k}.2": f"up_blocks.{level}.upsamplers.0",
        }
    return names


def rename(module: str, rest: str, value: Tensor) -> Tensors:
    """One tensor of a module under its new name; qkv, (heads, 3, 64, C), becomes three."""
    part, _, kind = rest.rpartition(".")
    if part == "qkv":
        inputs = value.shape[1:2]
        q, k, v = (w.flatten(0, 1) for w in value.reshape(-1, 3, HEAD, *inputs).unbind(1))
        return {f"{module}.to_{a}.{kind}": w for a, w in zip("qkv", (q, k, v), strict=True)}
    if part == "proj_out":
        value = value.squeeze(-1) if value.ndim == 3 else value
    return {".".join(filter(None, (module, PARTS.get(part, part), kind))): value}
