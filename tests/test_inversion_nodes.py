"""Predicted Noise, with a MODEL made of formulas."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from inversion_models import LEVELS, TABLE, Eps, Flow, V, model
from node_calls import call, photo
from safetensors.torch import load_file

from undegrade import NODE_CLASS_MAPPINGS
from undegrade.models import noise_predictor
from undegrade.models.pixel_predictor import PixelPredictor, PixelPredictorNetwork
from undegrade.nodes.comfyui import host

GOLDEN = Path(__file__).parent / "golden" / "invsr_predictor.safetensors"


@pytest.fixture(scope="module")
def predictor():
    tensors = {k: v for k, v in load_file(GOLDEN).items() if k.startswith("encoder.")}
    made = noise_predictor.load(tensors, {}, "small", 32)
    made.network.requires_grad_(False).eval()
    return made


@pytest.fixture
def noise(predictor):
    """Predicted Noise with small defaults: noise(**inputs) -> NOISE."""

    def make(**given):
        sigmas = torch.tensor([LEVELS[200], 0.0])
        defaults = {"predictor": predictor, "image": photo(), "model": model(), "sigmas": sigmas}
        return call("UndegradePredictedNoise", **{**defaults, **given})[0]

    return make


def latent(batch=1, height=16, width=24, **more):
    return {"samples": torch.zeros(batch, 4, height, width), **more}


def test_noise_is_the_predictor_s_at_the_first_level(noise, predictor):
    made = noise(image=photo(32, 48), seed=3)
    n = made.generate_noise(latent())
    picture = photo(32, 48).permute(0, 3, 1, 2) * 2 - 1
    with torch.inference_mode():
        mean, std = predictor.predict_at(picture, torch.tensor([199]))
    eps = torch.randn(4, 16, 24, generator=torch.Generator().manual_seed(3))
    assert made.seed == 3 and n.dtype == torch.float32 and n.device.type == "cpu"
    assert (n - (mean + std * eps)).abs().max() < 1e-5


def test_the_level_follows_the_sigmas(noise, predictor):
    starts = {t: noise(sigmas=torch.tensor([LEVELS[t], 0.0]), strength=0.0) for t in (250, 100)}
    maps = {t: made.generate_noise(latent()) for t, made in starts.items()}
    picture = photo().permute(0, 3, 1, 2) * 2 - 1
    for timestep, mean in maps.items():
        with torch.inference_mode():
            want = predictor.predict_at(picture, torch.tensor([timestep - 1]))[0]
        assert (mean - want).abs().max() < 1e-5


def test_strength_scales_the_random_part_only(noise):
    none, one, two = (noise(strength=s).generate_noise(latent()) for s in (0.0, 1.0, 2.0))
    assert torch.allclose(two - none, 2 * (one - none), atol=1e-5)
    assert torch.equal(none, noise(strength=0.0, seed=9).generate_noise(latent()))
    assert not torch.equal(one, noise(seed=9).generate_noise(latent()))
    assert torch.equal(one, noise().generate_noise(latent()))


def test_a_latent_of_a_batch_has_the_noise_it_has_alone(noise):
    pictures = torch.cat([photo(), photo().flip(2), photo() ** 2])
    together = noise(image=pictures).generate_noise(latent(3))
    for b in range(3):
        alone = noise(image=pictures[b : b + 1], seed=b).generate_noise(latent())
        assert torch.equal(together[b : b + 1], alone)
        part = latent(1, batch_index=[b])
        assert torch.equal(together[b : b + 1], noise(image=pictures).generate_noise(part))
    pair = noise(image=pictures[1:]).generate_noise(latent(2, batch_index=[1, 2]))
    assert torch.equal(together[1:], pair)


def test_pictures_repeat_as_repeated_latents_do(noise):
    pictures = torch.cat([photo(), photo().flip(2)])
    one = noise(strength=0.0).generate_noise(latent(3))
    assert torch.equal(one[0], one[2])
    many = noise(image=pictures, strength=0.0).generate_noise(latent(4))
    assert torch.equal(many[:2], many[2:]) and not torch.equal(many[0], many[1])
    drawn = noise(image=pictures).generate_noise(latent(4))
    assert not torch.equal(drawn[0], drawn[2]), "the same picture, another seed"
    with pytest.raises(ValueError, match="latents and pictures are 3 and 2; give one picture"):
        noise(image=pictures).generate_noise(latent(3))


@pytest.mark.parametrize(("height", "width"), [(37, 31), (8, 9), (50, 33)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size(noise, height, width, channels):
    image, shape = photo(height, width, channels), latent(1, height // 2, width // 2)
    kept = {k: v.clone() for k, v in shape.items()}
    with torch.inference_mode():
        tiled = noise(image=image, tile=32, overlap=16, seed=2**64 - 1).generate_noise(shape)
    assert tiled.shape == shape["samples"].shape and bool(torch.isfinite(tiled).all())
    assert torch.equal(image, photo(height, width, channels))
    assert torch.equal(shape["samples"], kept["samples"])


def test_it_works_outside_inference_mode_and_leaves_the_global_noise_alone(noise):
    before = torch.random.get_rng_state()
    inside = noise().generate_noise(latent())
    with torch.inference_mode():
        assert torch.equal(noise().generate_noise(latent()), inside)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("after", [0, 2])
def test_cancel_stops_within_one_network_call(noise, predictor, monkeypatch, after):
    class StopError(Exception):
        """Stands for ComfyUI's own, a plain Exception."""

    calls, seen = [], []

    class Counting(noise_predictor.NoisePredictor):
        def predict(self, lr, sigma):
            calls.append(lr)
            return super().predict(lr, sigma)

    def interrupted():
        if len(calls) == after:
            raise StopError

    monkeypatch.setattr(host, "check_interrupted", interrupted)
    previous = host.set_progress_sink(lambda *report: seen.append(report[1:3]))
    made = noise(predictor=Counting(predictor.network), tile=16, overlap=0)
    try:
        with pytest.raises(StopError):
            made.generate_noise(latent())
    finally:
        host.set_progress_sink(previous)
    assert len(calls) == after and seen == [(1, 6)][: after // 2]


def shown(node_id, **given):
    """What a node reports in words."""
    cls = NODE_CLASS_MAPPINGS[node_id]
    return getattr(cls(), cls.FUNCTION)(**given)["ui"]["text"]


def test_the_start_is_shown(predictor):
    given = {"predictor": predictor, "image": photo(), "model": model(), "seed": 0}
    given |= {"strength": 1.0, "tile": 0, "overlap": 0}
    start = shown("UndegradePredictedNoise", sigmas=torch.tensor([0.5693, 0.0]), **given)
    assert start == ["start at timestep 200, noise level 0.5693"]
    odd = shown("UndegradePredictedNoise", sigmas=TABLE[[179, 0]], **given)
    assert odd[0].startswith("start at timestep 180") and "was not trained" in odd[1]


PIXELS = PixelPredictor(PixelPredictorNetwork((8, 16), 1, 8))


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"sigmas": torch.tensor([0.3, 0.5, 0.0])}, ValueError, "two noise levels that fall to 0"),
        ({"sigmas": torch.tensor([0.5, 0.5, 0.0])}, ValueError, "two noise levels that fall to 0"),
        ({"sigmas": torch.tensor([0.5])}, ValueError, "at least two noise levels"),
        ({"sigmas": torch.tensor([0.5, -0.1])}, ValueError, "that fall to 0"),
        ({"sigmas": torch.tensor([float("nan"), 0.0])}, ValueError, "that fall to 0"),
        ({"sigmas": 3}, TypeError, "sigmas is of type int; connect SIGMAS such as Inversion Sig"),
        ({"sigmas": TABLE[[299, 0]]}, ValueError, "small was trained for levels up to 0.6932;"),
        ({"image": photo(7, 40)}, ValueError, "image has 40x7 pixels; give one with sides of at"),
        ({"image": photo(channels=4)}, ValueError, "alpha plane, which the predictor cannot see"),
        ({"model": model(V())}, ValueError, "model predicts v, flow or the picture, where InvSR"),
        ({"model": model(Flow())}, ValueError, "load SD-Turbo or another Stable Diffusion"),
        ({"model": model(SimpleNamespace())}, ValueError, "model predicts v, flow or the picture"),
        ({"model": model(Eps(TABLE * 2))}, ValueError, "1000 noise levels from 0.0583. to 29.23"),
        ({"model": model(Eps(TABLE[:50]))}, ValueError, "model has 50 noise levels"),
        ({"model": 1}, TypeError, "model is of type int; connect a MODEL, load SD-Turbo"),
        ({"predictor": 1}, TypeError, "predictor is of type int; connect Load Noise Predictor"),
        ({"predictor": PIXELS}, TypeError, "for pixels belongs to Inversion Sampler"),
        ({"tile": 40}, ValueError, "tile is 40 and the overlap 64 pixels; give multiples of 16"),
    ],
)
def test_bad_input(noise, given, error, said):
    with pytest.raises(error, match=said):
        noise(**given).generate_noise(latent())


@pytest.mark.parametrize(
    "samples", [torch.zeros(1, 4, 32, 48), torch.zeros(1, 4, 4, 6), torch.zeros(1, 16, 16, 24),
                torch.zeros(1, 4, 1, 16, 24)],
)  # fmt: skip
def test_a_latent_of_something_else_is_refused(noise, samples):
    with pytest.raises(ValueError, match="must be the VAE encoding of the 4x picture"):
        noise().generate_noise({"samples": samples})


def test_the_predictor_goes_through_the_host(noise, predictor, monkeypatch):
    placed = []
    monkeypatch.setattr(host, "place", lambda networks, device: placed.append((networks, device)))
    made = noise()
    assert placed == [], "only when the sampler asks"
    made.generate_noise(latent())
    assert placed == [([predictor.network], host.device())]
    assert replace(made, seed=4).generate_noise(latent()).shape == (1, 4, 16, 24)
