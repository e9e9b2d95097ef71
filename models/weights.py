"""Read a weight file without running any code in it."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .known_files import source_of

Network = TypeVar("Network", bound=torch.nn.Module)


class UnsupportedWeightsError(ValueError):
    """A weight file that cannot be used: foreign, broken or unsafe."""


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a weight file by name, on the CPU in their own dtype, and its metadata.

    The kind of file is read from its first bytes: safetensors, or a torch file, which is
    unpickled with `weights_only=True`, so that no code in it can run. A dictionary that holds the
    tensors under "state_dict", "model" or "params" is opened.
    Raises `FileNotFoundError`, or `UnsupportedWeightsError` for anything else that is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weight file {path}; check the name and the folder.")
    if is_torch_file(path):
        return read_torch(path), {}
    return read_safetensors(path)


def is_torch_file(path: Path) -> bool:
    """Whether the file starts like a zip archive or a pickle, the two kinds that torch writes.

    A safetensors file starts with the length of its header, whose lowest byte may be a pickle's
    0x80 too, and then the header's opening brace.
    """
    with path.open("rb") as file:
        head = file.read(9)
    return head[:2] == b"PK" or (head[:1] == b"\x80" and head[8:] != b"{")


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UnsupportedWeightsError(
            f"{path.name} is not a whole safetensors or torch file ({error}); download it "
            f"again{source_of(path.name)}."
        ) from error


def read_torch(path: Path) -> dict[str, Tensor]:
    """Tensors of a torch file."""
    try:
        with path.open("rb") as file:  # a path ending in .safetensors would be read as such
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsupportedWeightsError(
            f"{path.name} holds more than tensors, so opening it could run code; ask its author "
            "for a safetensors file."
        ) from error
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile, ValueError) as error:
        raise UnsupportedWeightsError(
            f"{path.name} is not a whole torch file ({str(error).splitlines()[0]}); download it "
            f"again{source_of(path.name)}."
        ) from error
    for key in ("state_dict", "model", "params"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = content if isinstance(content, dict) else {}
    tensors = {key: value for key, value in tensors.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UnsupportedWeightsError(f"{path.name} holds no named tensors; give a state dict.")
    return tensors


def blank(make: Callable[[], Network], name: str, dtype: torch.dtype = torch.float32) -> Network:
    """The network that `make` makes, on the CPU in `dtype`, its weights not yet set: drawing random
    ones would take seconds.

    Raises `UnsupportedWeightsError` when it has tensors that no weight file sets.
    """
    with torch.device("meta"):
        network = make()
    if unset := {key for key, _ in network.named_buffers()} - network.state_dict().keys():
        raise UnsupportedWeightsError(
            f"{name} has layers with constants of their own ({', '.join(sorted(unset)[:3])}), "
            "which are not read here; choose another network."
        )
    torch.nn.Module.to(network, dtype)  # diffusers' own `to` warns
    return network.to_empty(device="cpu")


def load_exactly(network: torch.nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """Copy `tensors` into `network`, whose tensors they must be, name by name and shape by shape;
    they take the dtype of the network's own.

    Raises `UnsupportedWeightsError` naming what is missing, unexpected or of another shape or
    dtype.
    """
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    got = {key: tuple(value.shape) for key, value in tensors.items()}
    problems = {
        "missing": sorted(wanted.keys() - got.keys()),
        "unexpected": sorted(got.keys() - wanted.keys()),
        "of another shape": [k for k in wanted if k in got and wanted[k] != got[k]],
        "not floating point": [k for k, v in tensors.items() if not v.is_floating_point()],
    }
    said = [f"{len(v)} {k} ({', '.join(v[:3])})" for k, v in problems.items() if v]
    if said:
        raise UnsupportedWeightsError(
            f"{name} does not fit this network, tensors are {'; '.join(said)}; download it again "
            "or choose another file."
        )
    network.load_state_dict(tensors)


def digest(tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> str:
    """SHA-256 of the names, shapes and values of tensors, the values rounded to `dtype`."""
    found = hashlib.sha256()
    for key, value in sorted(tensors.items()):
        found.update(f"{key} {tuple(value.shape)}".encode())
        rounded = value.detach().cpu().to(dtype).float()
        found.update(rounded.contiguous().numpy().tobytes())
    return found.hexdigest()


def digests(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """`digest` in float32, bfloat16 and float16."""
    return tuple(digest(tensors, d) for d in (torch.float32, torch.bfloat16, torch.float16))
