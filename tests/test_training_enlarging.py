"""What the predictor's training by the clock is made of."""

import math
from random import Random

import kornia
import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image

from undegrade.models.predictors import BUILT_IN_PREDICTOR, load_noise_predictor
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.models.weights import read_tensors
from undegrade.pipelines.degradation import real_world
from undegrade.pipelines.degradation.random_blur import blur_kernel, sinc_kernel
from undegrade.pipelines.metrics import gmsd
from undegrade.training import (
    critic,
    degraded_batches,
    distances,
    drawn_kernels,
    features,
    grown_predictor,
    inversion_loss,
)
from undegrade.training import noise_predictor as script
from undegrade.training.noise_predictor import PredictorOptions

CPU = torch.device("cpu")


def photos(names):
    """Windows of photographs, (B, 3, 256, 256) in [-1, 1]."""
    found = [np.atleast_3d(getattr(skimage.data, name)())[20:276, 60:316] for name in names]
    pixels = [torch.from_numpy(p).permute(2, 0, 1).expand(3, -1, -1) for p in found]
    return torch.stack(pixels) / 127.5 - 1


@pytest.mark.parametrize("mode", range(3))
@pytest.mark.parametrize("new", [7, 24, 31])
def test_resizing_by_matrices_is_that_of_torch(draw, mode, new):
    name = real_world.RESIZERS[mode]
    x, size = draw(2, 3, 24, 24), torch.tensor([24.0, 17.0])
    small = F.pad(x[1:, :, :17, :17], (0, 7, 0, 7), mode="replicate")
    given = torch.cat([x[:1], small])
    made = degraded_batches.resized(given, size, torch.full((2,), float(new)), 32,
                                    torch.full((2,), float(mode)))
    corners = {} if name == "area" else {"align_corners": False}
    for k, own in enumerate((24, 17)):
        truth = F.interpolate(given[k : k + 1, :, :own, :own], size=(new, new), mode=name,
                              **corners)
        assert torch.allclose(made[k : k + 1, :, :new, :new], truth, atol=2e-5)
        assert torch.equal(made[k, :, -1], made[k, :, new - 1])  # its last pixels go on


def test_jpeg_of_a_batch_is_libjpegs():
    x = (photos(("coffee", "chelsea", "brick"))[..., 60:155, 60:155] + 1) / 2
    qualities = (20, 40, 70)
    made = degraded_batches.Codec(CPU)(x, torch.tensor(qualities).float())
    for own, picture, quality in zip(made, x, qualities, strict=True):
        truth = real_world.jpeg(picture[None], quality)[0]
        off, done = (own - truth).square().mean(), (truth - picture).square().mean()
        assert off < done / 9, (quality, off, done)


def test_kernels_are_those_of_the_chain():
    count = 4000
    draws = drawn_kernels.Draws(count, torch.Generator().manual_seed(0), CPU)
    of = torch.ones(count)
    found = drawn_kernels.blur_kernels(draws, 21 * of, 0.2 * of, 1.5 * of, 0.1 * of)
    assert torch.allclose(found.sum((1, 2)), of, atol=1e-5)
    known = real_world.CHAINS["StableSR"].first
    random = Random(0)
    truth = torch.zeros(count, 21, 21)
    for k in truth[:1500]:
        one = blur_kernel(known.kernel, known.deviation, known.sinc, random)
        edge = (21 - len(one)) // 2
        k[edge : 21 - edge, edge : 21 - edge] = one
    truth = truth[:1500]
    for what in (
        lambda k: k[:, 10, 10], lambda k: k[:, 10, 12], lambda k: k.square().sum((1, 2)),
        lambda k: (k.abs() > 0).sum((1, 2)).float(), lambda k: (k < 0).any(2).sum(1) / 9.0,
    ):
        ours, theirs = what(found), what(truth)
        error = ((ours.var() / count + theirs.var() / 1500).sqrt())
        assert (ours.mean() - theirs.mean()).abs() < 4 * error, (ours.mean(), theirs.mean())
    one = drawn_kernels.sinc_kernels(torch.tensor([13.0]), torch.tensor([2.0]))[0]
    assert torch.allclose(one[4:17, 4:17], sinc_kernel(13, 2.0), atol=1e-6)


