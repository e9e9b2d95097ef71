"""A kind of blur that was asked for, and is not the picture's."""

import skimage.data
import torch
from node_calls import call

from undegrade.pipelines.blind.blur_estimate import unblurred
from undegrade.pipelines.blind.kernel_kinds import Shape
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.blur import KernelBlur

DISC = Shape("out of focus", 3.0)
AGAINST = "the picture's spectrum speaks for another kernel"


def found(shape, kind):
    """Confidence and report for 160x160 pixels of the cat."""
    x = torch.from_numpy(skimage.data.chelsea()[52:228, 92:268]).permute(2, 0, 1)[None]
    y = KernelBlur(weights=shape.kernel(17))(x / 127.5 - 1)[..., 8:-8, 8:-8]
    y = y + 0.01 * per_sample_noise([1])(y)
    prior = call("UndegradeLoadPixelPrior")[0]
    image = ((y.clamp(-1, 1) + 1) / 2).movedim(1, -1)
    return call("UndegradeEstimateBlurKernel", prior=prior, image=image, kind=kind,
                kernel_size=17, noise_level=0.01)[3:]


def test_the_right_kind_is_not_doubted():
    confidence, report = found(DISC, DISC.kind)
    assert confidence > 0.6 and AGAINST not in report


def test_a_wrong_kind_is():
    """It was a line of 5 pixels, with a confidence of 1.00."""
    confidence, report = found(DISC, "straight motion")
    assert confidence <= 0.5 and f"Doubtful: {AGAINST}" in report


def test_where_a_kind_is_not_found_it_is_not_said_that_there_is_no_blur():
    assert unblurred([AGAINST]) == f"no blur of this kind: {AGAINST}"
    assert unblurred([]) == "no blur: nothing is to be gained"
