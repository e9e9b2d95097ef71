"""Random StableSR modules with the published names: small ones, reproducible from a seed."""

import math

import torch

MULTIPLES = (1, 2, 4, 4)  # of a UNet's channels, level by level
SPADES = {  # block -> level
    **{f"input_blocks.{i}.0": (i - 1) // 3 for i in (1, 2, 4, 5, 7, 8, 10, 11)},
    "middle_block.0": 3,
    "middle_block.2": 3,
    **{f"output_blocks.{k}.0": 3 - k // 3 for k in range(12)},
}


def conv(name, outside, inside, side=3, dimensions=2):
    return {
        f"{name}.weight": (outside, inside, *(side,) * dimensions),
        f"{name}.bias": (outside,),
    }


def norm(name, channels):
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def residual(name, inside, outside, embedding):
    shapes = norm(f"{name}.in_layers.0", inside) | conv(f"{name}.in_layers.2", outside, inside)
    shapes |= conv(f"{name}.emb_layers.1", outside, embedding, dimensions=0)
    shapes |= norm(f"{name}.out_layers.0", outside) | conv(f"{name}.out_layers.3", outside, outside)
    if inside != outside:
        shapes |= conv(f"{name}.skip_connection", outside, inside, 1)
    return shapes


def attention(name, channels):
    shapes = norm(f"{name}.norm", channels) | conv(f"{name}.qkv", 3 * channels, channels, 1, 1)
    return shapes | conv(f"{name}.proj_out", channels, channels, 1, 1)


def encoder_shapes(width):
    """The encoder's, 200 tensors; published ones have width 256."""
    channels, embedding = (width, width, 2 * width, 2 * width), 4 * width
    shapes = conv("time_embed.0", embedding, width, dimensions=0)
    shapes |= conv("time_embed.2", embedding, embedding, dimensions=0)
    shapes |= conv("input_blocks.0.0", width, 4)
    before, block = width, 1
    for level, outside in enumerate(channels):
        for _ in range(2):
            shapes |= residual(f"input_blocks.{block}.0", before, outside, embedding)
            shapes |= attention(f"input_blocks.{block}.1", outside) if level < 3 else {}
            before, block = outside, block + 1
        if level < 3:
            shapes |= conv(f"input_blocks.{block}.0.op", outside, outside)
            block += 1
        shapes |= residual(f"fea_tran.{level}", outside, width, embedding)
    shapes |= residual("middle_block.0", before, before, embedding)
    shapes |= attention("middle_block.1", before)
    return shapes | residual("middle_block.2", before, before, embedding)


def spade_shapes(block, channels, width):
    """One block's modulation, 8 tensors."""
    name = f"{block}.spade"
    shapes = norm(f"{name}.param_free_norm", channels) | conv(f"{name}.mlp_shared.0", 128, width)
    shapes |= conv(f"{name}.mlp_gamma", channels, 128)
    return shapes | conv(f"{name}.mlp_beta", channels, 128)


def shapes(unet=32, width=128):
    """Every tensor of a module file: 376."""
    found = {f"structcond_stage_model.{k}": v for k, v in encoder_shapes(width).items()}
    for block, level in SPADES.items():
        spade = spade_shapes(block, unet * MULTIPLES[level], width)
        found |= {f"model.diffusion_model.{k}": v for k, v in spade.items()}
    return found


def tensors(unet=32, width=128, seed=0):
    """Seeded random weights of those shapes, drawn in the order of the sorted names."""
    generator, made = torch.Generator().manual_seed(seed), {}
    for key, shape in sorted(shapes(unet, width).items()):
        random = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            made[key] = random / math.sqrt(math.prod(shape[1:]))
        else:
            made[key] = 0.1 * random + float(key.endswith("weight"))
    return made


UNET = {  # of diffusers' configuration, for the modules above
    "block_out_channels": tuple(32 * multiple for multiple in MULTIPLES),
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "cross_attention_dim": 24,
    "attention_head_dim": (2, 4, 8, 8),
    "use_linear_projection": True,
}
