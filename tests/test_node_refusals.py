"""Progress, interruption, and what the nodes say to bad input."""

import pytest
import torch
from node_calls import call, measured, photo, sampled, small_prior

from undegrade.models.prior import GaussianPrior
from undegrade.nodes.comfyui import host

# Progress and interruption


class StopError(Exception):
    """Stands for ComfyUI's InterruptProcessingException, a plain Exception."""


def test_cancel_stops_within_one_network_call(monkeypatch):
    calls = []

    class Counting(GaussianPrior):
        def denoise(self, x, sigma, factor=1):
            calls.append(sigma)
            return super().denoise(x, sigma, factor)

    def interrupted():
        if len(calls) == 4:
            raise StopError

    monkeypatch.setattr(host, "check_interrupted", interrupted)
    with pytest.raises(StopError):
        sampled(measured()[1], prior=Counting(), steps=20)
    assert len(calls) == 4


def test_progress_counts_network_calls():
    seen = []
    previous = host.set_progress_sink(lambda *report: seen.append(report))
    try:
        sampled(measured()[1], steps=4, ode_steps=2)
    finally:
        host.set_progress_sink(previous)
    assert [value for _, value, _ in seen] == list(range(1, 9))
    assert {total for _, _, total in seen} == {8}


# Bad input


@pytest.mark.parametrize(
    ("node_id", "given", "said"),
    [
        (
            "UndegradeDegradeImage",
            {"image": photo(), "operator": 1},
            "operator is of type int; connect",
        ),
        (
            "UndegradePosteriorSampler",
            {"prior": 1, "measurement": None},
            "prior is of type int; connect",
        ),
        (
            "UndegradePosteriorSampler",
            {"prior": small_prior(), "measurement": photo()},
            "measurement is of type Tensor; connect",
        ),
        ("UndegradeTrajectoryCorrector", {"trajectory": 3}, "connect Posterior Sampler"),
        ("UndegradeMultiResolutionPrior", {"prior": None}, "prior is of type NoneType; connect"),
        ("UndegradeComposeOperators", {"first": None, "second": None}, "first is of type NoneType"),
    ],
)
def test_wrong_kinds_on_custom_sockets(node_id, given, said):
    with pytest.raises(TypeError, match=said):
        call(node_id, **given)


@pytest.mark.parametrize("level", [0.0, -0.1, float("nan"), float("inf")])
def test_noise_level_must_be_positive(level):
    operator = call("UndegradeDownscale")[0]
    with pytest.raises(ValueError, match="give a number above 0"):
        call("UndegradeMeasurementFromImage", image=photo(), operator=operator, noise_level=level)


def test_switch_points_that_do_not_fit():
    for text, said in (
        ("0.5", "need 2 rising"),
        ("a, b", "write fractions"),
        ("0.7, 0.3", "rising"),
    ):
        with pytest.raises(ValueError, match=said):
            call("UndegradeMultiResolutionPrior", prior=small_prior(), switch_points=text)


def test_threshold_below_zero():
    with pytest.raises(ValueError, match="threshold is -1"):
        call("UndegradeDeterministicSwitch", threshold=-1.0)


def test_mask_of_another_size_and_a_mask_that_hides_everything():
    operator = call("UndegradeInpaintingMask", mask=torch.zeros(1, 8, 8))[0]
    with pytest.raises(ValueError, match="mask is 8x8 pixels and the image 48x32"):
        call("UndegradeDegradeImage", image=photo(), operator=operator)
    with pytest.raises(ValueError, match="hides every pixel"):
        call("UndegradeInpaintingMask", mask=torch.ones(1, 8, 8))


def test_empty_and_several_kernels():
    with pytest.raises(ValueError, match="zero everywhere"):
        call("UndegradeKernelBlur", kernel=torch.zeros(1, 5, 5, 3))
    with pytest.raises(ValueError, match="batch of 2"):
        call("UndegradeKernelBlur", kernel=torch.ones(2, 5, 5, 3))


def test_picture_below_the_factor():
    operator = call("UndegradeDownscale", factor=3)[0]
    with pytest.raises(ValueError, match="is 2x9 pixels, too small to reduce 3 times; choose a"):
        call("UndegradeDegradeImage", image=photo(9, 2), operator=operator)


def test_scores_of_different_sizes():
    with pytest.raises(ValueError, match="48x32 and reference 32x32"):
        call("UndegradeScoreRestoration", image=photo(), reference=photo(32, 32))


def test_scores_of_tiny_pictures():
    call("UndegradeScoreRestoration", image=photo(6, 6), reference=photo(6, 6), label="")
    with pytest.raises(ValueError, match=r"5x6 pixels, too small .*; give at least 6 a side"):
        call("UndegradeScoreRestoration", image=photo(6, 5), reference=photo(6, 5), label="")


def masked(count, pictures, node="UndegradeDegradeImage"):
    """`count` masks, each with one column hidden, on so many pictures."""
    mask = torch.zeros(count, 32, 48)
    for k in range(count):
        mask[k, :, k] = 1
    operator = call("UndegradeInpaintingMask", mask=mask)[0]
    return call(node, image=photo(batch=pictures), operator=operator)


@pytest.mark.parametrize("node", ["UndegradeDegradeImage", "UndegradeMeasurementFromImage"])
def test_masks_are_one_or_one_per_picture(node):
    """Repeat Image Batch gives a, b, a, b, and samples a, a, b, b."""
    for count, pictures in ((1, 1), (1, 6), (3, 3)):
        masked(count, pictures, node)
    for count, pictures in ((2, 6), (3, 6), (2, 3), (3, 1)):
        said = f"masks .* and of pictures are {count} and {pictures},.*give one mask, or"
        with pytest.raises(ValueError, match=said):
            masked(count, pictures, node)


def test_statistics_of_samples_that_failed():
    images = photo(batch=4)
    images[2, 3, 4] = float("nan")
    with pytest.raises(ValueError, match="images has NaN or infinite pixels; leave out"):
        call("UndegradePosteriorStatistics", images=images)
