"""Progressive feature injection at the structure maps of StableSR: the trained form.

Reference: AdaDiffSR (ECCV 2024, arXiv 2410.17752): what a region takes from the degraded picture is
modulated by what it gains, f <- alpha f + beta with (alpha, beta) = phi(f, I) and phi a small
network that is not published. Ours, one per map:

    h    = W f                          1x1, to 32 channels
    h    = h (1 + a) + b                (a, b) linear in (I^F, I^N, ln sigma)
    phi  = V SiLU(K h),  K 3x3, V 1x1 to twice the map's channels, V = 0 until trained
    f   <- (1 + first half of phi) f + second half

I^F = tanh(g^F / tau) and I^N = tanh(g^N / tau), gains in units of the policy's threshold. While
V = 0 it is the identity bit for bit, so that an untrained one changes nothing.

The form without weights, for any prior, is `pipelines.adadiffsr.injection`.

Files are those of `python training feature_injection`: these tensors, and in the metadata which
StableSR module they were trained on. phi reads that module's maps and means nothing to another's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .stablesr import StableSRNetwork
from .struct_encoder import Sizes
from .weights import UnsupportedWeightsError, blank, digests, load_exactly, read_tensors

Tensors = dict[str, Tensor]
HIDDEN = 32
STATE = 3  # I^F, I^N, ln sigma
PREFIX = "phi."


class Phi(nn.Module):
    """alpha and beta of one map. About 35 thousand parameters for 256 channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inp = nn.Conv2d(channels, HIDDEN, 1)
        self.film = nn.Linear(STATE, 2 * HIDDEN)
        self.mid = nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1)
        self.out = nn.Conv2d(HIDDEN, 2 * channels, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, f: Tensor, state: Tensor) -> Tensor:
        """f: (B, C, h, w). state: (B, 3). Returns alpha f + beta, (B, C, h, w)."""
        a, b = self.film(state)[:, :, None, None].chunk(2, 1)
        h = self.inp(f) * (1 + a) + b
        scale, shift = self.out(nn.functional.silu(self.mid(h))).chunk(2, 1)
        return f + scale * f + shift


class StructInjection(nn.Module):
    """phi of every structure map."""

    def __init__(self, channels: int = Sizes.maps, levels: int = len(Sizes.channels)) -> None:
        super().__init__()
        self.phi = nn.ModuleList(Phi(channels) for _ in range(levels))

    def forward(self, maps: Sequence[Tensor], gains: Tensor, sigma: Tensor) -> list[Tensor]:
        """maps: those of `StructEncoder`. gains: (B, 2) g^F / tau and g^N / tau, 0 where none is
        known. sigma: (B,) noise levels, above 0. Every sample depends on its own row alone.
        """
        state = torch.cat([gains.tanh(), sigma[:, None].log()], 1).to(maps[0])
        return [phi(m, state) for phi, m in zip(self.phi, maps, strict=True)]


@dataclass(frozen=True, eq=False)
class TrainedInjection:
    """phi with the module it belongs to.

    module: name of that StableSR module's file. prints: its `StableSRNetwork.fingerprint`, and what
    that would be if the file were kept in bfloat16 or float16. name: of phi's own file.
    """

    network: StructInjection
    module: str
    prints: tuple[str, ...]
    name: str = "feature injection"

    def check(self, module: StableSRNetwork) -> None:
        """Raise `ValueError` for a module it was not trained on."""
        if module.fingerprint not in self.prints:
            raise ValueError(
                f"The injection {self.name} was trained on the StableSR module {self.module}, and "
                "the module's file is another; choose that one, or leave injection empty."
            )


def fingerprints(module: StableSRNetwork) -> tuple[str, ...]:
    """`TrainedInjection.prints` of a module that was read from its file."""
    return digests(module.encoder.maps.state_dict())


def read_injection(path: str | Path) -> TrainedInjection:
    """The injection in a weight file, in float32 on the CPU, in evaluation mode.

    Raises `FileNotFoundError`, or `UnsupportedWeightsError` for a file that is broken or another's.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path)
    network = load(tensors, path.name)
    try:
        prints = tuple(map(str, json.loads(metadata["prints"])))
        return TrainedInjection(network, metadata["module"], prints, path.name)
    except (KeyError, ValueError, TypeError) as error:
        raise UnsupportedWeightsError(
            f"{path.name} does not say which StableSR module it was trained on ({error}); train it "
            "again with `python training feature_injection`."
        ) from error


def load(tensors: Tensors, name: str) -> StructInjection:
    """The injection of a state dict, in float32 on the CPU, in evaluation mode.

    Raises `UnsupportedWeightsError` where the tensors are not one's.
    """
    first = tensors.get(f"{PREFIX}0.inp.weight")
    if first is None or first.ndim != 4:
        some = ", ".join(list(tensors)[:3])
        raise UnsupportedWeightsError(
            f"{name} has {len(tensors)} tensors ({some}, ...) of no feature injection; choose a "
            "file that this pack's training wrote."
        )
    levels = len({key.split(".")[1] for key in tensors if key.startswith(PREFIX)})
    network = blank(lambda: StructInjection(first.shape[1], levels), name)
    load_exactly(network, tensors, name)
    return network.requires_grad_(False).eval()
