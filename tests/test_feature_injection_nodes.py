"""Load Feature Injection, and StableSR Module with it: files, refusals, and gains on their way."""

import json

import pytest
import stablesr_modules
import stablesr_patchers
import torch
from node_calls import call
from region_guiders import LATENTS, Guider, drawn, install, karras, run, sampler
from safetensors.torch import save_file

from undegrade.models.feature_injection import StructInjection, fingerprints, read_injection
from undegrade.models.stablesr import read_module
from undegrade.models.weights import UnsupportedWeightsError
from undegrade.nodes.comfyui import guider_prior, host, struct_condition
from undegrade.nodes.comfyui.model_patches import GAINS, TILES
from undegrade.nodes.regions import stablesr
from undegrade.nodes.regions.injection import FOLDER, LoadFeatureInjection
from undegrade.pipelines.adadiffsr.information_gain import Evaluation, WeightFree, closed_form
from undegrade.pipelines.adadiffsr.step_policy import StepPolicy

Z = drawn(1, 4, 9, 7)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A module, one with other maps, and an injection trained on the first."""
    root = tmp_path_factory.mktemp("models")
    tensors = stablesr_modules.tensors()
    torch.save(tensors, root / "module.ckpt")
    other = {k: v * 1.01 if "fea_tran" in k else v for k, v in tensors.items()}
    torch.save(other, root / "other.ckpt")
    known = {"module": "module.ckpt", "prints": json.dumps(of(root / "module.ckpt"))}
    save_file(trained().state_dict(), str(root / "trained.safetensors"), known)
    save_file(StructInjection(128).state_dict(), str(root / "new.safetensors"), known)
    save_file(StructInjection(128).state_dict(), str(root / "unsaid.safetensors"))
    save_file({"a": torch.ones(1)}, str(root / "foreign.safetensors"))
    return root


def of(path):
    return fingerprints(read_module(path))


def trained() -> StructInjection:
    network = StructInjection(128)
    for k, phi in enumerate(network.phi):
        phi.out.weight.data = 0.1 * drawn(*phi.out.weight.shape, seed=k)
    return network


@pytest.fixture(autouse=True)
def comfyui(models, monkeypatch):
    stablesr.module_of.cache_clear()
    monkeypatch.setattr(host, "model_roots", lambda _: [models])
    monkeypatch.setattr(struct_condition, "comfy", stablesr_patchers.modules().get)
    monkeypatch.setattr(guider_prior, "comfy", stablesr_patchers.modules().get)


def patched(file="module.ckpt", z=Z, **given):
    base = stablesr_patchers.model()
    known = {"model": base, "file": file, "latent": {"samples": z}, **given}
    return call("UndegradeStableSRModule", **known)[0]


def loaded(file="trained.safetensors"):
    return call("UndegradeLoadFeatureInjection", file=file)[0]


@torch.inference_mode()
def test_an_untrained_one_is_stablesr_bit_for_bit_with_gains_and_without():
    x, t, sigma = drawn(3, 4, 9, 7, seed=1), torch.tensor([7.0, 70.0, 700.0]), torch.ones(3)
    for gains in ({}, {GAINS: torch.tensor([[3.0, -1.0], [0.0, 0.0], [9.0, 2.0]])}):
        options = {"cond_or_uncond": [0], "sigmas": sigma, **gains}
        plain = patched().run(x, t, **options)
        assert torch.equal(patched(injection=loaded("new.safetensors")).run(x, t, **options), plain)
        changed = patched(injection=loaded()).run(x, t, **options)
        assert (changed - plain).abs().max() > 1e-2


@torch.inference_mode()
def test_without_gains_it_is_that_of_gains_of_zero_and_every_row_is_its_own():
    x, t = drawn(3, 4, 9, 7, seed=1), torch.tensor([7.0, 70.0, 700.0])
    clone, given = patched(injection=loaded()), {"cond_or_uncond": [0]}
    sigma, gains = torch.tensor([0.1, 1.0, 9.0]), torch.tensor([[3.0, -1], [0.5, 0], [0, 2]])
    zero = {**given, "sigmas": sigma, GAINS: torch.zeros(3, 2)}
    assert torch.equal(clone.run(x, t, sigmas=sigma, **given), clone.run(x, t, **zero))
    whole = clone.run(x, t, sigmas=sigma, **given, **{GAINS: gains})
    for k in range(3):
        own = {**given, "sigmas": sigma[k : k + 1], GAINS: gains[k : k + 1]}
        alone = clone.run(x[k : k + 1], t[k : k + 1], **own)
        assert (alone - whole[k : k + 1]).abs().max() < 1e-5


def test_a_file_of_half_precision_and_other_formats_of_the_module_are_the_same(models, tmp_path):
    half = tmp_path / "half.ckpt"
    torch.save({k: v.half() for k, v in stablesr_modules.tensors().items()}, half)
    loaded().check(read_module(half))
    module = read_module(models / "module.ckpt")
    loaded().check(module.to(torch.bfloat16))
    with pytest.raises(ValueError, match=r"trained on the StableSR module module\.ckpt, and the"):
        loaded().check(read_module(models / "other.ckpt"))


@pytest.mark.parametrize(
    ("kind", "said", "made"),
    [
        (FileNotFoundError, "train one with `python training feature_injection` and put it there",
         lambda: loaded("injection.safetensors")),
        (FileNotFoundError, "no weight file", lambda: loaded("absent.safetensors")),
        (UnsupportedWeightsError, "no feature injection", lambda: loaded("foreign.safetensors")),
        (UnsupportedWeightsError, "no feature injection", lambda: loaded("module.ckpt")),
        (UnsupportedWeightsError, "does not say which StableSR module",
         lambda: loaded("unsaid.safetensors")),
        (ValueError, "trained on the StableSR module",
         lambda: patched("other.ckpt", injection=loaded())),
        (TypeError, "injection is of type int; connect Load Feature Injection",
         lambda: patched(injection=3)),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(kind, said, made):
    with pytest.raises(kind, match=said) as error:
        made()
    assert ". " not in str(error.value) and "\n" not in str(error.value)


def test_files_in_its_folder_are_offered(monkeypatch):
    assert FOLDER == "feature_injections"
    monkeypatch.setattr(host, "model_files", lambda name: [f"{name}.safetensors"])
    listed = LoadFeatureInjection.INPUT_TYPES()["required"]["file"][0]
    assert listed == ["feature_injections.safetensors", "injection.safetensors"]
    assert LoadFeatureInjection.VALIDATE_INPUTS("injection.safetensors") is True
    assert "not in models/feature" in str(LoadFeatureInjection.VALIDATE_INPUTS("none.safetensors"))


class Patched(Guider):
    """A guider whose network is a patched MODEL; keeps the gains and maps it was given."""

    def __init__(self, clone):
        super().__init__()
        self.clone, self.given, self.seen = clone, [], []

    def __call__(self, x, sigma, model_options, seed):
        options = {**model_options["transformer_options"], "sigmas": sigma, "cond_or_uncond": [0]}
        x0_hat = x / (1 + sigma**2)[:, None, None, None]
        x0_hat = x0_hat + 0.3 * self.clone.run(x, 100 * sigma.clamp(max=9), **options).sin()
        self.given.append((options[TILES][1], x, sigma, x0_hat, options[GAINS]))
        return x0_hat


@pytest.mark.parametrize("mode", ["every step", "error"])
def test_the_gains_of_every_tile_reach_the_maps_in_units_of_the_threshold(monkeypatch, mode):
    install(monkeypatch)
    z, steps = drawn(1, *LATENTS, seed=1), 4 if mode == "every step" else 10
    sigmas, policy = karras(steps), StepPolicy(mode=mode, threshold=0.01)
    guider = Patched(patched(z=z, injection=loaded()))
    phi, handed = next(iter(guider.clone.wrappers.values())).injection, []

    def handing(maps, gains, sigma):
        handed.append((gains, sigma))
        return StructInjection.forward(phi, maps, gains, sigma)

    monkeypatch.setattr(phi, "forward", handing)
    run(guider, sampler(policy, tiles_per_call=4, overlap=0), sigmas)
    base = sigmas[:-1].double()
    gain, tau = WeightFree(closed_form(base, 8)), policy.threshold / 5e-3 / steps
    before, known = {}, {}
    for (g, s), (tiles, x, sigma, x0_hat, gains) in zip(handed, guider.given, strict=True):
        assert torch.equal(g, gains) and torch.equal(s, sigma)
        for row, tile in enumerate(tiles):
            expected = known.get(tile, (0.0, 0.0))
            assert gains[row].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)
            node = (base - sigma[row]).abs().argmin().item()
            last, previous = before.get(tile, (node, x0_hat[row]))
            found = gain(seen(x[row], x0_hat[row], previous, base, node, last))
            known[tile] = found.full_reference.item() / tau, found.no_reference.item() / tau
            before[tile] = node, x0_hat[row]
    assert torch.cat([g for g, _ in handed]).abs().max(0).values.min() > 0.1
    assert mode == "every step" or any(len(set(s.tolist())) > 1 for _, s in handed)


def seen(x, x0_hat, previous, base, node, last) -> Evaluation:
    levels = [base[i : i + 1] for i in (node, last, min(node + 1, len(base) - 1))]
    steps = torch.tensor([float(node - last)], dtype=torch.float64)
    return Evaluation(x[None], x0_hat[None], previous[None], x[None], *levels, steps)


def test_what_is_read_is_what_was_written(models):
    network = read_injection(models / "trained.safetensors").network
    assert not any(p.requires_grad for p in network.parameters()) and not network.training
    f, sigma = [drawn(1, 128, 8 >> k, 8 >> k, seed=k) for k in range(4)], torch.ones(1)
    for ours, phi in zip(network(f, torch.zeros(1, 2), sigma), network.phi, strict=True):
        assert ours.shape[1] == 128 and phi.out.weight.abs().max() > 0
    outs = {k: v for k, v in trained().state_dict().items() if "out." in k}
    assert len(outs) == 8 and all(torch.equal(network.state_dict()[k], v) for k, v in outs.items())
