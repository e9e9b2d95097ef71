"""A GUIDER of ComfyUI as a prior.

ComfyUI prepares a guider for a run and cleans up after it inside `CFGGuider.sample`, around a
sampler of its own. Ours asks the guider one question after another, so `prepared` takes the same
steps in the same order. Wrappers around a whole sampling run (OUTER_SAMPLE, SAMPLER_SAMPLE) have
nothing to wrap here; all others work.

Nothing of the user's is changed: the run uses a shallow copy of the guider, copies of its
conditioning and of its model options.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...models.codec import Codec
from ...models.prior import PriorSpec
from ...pipelines.step import column
from .host import comfy
from .model_weights import (
    DERIVATIVE_MEMORY,
    Residency,
    asked,
    derived,
    dynamic,
    loose_conditioning,
    outside_derivatives,
    whole,
)
from .tiled_conditioning import controls, has_hooks
from .wall import freed

TIMED = {"timestep_start", "timestep_end", "control", "hooks"}  # may differ from level to level


@dataclass
class Session:
    """A guider that is ready for states of up to one batch and of one size, while a run lasts.

    backward: ready for derivatives too, from the first one on.
    """

    stack: ExitStack
    guider: Any = None
    shape: torch.Size = field(default_factory=lambda: torch.Size((0,)))
    backward: bool = False

    def fits(self, shape: torch.Size, backward: bool) -> bool:
        """Whether what is prepared serves states of this shape."""
        sized = shape[1:] == self.shape[1:] and shape[0] <= self.shape[0]
        return sized and (self.backward or not backward)

    def prepare(self, guider: Any, shape: torch.Size, backward: bool) -> None:
        """Ready for this shape, whatever it was ready for before."""
        self.stack.close()
        self.shape, backward = torch.Size((0,)), self.backward or backward
        self.guider = self.stack.enter_context(prepared(guider, shape, backward))
        self.shape, self.backward = shape, backward

    def load(self) -> None:
        """The guider's models back onto the device."""
        load_network(self.guider, self.shape, self.backward)


@dataclass(frozen=True, eq=False)
class GuiderPrior:
    """E[x0 | x] by a ComfyUI guider, for use inside `running`.

    x = x0 + sigma n is the state ComfyUI's eps, v and EDM models take. A flow model takes
    (1 - s) x0 + s n: with s = sigma / (1 + sigma) that is (1 - s) x, the same noise level exactly.
    """

    guider: Any
    spec: PriorSpec
    codec: Codec
    flow: bool = False
    residency: Residency = field(default_factory=Residency)
    sessions: list[Session] = field(default_factory=list, repr=False)

    @contextmanager
    def running(self) -> Iterator[torch.device]:
        """Prepared at the first prediction, and released when the block ends, however it does.

        Gives the device that the model computes on, which may not be ComfyUI's default one.
        """
        with ExitStack() as stack:
            self.sessions.append(Session(stack))
            try:
                yield self.guider.model_patcher.load_device
            finally:
                self.sessions.pop()
                self.residency.current = None

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        """x0_hat of every sample; see `Prior`.

        Raises `ValueError` under a derivative that ComfyUI has no way for.
        """
        guider = self._ready(x.shape, derived(x))
        level = sigma / (1 + sigma) if self.flow else sigma
        x = x * column(1 - level, x) if self.flow else x
        if is_timed(guider.conds) and (sigma != sigma[0]).any():  # it asks the first level only
            pairs = zip(x.split(1), level.split(1), strict=True)
            return torch.cat([ask(guider, one, at) for one, at in pairs])
        return ask(guider, x, level)

    def _ready(self, shape: torch.Size, backward: bool) -> Any:
        """The guider prepared for this shape, its network on the device."""
        if not self.sessions:
            raise RuntimeError("A prior from a guider works inside a run only (host.running).")
        session = self.sessions[-1]
        if not session.fits(shape, backward):
            self.residency.current = None
            outside_derivatives(lambda: session.prepare(self.guider, shape, backward))
            self.residency.current = "network"
        self.residency.bring("network", session.load)
        return session.guider


def ask(guider: Any, x: Tensor, level: Tensor) -> Tensor:
    """The guider's x0 of x, (B, C, h, w), at its own noise levels, (B,)."""
    models = [guider.model_patcher, *guider.loaded_models]
    options = guider.run_options
    return asked(models, x, lambda: guider(x, level, model_options=options, seed=0).float())


def is_timed(conds: dict[str, list[dict[str, Any]]]) -> bool:
    """Whether some conditioning may hold for a part of the noise levels only."""
    return any(TIMED & entry.keys() for entries in conds.values() for entry in entries)


