"""Each operator against its definition, written out independently, and against official numbers."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch
from safetensors.torch import load_file

from undegrade.pipelines.operators.blur import GaussianBlur, KernelBlur
from undegrade.pipelines.operators.canvas import Crop, NearestUpsample, pad_reflect
from undegrade.pipelines.operators.compose import Compose
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.operators.framing import fast_size
from undegrade.pipelines.operators.hdr import HDRClip
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.operators.jpeg import JPEG
from undegrade.pipelines.operators.phase_retrieval import PhaseRetrieval

GOLDEN = Path(__file__).parent / "golden" / "official_operators.safetensors"
SCIPY = {"replicate": "nearest", "reflect": "mirror", "circular": "wrap"}


def pseudo_random(*shape: int, start: float = 0.0) -> torch.Tensor:
    """Values in [-1, 1] that look random, from a formula: the same on every machine."""
    i = torch.arange(math.prod(shape), dtype=torch.float64) + start
    v = torch.sin(12.9898 * i + 0.5) * 43758.5453
    return (2 * (v - v.floor()) - 1).float().reshape(shape)


def units(height: int, width: int) -> torch.Tensor:
    """Every unit vector as a picture, (height width, 1, height, width) float64."""
    n = height * width
    return torch.eye(n, dtype=torch.float64).view(n, 1, height, width)


def largest_gap(result, expected) -> float:
    expected = torch.as_tensor(expected)
    assert result.shape == expected.shape
    return (result - expected).abs().max().item()


@pytest.mark.parametrize("border", SCIPY)
@pytest.mark.parametrize("side", [1, 3, 7])
def test_blur_is_true_convolution(border, side):
    k = (pseudo_random(side, side, start=5.0) + 1) ** 2
    operator = KernelBlur(border=border, weights=k)
    x = units(11, 8)
    normal = (k.double() / k.double().sum()).numpy()
    expected = np.stack(
        [scipy.ndimage.convolve(e[0], normal, mode=SCIPY[border])[None] for e in x.numpy()]
    )
    assert largest_gap(operator(x), expected) < 1e-6
    assert largest_gap(operator(x.float()), expected.astype(np.float32)) < 1e-6


def test_gaussian_kernel_is_scipys():
    """The official kernel: scipy's gaussian_filter of a single pixel."""
    delta = np.zeros((61, 61))
    delta[30, 30] = 1
    expected = scipy.ndimage.gaussian_filter(delta, 3.0)[18:43, 18:43]
    k = GaussianBlur(std=3.0).kernel()
    assert largest_gap(k.double(), expected) < 1e-8
    assert abs(k.double().sum().item() - 1) < 1e-6


def test_official_border_by_its_definition():
    """Zeros around the picture, whole complex spectra, frequencies below 0.05 removed."""
    k = (pseudo_random(9, 9, start=5.0) + 1) ** 4
    k = k / k.double().sum()
    x = units(12, 10)
    otf = np.fft.fft2(k.numpy(), s=(32, 32))
    kept = np.abs(otf) >= 0.05
    assert 0.1 < kept.mean() < 0.9
    spectra = np.fft.fft2(x.numpy(), s=(32, 32)) * np.where(kept, otf, 0)
    expected = np.fft.ifft2(spectra).real[..., 4:16, 4:14]
    operator = KernelBlur(border="official", weights=k)
    assert largest_gap(operator(x), expected) < 1e-6


SIDES = {2: (6, 2), 3: (9, 3), 4: (11, 6), 5: (15, 5), 8: (24, 8), 1.5: (8, 13), 2.5: (12, 7)}


