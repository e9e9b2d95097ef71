"""Weights of diffusers' `UNet2DModel` without their configuration: one file, as a training script
leaves it.

Widths, depth, attention, and how times enter are read from the shapes. The width of a head, the
groups and the epsilon of a normalisation, the padding of a halving, the sines of a time, what the
network predicts, and its noise levels leave no trace in them: they are taken to be diffusers' own
defaults, which its training script writes (heads of 8 channels, 32 groups, 1e-5, padding 1, cosine
first; epsilon; DDPM's `vp_sigmas`). Where a network was made otherwise, its folder says so: see
`diffusers_folder`. Weights from before those defaults, such as `google/ddpm-*`, are known by the
older names of their attention, and refused.
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
FIRST = "down_blocks.0.resnets.0.conv1.weight"
LEVEL = re.compile(r"down_blocks\.(\d+)\.")
LAYER = re.compile(r"down_blocks\.0\.resnets\.(\d+)\.")
OLDER_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
OLDER = re.compile(rf"(?<=\.)({'|'.join(OLDER_NAMES)})(?=\.(weight|bias)$)")
GROUPS, HEAD = 32, 8  # diffusers' defaults
PLAIN = ("conv", "DownBlock2D", "UpBlock2D")  # how levels change size, and blocks without attention
RESIDUAL = ("resnet", "ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")


def detect(tensors: Tensors) -> bool:
    """Whether these are the tensors of an unconditional diffusers network on RGB pixels."""
    first, last = tensors.get("conv_in.weight"), tensors.get("conv_out.weight")
    return (
        first is not None
        and last is not None
        and first.shape[1:2] == (3,)
        and last.shape[:1] in ((3,), (6,))
        and {FIRST, "time_embedding.linear_1.weight", "conv_norm_out.weight"} <= tensors.keys()
        and not any("transformer_blocks" in key for key in tensors)
    )


def load(tensors: Tensors, metadata: dict[str, str], name: str) -> DiscretePrior:
    """The prior of such a file, in float32.

    Raises `UnsupportedWeightsError` for class labels, for the older names, and where the tensors do
    not fit.
    """
    from diffusers import UNet2DModel  # pyright: ignore[reportPrivateImportUsage]

    if any(OLDER.search(key) for key in tensors):
        raise UnsupportedWeightsError(
            f"{name} is from before diffusers 0.16, whose networks cannot be told from their "
            "tensors alone; put the whole folder with its config.json and scheduler_config.json "
            "in its place."
        )
    if any(key.startswith("class_embedding.") for key in tensors):
        raise UnsupportedWeightsError(
            f"{name} needs class labels, which no sampler here gives; choose an unconditional "
            "network."
        )
    config = configuration(tensors, name)
    network = blank(lambda: UNet2DModel(**config), name)
    load_exactly(network, tensors, name)
    sigmas = vp_sigmas(torch.float32)
    spec = PriorSpec(
        multiple_of=2 ** (len(config["block_out_channels"]) - 1),
        sigma_min=sigmas[0].item(),
        sigma_max=sigmas[-1].item(),
        sigmas=sigmas,
        name=name,
    )
    return DiscretePrior(network, spec)


def configuration(tensors: Tensors, name: str) -> dict[str, Any]:
    """`UNet2DModel`'s arguments, as far as shapes tell. Raises `UnsupportedWeightsError` for a
    network it cannot be.
    """
    levels = 1 + max(int(m[1]) for key in tensors if (m := LEVEL.match(key)))
    layers = 1 + max(int(m[1]) for key in tensors if (m := LAYER.match(key)))
    widths = [size(tensors, f"down_blocks.{i}.resnets.0.conv1.weight", name) for i in range(levels)]
    attends = [f"down_blocks.{i}.attentions.0.to_q.weight" in tensors for i in range(levels)]
    times = size(tensors, "down_blocks.0.resnets.0.time_emb_proj.weight", name)
    if times not in (widths[0], 2 * widths[0]) or any(width % GROUPS for width in widths):
        raise UnsupportedWeightsError(
            f"{name} has levels of {widths} channels and {times} numbers from a time; choose one "
            f"with multiples of {GROUPS}, and as many numbers as the first level's or twice that."
        )
    residual = "down_blocks.0.downsamplers.0.conv1.weight" in tensors
    kind, down, up = RESIDUAL if residual else PLAIN
    return {
        "in_channels": 3,
        "out_channels": size(tensors, "conv_out.weight", name),
        "layers_per_block": layers,
        "block_out_channels": tuple(widths),
        "down_block_types": tuple("AttnDownBlock2D" if a else down for a in attends),
        "up_block_types": tuple("AttnUpBlock2D" if a else up for a in reversed(attends)),
        "downsample_type": kind,
        "upsample_type": kind,
        "resnet_time_scale_shift": "default" if times == widths[0] else "scale_shift",
        "time_embedding_dim": size(tensors, "time_embedding.linear_1.weight", name),
        "add_attention": "mid_block.attentions.0.to_q.weight" in tensors,
        "attn_norm_num_groups": (
            GROUPS if "mid_block.attentions.0.group_norm.weight" in tensors else None
        ),
        "attention_head_dim": HEAD,
        "norm_num_groups": GROUPS,
    }


def size(tensors: Tensors, key: str, name: str) -> int:
    """The first length of one tensor's shape."""
    if key not in tensors or not tensors[key].ndim:
        raise UnsupportedWeightsError(
            f"{name} lacks a proper tensor {key}; download it again or choose another file."
        )
    return tensors[key].shape[0]