def load_network(guider: Any, shape: torch.Size, backward: bool = False) -> None:
    """A prepared guider's models back onto the device; all of their weights for a derivative."""
    needs = comfy("comfy.sampler_helpers").estimate_memory
    memory, least = needs(guider.model_patcher, shape, guider.conds)
    models = [guider.model_patcher, *guider.loaded_models]
    load = comfy("comfy.model_management").load_models_gpu
    memory = DERIVATIVE_MEMORY * memory if backward else memory
    sizes = {"memory_required": memory, "minimum_memory_required": least}
    load(models, **sizes, force_full_load=backward)


def network_for_derivatives(patcher: Any, conds: dict[str, list[dict[str, Any]]]) -> Any:
    """The patcher to take derivatives through.

    Raises `ValueError` for ControlNets, whose results ComfyUI adds in place, for conditioning that
    changes weights in place, and for a model that dynamic VRAM can give in no other way.
    """
    name = type(getattr(patcher.model, "model_config", patcher.model)).__name__
    found = "a ControlNet" if any(controls(conds)) else "hooks" if has_hooks(conds) else ""
    if found:
        raise ValueError(
            f"The guider's conditioning has {found}, through which ComfyUI has no derivative; take "
            "it off, or use CG Measurement Update."
        )
    own = whole(patcher)
    if dynamic(own):
        raise ValueError(
            f"ComfyUI's dynamic VRAM fetches the weights of {name} inside of every operation, and "
            "its loader knows no other way, so no derivative can be taken through it; load it with "
            "Load Checkpoint or Load Diffusion Model, start ComfyUI with --disable-dynamic-vram, "
            "or use CG Measurement Update."
        )
    return own


@contextmanager
def prepared(guider: Any, shape: torch.Size, backward: bool = False) -> Iterator[Any]:
    """A copy of the guider, ready to be asked about states of this shape.

    As in `CFGGuider.sample` and what it calls: hooks registered, models loaded with memory for the
    shape, conditioning processed; undone in reverse order, after an error or an interrupt too.
    """
    samplers, helpers = comfy("comfy.samplers"), comfy("comfy.sampler_helpers")
    patcher, own = guider.model_patcher, copy.copy(guider)
    if backward:
        own.model_patcher = patcher = network_for_derivatives(patcher, guider.original_conds)
    own.conds = {name: [c.copy() for c in given] for name, given in guider.original_conds.items()}
    own.model_options = options_clone(guider.model_options)
    samplers.preprocess_conds_hooks(own.conds)
    with ExitStack() as stack:
        stack.callback(patcher.restore_hook_patches)
        stack.callback(setattr, patcher, "hook_mode", patcher.hook_mode)
        if samplers.get_total_hook_groups_in_conds(own.conds) <= 1:  # they never change in the run
            patcher.hook_mode = comfy("comfy.hooks").EnumHookMode.MinVram
        stack.callback(
            samplers.cast_to_load_options, own.model_options, device=patcher.offload_device
        )
        helpers.prepare_model_patcher(patcher, own.conds, own.model_options)
        samplers.filter_registered_hooks_on_conds(own.conds, own.model_options)
        own.inner_model, own.conds, own.loaded_models = helpers.prepare_sampling(
            patcher, shape, own.conds, own.model_options
        )
        stack.callback(lambda: helpers.cleanup_models(own.conds, own.loaded_models))
        if backward:
            load_network(own, shape, backward)
        device = patcher.load_device
        dtype = patcher.model_dtype()
        samplers.cast_to_load_options(own.model_options, device=device, dtype=dtype)
        stack.callback(patcher.cleanup)
        patcher.pre_run()
        blank = torch.zeros(shape, device=device)  # what an empty latent is to a stock sampler
        own.conds = samplers.process_conds(
            own.inner_model, blank, own.conds, device, blank, None, 0
        )
        own.run_options = options_clone(own.model_options)
        levels = own.inner_model.model_sampling.sigmas.flip(0).to(device)
        levels = torch.cat([levels, levels.new_zeros(1)])
        own.run_options.setdefault("transformer_options", {})["sample_sigmas"] = levels
        with torch.inference_mode(False):
            own.conds, own.run_options = loose_conditioning(own.conds), freed(own.run_options)
        yield own


def options_clone(options: dict[str, Any]) -> dict[str, Any]:
    """A copy of model options that a run may write to."""
    return comfy("comfy.model_patcher").create_model_options_clone(options)


def available() -> bool:
    """Whether ComfyUI runs in this process."""
    return comfy("comfy.samplers") is not None