@pytest.mark.parametrize("factor", SIDES)
@pytest.mark.parametrize("kind", ["bicubic", "bilinear", "area"])
def test_downscale_by_its_taps(factor, kind):
    def weight(distance, s):
        t = abs(distance) / s
        if kind == "area":  # of the pixel's unit length, what lies in the output's
            low, high = max(distance - 0.5, -s / 2), min(distance + 0.5, s / 2)
            return max(high - low, 0.0)
        if kind == "bilinear":
            return max(1 - t, 0.0)
        if t <= 1:
            return 1.5 * t**3 - 2.5 * t**2 + 1
        return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t <= 2 else 0.0

    def matrix(n):
        count = math.floor(n / factor + 0.5)
        s = n / count
        rows = np.zeros((count, n))
        for i in range(count):
            centre = s * (i + 0.5) - 0.5
            reach = range(math.floor(centre - 2 * s), math.ceil(centre + 2 * s) + 1)
            taps = {j: weight(j - centre, s) for j in reach}
            for j, w in taps.items():
                while not 0 <= j < n:  # reflect at -1/2 and n - 1/2
                    j = -1 - j if j < 0 else 2 * n - 1 - j
                rows[i, j] += w / sum(taps.values())
        return torch.from_numpy(rows)

    height, width = SIDES[factor]
    rows, columns = matrix(height), matrix(width)
    expected = torch.einsum("ia,nab,jb->nij", rows, units(height, width)[:, 0], columns)
    operator = Downscale(factor, kind)
    assert largest_gap(operator(units(height, width))[:, 0], expected) < 1e-12
    flat = torch.full((1, 3, height, width), 0.37)
    assert largest_gap(operator(flat), torch.full((1, 3, *expected.shape[1:]), 0.37)) < 1e-6


def test_masks_crops_and_enlargements():
    x = units(6, 5)
    m = (pseudo_random(1, 1, 6, 5) > 0).float()
    assert torch.equal(Inpainting(m)(x), x * m.double())
    pair = torch.cat([m, 1 - m])  # 30 pictures: 15 under each mask
    assert torch.equal(Inpainting(pair)(x), x * pair.double().repeat_interleave(15, 0))
    assert torch.equal(Crop(4, 5)(x), torch.from_numpy(x.numpy()[:, :, :4, :5]))
    for factor in (1, 2, 3, 4, 8, 25):
        expected = np.kron(x.numpy(), np.ones((1, 1, factor, factor)))
        assert torch.equal(NearestUpsample(factor)(x), torch.from_numpy(expected))
        assert torch.equal(NearestUpsample(factor)(x.float()).double(), torch.from_numpy(expected))


def test_composition_is_the_product_of_matrices():
    def dense(operator, size):
        return operator(units(*size)).flatten(1).T

    blur, crop, enlarge = (
        KernelBlur(weights=pseudo_random(3, 3).abs()),
        Crop(7, 5),
        NearestUpsample(2),
    )
    chain = dense(blur, (7, 5)) @ dense(crop, (8, 6)) @ dense(enlarge, (4, 3))
    assert largest_gap(dense(Compose((enlarge, crop, blur)), (4, 3)), chain) < 1e-12


def test_hdr_clips_and_its_surrogate_saturates():
    x = torch.linspace(-2, 2, 401, dtype=torch.float64).view(1, 1, 1, 401)
    operator = HDRClip(gain=2.0)
    v = 2 * x.numpy()
    assert largest_gap(operator(x), np.clip(v, -1, 1)) == 0
    soft = np.where(np.abs(v) <= 1, v, np.sign(v) * (1 + np.tanh(np.abs(v) - 1)))
    assert largest_gap(operator.surrogate(x), soft) < 1e-12
    slope = np.where(np.abs(v) <= 1, 2, 2 / np.cosh(np.abs(v) - 1) ** 2)
    assert largest_gap(operator.jvp(x, torch.ones_like(x)), slope) < 1e-12
    hard = np.where(np.abs(v) <= 1, 2.0, 0.0)
    assert largest_gap(operator.vjp(x)[1](torch.ones_like(x)), hard) == 0


