"""StableSR's modulation in diffusers' UNet: every block, by its name written out, and no other."""

import pytest
import stablesr_modules
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers_folders import seeded
from region_guiders import drawn

from undegrade.models.feature_injection import StructInjection
from undegrade.models.modulated_unet import modulated
from undegrade.models.stablesr import StableSRNetwork, load
from undegrade.models.struct_encoder import Sizes

NAMES = {  # Stable Diffusion's own -> diffusers'
    "input_blocks.1.0": "down_blocks.0.resnets.0", "input_blocks.2.0": "down_blocks.0.resnets.1",
    "input_blocks.4.0": "down_blocks.1.resnets.0", "input_blocks.5.0": "down_blocks.1.resnets.1",
    "input_blocks.7.0": "down_blocks.2.resnets.0", "input_blocks.8.0": "down_blocks.2.resnets.1",
    "input_blocks.10.0": "down_blocks.3.resnets.0", "input_blocks.11.0": "down_blocks.3.resnets.1",
    "middle_block.0": "mid_block.resnets.0", "middle_block.2": "mid_block.resnets.1",
    "output_blocks.0.0": "up_blocks.0.resnets.0", "output_blocks.1.0": "up_blocks.0.resnets.1",
    "output_blocks.2.0": "up_blocks.0.resnets.2", "output_blocks.3.0": "up_blocks.1.resnets.0",
    "output_blocks.4.0": "up_blocks.1.resnets.1", "output_blocks.5.0": "up_blocks.1.resnets.2",
    "output_blocks.6.0": "up_blocks.2.resnets.0", "output_blocks.7.0": "up_blocks.2.resnets.1",
    "output_blocks.8.0": "up_blocks.2.resnets.2", "output_blocks.9.0": "up_blocks.3.resnets.0",
    "output_blocks.10.0": "up_blocks.3.resnets.1", "output_blocks.11.0": "up_blocks.3.resnets.2",
}  # fmt: skip
TENSORS = stablesr_modules.tensors()


@pytest.fixture(scope="module")
def module():
    return load(TENSORS, "random")


@pytest.fixture(scope="module")
def unet():
    return seeded(UNet2DConditionModel(**stablesr_modules.UNET))


class Residual(torch.nn.Module):
    """diffusers' block, written out with the modulation before the skip."""

    def __init__(self, block, name, state):
        super().__init__()
        self.block, self.state, self.level = block, state, stablesr_modules.SPADES[name]
        prefix = f"model.diffusion_model.{name}.spade."
        self.w = {k.removeprefix(prefix): v for k, v in TENSORS.items() if k.startswith(prefix)}

    def conv(self, x, name):
        return F.conv2d(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"], padding=1)

    def forward(self, x, temb, *_):
        b, m = self.block, self.state["maps"][self.level]
        h = b.conv1(F.silu(b.norm1(x))) + b.time_emb_proj(F.silu(temb))[:, :, None, None]
        h = b.conv2(F.silu(b.norm2(h)))
        weight, bias = self.w["param_free_norm.weight"], self.w["param_free_norm.bias"]
        shared = F.relu(self.conv(m, "mlp_shared.0"))
        h = F.group_norm(h, 32, weight, bias) * (1 + self.conv(shared, "mlp_gamma"))
        h = h + self.conv(shared, "mlp_beta")
        return (b.conv_shortcut(x) if b.conv_shortcut is not None else x) + h


def reference(unet, maps, x, t, text):
    """The network with every block replaced, one sample at a time."""
    state, blocks = {}, {name: unet.get_submodule(theirs) for name, theirs in NAMES.items()}
    place(unet, {name: Residual(block, name, state) for name, block in blocks.items()})
    rows = []
    for k in range(len(x)):
        state["maps"] = [m[k : k + 1] for m in maps]
        rows.append(unet(x[k : k + 1], t[k : k + 1], text[k : k + 1]).sample)
    place(unet, blocks)
    return torch.cat(rows)


def place(unet, blocks):
    for name, block in blocks.items():
        owner, number = NAMES[name].rsplit(".", 1)
        unet.get_submodule(owner)[int(number)] = block


def given(module, parts=1):
    z_lr, x = drawn(3, 4, 16, 24), drawn(3 * parts, 4, 16, 24, seed=1)
    t, text = torch.tensor([5.0, 400.0, 999.0]), drawn(3 * parts, 8, 24, seed=2)
    return module.encoder(z_lr, t), x, t.repeat(parts), text


@torch.inference_mode()
def test_all_22_blocks_are_modulated_at_their_own_level(module, unet):
    maps, x, t, text = given(module)
    plain = unet(x, t, text).sample
    with modulated(unet, module, maps):
        ours = unet(x, t, text).sample
    theirs = reference(unet, maps, x, t, text)
    assert (ours - theirs).abs().max() < 2e-5 * theirs.abs().max()
    assert (ours - plain).abs().max() > 0.1 * plain.abs().max()
    assert torch.equal(unet(x, t, text).sample, plain), "as it was afterwards"


@torch.inference_mode()
def test_guidance_gives_every_part_the_same_maps(module, unet):
    maps, x, t, text = given(module, parts=2)
    with modulated(unet, module, maps):
        ours = unet(x, t, text).sample
    theirs = reference(unet, [m.repeat(2, 1, 1, 1) for m in maps], x, t, text)
    assert (ours - theirs).abs().max() < 2e-5 * theirs.abs().max()


def test_hooks_are_taken_off_after_an_error_and_derivatives_reach_the_maps(module, unet):
    maps, x, t, text = given(module)
    with pytest.raises(KeyError), modulated(unet, module, maps):
        raise KeyError
    assert not any(layer._forward_hooks for layer in unet.modules())
    leaves = [m.detach().requires_grad_() for m in maps]
    with modulated(unet, module, leaves):
        out = unet(x, t, text).sample
    out.square().mean().backward()
    assert all(leaf.grad.abs().max() > 0 for leaf in leaves)


def test_another_network_is_refused(module, unet):
    narrow = load(stablesr_modules.tensors(unet=64), "wide")
    said = r"32 channels in down_blocks\.0\.resnets\.0, where the StableSR module is for 64"
    with pytest.raises(ValueError, match=said), modulated(unet, narrow, []):
        pass
    said = "no channels in down_blocks"
    with pytest.raises(ValueError, match=said), modulated(torch.nn.Identity(), module, []):
        pass


def test_stable_diffusion_2_and_the_published_module_fit_in_every_shape():
    """At their own sizes, without weights."""
    sizes = {
        "block_out_channels": (320, 640, 1280, 1280),
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
    }
    levels, multiples = stablesr_modules.SPADES, stablesr_modules.MULTIPLES
    channels = {name: 320 * multiples[level] for name, level in levels.items()}
    with torch.device("meta"), torch.inference_mode():
        unet = UNet2DConditionModel(**{**stablesr_modules.UNET, **sizes})
        module, injection = StableSRNetwork(Sizes(), channels, 128), StructInjection()
        z, t = torch.empty(2, 4, 64, 96), torch.empty(2)
        maps = injection(module.encoder(z, t), torch.empty(2, 2), t)
        with modulated(unet, module, maps):
            assert unet(z, t, torch.empty(2, 77, 1024)).sample.shape == z.shape
    assert [tuple(m.shape[-3:]) for m in maps] == [
        (256, 64, 96), (256, 32, 48), (256, 16, 24), (256, 8, 12)
    ]  # fmt: skip
    assert sum(p.numel() for p in injection.parameters()) == 4 * (8_224 + 256 + 9_248 + 16_896)
