"""The smallest pictures, and what operators say about bad input: what came, what was expected, what
to do."""

import math

import pytest
import torch

from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.operators.blur import GaussianBlur, KernelBlur
from undegrade.pipelines.operators.canvas import Crop, NearestUpsample
from undegrade.pipelines.operators.compose import Compose
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.operators.hdr import HDRClip
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.operators.jpeg import JPEG
from undegrade.pipelines.operators.motion_blur import RandomMotionBlur, StraightMotionBlur
from undegrade.pipelines.operators.nonlinear_blur import NonlinearBlur
from undegrade.pipelines.operators.phase_retrieval import PhaseRetrieval
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient

PICTURE = torch.zeros(2, 3, 12, 10)
GREY = torch.zeros(2, 1, 12, 10)


def ones(*shape):
    return torch.ones(shape)


REFUSED_WHEN_MADE = {
    "kernel of three axes": (lambda: KernelBlur(weights=ones(1, 3, 3)), "1x3x3; give rows and"),
    "empty kernel": (lambda: KernelBlur(weights=ones(0, 0)), "0x0; give rows and columns"),
    "zero kernel": (lambda: KernelBlur(weights=0 * ones(3, 3)), "zero everywhere; give one with"),
    "negative kernel": (lambda: KernelBlur(weights=-ones(3, 3)), "negative .* give values >= 0"),
    "NaN kernel": (lambda: KernelBlur(weights=math.nan * ones(3, 3)), "non-finite values; give"),
    "no kernel": (KernelBlur, "has no kernel; give"),
    "unknown border": (lambda: GaussianBlur("zero"), "border is 'zero'; choose one of replicate"),
    "NaN std": (lambda: GaussianBlur(std=math.nan), "std is nan; give a finite number"),
    "std of zero": (lambda: GaussianBlur(std=0.0), r"std is 0.0; give a number in \[0.1, 50.0\]"),
    "negative length": (
        lambda: StraightMotionBlur(length=-1.0),
        "length is -1.0; give a number in",
    ),
    "even side": (lambda: RandomMotionBlur(side=60), "side is 60; give an odd number such as 61"),
    "too intense": (lambda: RandomMotionBlur(intensity=1.5), "intensity is 1.5; give a number in"),
    "negative seed": (lambda: RandomMotionBlur(seed=-1), "seed is -1; give a number in"),
    "factor of one": (lambda: Downscale(1), r"factor is 1; give a number in \[1.01, 8.0\]"),
    "unknown filter": (lambda: Downscale(4, "lanczos"), "kernel is 'lanczos'; choose one of"),
    "gain below one": (lambda: HDRClip(0.5), "gain is 0.5; give a number in"),
    "quality of zero": (lambda: JPEG(0), r"quality is 0; give a number in \[1, 100\]"),
    "infinite oversampling": (lambda: PhaseRetrieval(math.inf), "inf; give a finite number"),
    "mask without axes": (lambda: Inpainting(ones(12, 10)), r"\(12, 10\); give \(B, 1, H, W\)"),
    "coloured mask": (lambda: Inpainting(ones(1, 3, 12, 10)), r"3, 12, 10\); give \(B, 1, H, W\)"),
    "half-hidden mask": (
        lambda: Inpainting(ones(1, 1, 2, 2) / 2),
        "other than 0 and 1; .*threshold",
    ),
    "NaN mask": (lambda: Inpainting(math.nan * ones(1, 1, 2, 2)), "other than 0 and 1"),
    "mask that hides all": (
        lambda: Inpainting(torch.stack([ones(1, 4, 4), 0 * ones(1, 4, 4)])),
        "hides every pixel; leave at least one",
    ),
    "empty composition": (lambda: Compose(()), "got no operator; give one or more"),
}
REFUSED_WHEN_USED = {
    "mask of another size": (Inpainting(ones(1, 1, 10, 12)), PICTURE, "12x10 .* the image 10x12"),
    "mask of another batch": (Inpainting(ones(3, 1, 12, 10)), PICTURE, "pictures, 3 and 2; give"),
    "picture below the factor": (
        Downscale(8),
        PICTURE[..., :4, :4],
        "4x4 pixels, too small to reduce 8 times",
    ),
    "reflection too far": (
        KernelBlur("reflect", ones(21, 21)),
        PICTURE,
        "radius 10 cannot reflect an image of 10x12 pixels; choose the border 'replicate'",
    ),
    "Gaussian's too far": (
        GaussianBlur("reflect", std=3.0),
        PICTURE,
        "radius 12 cannot reflect an image of 10x12 pixels; choose the border 'replicate'",
    ),
    "canvas below the crop": (Crop(12, 11), PICTURE, "10x12 pixels; it must be 11x12"),
    "grey JPEG": (JPEG(), GREY, "got 1 channels; give RGB"),
    "three axes": (HDRClip(), PICTURE[0], r"shape \(3, 12, 10\); give \(B, C, H, W\)"),
    "no pixels": (HDRClip(), PICTURE[..., :0], r"shape \(2, 3, 12, 0\); give"),
}


