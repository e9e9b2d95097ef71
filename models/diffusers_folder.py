"""Folders in diffusers' layout, as its pipelines save them.

    model_index.json                        what kind of pipeline; not needed here
    unet/config.json, unet/diffusion_pytorch_model.safetensors (or .bin)
    scheduler/scheduler_config.json
    vae/, text_encoder/, tokenizer/         latent models only

or, for pixel models, config.json, weights and scheduler_config.json side by side. The
configurations say what the network is, what it predicts, and its noise levels; nothing is guessed.
Noise levels are the table that diffusers' own scheduler of that name computes, in float32.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .ddpm import OLDER, OLDER_NAMES
from .discrete import PREDICTIONS, DiscretePrior
from .noise_table import sigmas_of
from .prior import PriorSpec
from .weights import UnsupportedWeightsError, blank, load_exactly, read_tensors

CONFIG, SCHEDULER_CONFIG = "config.json", "scheduler_config.json"
PARTS = ("unet", "scheduler", "vae", "text_encoder", "tokenizer")
WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.fp16.bin",
)
UNANSWERED = {  # what a network may ask for beside picture, time and text
    "class_embed_type": "class labels",
    "num_class_embeds": "class labels",
    "addition_embed_type": "the embeddings of SDXL and its like",
    "encoder_hid_dim_type": "embeddings of another kind than CLIP's",
    "time_cond_proj_dim": "a guidance scale as input, as LCM's do",
}

Config = dict[str, Any]


def pipeline_folder(path: Path) -> Path | None:
    """The folder that describes a weight file: with a config.json beside the file, that folder, or
    the one above where the file lies in `unet`; None for a file on its own.
    """
    if not (path.parent / CONFIG).is_file():
        return None
    return path.parent.parent if path.parent.name == "unet" else path.parent


def part(folder: Path, name: str) -> Path:
    """The subfolder of a pipeline's part, or the folder itself where parts lie side by side."""
    return folder / name if (folder / name).is_dir() else folder


def network_class(folder: Path) -> str:
    """The class of a folder's network, by diffusers' name. Raises as `read_config`."""
    return str(read_config(part(folder, "unet") / CONFIG).get("_class_name"))


def load_pixel_folder(folder: Path, dtype: torch.dtype = torch.float32) -> DiscretePrior:
    """The prior of a folder with a `UNet2DModel`, on the CPU, in evaluation mode, in `dtype`.

    Raises `UnsupportedWeightsError` for a folder that is incomplete, of another kind, or asks for
    more than picture and time.
    """
    network = load_network(part(folder, "unet"), "UNet2DModel", folder.name, dtype)
    config: Config = dict(network.config)  # type: ignore[arg-type]
    channels = (config["in_channels"], config["out_channels"])
    if channels not in ((3, 3), (3, 6)) or config["time_embedding_type"] != "positional":
        raise UnsupportedWeightsError(
            f"{folder.name} has {channels[0]} channels in, {channels[1]} out and times that are "
            f"{config['time_embedding_type']}; choose a network on RGB pixels with positional "
            "times."
        )
    sigmas, prediction, clip = read_scheduler(folder)
    spec = PriorSpec(
        multiple_of=2 ** (len(config["block_out_channels"]) - 1),
        native_size=side(config, folder.name),
        sigma_min=sigmas[0].item(),
        sigma_max=sigmas[-1].item(),
        sigmas=sigmas,
        name=folder.name,
    )
    return DiscretePrior(network, spec, prediction, clip)


def load_network(folder: Path, cls: str, name: str, dtype: torch.dtype) -> torch.nn.Module:
    """The diffusers network of one part, on the CPU in `dtype`, in evaluation mode.

    cls: the class that its config.json must name. name: of the whole folder, for messages.
    """
    import diffusers

    config = read_config(folder / CONFIG)
    if config.get("_class_name") != cls:
        raise UnsupportedWeightsError(
            f"{name} has a {config.get('_class_name')} where a {cls} is needed; choose a folder of "
            "DDPM's kind, or of Stable Diffusion 1.5, 2.1 or SD-Turbo for a latent prior."
        )
    for key, what in UNANSWERED.items():
        if config.get(key) is not None:
            raise UnsupportedWeightsError(
                f"{name} needs {what} ({key} is {config[key]!r}), which no sampler here gives; "
                "choose another network."
            )
    path = next((folder / file for file in WEIGHTS if (folder / file).is_file()), None)
    if path is None:
        raise UnsupportedWeightsError(
            f"{name} has no weights in {folder.name}; put {WEIGHTS[0]} beside its {CONFIG}."
        )
    try:
        network = blank(lambda: getattr(diffusers, cls).from_config(config), name, dtype)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UnsupportedWeightsError(
            f"{name} has a {CONFIG} that diffusers cannot build a {cls} from "
            f"({first_sentence(error)}); download it again."
        ) from error
    tensors = {current_name(key): value for key, value in read_tensors(path)[0].items()}
    load_exactly(network, tensors, f"{name}'s {path.name}")
    return network.requires_grad_(False).eval()


