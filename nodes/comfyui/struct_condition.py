"""StableSR on a MODEL of ComfyUI, without touching ComfyUI's own code.

The module is a network of its own that ComfyUI loads beside the model (an additional model of the
patched clone). A wrapper around the UNet computes the structure maps from the timesteps of the very
batch that the UNet is given, one per sample, and every residual block's `out_layers` is replaced,
on this clone only, by the same layers followed by the modulation; LoRAs find their weights as
before.

With Region-Adaptive Sampler (stock) every tile sees its own part of z_lr.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...models.feature_injection import StructInjection
from ...models.sending import sent
from ...models.stablesr import BLOCKS, StableSRNetwork
from ...pipelines.tiling import TileGrid
from . import placed_networks
from .host import comfy
from .model_patches import GAINS, TILES
from .model_weights import at, outside_derivatives
from .tiled_conditioning import Cutter
from .wall import settle, slots_of

KEY = "undegrade_stablesr"
UNET = "diffusion_model"


@dataclass(eq=False)
class StructCondition:
    """The degraded picture as a patched model sees it.

    patcher: ComfyUI's ModelPatcher of the module, kept as long as its network is in use. z_lr:
    (b, 4, H, W) latents of the canvas in the model's own units. maps: those of the batch in the
    UNet at this moment.
    """

    patcher: Any
    z_lr: Tensor
    strength: float
    injection: StructInjection | None = None
    maps: list[Tensor] | None = None
    cut: Cutter | None = None
    per_sample: bool = field(default=True, init=False)  # see `model_patches.one_level`

    @property
    def network(self) -> StableSRNetwork:
        """The module."""
        return self.patcher.model

    def __call__(self, executor: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """The UNet's forward pass with the maps of its batch."""
        x, t, *_, options = args
        self.maps = self.maps_for(x, t, options)
        try:
            return executor(*args, **kwargs)
        finally:
            self.maps = None

    def maps_for(self, x: Tensor, t: Tensor, options: dict[str, Any]) -> list[Tensor]:
        """The maps of a batch, one level after the other.

        Conditionings follow one another in the batch and see the same z_lr at the same timestep.
        """
        bring_whole(self.network, x.device)  # parts stay behind where too little was free
        weight = next(self.network.parameters())
        chunks = len(options.get("cond_or_uncond", [0]))
        count = len(x) // chunks
        z = self.seen(count, x.shape[-2:], options)
        maps = self.network.encoder(z.to(x.device, weight.dtype), t[:count].to(x.device))
        if self.injection:
            maps = self.injected(maps, options)
        return [m.repeat(chunks, 1, 1, 1) for m in maps]

    def injected(self, maps: list[Tensor], options: dict[str, Any]) -> list[Tensor]:
        """The maps as the trained injection lets them through, by what every region gains.

        A sampler without regions knows of no gains.
        """
        assert self.injection is not None
        bring_whole(self.injection, maps[0].device)
        sigma = options["sigmas"].float()
        gains = options.get(GAINS, torch.zeros(len(sigma), 2))
        gains = sent(gains, sigma)
        found = self.injection([m.float() for m in maps], gains, sigma)
        return [m.to(maps[0].dtype) for m in found]

    def seen(self, count: int, size: torch.Size, options: dict[str, Any]) -> Tensor:
        """What `count` samples of this size see of the degraded picture."""
        grid, tiles = options.get(TILES, (None, ()))
        tiled = isinstance(grid, TileGrid) and len(tiles) == count
        wanted, own = (grid.height, grid.width) if tiled else tuple(size), self.z_lr.shape[-2:]
        if wanted != own:
            raise ValueError(
                f"StableSR Module has a latent of {own[1]}x{own[0]} and the model samples "
                f"{wanted[1]}x{wanted[0]}; connect the same latent to both, without area "
                "conditioning, and tile with Region-Adaptive Sampler (stock) only."
            )
        if tiled:
            if self.cut is None or self.cut.grid != grid:
                self.cut = Cutter(grid)
            return self.cut(self.z_lr, tiles)
        return self.z_lr[[b % len(self.z_lr) for b in range(count)]]

    def modulate(self, block: str, h: Tensor) -> Tensor:
        """h of a residual block, modulated."""
        if self.maps is None:
            raise RuntimeError(
                "The model's UNet was called past StableSR Module; take off the node that replaces "
                "its forward pass."
            )
        modulated = self.network.modulate(block, h, self.maps)
        return modulated if self.strength == 1 else torch.lerp(h, modulated, self.strength)


class ModulatedLayers(nn.Sequential):
    """The layers of a residual block under their own names, then the modulation."""

    def __init__(self, layers: Sequence[nn.Module], block: str, condition: StructCondition) -> None:
        super().__init__(*layers)
        self.block, self.condition = block, condition

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, torch's own name
        """(B, C, h, w) -> the same shape."""
        return self.condition.modulate(self.block, super().forward(input))


def bring_whole(network: nn.Module, device: torch.device) -> None:
    """Every weight of a network of torch's layers onto a device, as ordinary tensors."""
    held = [held for module in network.modules() for _, _, held in slots_of(module)]
    if not all(at(tensor, device) for tensor in held):
        outside_derivatives(lambda: nn.Module.to(network, device), as_comfyui=False)
        settle(network)


def patcher_of(network: StableSRNetwork, model: Any) -> Any:
    """ComfyUI's ModelPatcher of a module, on the devices of a MODEL."""
    patching = comfy("comfy.model_patcher")
    return placed_networks.patcher_of(patching, network, model.load_device, model.offload_device)


def patched(
    model: Any,
    module: Any,
    z_lr: Tensor,
    strength: float,
    injection: StructInjection | None = None,
) -> Any:
    """A clone of a MODEL with a module on it. module: `patcher_of` it, in `computing_dtype`.

    Raises `ValueError` where the module does not fit the model.
    """
    if KEY in model.additional_models:
        raise ValueError("The model has a StableSR Module already; connect one only.")
    clone, condition = model.clone(), StructCondition(module, z_lr, strength, injection)
    for block in BLOCKS:
        path = f"{UNET}.{block}.out_layers"
        layers = layers_of(clone, path)
        channels = getattr(layers[-1], "out_channels", None) if layers else None
        wanted = condition.network.channels_of(block)
        if layers is None or channels != wanted:
            raise ValueError(
                f"The model has {channels or 'no'} channels in {block}, where the StableSR module "
                f"is for {wanted}; connect a model of Stable Diffusion 2.1 or SD-Turbo."
            )
        clone.add_object_patch(path, ModulatedLayers(list(layers), block, condition))
    clone.set_additional_models(KEY, [module])
    wrappers = comfy("comfy.patcher_extension").WrappersMP
    clone.add_wrapper_with_key(wrappers.DIFFUSION_MODEL, KEY, condition)
    return clone


def layers_of(model: Any, path: str) -> nn.Sequential | None:
    """The layers at a path, None where the network has none there."""
    try:
        found = model.get_model_object(path)
    except (AttributeError, IndexError):
        return None
    return found if isinstance(found, nn.Sequential) else None


def computing_dtype(model: Any) -> torch.dtype:
    """The number format that a MODEL computes in."""
    return model.model.manual_cast_dtype or model.model_dtype()
