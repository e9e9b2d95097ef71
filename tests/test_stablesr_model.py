"""StableSR Module on a MODEL: every block modulated by its own sample's maps, on a clone only."""

import pytest
import stablesr_modules
import stablesr_patchers
import torch

from undegrade.models.feature_injection import StructInjection, load
from undegrade.models.stablesr import BLOCKS, level_of
from undegrade.models.stablesr import load as load_module
from undegrade.models.weights import UnsupportedWeightsError
from undegrade.nodes.comfyui import guider_prior, struct_condition
from undegrade.nodes.comfyui.model_patches import GAINS, TILES, one_level
from undegrade.nodes.regions import stablesr
from undegrade.pipelines.tiling import TileGrid

GRID = TileGrid(19, 22, 8, 4)


@pytest.fixture(scope="module")
def network():
    return load_module(stablesr_modules.tensors(), "random")


@pytest.fixture(autouse=True)
def comfyui(monkeypatch):
    known = stablesr_patchers.modules()
    for owner in (struct_condition, guider_prior):
        monkeypatch.setattr(owner, "comfy", known.get)


@pytest.fixture
def module(network):
    return stablesr_patchers.Patcher(network)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_hooks(base, network, z, x, t, strength=1.0):
    """The same by torch's hooks, sample by sample."""
    rows, handles, state = [], [], {}
    for block in BLOCKS:
        layer, level = network.modulations[block.replace(".", "_")], level_of(block)

        def change(_, __, h, layer=layer, level=level):
            return h + strength * (layer(h, state["maps"][level]) - h)

        layers = base.get_model_object(f"diffusion_model.{block}.out_layers")
        handles.append(layers.register_forward_hook(change))
    for k in range(len(x)):
        state["maps"] = network.encoder(z[k : k + 1], t[k : k + 1])
        rows.append(base.model.diffusion_model(x[k : k + 1], t[k : k + 1]))
    for handle in handles:
        handle.remove()
    return torch.cat(rows)


@torch.inference_mode()
@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_every_sample_is_modulated_at_its_own_timestep(network, module, strength):
    base, z, x = stablesr_patchers.model(), drawn(3, 4, 19, 22), drawn(6, 4, 19, 22, seed=1)
    t = torch.tensor([5.0, 400.0, 999.0])
    plain = base.run(x, t.repeat(2))
    clone = struct_condition.patched(base, module, z, strength)
    ours = clone.run(x, t.repeat(2), cond_or_uncond=[0, 1])
    theirs = by_hooks(base, network, z.repeat(2, 1, 1, 1), x, t.repeat(2), strength)
    assert (ours - theirs).abs().max() < 1e-4 and (ours - plain).abs().max() > 0.1
    assert torch.equal(base.run(x, t.repeat(2)), plain)  # the given model is as it was
    assert not base.patches and clone.additional_models[struct_condition.KEY] == [module]


@torch.inference_mode()
def test_tiles_see_their_own_part(network, module):
    base, z, tiles = stablesr_patchers.model(), drawn(2, 4, 19, 22), (3, GRID.count, 1, 7)
    clone = struct_condition.patched(base, module, z, 1.0)
    x, t = drawn(8, 4, 8, 8, seed=2), torch.tensor([1.0, 99.0, 500.0, 900.0]).repeat(2)
    ours = clone.run(x, t, cond_or_uncond=[1, 0], **{TILES: (GRID, tiles)})
    parts = GRID.cut(z)[list(tiles)].repeat(2, 1, 1, 1)
    assert (ours - by_hooks(base, network, parts, x, t)).abs().max() < 1e-4


@torch.inference_mode()
def test_one_latent_serves_a_batch_and_another_size_is_refused(network, module):
    base, z, x = stablesr_patchers.model(), drawn(1, 4, 9, 7), drawn(2, 4, 9, 7, seed=1)
    clone, t = struct_condition.patched(base, module, z, 1.0), torch.tensor([7.0, 70.0])
    theirs = by_hooks(base, network, z.repeat(2, 1, 1, 1), x, t)
    assert (clone.run(x, t) - theirs).abs().max() < 1e-4
    with pytest.raises(ValueError, match="latent of 7x9 and the model samples 8x9"):
        clone.run(drawn(2, 4, 9, 8), t)
    with pytest.raises(ValueError, match="latent of 7x9 and the model samples 22x19"):
        clone.run(drawn(1, 4, 8, 8), t[:1], **{TILES: (GRID, (0,))})


def test_what_does_not_fit_the_model_is_refused(module):
    z, base = drawn(1, 4, 9, 7), stablesr_patchers.model()
    with pytest.raises(ValueError, match="has a StableSR Module already"):
        struct_condition.patched(struct_condition.patched(base, module, z, 1.0), module, z, 1.0)
    with pytest.raises(ValueError, match=r"64 channels in input_blocks\.1\.0, where .* for 32"):
        struct_condition.patched(stablesr_patchers.model(64), module, z, 1.0)
    del base.model.diffusion_model.input_blocks
    with pytest.raises(ValueError, match=r"no channels in input_blocks\.1\.0"):
        struct_condition.patched(base, module, z, 1.0)


