"""StableSR for ComfyUI's own models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ...models.feature_injection import TrainedInjection
from ...models.known_files import STABLESR
from ...models.stablesr import read_module
from ..comfyui import host
from ..comfyui.guider_prior import available
from ..comfyui.struct_condition import computing_dtype, patched, patcher_of
from ..published import published_files, published_path
from ..widgets import expect, socket
from .policy import CATEGORY

host.register_folder(STABLESR)

FILE_TOOLTIP = (
    "A StableSR module in models/stablesr. The published ones are for non-commercial use (S-Lab "
    "License 1.0)."
)


@dataclass(frozen=True)
class Devices:
    """Where a MODEL computes and where it waits."""

    load_device: torch.device
    offload_device: torch.device


class StableSRModule:
    """MODEL, module file, LATENT -> MODEL."""

    DESCRIPTION = (
        "Lets Stable Diffusion 2.1 or SD-Turbo see the degraded picture at every step (StableSR), "
        "which then restores it faithfully. Put webui_768v_139.ckpt or the 512 module into "
        "models/stablesr."
    )
    SEARCH_ALIASES = (
        "StableSR",
        "real-world super-resolution",
        "upscale",
        "struct cond",
        "SPADE",
    )
    CATEGORY = CATEGORY
    FUNCTION = "patch"
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The model, made to see this latent; the given one is not changed.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        strength = {
            "default": 1.0,
            "min": 0.0,
            "max": 1.0,
            "step": 0.05,
            "tooltip": "How strongly the picture is seen: 1 is StableSR's; 0 leaves the model as "
            "it was.",
        }
        return {
            "required": {
                "model": socket("MODEL", "Stable Diffusion 2.1 or SD-Turbo."),
                "file": (published_files(STABLESR), {"tooltip": FILE_TOOLTIP}),
                "latent": socket(
                    "LATENT",
                    "VAE Encode of the picture enlarged to its final size, the same that is "
                    "sampled.",
                ),
                "strength": ("FLOAT", strength),
            },
            "optional": {
                "injection": socket(
                    "STRUCT_INJECTION",
                    "Changes what a region sees by what it gains. Without it: StableSR's own maps.",
                )
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, file: str) -> bool | str:
        """A listed name."""
        return host.listed("file", file, published_files(STABLESR), STABLESR)

    def patch(
        self,
        model: Any,
        file: str,
        latent: Any,
        strength: float,
        injection: TrainedInjection | None = None,
    ) -> tuple[Any]:
        """Read the file where it is not the last one read, and patch a clone."""
        if not available():
            raise RuntimeError("StableSR Module works inside ComfyUI only.")
        if not hasattr(model, "add_object_patch"):
            raise TypeError(f"model is of type {type(model).__name__}; connect a MODEL.")
        samples = samples_of(latent)
        if injection is not None:
            expect(injection, TrainedInjection, "injection", "Load Feature Injection")
        if not strength:
            return (model,)
        path = published_path(STABLESR, file)
        modified = path.stat().st_mtime_ns if path.is_file() else 0
        module = module_of(
            path, modified, computing_dtype(model), Devices(model.load_device, model.offload_device)
        )
        z_lr = model.model.process_latent_in(samples.float())
        if injection is None:
            return (patched(model, module, z_lr, strength),)
        injection.check(module.model)
        return (patched(model, module, z_lr, strength, injection.network),)


def samples_of(latent: Any) -> torch.Tensor:
    """The latents of a LATENT, (b, 4, H, W). Raises `TypeError` or `ValueError` for others."""
    expect(latent, dict, "latent", "VAE Encode")
    samples = latent.get("samples")
    expect(samples, torch.Tensor, "latent", "VAE Encode")
    if samples.ndim != 4 or samples.shape[1] != 4:
        raise ValueError(
            f"latent has shape {tuple(samples.shape)}; StableSR needs (batch, 4, height, width), "
            "VAE Encode's with the model's VAE."
        )
    if not torch.isfinite(samples).all():
        raise ValueError("latent has NaN or infinite values; look at where it comes from.")
    return samples


@lru_cache(maxsize=1)
def module_of(path: Path, modified: int, dtype: torch.dtype, model: Devices) -> Any:
    """A module in a number format; kept, since every new picture patches anew."""
    network = read_module(path)
    torch.nn.Module.to(network, dtype)
    return patcher_of(network, model)