def test_phase_retrieval_by_its_definition():
    """The frame is int(2.0 / 8 * side) wide on each side: 64 at 256, 9 and 7 at 37x31."""
    x = pseudo_random(2, 3, 37, 31).double()
    framed = np.pad((x.numpy() + 1) / 2, ((0, 0), (0, 0), (9, 9), (7, 7)))
    expected = np.fft.fftshift(np.abs(np.fft.fft2(framed, norm="ortho")), (-2, -1))
    operator = PhaseRetrieval()
    assert largest_gap(operator(x), expected) < 1e-12
    assert largest_gap(operator(x.flip(-1, -2)), expected) < 1e-12  # the ambiguity it is known for
    assert operator.input_size(384, 384) == (256, 256)
    for oversampling in (0.0, 0.5, 2.0, 3.25, 8.0):
        operator = PhaseRetrieval(oversampling)
        for side in range(1, 80):
            framed_side = side + 2 * int(oversampling / 8 * side)
            assert operator.input_size(framed_side, framed_side) == (side, side)


@pytest.mark.parametrize(("quality", "decibels"), [(5, 10), (30, 9), (75, 8), (95, 6)])
def test_jpeg_is_close_to_a_real_codec(quality, decibels):
    """The error against Pillow's decoded picture lies this far below the compression's own."""
    from PIL import Image
    from skimage.data import coffee

    photo = coffee()[40:137, 100:231]
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=quality, subsampling=2)
    x, real = (
        torch.tensor(np.asarray(picture) / 127.5 - 1).permute(2, 0, 1)[None].float()
        for picture in (photo, Image.open(file))
    )
    ours = JPEG(quality)(x)
    error, own = ((picture - real).square().mean().item() for picture in (ours, x))
    assert 10 * math.log10(own / error) > decibels
    assert ours.abs().max() < 1.001


def test_jpeg_has_a_gradient_on_flat_grey():
    x = torch.zeros(1, 3, 20, 20)
    y, pullback = JPEG(30).vjp(x)
    back = pullback(torch.ones_like(y))
    assert torch.isfinite(back).all()
    assert (y - x).abs().max() < 0.05


def test_official_downscale_and_blur():
    """The official Resizer and Deblurring.H, run on the same numbers."""
    saved = load_file(GOLDEN)
    x = pseudo_random(1, 3, 48, 48)
    for name, expected in saved.items():
        kind, _, factor = name.partition(".")
        if kind in ("bicubic", "bilinear"):
            assert largest_gap(Downscale(int(factor), kind)(x), expected) < 1e-6
    k = (pseudo_random(15, 15, start=1e5) + 1) ** 6
    operator = KernelBlur(border="official", weights=k)
    assert largest_gap(operator(x), saved["blur.official"]) < 1e-6
    assert largest_gap(KernelBlur(weights=k)(x), saved["blur.official"]) > 0.01
    assert len(saved) == 7


def test_fft_sizes():
    for n in (1, 2, 7, 31, 316, 1597, 2108):
        size = fast_size(n)
        assert n <= size <= 1.15 * n + 2
        assert size % 2 == 0
        for prime in (2, 3, 5):
            while size % prime == 0:
                size //= prime
        assert size == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 5)])
def test_reflection_goes_back_and_forth(size):
    x = pseudo_random(2, 3, *size)
    after = ((0, 0), (0, 0), (0, 23 - size[0]), (0, 17 - size[1]))
    assert torch.equal(
        pad_reflect(x, 23, 17), torch.from_numpy(np.pad(x.numpy(), after, "symmetric"))
    )


def test_a_replicating_border_is_neither_circulant_nor_diagonal():
    """What the structure tests look for can be absent."""
    operator = KernelBlur(weights=pseudo_random(5, 5).abs())
    A = operator(units(6, 5)).flatten(1).T
    normal, shift = A.T @ A, torch.eye(30, dtype=torch.float64).roll(5, 0)
    assert not operator.structure
    assert (normal - normal.diagonal().diag()).abs().max() > 1e-3
    assert largest_gap(shift @ normal, normal @ shift) > 1e-3
