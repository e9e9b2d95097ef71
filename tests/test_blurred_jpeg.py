"""A blurred picture that was saved as a JPEG."""

import io

import numpy as np
import PIL.Image
import skimage.data
import torch
from node_calls import call

from undegrade.pipelines.blind.blur_estimate import LEAST_NOISE, noise_of_blurred
from undegrade.pipelines.blind.kernel_kinds import Shape
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.blur import KernelBlur


def test_a_blur_is_found_in_what_jpeg_has_left():
    """JPEG leaves less noise to be seen than it errs by; a line of 9 was then one of 2."""
    x = torch.from_numpy(skimage.data.chelsea()[60:220, 100:260]).permute(2, 0, 1)[None]
    line = Shape("straight motion", 9.0, 30.0)
    y = KernelBlur(weights=line.kernel(17), border="replicate")(x / 127.5 - 1)
    y = y + 0.006 * per_sample_noise([1])(y)
    file = io.BytesIO()
    pixels = ((y.clamp(-1, 1) + 1) * 127.5).round().byte()[0].movedim(0, -1).numpy()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=90)
    saved = torch.from_numpy(np.array(PIL.Image.open(file)))[None] / 255
    err = float((2 * saved.movedim(-1, 1) - 1 - y).std())
    assert noise_of_blurred(2 * saved.movedim(-1, 1) - 1) == LEAST_NOISE < err / 2
    prior = call("UndegradeLoadPixelPrior")[0]
    _, _, level, _, report = call("UndegradeEstimateBlurKernel", prior=prior, image=saved,
                                  kind="straight motion", kernel_size=17)
    assert err / 2 < level < 2 * err
    assert report.startswith(("straight motion of 9.", "straight motion of 8.")), report
    assert "speaks for another" not in report
