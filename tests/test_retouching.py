"""Scratches that were drawn are found, and a filled place gets the grain around it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from node_calls import call, photo
from PIL import Image, ImageDraw
from skimage.data import brick

from undegrade.models.scratch_finder import load_scratch_finder
from undegrade.pipelines.photograph import scratches as module
from undegrade.pipelines.photograph.bands import bands
from undegrade.pipelines.photograph.scratches import ScratchOptions, opened

FINDER = load_scratch_finder()  # not the one that nodes put on a card


def scratches(image, options):
    with torch.no_grad():
        return module.scratches(image, options, FINDER)


def soft(height=96, width=120):
    """A soft picture with an edge and a broad bright bar, (1, 3, H, W)."""
    v, u = torch.meshgrid(torch.linspace(-0.5, 0.5, height), torch.linspace(-0.5, 0.5, width),
                          indexing="ij")
    x = 0.6 * u - 0.3 * v + 0.4 * (u > 0.25) + 0.3 * ((v + 0.3).abs() < 0.08)
    return x.expand(1, 3, -1, -1).clone()


def streak(size, slope=0.7, start=20, width=2):
    """How much of each pixel a line through 80 columns covers, (1, 1, H, W)."""
    canvas = Image.new("L", (4 * size[1], 4 * size[0]))
    line = (40, 4 * start, 360, 4 * start + 320 * slope)
    ImageDraw.Draw(canvas).line(line, 255, 4 * width)
    return F.avg_pool2d(torch.from_numpy(np.array(canvas)).float()[None, None] / 255, 4)


def under(found, cover):
    """The share of the mark that is marked."""
    return found[cover > 0.5].mean()


@pytest.mark.parametrize(("value", "slope"), [(0.9, 0.0), (0.9, 0.7), (-0.95, 0.35)])
def test_a_streak_is_found_and_an_edge_is_not(value, slope):
    clean = soft()
    cover = streak(clean.shape[-2:], slope)
    found = scratches(torch.lerp(clean, torch.tensor(value), cover), ScratchOptions())
    assert under(found, cover) > 0.9
    near = F.max_pool2d(cover, 7, 1, 3)
    assert found[near == 0].sum() == 0
    assert scratches(clean, ScratchOptions()).sum() == 0


def test_kind_threshold_and_width_say_what_counts():
    clean = soft()
    cover = streak(clean.shape[-2:], slope=0.1, width=4)
    bright = torch.lerp(clean, torch.tensor(0.9), 0.8 * cover)

    def found(**options):
        return under(scratches(bright, ScratchOptions(**options)), cover)

    assert found() > 0.9 and found(kind="bright") > 0.9 and found(kind="dark") == 0
    assert found(threshold=0.9) == 0
    assert found(largest_width=1) < 0.1


def test_dust_is_found():
    canvas = Image.new("L", (480, 384))
    ImageDraw.Draw(canvas).ellipse((110, 260, 130, 278), 255)
    cover = F.avg_pool2d(torch.from_numpy(np.array(canvas)).float()[None, None] / 255, 4)
    found = scratches(torch.lerp(soft(), torch.tensor(0.95), cover), ScratchOptions())
    assert under(found, cover) > 0.9 and found.sum() < 80


def test_brickwork_is_texture_and_broad_marks_are_looked_for_smaller():
    rows = torch.from_numpy(brick()[:160, :160] / 127.5 - 1).float().expand(1, 3, -1, -1)
    assert scratches(rows, ScratchOptions()).mean() < 0.02
    clean = soft(160, 200)
    cover = streak((160, 200), slope=0.3, start=50, width=11)
    broad = torch.lerp(clean, torch.tensor(0.95), cover)
    narrow, wide = (under(scratches(broad, ScratchOptions(largest_width=w)), cover)
                    for w in (5, 14))
    assert narrow < 0.3 and wide > 0.7


def test_texture_is_no_scratch(draw):
    noisy = soft() + 0.25 * draw(1, 3, 96, 120)
    assert scratches(noisy, ScratchOptions()).mean() < 0.02


def test_opening_takes_what_is_narrower():
    x = torch.zeros(1, 1, 20, 20)
    x[..., 5:9, :], x[..., 14:16, :] = 1, 1
    kept = opened(x, 4)
    assert kept[..., 5:9, :].all() and kept.sum() == 4 * 20


@pytest.mark.parametrize(("height", "width", "channels"), [(1, 1, 3), (9, 30, 1), (40, 33, 4)])
def test_masks_of_any_size_and_of_every_picture_alone(height, width, channels):
    image = photo(height, width, channels, batch=2)
    image[1] = image[1].roll(3, 0) ** 2
    before = image.clone()
    mask = call("UndegradeFindScratches", image=image)[0]
    assert mask.shape == (2, height, width) and ((mask == 0) | (mask == 1)).all()
    assert torch.equal(mask[1], call("UndegradeFindScratches", image=image[1:])[0][0])
    assert torch.equal(image, before)


def grainy(draw, level=0.08, side=96):
    """IMAGE with grain that is coarser than a pixel, and one grey level in the middle."""
    fine, coarse, *_ = bands(draw(1, 1, side, side))
    noise = (0.6 * fine + coarse).expand(-1, 3, -1, -1)
    return ((level * noise + 1) / 2).permute(0, 2, 3, 1)


def hole(side=96):
    mask = torch.zeros(1, side, side)
    mask[:, 30:70, 34:66] = 1
    return mask


def test_grain_inside_is_that_around_and_outside_is_bit_for_bit(draw):
    reference, mask = grainy(draw), hole()
    smooth = torch.where(mask[..., None] > 0, 0.5, reference)
    done = call("UndegradeMatchGrain", image=smooth, reference=reference, mask=mask)[0]
    inside = mask[0] > 0
    assert torch.equal(done[0][~inside], reference[0][~inside])
    for got, wanted in zip(bands(done.movedim(-1, 1))[:2], bands(reference.movedim(-1, 1))[:2],
                           strict=True):
        ratio = got[0][:, 34:66, 38:62].std() / wanted[0].std()
        assert 0.7 < ratio < 1.3
    spread = (done[0] - done[0].mean(-1, keepdim=True))[inside].abs().max()
    assert spread < 0.01, "grey grain stays grey"


def test_grain_that_is_there_is_not_doubled(draw):
    reference, mask = grainy(draw), hole()
    done = call("UndegradeMatchGrain", image=reference, reference=reference, mask=mask)[0]
    inside = mask[0] > 0
    assert done[0][inside].std() < 1.15 * reference[0][inside].std()


def test_the_same_seed_the_same_grain_alone_and_in_a_batch(draw):
    reference, mask = grainy(draw).repeat(2, 1, 1, 1), hole()
    smooth = torch.where(mask[..., None] > 0, 0.5, reference)

    def run(image, seed):
        return call("UndegradeMatchGrain", image=image, reference=reference[:1], mask=mask,
                    seed=seed)[0]

    both = run(smooth, 5)
    assert torch.equal(both[1], run(smooth[1:], 6)[0]) and not torch.equal(both[0], both[1])


def test_alpha_of_the_reference_stays_and_sizes_must_agree(draw):
    reference, mask = grainy(draw), hole()
    alpha = torch.rand(1, 96, 96, 1)
    with_alpha = torch.cat([reference, alpha], -1)
    done = call("UndegradeMatchGrain", image=reference, reference=with_alpha, mask=mask)[0]
    assert torch.equal(done[..., 3:], alpha)
    with pytest.raises(ValueError, match="96x96 pixels, reference 96x96 and mask 50x96"):
        call("UndegradeMatchGrain", image=reference, reference=reference, mask=mask[..., :50])
