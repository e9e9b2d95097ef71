"""Crops of pictures that live on a device: cut from the averages, drawn by the generator alone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from undegrade.training import resident
from undegrade.training.synthetic import canvas

CPU = torch.device("cpu")
SIZES = ((70, 110), (96, 64))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pictures of different sizes, one of them in a folder of its own."""
    path = tmp_path_factory.mktemp("pictures")
    (path / "in").mkdir()
    for k, (h, w) in enumerate(SIZES):
        Image.fromarray(canvas(k, 128)[:h, :w]).save(path / ("in", ".")[k] / f"{k}.png")
    return path


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def places(folder, factor: int) -> list[torch.Tensor]:
    """Every picture at every reduction, in eight orientations, (3, h, w) in whole 255ths."""
    found = []
    for file in resident.pictures_below(folder):
        x = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float()
        for reduction in resident.REDUCTIONS:
            if min(x.shape[1:]) >= 8 * reduction * factor:
                reduced = F.avg_pool2d(x, reduction * factor).round()
                found += [torch.rot90(r, k, (1, 2)) for r in (reduced, reduced.flip(2))
                          for k in range(4)]
    return found


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_crops_are_cut_from_the_averages(folder, factor):
    pictures = resident.Resident(folder, CPU)
    crops = (pictures._cut(generator(0), 16, 8, factor) * 255).round()
    found, corners = places(folder, factor), set()
    for crop in crops:
        at = {
            (k, t, left)
            for k, x in enumerate(found)
            for t, left in (x[:, :-7, :-7] == crop[:, :1, :1]).all(0).nonzero().tolist()
            if torch.equal(x[:, t : t + 8, left : left + 8], crop)
        }
        assert at, factor
        corners |= at
    assert len(corners) > 12  # of 16: places, pictures and orientations differ


def test_a_batch_is_its_generator(folder):
    pictures = resident.Resident(folder, CPU)
    first = pictures.crops(generator(3), 6, 16)
    assert first.shape == (6, 3, 16, 16) and first.dtype == torch.float32
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert first.min() >= -1 and first.max() <= 1
    torch.rand(5)
    assert torch.equal(pictures.crops(generator(3), 6, 16), first)
    assert not torch.equal(pictures.crops(generator(4), 6, 16), first)


def test_a_share_is_drawn(folder):
    white = np.full((2, 64, 64, 3), 255, np.uint8)
    pictures = resident.Resident(folder, CPU, white, 0.25)
    crops = pictures._cut(generator(0), 4000, 8, 2)
    assert (crops == 1).all(3).all(2).all(1).float().mean() == pytest.approx(0.25, abs=0.03)
    with pytest.raises(ValueError, match="128 pixels a side, which crops of 32 reduced by 4"):
        resident.Resident(folder / "in", CPU, white, 0.25).crops(generator(0), 1, 32, 4)


def test_a_crop_too_large_or_no_picture(folder, tmp_path):
    with pytest.raises(ValueError, match="has 80 pixels a side, which crops of 80 reduced by 1"):
        resident.Resident(folder, CPU).crops(generator(0), 1, 80)
    with pytest.raises(ValueError, match="has no pictures"):
        resident.Resident(tmp_path, CPU)


def test_colours_change_within_reason_and_some_turn_grey():
    x = torch.rand(400, 3, 8, 8, generator=generator(1)) * 0.5 + 0.25
    y = resident.augment(x, generator(2))
    assert y.min() >= 0 and y.max() <= 1
    spread = y.amax(1) - y.amin(1)
    assert (spread.amax((1, 2)) < 1e-5).float().mean() == pytest.approx(resident.GREY, abs=0.06)
    ratio = y.std((1, 2, 3)) / x.std((1, 2, 3))
    assert (ratio < 0.5).float().mean() > 0.05 and (ratio - 1).abs().median() < 0.5
