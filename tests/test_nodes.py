"""What the nodes do to good input."""

import random

import pytest
import torch
from node_calls import call, measured, photo, sampled, small_prior

from undegrade import NODE_CLASS_MAPPINGS
from undegrade.models.prior import GaussianPrior
from undegrade.nodes.posterior import sampler
from undegrade.nodes.posterior.trajectory import RestorationTrajectory
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.updates.gradient import LikelihoodGradient


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grey_rgb_and_rgba_come_back_as_they_went_in(channels):
    degraded, m = measured(channels=channels, batch=2)
    assert degraded.shape == (2, 16, 24, channels)
    image, _ = sampled(m)
    assert image.shape == (2, 32, 48, channels)
    assert image.dtype == torch.float32 and image.min() >= 0 and image.max() <= 1
    if channels == 4:
        torch.testing.assert_close(image[..., 3], photo(channels=4, batch=2)[..., 3])


@pytest.mark.parametrize("size", [(1, 1), (37, 31), (5, 64)])
def test_any_size(size):
    operator = call("UndegradeGaussianBlur", std=1.0)[0]
    m = call("UndegradeDegradeImage", image=photo(*size), operator=operator)[1]
    prior = call("UndegradeMultiResolutionPrior", prior=small_prior())[0]
    assert sampled(m, prior=prior)[0].shape == (1, *size, 3)


def test_same_seed_same_picture_and_another_seed_another():
    m = measured()[1]
    assert torch.equal(sampled(m, seed=5)[0], sampled(m, seed=5)[0])
    assert not torch.equal(sampled(m, seed=5)[0], sampled(m, seed=6)[0])


def test_samples_are_the_runs_of_the_following_seeds():
    m = measured()[1]
    both = sampled(m, samples=2, seed=5)[0]
    torch.testing.assert_close(both, torch.cat([sampled(m, seed=s)[0] for s in (5, 6)]))


def test_inputs_are_not_changed():
    image, m = photo(), measured()[1]
    before, y = image.clone(), m.y.clone()
    call("UndegradeDegradeImage", image=image, operator=m.operator)
    trajectory = sampled(m, keep_trajectory=True)[1]
    x = trajectory.steps[0].x.clone()
    call("UndegradeTrajectoryPreview", trajectory=trajectory)
    call("UndegradeTrajectoryCorrector", trajectory=trajectory)
    call("UndegradeMeasurementConsistency", image=image, measurement=m)
    assert torch.equal(image, before) and torch.equal(m.y, y)
    assert torch.equal(trajectory.steps[0].x, x)


def test_a_run_without_a_kept_trajectory_holds_no_steps_and_can_be_corrected():
    image, trajectory = sampled(measured()[1])
    assert isinstance(trajectory, RestorationTrajectory) and trajectory.steps == ()
    official, consistent = trajectory.states.values()
    assert official is consistent and official.device.type == "cpu", "nothing is kept twice"
    assert call("UndegradeTrajectoryCorrector", trajectory=trajectory)[0].shape == image.shape
    with pytest.raises(ValueError, match="turn keep_trajectory on"):
        call("UndegradeTrajectoryPreview", trajectory=trajectory)


def test_a_corrector_that_nobody_reads_is_not_fed_and_is_made_up_for_where_one_comes_later():
    m, states = measured()[1], []
    others = {"2": {"class_type": "PreviewImage", "inputs": {"images": ["12:1", 0], "1": "12:1"}},
              "4": {"class_type": "Unfinished"}}  # fmt: skip
    reader = {"class_type": "UndegradeTrajectoryCorrector", "inputs": {"trajectory": ["12:1", 1]}}
    own = {"12:1": {"class_type": "UndegradePosteriorSampler", "inputs": {"seed": 3}}}
    for graph in ({**own, **others}, {**own, **others, "3": reader}, others, None):
        trajectory = sampled(m, graph=graph, seed=3)[1]
        states.append(trajectory.states)
        image = call("UndegradeTrajectoryCorrector", trajectory=trajectory)[0]
        assert torch.equal(image, call("UndegradeTrajectoryCorrector",
                                       trajectory=sampled(m, seed=3)[1])[0])  # fmt: skip
    assert [known is None for known in states] == [True, False, False, False]


def test_a_run_is_made_again_once_for_all_correctors_and_keeps_no_steps(monkeypatch):
    runs, own = [], sampler.run
    monkeypatch.setattr(sampler, "run", lambda *given: runs.append(given) or own(*given))
    graph = {"1": {"class_type": "UndegradePosteriorSampler", "inputs": {}}}
    trajectory = sampled(measured()[1], graph=graph, keep_trajectory=True)[1]
    for coefficients in ("official", "consistent", "official"):
        call("UndegradeTrajectoryCorrector", trajectory=trajectory, coefficients=coefficients)
    assert len(runs) == 2 and len(trajectory.steps) == 3 and not trajectory.again().steps


def test_preview_shows_the_first_and_the_last_step():
    prior = call("UndegradeMultiResolutionPrior", prior=small_prior(), levels=2)[0]
    image, trajectory = sampled(measured()[1], prior=prior, keep_trajectory=True, steps=5)
    frames = call("UndegradeTrajectoryPreview", trajectory=trajectory, frames=3)[0]
    assert frames.shape == (3, 32, 48, 3)
    torch.testing.assert_close(frames[-1:], image)


