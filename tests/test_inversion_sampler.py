"""Inversion Sampler: sizes, reports, progress, and what it says to bad input."""

import pytest
import torch
import torch.nn.functional as F
from node_calls import call, photo
from start_noises import ClosedForm, latent_predictor, latent_prior, pixel_prior

from undegrade.models.noise_predictor import NoisePredictor, NoisePredictorNetwork, Sizes
from undegrade.models.noise_table import stable_diffusion_sigmas
from undegrade.models.prior import GaussianPrior, PriorSpec
from undegrade.nodes.comfyui import host
from undegrade.nodes.images import to_pixels
from undegrade.pipelines.invsr.sampler import bicubic
from undegrade.pipelines.resizing import resized

NODE = "UndegradeInversionSampler"


def sampled(**given):
    defaults = {"prior": pixel_prior(), "predictor": ClosedForm(), "image": photo(20, 28)}
    return call(NODE, **{**defaults, **given})


def told(**given) -> list[str]:
    return sampled(**given)[1].split("\n")


# What comes out


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(37, 31), (8, 9)])
def test_sizes_channels_and_batches(channels, size):
    image = photo(*size, channels=channels, batch=3)
    before = image.clone()
    for pair in ((pixel_prior(), ClosedForm()), (latent_prior(), latent_predictor())):
        out, _ = sampled(prior=pair[0], predictor=pair[1], image=image)
        assert out.shape == (3, 4 * size[0], 4 * size[1], channels)
        assert out.dtype == torch.float32 and out.device.type == "cpu"
        assert out.min() >= 0 and out.max() <= 1
    assert torch.equal(image, before)


def test_the_picture_is_the_closed_form():
    """One step of a Gaussian prior from sigma(200), with the mean of the noise only."""
    image = photo(16, 16)
    out, _ = sampled(prior=GaussianPrior(std=0.5), image=image, strength=0.0)
    s = 0.569285
    x = bicubic(to_pixels(image)[0], 4) + s * 0.2
    expected = (0.25 / (0.25 + s * s) * x + 1) / 2
    assert (out.permute(0, 3, 1, 2) - expected.clamp(0, 1)).abs().max() < 1e-5


def test_alpha_is_resized_with_the_picture():
    image = photo(16, 12, channels=4)
    out, _ = sampled(image=image, scale=3.0)
    expected = F.interpolate(image[..., 3:].permute(0, 3, 1, 2), size=(48, 36), mode="bilinear",
                             antialias=True)
    assert torch.allclose(out[..., 3], expected[:, 0])


