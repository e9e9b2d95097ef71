"""Motion kernels: a straight line by its integral, a random walk by its promises."""

import math

import pytest
import torch

from undegrade.pipelines.operators.motion_blur import RandomMotionBlur, StraightMotionBlur


def moments(k):
    """Mean (row, column) from the middle pixel, and the covariance, (2,) and (2, 2)."""
    r = k.shape[-1] // 2
    position = torch.arange(-r, r + 1, dtype=torch.float64)
    rows, columns = torch.meshgrid(position, position, indexing="ij")
    points = torch.stack([rows.flatten(), columns.flatten()])
    weights = k.double().flatten()
    mean = points @ weights
    return mean, (points - mean[:, None]) * weights @ (points - mean[:, None]).T


def test_level_line_is_the_integral_of_its_pixels():
    """Pixel j gets the integral of max(1 - |j - t|, 0) over |t| < length / 2, over the length."""
    k = StraightMotionBlur(length=4.0).kernel()
    expected = torch.zeros(5, 5)
    expected[2] = torch.tensor([1, 2, 2, 2, 1]) / 8
    assert torch.allclose(k, expected, atol=1e-6)
    k = StraightMotionBlur(length=1.0).kernel()
    assert torch.allclose(k[1], torch.tensor([1, 6, 1]) / 8, atol=1e-6)


@pytest.mark.parametrize("length", [1.0, 7.3, 20.0, 61.0])
@pytest.mark.parametrize("angle", [0.0, 17.0, 45.0, 90.0, -120.0])
def test_straight_kernels(length, angle):
    k = StraightMotionBlur(length=length, angle=angle).kernel()
    assert k.shape == (2 * math.ceil(length / 2) + 1,) * 2
    assert k.dtype == torch.float32
    assert abs(k.double().sum().item() - 1) < 1e-6
    assert torch.allclose(k, k.flip(0, 1), atol=1e-6)
    _, covariance = moments(k)
    turn = math.radians(angle)
    along = torch.tensor([-math.sin(turn), math.cos(turn)], dtype=torch.float64)  # rows run down
    across = torch.stack([along[1], -along[0]])
    for direction, variance in ((along, length**2 / 12), (across, 0.0)):
        # what a pixel's own width adds lies between 0 and 1/4
        assert -1e-3 < direction @ covariance @ direction - variance < 0.26


def test_angles_run_counter_clockwise():
    k = StraightMotionBlur(length=9.0, angle=45.0).kernel()
    assert k[2, -3] > 0.05
    assert k[2, 2] == 0
    upright = StraightMotionBlur(length=9.0, angle=90.0).kernel()
    assert torch.allclose(upright, StraightMotionBlur(length=9.0).kernel().T, atol=1e-6)


def test_no_length_is_no_blur():
    assert StraightMotionBlur(length=0.0).kernel().tolist() == [[1.0]]


@pytest.mark.parametrize("side", [3, 15, 61, 255])
@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
def test_random_walks(side, intensity):
    for seed in (0, 1, 2**64 - 1):
        k = RandomMotionBlur(side=side, intensity=intensity, seed=seed).kernel()
        assert k.shape == (side, side)
        assert k.dtype == torch.float32
        assert (k >= 0).all()
        assert abs(k.double().sum().item() - 1) < 1e-5
        assert moments(k)[0].abs().max() < 0.02
        assert torch.equal(k, RandomMotionBlur("reflect", side, intensity, seed).kernel())


def test_seeds_differ_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    kernels = torch.stack([RandomMotionBlur(seed=seed).kernel() for seed in range(12)])
    assert torch.equal(torch.get_rng_state(), before)
    gaps = (kernels[:, None] - kernels[None]).abs().sum((2, 3)) + 9 * torch.eye(12)
    assert gaps.min() > 0.5


def test_intensity_tangles_the_path():
    """Straight at 0; the more it turns, the less far it gets from its middle."""
    spread = {}
    for intensity in (0.0, 0.5, 1.0):
        kernels = [RandomMotionBlur(intensity=intensity, seed=s).kernel() for s in range(24)]
        variances = torch.stack([torch.linalg.eigvalsh(moments(k)[1]) for k in kernels])
        if intensity == 0:
            assert variances[:, 0].max() < 1  # a line is as wide as a pixel
        spread[intensity] = variances[:, 1].mean().item()
    assert spread[0.0] > 1.3 * spread[0.5] > 1.7 * spread[1.0]


def test_the_kernel_is_made_once(monkeypatch, draw):
    calls = []
    make = RandomMotionBlur.kernel
    monkeypatch.setattr(RandomMotionBlur, "kernel", lambda self: calls.append(1) or make(self))
    operator, x = RandomMotionBlur(side=15), draw(1, 3, 20, 24)
    for _ in range(3):
        operator.vjp(x)[1](operator(x))
    assert len(calls) == 1