def test_statistics_are_the_mean_and_the_deviation():
    images = torch.tensor([0.2, 0.4, 0.6, 0.5, 0.5, 0.5]).view(6, 1, 1, 1).expand(6, 2, 2, 3)
    mean, uncertainty, std, *_ = call(
        "UndegradePosteriorStatistics", images=images, samples=3, gain=2.0
    )
    torch.testing.assert_close(mean[:, 0, 0, 0], torch.tensor([0.4, 0.5]))
    torch.testing.assert_close(uncertainty[:, 0, 0], torch.tensor([0.4, 0.0]))
    assert std == pytest.approx(0.1)
    with pytest.raises(ValueError, match="does not divide into groups of 4"):
        call("UndegradePosteriorStatistics", images=images, samples=4)


def test_consistency_is_one_for_the_truth_and_large_for_another_picture():
    image = photo(64, 64)
    operator = call("UndegradeGaussianBlur", std=1.0)[0]
    m = call("UndegradeDegradeImage", image=image, operator=operator)[1]
    assert call("UndegradeMeasurementConsistency", image=image, measurement=m)[1] == pytest.approx(
        1, abs=0.03
    )
    assert call("UndegradeMeasurementConsistency", image=1 - image, measurement=m)[1] > 5


def test_consistency_counts_only_what_was_seen():
    image = photo(64, 64)
    mask = call("UndegradeRandomMask", image=image, hidden=0.7)[0]
    operator = call("UndegradeInpaintingMask", mask=mask)[0]
    m = call("UndegradeDegradeImage", image=image, operator=operator)[1]
    residual, ratio, back = call("UndegradeMeasurementConsistency", image=image, measurement=m)
    assert ratio == pytest.approx(1, abs=0.05)
    hidden = mask[0] > 0.5
    torch.testing.assert_close(residual[0][hidden], torch.full_like(residual[0][hidden], 0.5))
    torch.testing.assert_close(back[0][hidden], image[0][hidden], atol=1e-4, rtol=0)


def test_masks_are_white_where_hidden():
    mask = call("UndegradeBoxMask", image=photo(32, 32))[0]
    assert mask.shape == (1, 32, 32) and mask[0, 16, 16] == 1 and mask[0, 0, 0] == 0
    operator = call("UndegradeInpaintingMask", mask=mask)[0]
    assert isinstance(operator, Inpainting) and operator.seen[0, 0, 16, 16] == 0


def test_scores_of_a_picture_with_itself_and_with_noise():
    image = photo(64, 64) * 0.8 + 0.1
    noisy = image + 0.02 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    psnr, ssim, _, report = call("UndegradeScoreRestoration", image=noisy, reference=image)
    assert psnr == pytest.approx(34, abs=0.3) and 0.3 < ssim < 1 and f"{psnr:.2f} dB" in report
    assert call("UndegradeScoreRestoration", image=image, reference=image)[1] == pytest.approx(1)


def test_nodes_touch_no_global_state():
    m = measured()[1]
    before = (torch.get_rng_state(), random.getstate(), torch.get_num_threads())
    sampled(m, samples=2)
    after = (torch.get_rng_state(), random.getstate(), torch.get_num_threads())
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


def told(node_id, **given):
    """What a node says in words."""
    node = NODE_CLASS_MAPPINGS[node_id]
    with torch.inference_mode():
        return getattr(node(), node.FUNCTION)(**given)["ui"]["text"]


def test_too_few_steps_and_resolutions_that_a_prior_never_saw_are_said():
    image, operator = photo(), call("UndegradeDownscale", factor=2)[0]
    given = {
        "prior": small_prior(), "measurement": call("UndegradeMeasurementFromImage", image=image,
        operator=operator)[0], "seed": 0, "samples": 1, "keep_trajectory": False,
    }
    (said,) = told("UndegradePosteriorSampler", **given, steps=5)
    assert "steps is 5: with fewer than 6" in said and "take 20 or more" in said
    assert told("UndegradePosteriorSampler", **given, steps=6) == []
    (said,) = told("UndegradePosteriorSampler", **given, steps=1, schedule="fast")
    assert "was not trained for the smaller pictures that schedule 'fast' begins with" in said
    whole = {"prior": GaussianPrior(std=0.5), "levels": 3, "switch_points": ""}
    (said,) = told("UndegradeMultiResolutionPrior", **whole)
    assert "not trained for pictures at 1/4 and 1/2 of their size" in said
    assert told("UndegradeMultiResolutionPrior", **{**whole, "levels": 1}) == []
    (built_in,) = call("UndegradeLoadPixelPrior")
    assert told("UndegradeMultiResolutionPrior", **{**whole, "prior": built_in}) == []
    (coarser,) = call("UndegradeMultiResolutionPrior", prior=built_in, levels=4, switch_points="")
    (said,) = told("UndegradePosteriorSampler", **{**given, "prior": coarser}, schedule="fast")
    assert "what Multi-Resolution Prior sets did not count" in said
    assert told("UndegradePosteriorSampler", **{**given, "prior": built_in}, schedule="fast") == []
    given |= {"prior": built_in, "update": LikelihoodGradient()}
    (said,) = told("UndegradePosteriorSampler", **given, schedule="fast")
    assert "too few steps for DPS" in said
