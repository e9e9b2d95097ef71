"""Stand-ins for a MODEL of ComfyUI: a narrow UNet of four levels, and its patcher."""

from types import SimpleNamespace

import torch
from stablesr_modules import MULTIPLES, SPADES
from torch import nn

WIDTH = 32


class Block(nn.Module):
    """A residual block: only what comes after `out_layers` matters here."""

    def __init__(self, channels):
        super().__init__()
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, h):
        return h + self.out_layers(h)


class UNet(nn.Module):
    """Blocks under ComfyUI's names; each level works on its own part of the latent."""

    def __init__(self, width=WIDTH):
        super().__init__()
        for kind in ("input_blocks", "middle_block", "output_blocks"):
            setattr(self, kind, nn.ModuleList())
        for name, level in SPADES.items():
            kind, number, *_ = name.split(".")
            places = getattr(self, kind)
            while len(places) <= int(number):
                places.append(nn.ModuleList([nn.Identity()]))
            block = Block(width * MULTIPLES[level])
            if kind == "middle_block":
                places[int(number)] = block
            else:
                places[int(number)][0] = block

    def forward(self, x, t, context=None, y=None, control=None, options=None):
        """The mean of what all blocks make of the latent, (B, 4, h, w)."""
        total = torch.zeros_like(x)
        for name, level in SPADES.items():
            h = x
            for _ in range(level):
                size = [-(-side // 2) for side in h.shape[-2:]]
                h = nn.functional.interpolate(h, size)
            block = self.get_submodule(name)
            h = block(h.repeat(1, WIDTH * MULTIPLES[level] // 4, 1, 1))
            total = total + nn.functional.interpolate(h[:, :4], x.shape[-2:])
        return total / len(SPADES)


class Patcher:
    """A ModelPatcher that puts its object patches in place while the block runs."""

    load_device = offload_device = torch.device("cpu")

    def __init__(self, model, **known):
        known.pop("load_device", None), known.pop("offload_device", None)
        self.model, self.patches, self.wrappers, self.additional_models = model, {}, {}, {}

    def clone(self):
        other = Patcher(self.model)
        other.patches, other.wrappers = dict(self.patches), dict(self.wrappers)
        other.additional_models = dict(self.additional_models)
        return other

    def get_model_object(self, path):
        return self.patches.get(path) or self.model.get_submodule(path)

    def add_object_patch(self, path, value):
        self.patches[path] = value

    def set_additional_models(self, key, models):
        self.additional_models[key] = models

    def add_wrapper_with_key(self, kind, key, wrapper):
        self.wrappers[kind, key] = wrapper

    def model_dtype(self):
        return torch.float32

    def run(self, x, t, **options):
        """The UNet on a batch, as ComfyUI calls it."""
        before = {path: self.model.get_submodule(path) for path in self.patches}
        place(self.model, self.patches)
        try:
            unet, arguments = self.model.diffusion_model, (x, t, None, None, None, options)
            for wrapper in self.wrappers.values():
                return wrapper(unet, *arguments)
            return unet(*arguments)
        finally:
            place(self.model, before)


def place(model, modules):
    for path, module in modules.items():
        owner, name = path.rsplit(".", 1)
        setattr(model.get_submodule(owner), name, module)


def model(width=WIDTH):
    """A MODEL with random weights."""
    base = nn.Module()
    base.diffusion_model = UNet(width)
    generator = torch.Generator().manual_seed(3)
    for parameter in base.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        parameter.requires_grad_(False)
    base.process_latent_in = lambda z: 0.5 * z
    base.manual_cast_dtype = None
    return Patcher(base)


def modules():
    """name -> what `host.comfy(name)` shall return."""
    return {
        "comfy.samplers": SimpleNamespace(),
        "comfy.model_patcher": SimpleNamespace(ModelPatcher=Patcher),
        "comfy.patcher_extension": SimpleNamespace(
            WrappersMP=SimpleNamespace(DIFFUSION_MODEL="diffusion_model")
        ),
    }