def seen(low, high):
    """Of each sample: detail over the small truth's, noise in grey and in colour, dB."""
    small = F.avg_pool2d(high, 4)
    fine = low.diff(dim=-1).diff(dim=-2)
    grey = fine.mean(1)
    return torch.stack([
        (low.diff(dim=-1).abs().mean((1, 2, 3)) / small.diff(dim=-1).abs().mean((1, 2, 3))).log(),
        grey.square().mean((1, 2)).sqrt().log(),
        (fine - grey[:, None]).square().mean((1, 2, 3)).add(1e-6).sqrt().log(),
        -10 * (low - small).square().mean((1, 2, 3)).log10(),
    ])  # fmt: skip


@pytest.mark.parametrize("strength", ["mild", "InvSR"])
def test_degraded_batches_look_like_the_chains(strength):
    high = torch.cat([photos(("coffee", "chelsea", "astronaut", "brick"))[..., a : a + 64, 80:144]
                      for a in (0, 64, 128)])
    made = degraded_batches.DegradedBatches([strength], CPU)
    generator, options = torch.Generator().manual_seed(0), real_world.RealWorldDegradation(strength)
    ours, theirs = [], []
    for k in range(8):
        ours.append(seen(made(high, generator), high))
        theirs.append(seen(real_world.degrade(high, options, range(100 * k, 100 * k + 12)), high))
    ours, theirs = torch.cat(ours, 1), torch.cat(theirs, 1)
    error = ((ours.var(1) + theirs.var(1)) / ours.shape[1]).sqrt()
    assert ((ours.mean(1) - theirs.mean(1)).abs() < 4 * error).all(), (ours.mean(1), theirs.mean(1))
    spread = ours.std(1) / theirs.std(1)
    assert ((spread > 0.7) & (spread < 1.4)).all(), spread


def test_a_batch_is_shared_out_and_repeats(draw):
    made = degraded_batches.DegradedBatches(("mild", "InvSR"), CPU)
    high = photos(("coffee",))[..., 40:72, 40:72].expand(40, -1, -1, -1)
    low = made(high, torch.Generator().manual_seed(3))
    assert low.shape == (40, 3, 8, 8) and low.dtype == torch.float32 and low.abs().max() <= 1
    values = (low + 1) * 127.5
    assert torch.allclose(values, values.round(), atol=1e-3)
    assert torch.equal(low, made(high, torch.Generator().manual_seed(3)))
    off = (low - F.avg_pool2d(high, 4)).square().mean((1, 2, 3))
    assert off[20:].mean() > 3 * off[:20].mean()
    with pytest.raises(ValueError, match="squares with a side that is a multiple of 4"):
        made(draw(1, 3, 64, 60), torch.Generator())


def test_features_tell_pictures_apart(draw):
    prior = load_pixel_prior(BUILT_IN)
    x = photos(("coffee",))[..., :64, :64]
    soft = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    known = features.features(prior, x)
    assert [f.shape[1:] for f in known] == [(64, 32, 32), (96, 16, 16), (160, 8, 8), (224, 4, 4)]
    assert features.feature_distance(known, known) == 0
    close, far = (features.feature_distance(features.features(prior, p), known)
                  for p in (soft, draw(1, 3, 64, 64)))
    assert 0.02 < close < far < 1.5
    with pytest.raises(TypeError, match="is no pixel prior of the pack"):
        features.features(type("Other", (), {"spec": prior.spec}), x)


def test_texture_counts_how_much_and_not_where(draw):
    x = draw(2, 3, 64, 64)
    moved = x.roll(5, 3)
    assert (distances.texture_distance(x, moved) < 0.3 * distances.edge_distance(x, moved)).all()
    assert torch.allclose(distances.sobel(x), kornia.filters.sobel(x), atol=1e-5)
    half = distances.texture_distance(x, 0.5 * x)
    assert (half > 0.9 * distances.edge_distance(x, 0.5 * x)).all()


def test_the_deviation_of_similar_gradients_is_gmsd_with_a_slope(draw):
    truth = draw(2, 1, 64, 64).expand(-1, 3, -1, -1) / 2
    x = (truth + 0.2 * draw(2, 1, 64, 64)).clamp(-1, 1).requires_grad_()
    found = distances.similarity_deviation(x, truth.clamp(-1, 1))
    assert torch.allclose(found, gmsd(x, truth.clamp(-1, 1)), rtol=0.15)
    same = truth.clone().requires_grad_()
    for off in (found, distances.similarity_deviation(same, truth)):
        assert torch.autograd.grad(off.sum(), x if off is found else same)[0].isfinite().all()
    assert float(off.detach().max()) < 2e-3