def first_sentence(error: BaseException) -> str:
    """What an error of another package says, in short."""
    return next(iter(str(error).splitlines()), type(error).__name__).split(". ")[0].rstrip(".")


def current_name(key: str) -> str:
    """A tensor's name today; before diffusers 0.16 attention was named otherwise."""
    return OLDER.sub(lambda match: OLDER_NAMES[match[1]], key)


def read_scheduler(folder: Path) -> tuple[Tensor, str, float | None]:
    """(noise levels (T,), ascending; what the network predicts; bound of x0_hat or None).

    A last level without any signal (zero terminal SNR) is infinite noise, and left out.
    Raises `UnsupportedWeightsError` for a scheduler without a variance-preserving table, a
    prediction that is none of `PREDICTIONS`, and dynamic thresholding.
    """
    import diffusers

    config = read_config(part(folder, "scheduler") / SCHEDULER_CONFIG)
    cls = getattr(diffusers, str(config.get("_class_name")), None)
    if not (isinstance(cls, type) and issubclass(cls, diffusers.SchedulerMixin)):  # type: ignore[attr-defined]
        raise UnsupportedWeightsError(
            f"{folder.name} has a scheduler {config.get('_class_name')} that the installed "
            "diffusers does not know; choose a folder with DDPM's, DDIM's or Euler's."
        )
    scheduler: Any = cls.from_config(config)  # type: ignore[attr-defined]
    kind, prediction = cls.__name__, scheduler.config.get("prediction_type", "epsilon")
    abar = getattr(scheduler, "alphas_cumprod", None)
    if abar is None or prediction not in PREDICTIONS or scheduler.config.get("use_flow_sigmas"):
        raise UnsupportedWeightsError(
            f"{folder.name} has a scheduler {kind} with {prediction!r} predictions, which is no "
            f"diffusion with a table of betas; choose a network that predicts "
            f"{', '.join(PREDICTIONS[:2])} or {PREDICTIONS[2]} under one."
        )
    if scheduler.config.get("thresholding"):
        raise UnsupportedWeightsError(
            f"{folder.name} asks for dynamic thresholding, which is not done here; set "
            f"thresholding to false in its {SCHEDULER_CONFIG}."
        )
    clips = scheduler.config.get("clip_sample", False)
    clip = float(scheduler.config.get("clip_sample_range", 1.0)) if clips else None
    return sigmas_of(abar[abar > 0]), prediction, clip


def side(config: Config, name: str) -> int:
    """The side of the pictures or latents a network was trained on, by its sample_size."""
    size = config.get("sample_size")
    size = max(size) if isinstance(size, list | tuple) else size
    if not isinstance(size, int):
        raise UnsupportedWeightsError(
            f"{name} does not say the size it was trained for; write it into its unet's {CONFIG} "
            "as sample_size."
        )
    return size


def read_config(path: Path) -> Config:
    """The content of a configuration file. Raises `UnsupportedWeightsError` where there is none."""
    whole = path.parent.parent if path.parent.name in PARTS else path.parent
    if not path.is_file():
        raise UnsupportedWeightsError(
            f"{whole.name} has no {path.relative_to(whole).as_posix()}; give a whole folder in "
            "diffusers' layout."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnsupportedWeightsError(
            f"{whole.name} has a {path.relative_to(whole).as_posix()} that is no JSON ({error}); "
            "download it again."
        ) from error
    if not isinstance(config, dict):
        raise UnsupportedWeightsError(
            f"{whole.name} has a {path.relative_to(whole).as_posix()} that is no configuration; "
            "download it again."
        )
    return config