@pytest.mark.parametrize("case", REFUSED_WHEN_MADE.values(), ids=REFUSED_WHEN_MADE.keys())
def test_refused_when_made(case):
    make, sentence = case
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize("case", REFUSED_WHEN_USED.values(), ids=REFUSED_WHEN_USED.keys())
def test_refused_when_used(case):
    operator, x, sentence = case
    with pytest.raises(ValueError, match=sentence):
        operator(x)
    with pytest.raises(ValueError, match=sentence):
        operator.vjp(x)


SEPARABLE = [case for case in REFUSED_WHEN_USED.values() if "separable" in case[0].structure]


@pytest.mark.parametrize("case", SEPARABLE, ids=lambda case: type(case[0]).__name__)
def test_matrices_refuse_what_the_operator_does(case):
    operator, x, sentence = case
    chain, update = Compose((NearestUpsample(1), operator)), ConjugateGradient()
    for use in (
        lambda: operator.matrices(*x.shape[-2:]),
        lambda: chain(x),
        lambda: chain.vjp(x),
        lambda: update(x, 1.0, Measurement(x, operator, 0.1)),
    ):
        with pytest.raises(ValueError, match=sentence):
            use()


def test_other_refusals():
    with pytest.raises(TypeError, match="Compose got str; give degradation operators"):
        Compose((HDRClip(), "blur"))
    with pytest.raises(ValueError, match="magnitude of 5 pixels at oversampling 8"):
        PhaseRetrieval(8.0).input_size(5, 6)
    with pytest.raises(NotImplementedError, match="HDRClip is not separable"):
        HDRClip().matrices(4, 4)
    with pytest.raises(ValueError, match="got 1 channels; give RGB"):
        NonlinearBlur(lambda picture, code: picture)(GREY)


def test_an_operator_that_changes_the_batch_is_caught():
    class Mean(HDRClip):
        def forward(self, x):
            return x.mean(0, keepdim=True)

    with pytest.raises(ValueError, match=r"Mean turned \(2, 3, 12, 10\) into \(1, 3, 12, 10\)"):
        Mean()(PICTURE)


class PlainNetwork:
    """A blur network that blurs nothing."""

    code_channels, stride = 2, 4

    def __call__(self, picture, code):
        return picture + 0 * code.mean()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_the_smallest_pictures(size, draw):
    everything = [
        *(KernelBlur(b, ones(5, 5)) for b in ("replicate", "circular", "official")),
        RandomMotionBlur(),
        StraightMotionBlur(length=0),
        Inpainting(torch.ones(1, 1, *size)),
        NearestUpsample(2),
        HDRClip(),
        JPEG(),
        PhaseRetrieval(),
        NonlinearBlur(PlainNetwork()),
    ]
    x = draw(2, 3, *size)
    for operator in everything:
        y, pullback = operator.vjp(x)
        assert operator.jvp(x, x).shape == y.shape
        assert pullback(y).shape == x.shape
        assert torch.isfinite(pullback(y)).all()
        assert operator.guess(y).shape == x.shape
    assert Downscale(2)(draw(1, 1, 2, 2)).shape == (1, 1, 1, 1)
    assert Downscale(8)(draw(1, 1, 8, 16)).shape == (1, 1, 1, 2)
    assert Downscale(1.3)(draw(1, 1, 1, 2)).shape == (1, 1, 1, 2)
