"""Options on the command line, and weights with their history in a file."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ..models.latent import load_diffusers_prior
from ..models.prior import Prior
from ..models.registry import BUILT_IN, load_pixel_prior
from ..pipelines.options import Options, describe

Chosen = TypeVar("Chosen", bound=Options)
LICENCE = "MIT"


def read_options(cls: type[Chosen], arguments: Sequence[str], description: str) -> Chosen:
    """`--name value` for every option of a dataclass; `--help` shows their tooltips."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    for name, (default, known) in describe(cls).items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            default=default,
            choices=known.choices or None,
            help=known.tooltip.replace("%", "%%"),
        )
    try:
        return cls(**vars(parser.parse_args(arguments)))
    except ValueError as error:
        parser.error(str(error))


def command_line(script: str, options: Options) -> str:
    """What to type to train again: the options that differ from their defaults, but for `out`.

    Of files and folders only the names are said.
    """
    words = ["python", "training", script]
    for name, (default, _) in describe(type(options)).items():
        value = getattr(options, name)
        if value != default and name != "out":
            said = Path(value).name if isinstance(value, str) else value
            words += [f"--{name.replace('_', '-')}", str(said)]
    return shlex.join(words)


def samples_seen(steps: int, batch: int) -> str:
    """By all processes of the run."""
    from accelerate import PartialState

    return str(steps * batch * PartialState().num_processes)


def read_prior(name: str, prompt: str = "") -> Prior:
    """A pixel prior's weight file, or a diffusers folder; empty is the built-in prior. prompt:
    what a latent model is told."""
    file = Path(name) if name else BUILT_IN
    return load_diffusers_prior(file, prompt) if file.is_dir() else load_pixel_prior(file)


def write_weights(
    network: nn.Module, file: Path, metadata: dict[str, Any], dtype: torch.dtype = torch.float16
) -> None:
    """The weights of a network as safetensors; what is no text in the metadata becomes JSON.

    Half precision costs the small networks less than 0.01 dB. The file appears whole or not at all.
    """
    from safetensors.torch import save_file

    tensors = {
        key: value.detach().to("cpu", dtype).contiguous()
        for key, value in network.state_dict().items()
    }
    said = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    versions = f"python {sys.version.split()[0]}, torch {torch.__version__}"
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    save_file(tensors, str(part), {"license": LICENCE, "versions": versions, **said})
    part.chmod(0o644)  # safetensors writes for its owner alone
    part.replace(file)