def test_steep_critics_pay(draw):
    def ramp(x, sigma):
        return [x.mean(1, keepdim=True), 10 * x.mean(1, keepdim=True)]

    x, g = draw(8, 2, 16, 16), torch.Generator().manual_seed(0)
    found = critic.steepness(ramp, x, torch.ones(8), g)
    expected = critic.STEEP * critic.NUDGE**2 / 2 * (1 + 100) / 2
    assert found == pytest.approx(expected, rel=0.2)


def test_what_counts_falls_and_rises_with_the_gain(draw):
    predictor, prior = load_noise_predictor(BUILT_IN_PREDICTOR), load_pixel_prior(BUILT_IN)
    held = (torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 32, 32))
    options = PredictorOptions(texture=0.5, least_gain=0.5, units="sample", starts="even")
    task = inversion_loss.PredictorTask(predictor, prior, options, held)
    truth = draw(4, 3, 16, 16)
    share = task.share(torch.tensor([0.2, 0.4, 0.6, 0.7]))
    assert torch.allclose(share, torch.tensor([0.0, 0.5, 1.0, 1.0]))
    z = truth + 0.4
    for _ in range(300):  # 6 dB more than bicubic
        task.rebalance(truth + 0.2, truth, z, share)
    assert task.gain == pytest.approx(20 * math.log10(2), rel=0.05) and task.balance > 0.5
    for _ in range(500):
        task.rebalance(truth + 0.4, truth, z, share)
    assert task.balance == pytest.approx(inversion_loss.FIRST / 10)
    low, high = photos(("coffee",))[..., :16, :16], photos(("coffee",))[..., :64, :64]
    terms = task((low, high), torch.Generator().manual_seed(0))
    assert terms.keys() == {"square", "edges", "texture"}
    assert PredictorOptions().units == "batch" and task.levels(
        999, torch.Generator().manual_seed(0)).mean() == pytest.approx(0.425, abs=0.02)


def test_a_grown_predictor_does_what_the_small_one_did(draw):
    network = load_noise_predictor(BUILT_IN_PREDICTOR).network
    larger = grown_predictor.grown(network, (96, 136, 160), 4)
    y, level = draw(2, 3, 16, 16).double(), torch.tensor([0.2, 0.6]).double().log()
    with torch.no_grad():
        for a, b in zip(network.double()(y, level), larger.double()(y, level), strict=True):
            assert torch.allclose(a, b, atol=1e-6)
    assert len(larger.mid) == 4 and larger.enc[0][3].a.weight.abs().max() > 0
    with pytest.raises(ValueError, match="cannot become 88,128,160 with 3"):
        grown_predictor.grown(network, (88, 128, 160), 3)


def test_a_run_by_the_clock(tmp_path, monkeypatch, capsys):
    pixels = skimage.data.coffee()[:200, :200]
    Image.fromarray(pixels).save(tmp_path / "coffee.png")
    monkeypatch.setattr(inversion_loss, "Critic", lambda c: critic.Critic(c, (8, 8, 16)))
    out = tmp_path / "run"
    given = "--minutes 0.001 --batch 3 --side 32 --widths 8,16 --blocks 1 --units sample"
    given += " --features 0.3 --texture 1 --adversarial 0.3 --least-gain 0 --starts even"
    files = ["--pictures", str(tmp_path), "--out", str(out)]
    assert script.main([*given.split(), *files, "--optimizer", "muon"]) == 0
    assert "sharp_0.57_mild" in capsys.readouterr().out
    made = load_noise_predictor(out / "predictor.safetensors")
    mean, std = made.predict(torch.zeros(1, 3, 16, 16), torch.tensor([0.5]))
    assert mean.shape == (1, 3, 64, 64) and mean.abs().max() > 0 < std.min()
    said = read_tensors(out / "predictor.safetensors")[1]
    assert said["steps"] == "3" and said["degradation"].startswith("mild, StableSR, mild")
    with pytest.raises(ValueError, match="name one: --pictures"):
        script.main(["--minutes", "1"])


def test_a_pattern_of_the_networks_own_is_seen(draw):
    truth = draw(2, 3, 64, 128)
    pattern = draw(1, 3, 8, 8).repeat(2, 1, 8, 16)
    assert (distances.lattice(truth + pattern, truth) > 0.99).all()
    assert (distances.lattice(truth + draw(2, 3, 64, 128), truth) < 2 / 64).all()
    assert (distances.lattice(truth + 1, truth) < 0.02).all()  # a change of brightness is none
