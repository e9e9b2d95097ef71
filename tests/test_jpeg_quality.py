"""The quality a picture was saved with, from its pixels."""

import io

import numpy as np
import pytest
import torch
from node_calls import call
from PIL import Image
from skimage.data import astronaut, coffee, moon
from test_jpeg_cells import saved

from undegrade.pipelines.operators.jpeg import JPEG
from undegrade.pipelines.photograph.jpeg_quality import estimate_quality


def photo(side=128):
    window = coffee()[60 : 60 + side, 200 : 200 + side]
    return torch.tensor(window).permute(2, 0, 1)[None] / 127.5 - 1


@pytest.mark.parametrize(("quality", "subsampling"), [(10, 2), (37, 0), (60, 2), (88, 0), (95, 2)])
def test_near_the_truth_and_sure(quality, subsampling):
    found = estimate_quality(saved(photo(), quality, subsampling)[0])
    assert abs(found.quality - quality) <= 5 and found.found and found.sure


def test_nothing_is_found_where_nothing_was_compressed():
    picture = torch.tensor(astronaut()[::4, ::4].copy()).permute(2, 0, 1) / 127.5 - 1
    for clean in (picture, (0.3 * picture + 0.01).clone(), torch.zeros(3, 40, 40)):
        found = estimate_quality(clean)
        assert (found.quality, found.found) == (100, False)


def test_clipped_blocks_are_left_out_and_a_picture_of_nothing_else_is_not_sure():
    y = saved((1.5 * photo()).clamp(-1, 1), 40)[0]
    assert (y.abs() >= 1).float().mean() > 0.05
    found = estimate_quality(y)
    assert abs(found.quality - 40) <= 5 and found.sure
    assert not estimate_quality(saved((4 * photo()).clamp(-1, 1), 40)[0]).sure


def test_even_blocks_are_rounded_alike_and_mislead_nobody():
    """Steps of 57 levels lie at 56 there, which is a multiple of quality 28's."""
    x = torch.tensor(moon()[::2, ::2].copy()).expand(1, 3, -1, -1) / 127.5 - 1
    assert abs(estimate_quality(saved(x, 14)[0]).quality - 14) <= 5


def test_a_crop_is_told():
    found = estimate_quality(saved(photo(), 30)[0, :, 3:, 6:])
    assert abs(found.quality - 30) <= 5 and (found.top, found.left) == (5, 2)


def test_the_operator_begins_where_the_blocks_do():
    image = ((saved(photo(), 30)[..., 3:, 6:] + 1) / 2).permute(0, 2, 3, 1)
    quality, operator, report = call("UndegradeEstimateJPEGQuality", image=image)
    assert (operator.quality, operator.top, operator.left) == (quality, 5, 2)
    assert "blocks begin after 5 rows and 2 columns" in report


@pytest.mark.parametrize(("saves", "known", "counts", "said"), [
    ((30,), 30, 30, "30"), ((62,), 64, 64, "64, as the file says"), ((20, 96), 96, 20, "sure"),
])
def test_what_the_file_says(saves, known, counts, said):
    """It counts, unless the picture was ruined before it was saved as this file."""
    y = photo()
    for quality in saves:
        y = saved(y, quality)
    image = ((y + 1) / 2).permute(0, 2, 3, 1)
    quality, _, report = call("UndegradeEstimateJPEGQuality", image=image, known_quality=known)
    assert abs(quality - counts) <= (0 if known == counts else 5) and said in report


def test_the_node(draw):
    image = ((torch.cat([saved(photo(), q) for q in (40, 42)]) + 1) / 2).permute(0, 2, 3, 1)
    before = image.clone()
    quality, operator, report = call("UndegradeEstimateJPEGQuality", image=image)
    assert 38 <= quality <= 42 and isinstance(operator, JPEG) and operator.quality == quality
    assert "JPEG quality 4" in report and "sure" in report and torch.equal(image, before)
    grey = image[:1].mean(-1, keepdim=True)
    assert call("UndegradeEstimateJPEGQuality", image=grey)[0] <= 100
    apart = ((torch.cat([saved(photo(), q) for q in (20, 80)]) + 1) / 2).permute(0, 2, 3, 1)
    with pytest.raises(ValueError, match=r"with qualities from (1|2).* to .*; give them"):
        call("UndegradeEstimateJPEGQuality", image=apart)
    with pytest.raises(ValueError, match="15x15 pixels, too few to see JPEG's blocks"):
        call("UndegradeEstimateJPEGQuality", image=image[:, :15, :15])


def test_a_grey_file():
    file = io.BytesIO()
    Image.fromarray(coffee()[60:188, 200:328, 1]).save(file, "JPEG", quality=55)
    grey = torch.tensor(np.asarray(Image.open(file))).view(1, 128, 128).float() / 127.5 - 1
    assert abs(estimate_quality(grey.expand(3, -1, -1)).quality - 55) <= 5