def test_the_same_seed_and_the_batch():
    image = photo(13, 11, batch=3)
    options = {"steps": 3, "deterministic": False}
    first, again, other = (sampled(image=image, seed=s, **options)[0] for s in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(first[1:], other[:2])  # picture b draws from seed + b
    assert torch.equal(first[1:2], sampled(image=image[1:2], seed=6, **options)[0])


@pytest.mark.parametrize(("scale", "resize", "line"), [
    (4.0, "after", "28x20: enlarged 4 times by the network to 112x80"),
    (4.0, "before", "28x20: enlarged 4 times by the network to 112x80"),
    (1.0, "after", "28x20: enlarged 4 times by the network to 112x80, resized to 28x20"),
    (2.5, "after", "28x20: enlarged 4 times by the network to 112x80, resized to 70x50"),
    (2.5, "before", "28x20: resized to 18x13, enlarged 4 times by the network to 72x52, "
                    "resized to 70x50"),
    (6.0, "after", "28x20: enlarged 4 times by the network to 112x80, resized to 168x120"),
    (8.0, "before", "28x20: resized to 56x40, enlarged 4 times by the network to 224x160"),
])
def test_every_scale_is_exact_and_told(scale, resize, line):
    out, report = sampled(scale=scale, resize=resize)
    assert out.shape[1:3] == (round(20 * scale), round(28 * scale))
    assert report.split("\n")[0] == line


def test_resizing_is_bicubic_with_antialiasing():
    image = photo(16, 24)
    whole, small = (sampled(image=image, scale=s)[0] for s in (4.0, 2.0))
    expected = resized(whole.permute(0, 3, 1, 2), (32, 48)).permute(0, 2, 3, 1)
    assert (small - expected).abs().max() < 1e-3  # whole was clipped to [0, 1]


def test_levels_are_told_with_a_warning_for_an_untrained_start():
    trained = ClosedForm(trained_sigmas=(0.693205, 0.569285, 0.341674))
    assert told(predictor=trained, steps=3)[1:] == [
        "timesteps (noise levels): 200 (0.5693), 100 (0.3417), 50 (0.223)"
    ]
    said = "closed form was not trained to start at noise level {}; 0.342, 0.569, 0.693 are safe."
    spec = PriorSpec(sigmas=stable_diffusion_sigmas(), name="discrete")
    for prior, start, warned in (
        (GaussianPrior(spec=spec), 150, ["0.454"]),
        (GaussianPrior(spec=spec), 200, []),
        (pixel_prior(), 150, []),  # continuous: between two levels it was trained for
        (pixel_prior(), 50, ["0.223"]),
    ):
        lines = told(prior=prior, predictor=trained, start_timestep=start)
        assert lines[1].startswith(f"timesteps (noise levels): {start} (")
        assert lines[2:] == [said.format(level) for level in warned]
    sigmas = torch.tensor([0.7, 0.3, 0.0])
    assert told(sigmas=sigmas, steps=9)[1:] == ["noise levels: 0.7, 0.3"]
    assert told(timesteps="100, 25", steps=7)[1].endswith("100 (0.3417), 25 (0.1515)")


def test_given_noise_levels_are_those_of_the_timesteps():
    image = photo(16, 16)
    sigmas = torch.tensor([0.56928488, 0.34167383, 0.0])
    by_time = sampled(image=image, steps=2)[0]
    assert torch.allclose(sampled(image=image, sigmas=sigmas)[0], by_time, atol=1e-6)


def test_fresh_noise_is_asked_for_by_the_widget():
    for steps, same in ((1, True), (2, False)):
        on, off = (sampled(steps=steps, deterministic=d)[0] for d in (True, False))
        assert torch.equal(on, off) == same


# Tiles


def test_tiles_of_the_noise_give_the_whole_picture():
    image, predictor = photo(40, 33), ClosedForm(slope=0.5)
    whole, tiled = (sampled(image=image, predictor=predictor, tile=t, overlap=16)[0]
                    for t in (0, 32))
    assert torch.allclose(whole, tiled, atol=1e-6)


def test_official_tiles_draw_their_own_noise_and_flat_pictures_have_no_seam():
    image = photo(40, 33)
    options = {"tiling": "pictures", "tile": 16, "overlap": 8}
    drawn = sampled(image=image, **options)[0]
    assert drawn.shape == (1, 160, 132, 3)
    middle = slice(48, 112)
    one = sampled(image=image, tile=0)[0]
    spread = [(p - p.mean()).square().mean() for p in
              (drawn[:, middle, middle] - sampled(image=image, strength=0.0, **options)[0][
                  :, middle, middle],
               one[:, middle, middle] - sampled(image=image, strength=0.0)[0][:, middle, middle])]
    assert spread[0] < 0.75 * spread[1], "overlaps are means of different noise"
    quiet = sampled(image=0 * image + 0.5, strength=0.0, **options)[0]
    assert (quiet - quiet.mean((1, 2), keepdim=True)).abs().max() < 1e-5


@pytest.mark.parametrize("options", [
    {"tile": 0}, {"tile": 32, "overlap": 16}, {"tile": 32, "overlap": 16, "tiling": "pictures"}
])
def test_a_network_of_the_published_layout(options):
    """Random weights: that sizes, devices and inference_mode agree."""
    sizes = Sizes((32, 64), (1, 1), 32, 64, 32)
    predictor = NoisePredictor(NoisePredictorNetwork(sizes).eval(), "random")
    image = photo(37, 31, channels=4)
    out = sampled(prior=latent_prior(), predictor=predictor, image=image, steps=2, **options)[0]
    assert out.shape == (1, 148, 124, 4) and torch.isfinite(out).all()
    assert out[..., :3].std() > 0.01


# Progress


class StopError(Exception):
    """Stands for ComfyUI's InterruptProcessingException, a plain Exception."""


@pytest.mark.parametrize(("options", "calls"), [
    ({"steps": 3}, 2 + 3),
    ({"tile": 16, "overlap": 0, "steps": 2}, 2 * 4 + 2),
    ({"tile": 16, "overlap": 0, "steps": 2, "tiling": "pictures"}, 4 * (2 + 2)),
])
def test_progress_counts_network_calls(options, calls):
    seen = []
    previous = host.set_progress_sink(lambda *report: seen.append(report))
    try:
        sampled(image=photo(20, 28, batch=2), **options)
    finally:
        host.set_progress_sink(previous)
    assert seen == [("Inversion Sampler", value, calls) for value in range(1, calls + 1)]


@pytest.mark.parametrize("allowed", [1, 3])
def test_cancel_stops_within_one_network_call(monkeypatch, allowed):
    done = []

    class Counting(GaussianPrior):
        def denoise(self, x, sigma, factor=1):
            done.append("prior")
            return super().denoise(x, sigma, factor)

    class Predicting(ClosedForm):
        def predict(self, lr, sigma):
            done.append("predictor")
            return super().predict(lr, sigma)

    def interrupted():
        if len(done) == allowed:
            raise StopError

    monkeypatch.setattr(host, "check_interrupted", interrupted)
    with pytest.raises(StopError):
        sampled(prior=Counting(), predictor=Predicting(), image=photo(batch=2), steps=5)
    assert done == (["predictor", "predictor", "prior"])[:allowed]


# Bad input


@pytest.mark.parametrize(("given", "said"), [
    ({"image": photo(7, 20)}, "image has 20x7 pixels; give one with sides of at least 8"),
    ({"image": photo(20, 20), "scale": 1.0, "resize": "before"}, "would see 5x5 of them; set"),
    ({"sigmas": torch.tensor([0.2, 0.4, 0.0])}, "noise levels are 0.2, 0.4, 0; give"),
    ({"sigmas": torch.tensor([0.4, 0.2])}, "and 0 after them"),
    ({"timesteps": "100, 200"}, "timesteps are 100, 200; give whole numbers that fall"),
    ({"timesteps": "100, x"}, "write whole numbers between commas"),
    ({"timesteps": "300, 100"}, "start above 250"),
    ({"sigmas": torch.tensor([0.9, 0.0])}, "noise level of 0.9"),
    ({"predictor": latent_predictor()}, "4 channels of 16x16, but the prior pixels works on 3"),
    ({"prior": latent_prior(), "predictor": ClosedForm()}, "but the prior latents works on 4"),
    ({"tile": 16, "overlap": 16}, "overlap"),
    ({"tile": 16, "overlap": 16, "tiling": "pictures"}, "overlap"),
    ({"scale": 0.5}, r"scale is 0\.5; give a number in \[1\.0, 16\.0\]"),
    ({"image": torch.zeros(1, 9, 9, 2)}, r"with 1 \(grey\), 3"),
])
def test_numbers_that_do_not_fit(given, said):
    with pytest.raises(ValueError, match=said):
        sampled(**given)


@pytest.mark.parametrize(("given", "said"), [
    ({"prior": 1}, "prior is of type int; connect"),
    ({"predictor": "file"}, "predictor is of type str; connect Load Noise Predictor"),
    ({"sigmas": [1, 0]}, "sigmas is of type list; connect SIGMAS"),
    ({"image": None}, "image is a NoneType; connect an IMAGE"),
])
def test_wrong_kinds_on_sockets(given, said):
    with pytest.raises(TypeError, match=said):
        sampled(**given)
