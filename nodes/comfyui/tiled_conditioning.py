"""What each tile of a canvas sees of ComfyUI's conditioning.

ComfyUI hands the same conditioning to every call. Here masks, inpainting latents, reference latents
of the canvas' size and ControlNet hints are cut like the canvas, tile by tile, on shallow copies:
nothing of the user's is changed, so nothing has to be restored after an error or an interrupt.

ComfyUI's conditioning and ControlNet ranges are asked with the noise level of a batch's first
sample. `boundaries` are the levels at which one of them begins or ends.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...pipelines.tiling import TileGrid
from .host import comfy

Conditioning = dict[str, list[dict[str, Any]]]
REFUSED = {  # key of an entry -> what it is
    "area": "an area (Conditioning Set Area, or a mask with set area to bounds)",
    "gligen": "GLIGEN boxes",
}


@dataclass(eq=False)
class Cutter:
    """Tiles of canvases. A tile's number counts through the batch, picture by picture.

    A canvas of fewer pictures than the batch repeats, as ComfyUI repeats conditioning.
    """

    grid: TileGrid
    views: dict[tuple[int, int], tuple[Tensor, list[Tensor]]] = field(default_factory=dict)

    def __call__(self, canvas: Tensor, tiles: Sequence[int], factor: int = 1) -> Tensor:
        """(b, .., factor H, factor W) -> (tiles, .., factor tile, factor tile); 3 or 4 dimensions.

        The canvas must live as long as this object: it is recognised by its identity.
        """
        if (id(canvas), factor) not in self.views:
            planes = canvas[:, None] if canvas.ndim == 3 else canvas
            views = list(self.grid.scaled(factor).windows(planes))
            self.views[id(canvas), factor] = canvas, views
        views, count = self.views[id(canvas), factor][1], self.grid.count
        places = [self.picture(t, len(canvas)) * count + t % count for t in tiles]
        cut = torch.stack([views[place] for place in places])
        return cut[:, 0] if canvas.ndim == 3 else cut

    def picture(self, tile: int, batch: int) -> int:
        """Which of `batch` rows belongs to a tile."""
        return tile // self.grid.count % batch

    def of(self, value: Any, tiles: Sequence[int]) -> Any:
        """A condition's value for these tiles: cut where it has the canvas' size, else its row."""
        if isinstance(value, list):
            return [self.of(one, tiles) for one in value]
        if not isinstance(value, Tensor) or not value.ndim:
            return value
        if value.ndim == 4 and value.shape[-2:] == (self.grid.height, self.grid.width):
            return self(value, tiles)
        return value if len(value) == 1 else value[[self.picture(t, len(value)) for t in tiles]]


@dataclass(eq=False)
class TiledConditioning:
    """A guider's prepared conditioning, tile by tile.

    Raises `ValueError` for conditioning that is tied to a place of the canvas: an area or GLIGEN.
    """

    conds: Conditioning
    cut: Cutter
    hints: dict[int, Tensor] = field(default_factory=dict)  # of the canvas, by ControlNet
    encoded: dict[tuple[int, int], Tensor] = field(default_factory=dict)  # by ControlNet and tile
    made: dict[int, tuple[Any, Any]] = field(default_factory=dict)  # this call's (own, copy)

    def __post_init__(self) -> None:
        for entry in entries(self.conds):
            for key, what in REFUSED.items():
                if key in entry:
                    raise ValueError(
                        f"The conditioning has {what}, which tiles cannot share; use "
                        "Conditioning Set Mask instead, or a stock sampler."
                    )

    def of(self, tiles: Sequence[int]) -> Conditioning:
        """The conditioning of a call with these tiles."""
        self.made = {}
        return {
            kind: given and [self._entry(entry, tiles) for entry in given]
            for kind, given in self.conds.items()
        }

    def _entry(self, entry: dict[str, Any], tiles: Sequence[int]) -> dict[str, Any]:
        own = entry.copy()
        if "mask" in entry:
            own["mask"] = self.cut(entry["mask"], tiles)
        own["model_conds"] = {
            name: self._condition(given, tiles) for name, given in entry["model_conds"].items()
        }
        if "control" in entry:
            own["control"] = self._control(entry["control"], tiles)
        return own

    def _condition(self, given: Any, tiles: Sequence[int]) -> Any:
        """One of ComfyUI's COND objects."""
        if isinstance(given, comfy("comfy.conds").CONDConstant):
            return given
        return given._copy_with(self.cut.of(given.cond, tiles))

    def _control(self, control: Any, tiles: Sequence[int]) -> Any:
        """A copy of a ControlNet, and of those before it, with the hints of these tiles.

        Copies of one ControlNet are one object in a call: ComfyUI batches by identity.
        """
        if id(control) in self.made:
            return self.made[id(control)][1]
        own = copy.copy(control)
        self.made[id(control)] = control, own
        own.cond_hint = own.control_input = None  # kept by size, so another tile's
        known = [self.encoded.get((id(control), tile)) for tile in tiles]
        if all(hint is not None for hint in known):
            own.cond_hint = torch.stack([hint for hint in known if hint is not None])
        if control.cond_hint_original is not None:
            own.cond_hint_original = self.cut(*self._hint(control, tiles))
        extra = getattr(control, "extra_concat_orig", [])
        own.extra_concat_orig = [self._extra(control, plane, tiles) for plane in extra]
        if control.previous_controlnet is not None:
            own.set_previous_controlnet(self._control(control.previous_controlnet, tiles))
        return own

    def _hint(self, control: Any, tiles: Sequence[int]) -> tuple[Tensor, Sequence[int], int]:
        """A ControlNet's hint at the size it has for the whole canvas, as `Cutter` asks for it."""
        ratio = control.compression_ratio
        ratio *= control.vae.spacial_compression_encode() if control.vae is not None else 1
        if id(control) not in self.hints:
            self.hints[id(control)] = self._scaled(control, control.cond_hint_original, ratio)
        return self.hints[id(control)], tiles, ratio

    def _extra(self, control: Any, plane: Tensor, tiles: Sequence[int]) -> Tensor:
        """A ControlNet's further plane, such as a mask; a single number stays one."""
        if plane.shape[-2:] == (1, 1):
            return plane
        ratio = control.compression_ratio
        if id(plane) not in self.hints:
            planes = plane.reshape(-1, 1, *plane.shape[-2:]) if plane.ndim < 4 else plane
            self.hints[id(plane)] = self._scaled(control, planes, ratio)
        return self.cut(self.hints[id(plane)], tiles, ratio)

    def _scaled(self, control: Any, planes: Tensor, ratio: int) -> Tensor:
        """Planes at `ratio` times the canvas, as ComfyUI resizes them."""
        size = (self.cut.grid.width * ratio, self.cut.grid.height * ratio)
        resize = comfy("comfy.utils").common_upscale
        return resize(planes, *size, control.upscale_algorithm, "center")

    def keep_encoded(self, tiles: Sequence[int]) -> None:
        """After a call: what a VAE made of these tiles' hints, so that it is not made again."""
        for control, own in self.made.values():
            if control.vae is not None and own.cond_hint is not None:
                for tile, hint in zip(tiles, own.cond_hint, strict=False):
                    self.encoded[id(control), tile] = hint