def test_calls_may_mix_levels_with_it(module):
    clone = struct_condition.patched(stablesr_patchers.model(), module, drawn(1, 4, 9, 7), 1.0)
    wrappers = {"wrappers": {"diffusion_model": {"x": list(clone.wrappers.values())}}}
    assert not one_level({"transformer_options": wrappers})
    assert one_level({"transformer_options": wrappers, "sampler_cfg_function": print})


@torch.inference_mode()
def test_an_untrained_injection_changes_nothing_and_a_trained_one_follows_the_gains(module):
    base, z, x = stablesr_patchers.model(), drawn(1, 4, 9, 7), drawn(4, 4, 9, 7, seed=1)
    t, sigma = torch.tensor([7.0, 7.0]).repeat(2), torch.tensor([0.5, 0.5])
    given = {"cond_or_uncond": [0, 1], "sigmas": sigma, GAINS: torch.tensor([[1.0, 2.0], [0, 0]])}
    injection = StructInjection(128)
    plain = struct_condition.patched(base, module, z, 1.0).run(x, t, **given)
    clone = struct_condition.patched(base, module, z, 1.0, injection)
    assert torch.equal(clone.run(x, t, **given), plain)
    for phi in injection.phi:
        phi.out.weight.data = 0.1 * drawn(*phi.out.weight.shape)
    changed = clone.run(x, t, **given)
    assert (changed - plain).abs().max() > 1e-2
    without = clone.run(x, t, **{k: v for k, v in given.items() if k != GAINS})
    assert (without[::2] - changed[::2]).abs().max() > 1e-3  # the first region gains
    assert (without[1::2] - changed[1::2]).abs().max() < 1e-5  # the second does not


def test_the_injection_is_what_its_equation_says_and_reads_its_own_file():
    injection, f = StructInjection(32, 1), drawn(2, 32, 5, 6)
    phi = injection.phi[0]
    phi.out.weight.data = 0.1 * drawn(*phi.out.weight.shape)
    gains, sigma = torch.tensor([[0.3, -2.0], [5.0, 0.1]]), torch.tensor([0.2, 3.0])
    state = torch.stack([*gains.tanh().T, sigma.log()], 1)
    a, b = (state @ phi.film.weight.T + phi.film.bias).reshape(2, 2, 32, 1, 1).unbind(1)
    h = torch.einsum("oi,bihw->bohw", phi.inp.weight[:, :, 0, 0], f) + phi.inp.bias[:, None, None]
    h = phi.mid(h * (1 + a) + b)
    both = torch.einsum("oi,bihw->bohw", phi.out.weight[:, :, 0, 0], h * h.sigmoid())
    wanted = (1 + both[:, :32]) * f + both[:, 32:]
    assert torch.allclose(injection([f], gains, sigma)[0], wanted, atol=1e-5)
    again = load(injection.state_dict(), "own")
    assert torch.equal(again([f], gains, sigma)[0], injection([f], gains, sigma)[0])
    assert 34_000 < sum(p.numel() for p in StructInjection(256, 1).parameters()) < 36_000
    with pytest.raises(UnsupportedWeightsError, match="no feature injection"):
        load({"a": torch.ones(1)}, "x")
    with pytest.raises(UnsupportedWeightsError, match="missing"):
        load({"phi.0.inp.weight": torch.ones(32, 32, 1, 1)}, "x")


def test_the_node_reads_a_file_and_checks_its_inputs(tmp_path, monkeypatch):
    torch.save(stablesr_modules.tensors(), tmp_path / "module.ckpt")
    monkeypatch.setattr(stablesr.host, "model_path", lambda _, file: tmp_path / file)
    base, node, latent = stablesr_patchers.model(), stablesr.StableSRModule(), drawn(1, 4, 9, 7)
    clone = node.patch(base, "module.ckpt", {"samples": latent}, 1.0)[0]
    condition = next(iter(clone.wrappers.values()))
    assert torch.equal(condition.z_lr, 0.5 * latent)
    assert node.patch(base, "module.ckpt", {"samples": latent}, 0.0)[0] is base
    unread = "webui_768v_139.ckpt"
    cases = (
        (TypeError, "connect a MODEL", (3, "module.ckpt", {"samples": latent})),
        (TypeError, "connect VAE Encode", (base, "module.ckpt", 3)),
        (ValueError, r"\(1, 3, 9, 7\)", (base, "module.ckpt", {"samples": latent[:, :3]})),
        (ValueError, "NaN", (base, "module.ckpt", {"samples": latent / 0})),
        (FileNotFoundError, "get it from https", (base, unread, {"samples": latent})),
        (FileNotFoundError, "no weight file", (base, "absent.ckpt", {"samples": latent})),
    )
    for kind, said, given in cases:
        with pytest.raises(kind, match=said):
            node.patch(*given, 1.0)
    monkeypatch.setattr(guider_prior, "comfy", lambda _: None)
    with pytest.raises(RuntimeError, match="inside ComfyUI only"):
        node.patch(base, "module.ckpt", {"samples": latent}, 1.0)
