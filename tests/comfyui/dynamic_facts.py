"""Runs inside a real ComfyUI that has dynamic VRAM: prints as JSON how far derivatives through a
model that it holds so are from those through the same model loaded as one.

usage: python dynamic_facts.py COMFYUI_FOLDER PACK_FOLDER WORK_FOLDER

The code is ComfyUI's own. Only what needs a GPU is replaced: aimdo's memory is one page, into which
every weight is written when its operation asks for it; files are read by safetensors; the CPU is
not known as one, and a weight that is not in the page claims to lie elsewhere.
"""

# ruff: noqa: I001, TID251
import ctypes
import json
import sys

import guider_facts as small  # puts ComfyUI on the path, on the CPU

import comfy.memory_management
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.utils
import comfy_aimdo.host_buffer
import comfy_aimdo.model_vbar
import comfy_aimdo.torch
import torch
from comfy.cli_args import args
from safetensors.torch import load_file

CPU = torch.device("cpu")
PAGE = (ctypes.c_uint8 * 2**26)()
written = [0]


class Elsewhere(torch.nn.Parameter):
    """A weight that says it is not on the device."""

    @property
    def device(self):
        return torch.device("meta")


class VBar:
    """aimdo's address space of a model."""

    def alloc(self, size: int) -> tuple:
        return self, id(self), size

    def prioritize(self) -> None: ...

    def loaded_size(self) -> int:
        return 0

    def free_memory(self, size: int) -> int:
        return 0


class HostBuffer:
    """Pinned memory, of which there is none."""

    size = 0

    def __init__(self, *_): ...


def fault(_: tuple) -> int:
    """The page is another weight's now."""
    written[0] += 1
    return written[0]


def vbar_of(self, create: bool = False) -> VBar:
    return self.model.dynamic_vbars.setdefault(self.load_device, VBar())


def load(self, *given, **named) -> None:
    """ComfyUI's own, after which the weights it fetches later say where they are."""
    loaded(self, *given, **named)
    for module in self.model.modules():
        for name, held in module._parameters.items():
            if hasattr(module, "_v") and held is not None:
                module._parameters[name] = Elsewhere(held.data, requires_grad=False)
                module._parameters[name].__dict__.update(held.__dict__)  # its number format


def pretend() -> None:
    """Dynamic VRAM is on, and nothing of it needs a GPU."""
    Dynamic = comfy.model_patcher.ModelPatcherDynamic
    args.fast_disk = True
    comfy.memory_management.aimdo_enabled = True
    comfy.model_management.is_device_cpu = lambda device: False
    comfy.model_patcher.CoreModelPatcher, Dynamic._vbar_get, Dynamic.load = Dynamic, vbar_of, load
    comfy.utils.load_safetensors = lambda path: (load_file(path), {})
    comfy_aimdo.host_buffer.HostBuffer = HostBuffer
    vbar = comfy_aimdo.model_vbar
    vbar.vbar_fault, vbar.vbar_unpin = fault, lambda _: None
    vbar.vbar_signature_compare = lambda a, b: a == b
    comfy_aimdo.torch.aimdo_to_tensor = lambda alloc, _: torch.frombuffer(
        PAGE, dtype=torch.uint8, count=alloc[2]
    )


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradient(function, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor | str:
    """J^T u outside of inference mode, or what was raised."""
    with torch.inference_mode(False), torch.no_grad():
        try:
            return torch.func.vjp(function, x.clone())[1](u.clone())[0]
        except (RuntimeError, ValueError) as error:
            return str(error)


def wrap(guider, vae):
    """The node's prior."""
    node = sys.modules["undegrade"].NODE_CLASS_MAPPINGS["UndegradePriorFromGuider"]
    return node().wrap(guider, vae)[0]


Z, SEEN = draw(1, 4, 4, 6, seed=1), draw(1, 3, 32, 48, seed=2)


def denoised(prior, scale: float = 3.0):
    """A state's prediction, and the gradient of one."""
    from undegrade.nodes.comfyui import host

    x, sigma = scale * Z, torch.full((1,), scale)
    with host.running(prior):
        plain = prior.denoise(x, sigma)
        found = gradient(lambda state: prior.denoise(state, sigma), x, Z)
        again = prior.denoise(x, sigma)
    return plain, found, again


def far(found, expected: torch.Tensor) -> float | str:
    """Relative distance, or the words of what was raised."""
    if isinstance(found, str):
        return found
    return ((found - expected).abs().max() / expected.abs().max()).item()


def streamed(vae):
    """The decoder as it is, its weights fetched by every operation."""
    comfy.model_management.load_models_gpu([vae.patcher])
    return gradient(vae.first_stage_model.decode, Z, SEEN)


def main() -> None:
    comfy.utils.set_progress_bar_enabled(False)
    small.pack()
    path, facts = small.checkpoint(), {}
    read = comfy.sd.load_checkpoint_guess_config
    with torch.inference_mode():
        model, _, vae, _ = read(path, output_clip=False)
        prior = wrap(small.guider(model, 5), vae)
        decoder = gradient(vae.first_stage_model.decode, Z, SEEN)
        expected = denoised(prior)
        through_codec = gradient(prior.codec.decode, Z, SEEN)
        pretend()
        model, _, vae, _ = read(path, output_clip=False)
        assert model.is_dynamic() and vae.patcher.is_dynamic()
        facts["streamed"] = far(streamed(vae), decoder)
        prior = wrap(small.guider(model, 5), vae)
        facts["decoder"] = far(gradient(prior.codec.decode, Z, SEEN), through_codec)
        facts["stand-in"] = not prior.codec.patcher.is_dynamic()
        found = denoised(prior)
        for name, ours, theirs in zip(("plain", "network", "again"), found, expected, strict=True):
            facts[name] = far(ours, theirs)
        model, _, vae, _ = read(path, output_clip=False)
        model.cached_patcher_init = vae.patcher.cached_patcher_init = None
        prior = wrap(small.guider(model, 5), vae)
        facts["decoder without a file"] = far(
            gradient(prior.codec.decode, Z, SEEN), through_codec
        )
        plain, refused, _ = denoised(prior)
        facts["plain without a file"], facts["refused"] = far(plain, expected[0]), refused
        facts["faults"] = written[0]
    sys.stdout.write("\n" + json.dumps(facts) + "\n")


loaded = getattr(comfy.model_patcher, "ModelPatcherDynamic", comfy.model_patcher.ModelPatcher).load
if __name__ == "__main__":
    main()