def entries(conds: Conditioning) -> Iterator[dict[str, Any]]:
    """All entries of all kinds of conditioning."""
    return (entry for given in conds.values() for entry in given or [])


def controls(conds: Conditioning) -> Iterator[Any]:
    """All ControlNets, with those before them."""
    for entry in entries(conds):
        control = entry.get("control")
        while control is not None:
            yield control
            control = control.previous_controlnet


def boundaries(conds: Conditioning) -> tuple[float, ...]:
    """Noise levels b such that all levels between two of them see the same conditioning.

    A level is on the upper side of b if it is above b. What holds down to an end holds at the end
    itself, so the boundary lies just below it.
    """
    begins = [entry.get("timestep_start") for entry in entries(conds)]
    ends = [entry.get("timestep_end") for entry in entries(conds)]
    for control in controls(conds):
        begin, end = control.timestep_range or (None, None)
        begins.append(begin)
        ends.append(end)
    found = {single(b) for b in begins if b is not None}
    found |= {math.nextafter(single(e), -math.inf) for e in ends if e is not None}
    return tuple(sorted(found))


def single(level: Any) -> float:
    """A level as float32, which ComfyUI compares in."""
    return torch.tensor(float(level), dtype=torch.float32).item()


def has_hooks(conds: Conditioning) -> bool:
    """Whether some conditioning changes the weights, perhaps from level to level."""
    return any(entry.get("hooks") is not None for entry in entries(conds)) or any(
        getattr(control, "extra_hooks", None) is not None for control in controls(conds)
    )
