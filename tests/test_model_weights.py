"""ComfyUI's weights under a derivative: all on the device, ordinary, and not moved under it."""

from types import SimpleNamespace

import comfy_fakes as fakes
import pytest
import torch
from comfy_fakes import wrapped
from torch import nn

from undegrade.nodes.comfyui import guider_prior, host, model_weights
from undegrade.nodes.comfyui.wall import settle, slots_of

CPU = torch.device("cpu")


class Layer(nn.Module):
    """x * weight * buffer * plain, made under inference mode as ComfyUI makes it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, 3.0]), requires_grad=False)
        self.register_buffer("buffer", torch.tensor([5.0]))
        self.plain = torch.tensor([7.0])

    def forward(self, x):
        return (x * self.weight * self.buffer * self.plain).square()


@pytest.fixture
def layer():
    with torch.inference_mode():
        return Layer()


@pytest.fixture(autouse=True)
def log(monkeypatch):
    return fakes.install(monkeypatch)


def patcher(model, **given):
    return SimpleNamespace(model=model, load_device=CPU, **given)


def test_tensors_are_ordinary_while_a_derivative_is_taken_and_comfyuis_afterwards(layer):
    before = {name: (held, held.data_ptr()) for _, name, held in slots_of(layer)}
    assert set(before) == {"weight", "buffer", "plain"}
    with model_weights.differentiable([patcher(layer)]):
        for _, name, held in slots_of(layer):
            assert not held.is_inference() and held.data_ptr() == before[name][1]
        assert isinstance(layer.weight, nn.Parameter)
    assert all(held is before[name][0] for _, name, held in slots_of(layer))
    with pytest.raises(ZeroDivisionError), model_weights.differentiable([patcher(layer)]):
        raise ZeroDivisionError
    assert layer.weight is before["weight"][0]


def test_a_pullback_keeps_its_weights_when_comfyui_moves_them(layer):
    """ComfyUI unloads the network for the autoencoder between the two passes, by `data`."""
    x = torch.tensor([1.0, -1.0])

    def ask(state):
        return model_weights.asked([patcher(layer)], state, lambda: layer(state))

    with torch.no_grad():
        y, pullback = torch.func.vjp(ask, x)
        with torch.inference_mode():
            layer.weight.data = torch.zeros(2)
        assert torch.equal(y, torch.tensor([70.0**2, 105.0**2]))
        expected = 2 * torch.tensor([70.0**2, -(105.0**2)])
        assert torch.allclose(pullback(torch.ones(2))[0], expected)


def test_a_plain_call_is_comfyuis_and_gives_an_ordinary_tensor(layer):
    def ask():
        layer.weight.mul_(1)  # what ComfyUI may do under inference mode alone
        return layer(torch.ones(2))

    found = model_weights.asked([patcher(layer)], torch.ones(2), ask)
    assert not found.is_inference() and layer.weight.is_inference()


def test_weights_that_stay_off_the_device_are_refused(layer):
    elsewhere = SimpleNamespace(model=layer, load_device=torch.device("meta"))
    with (
        pytest.raises(ValueError, match=r"keeps weights of Layer off meta \(weight\)"),
        model_weights.differentiable([elsewhere]),
    ):
        pass
    assert layer.weight.is_inference()


def test_a_dynamic_model_has_a_stand_in_or_gives_its_weights(layer):
    def fetch(key, device_to, return_weight, force_cast):
        assert (key, return_weight, force_cast) == ("weight", True, True)
        return torch.tensor([4.0, 4.0], device=device_to)

    stand_in = patcher(Layer())
    stand_in.model.weight_comfy_model_dtype = torch.float64  # the file's is not the model's
    given = {"is_dynamic": lambda: True, "get_non_dynamic_delegate": lambda: stand_in}
    known = patcher(layer, cached_patcher_init=(print, ()), **given)
    assert model_weights.whole(known) is stand_in
    assert stand_in.model.weight.dtype == torch.float64
    assert stand_in.model.buffer.dtype == torch.float32
    unknown = patcher(layer, cached_patcher_init=None, patch_weight_to_device=fetch, **given)
    assert model_weights.whole(unknown) is unknown
    old = patcher(layer)
    assert model_weights.whole(old) is old
    layer.weight = nn.Parameter(torch.empty(2, device="meta"), requires_grad=False)
    with model_weights.differentiable([unknown]):
        assert torch.equal(layer.weight, torch.tensor([4.0, 4.0]))
    assert layer.weight.is_meta


@pytest.mark.parametrize(
    ("entry", "is_dynamic", "said"),
    [
        ({"control": SimpleNamespace(previous_controlnet=None)}, False, "has a ControlNet"),
        ({"hooks": "of a LoRA"}, False, "has hooks"),
        ({}, True, "dynamic VRAM fetches the weights of Layer"),
    ],
)
def test_derivatives_that_comfyui_cannot_give_are_refused(layer, entry, is_dynamic, said):
    own = patcher(layer, is_dynamic=lambda: is_dynamic, cached_patcher_init=None)
    with pytest.raises(ValueError, match=said):
        guider_prior.network_for_derivatives(own, {"positive": [entry]})
    assert guider_prior.network_for_derivatives(patcher(layer), {"positive": [{}]})


def test_a_derivative_is_refused_where_a_prediction_is_not(log, draw):
    prior = wrapped(log, hooks="of a LoRA")[1]
    x = draw(1, 4, 4, 4)
    with host.running(prior), torch.no_grad():
        prior.denoise(x, torch.ones(1))
        with pytest.raises(ValueError, match="has hooks"):
            torch.func.vjp(lambda state: prior.denoise(state, torch.ones(1)), x)


def test_a_run_has_the_hosted_models_own_device(log):
    guider, prior = wrapped(log)
    guider.model_patcher.load_device = torch.device("meta")  # by Select Model Device
    assert host.device() == CPU
    with host.running(prior) as device:
        assert device == torch.device("meta")


def test_conditioning_and_options_become_ordinary_on_copies():
    with torch.inference_mode():
        cond = SimpleNamespace(cond=[torch.ones(2)])
        entry = {"model_conds": {"c_crossattn": cond}, "mask": torch.ones(3), "control": object()}
        given = {"positive": [entry], "negative": None}
    own = model_weights.loose_conditioning(given)
    (loose,) = own["positive"]
    assert loose["control"] is entry["control"] and own["negative"] is None
    for tensor in (loose["mask"], loose["model_conds"]["c_crossattn"].cond[0]):
        assert not tensor.is_inference()
    assert entry["mask"].is_inference() and cond.cond[0].is_inference()


def test_a_network_of_the_packs_own_settles(layer):
    held = layer.weight.data_ptr()
    settle(layer)
    assert not any(tensor.is_inference() for _, _, tensor in slots_of(layer))
    assert layer.weight.data_ptr() == held and not layer.weight.requires_grad
