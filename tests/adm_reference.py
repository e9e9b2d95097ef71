"""The published ADM network, twice: its tensors' shapes, and its forward pass as plain functions.

Written from the layer list of the published models, on the checkpoint's own names, without the code
under test and without diffusers.
"""

import math

import torch
import torch.nn.functional as F

MULTIPLES = (1, 1, 2, 2, 4, 4)
FFHQ, IMAGENET = (1, {4}), (2, {3, 4, 5})  # residual blocks per level, levels with attention


def residual(p: str, c_in: int, c_out: int, base: int) -> dict[str, tuple[int, ...]]:
    shapes = {
        "in_layers.0": (c_in,),
        "in_layers.2": (c_out, c_in, 3, 3),
        "emb_layers.1": (2 * c_out, 4 * base),
        "out_layers.0": (c_out,),
        "out_layers.3": (c_out, c_out, 3, 3),
    }
    if c_in != c_out:
        shapes["skip_connection"] = (c_out, c_in, 1, 1)
    return {f"{p}.{part}": shape for part, shape in shapes.items()}


def attention(p: str, c: int) -> dict[str, tuple[int, ...]]:
    return {f"{p}.norm": (c,), f"{p}.qkv": (3 * c, c, 1), f"{p}.proj_out": (c, c, 1)}


def published(base: int, layers: int, attends: set[int]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of the published layer list."""
    modules = {"time_embed.0": (4 * base, base), "time_embed.2": (4 * base, 4 * base)}
    modules["input_blocks.0.0"] = (base, 3, 3, 3)
    skips, c, last = [base], base, len(MULTIPLES) - 1
    for level, multiple in enumerate(MULTIPLES):
        for block in range(layers + (level < last)):
            p, out = f"input_blocks.{len(skips)}", multiple * base
            modules |= residual(f"{p}.0", c, out, base)
            if level in attends and block < layers:
                modules |= attention(f"{p}.1", out)
            c = out
            skips.append(c)
    for i in (0, 2):
        modules |= residual(f"middle_block.{i}", c, c, base)
    modules |= attention("middle_block.1", c)
    for i in range(len(skips)):
        level, block = last - i // (layers + 1), i % (layers + 1)
        p, out = f"output_blocks.{i}", MULTIPLES[level] * base
        modules |= residual(f"{p}.0", c + skips.pop(), out, base)
        if level in attends:
            modules |= attention(f"{p}.1", out)
        if level and block == layers:
            modules |= residual(f"{p}.{1 + (level in attends)}", out, out, base)
        c = out
    modules |= {"out.0": (base,), "out.2": (6, base, 3, 3)}
    shapes = {f"{key}.weight": shape for key, shape in modules.items()}
    return shapes | {f"{key}.bias": shape[:1] for key, shape in modules.items()}


def random_weights(base: int, layers: int, attends: set[int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    tensors = {}
    for key, shape in published(base, layers, attends).items():
        noise = torch.randn(shape, generator=generator)
        scale = math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.2
        tensors[key] = scale * noise + (len(shape) == 1 and key.endswith("weight"))
    return tensors


class Published:
    """The network of Dhariwal and Nichol as functions of the checkpoint's tensors."""

    def __init__(self, tensors: dict[str, torch.Tensor], layers: int) -> None:
        self.w, self.layers = tensors, layers

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x: (B, 3, h, w), t: (B,) -> (B, 6, h, w)."""
        count, emb = len(MULTIPLES) * (self.layers + 1), self.embedding(t)
        skips = [self.conv("input_blocks.0.0", x)]
        for i in range(1, count):
            resize = same if i % (self.layers + 1) else halve
            skips.append(self.block(f"input_blocks.{i}", skips[-1], emb, resize, same))
        h = self.block("middle_block", skips[-1], emb, same, same)
        for i in range(count):
            joined = torch.cat([h, skips.pop()], 1)
            h = self.block(f"output_blocks.{i}", joined, emb, same, double)
        return self.conv("out.2", F.silu(self.norm("out.0", h)))

    def block(self, p, h, emb, first, later):
        """One entry of the layer list: its parts .0, .1 and .2, residual blocks with a resize."""
        for j, resize in enumerate((first, later, later)):
            if f"{p}.{j}.qkv.weight" in self.w:
                h = self.attend(f"{p}.{j}", h)
            elif f"{p}.{j}.in_layers.0.weight" in self.w:
                h = self.residual(f"{p}.{j}", h, emb, resize)
        return h

    def residual(self, p, h, emb, resize):
        skip = resize(h)
        h = self.conv(f"{p}.in_layers.2", resize(F.silu(self.norm(f"{p}.in_layers.0", h))))
        modulation = self.linear(f"{p}.emb_layers.1", F.silu(emb))
        scale, shift = modulation[:, :, None, None].chunk(2, 1)
        h = F.silu(self.norm(f"{p}.out_layers.0", h) * (1 + scale) + shift)
        if f"{p}.skip_connection.weight" in self.w:
            skip = self.conv(f"{p}.skip_connection", skip)
        return skip + self.conv(f"{p}.out_layers.3", h)

    def attend(self, p, h):
        qkv = self.pointwise(f"{p}.qkv", self.norm(f"{p}.norm", h).flatten(2))
        heads = []
        for head in qkv.split(3 * 64, 1):  # one after the other: 64 of q, of k, of v
            q, k, v = head.split(64, 1)
            weight = torch.einsum("bci,bcj->bij", q * 64**-0.25, k * 64**-0.25).softmax(-1)
            heads.append(torch.einsum("bij,bcj->bci", weight, v))
        return h + self.pointwise(f"{p}.proj_out", torch.cat(heads, 1)).view(h.shape)

    def embedding(self, t):
        half = self.w["time_embed.0.weight"].shape[1] // 2
        angle = t[:, None] * torch.exp(-math.log(1e4) * torch.arange(half) / half)
        emb = self.linear("time_embed.0", torch.cat([angle.cos(), angle.sin()], 1))
        return self.linear("time_embed.2", F.silu(emb))

    def conv(self, p, h):
        kernel = self.w[f"{p}.weight"]
        return F.conv2d(h, kernel, self.w[f"{p}.bias"], padding=kernel.shape[-1] // 2)

    def linear(self, p, h):
        return F.linear(h, self.w[f"{p}.weight"], self.w[f"{p}.bias"])

    def pointwise(self, p, h):
        return self.w[f"{p}.weight"][:, :, 0] @ h + self.w[f"{p}.bias"][:, None]

    def norm(self, p, h):
        return F.group_norm(h, 32, self.w[f"{p}.weight"], self.w[f"{p}.bias"], 1e-5)


def same(h):
    return h


def halve(h):
    return F.avg_pool2d(h, 2)


def double(h):
    return h.repeat_interleave(2, 2).repeat_interleave(2, 3)
