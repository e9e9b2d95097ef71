"""A hole is filled with patches of the same picture, and nothing else changes."""

import sys
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from node_calls import call, photo
from skimage.data import grass

from undegrade.nodes.comfyui import host
from undegrade.nodes.photograph import retouching
from undegrade.pipelines.photograph import exemplars, nearest_patches, votes
from undegrade.pipelines.photograph.bands import bands
from undegrade.pipelines.photograph.exemplars import FillOptions, completed, pyramid
from undegrade.pipelines.photograph.nearest_patches import (
    Canvas,
    improved,
    inner,
    nearest_of_all,
    patches,
)
from undegrade.pipelines.photograph.seams import even
from undegrade.pipelines.photograph.votes import copies, vote


def hole(height, width, *box):
    mask = torch.zeros(1, height, width)
    left, top, right, bottom = box
    mask[:, top:bottom, left:right] = 1
    return mask


def fill(image, mask, **given):
    return call("UndegradeFillFromSurroundings", image=image, mask=mask, **given)[0]


def tiles(side=64, period=8):
    """A pattern that repeats, IMAGE."""
    generator = torch.Generator().manual_seed(3)
    one = torch.rand(1, period, period, 3, generator=generator)
    return one.repeat(1, side // period, side // period, 1)


def test_a_pattern_goes_on_exactly():
    image, mask = tiles(), hole(64, 64, 24, 22, 44, 41)
    spoilt = torch.where(mask[..., None] > 0, 0.5, image)
    assert (fill(spoilt, mask) - image).abs().max() < 1e-4


def test_texture_is_as_fine_as_around_and_outside_is_bit_for_bit():
    image = torch.from_numpy(grass()[:128, :128] / 255).float()[None, ..., None]
    mask = hole(128, 128, 44, 44, 84, 84)
    spoilt = torch.where(mask[..., None] > 0, 0.0, image)
    done, inside = fill(spoilt, mask), mask[0] > 0
    assert done.shape == image.shape and torch.equal(done[0][~inside], image[0][~inside])
    for got, true in zip(bands(done.movedim(-1, 1))[:2], bands(image.movedim(-1, 1)), strict=False):
        assert 0.75 < got[0, 0][inside].std() / true[0, 0][inside].std() < 1.2


def test_a_sky_has_no_steps():
    down = torch.linspace(0.2, 0.7, 96)[None, :, None, None]
    generator = torch.Generator().manual_seed(0)
    image = down + 0.01 * torch.randn(1, 96, 96, 3, generator=generator)
    done = fill(torch.where(hole(96, 96, 30, 30, 66, 66)[..., None] > 0, 0.0, image),
                hole(96, 96, 30, 30, 66, 66))
    smooth = F.avg_pool2d((done - down).movedim(-1, 1), 9, 1)
    assert smooth.abs().max() < 0.02 and (done - image).abs().max() < 0.1


@pytest.mark.parametrize(
    ("height", "width", "channels", "box"),
    [(45, 52, 3, (0, 0, 12, 14)), (61, 40, 1, (0, 20, 40, 27)), (40, 47, 4, (35, 30, 47, 40))],
)
def test_masks_at_the_border_and_any_size(height, width, channels, box):
    image, mask = photo(height, width, channels, batch=1), hole(height, width, *box)
    before, done = image.clone(), fill(image, mask)
    assert done.shape == image.shape and torch.isfinite(done).all() and torch.equal(image, before)
    inside = mask[0] > 0
    assert torch.equal(done[0][~inside], image[0][~inside])
    assert not torch.equal(done[0][inside], image[0][inside])
    assert torch.equal(done[..., 3:], image[..., 3:])


def test_pictures_of_a_batch_have_their_masks_and_seeds():
    image = torch.rand(2, 48, 48, 3, generator=torch.Generator().manual_seed(2))
    masks = torch.cat([hole(48, 48, 8, 8, 24, 20), hole(48, 48, 20, 26, 40, 40)])
    both = fill(image, masks, seed=4)
    alone = fill(image[1:], masks[1:], seed=5)
    assert torch.equal(both[1], alone[0])
    assert not torch.equal(both[1], fill(image[1:], masks[1:], seed=9)[0])
    one = fill(image, masks[:1], seed=4)
    assert torch.equal(one[0], both[0]) and not torch.equal(one[1], both[1])


def test_a_picture_without_a_hole_comes_back():
    image = photo(30, 31, 4, batch=2) ** 2
    assert torch.equal(fill(image, torch.zeros(1, 30, 31)), image)


def test_what_is_transparent_is_not_copied(monkeypatch):
    barred = []

    def watched(image, at, usable, *rest):
        barred.append(~usable)
        return completed(image, at, usable, *rest)

    monkeypatch.setattr(retouching, "completed", watched)
    image = torch.cat([tiles(), torch.ones(1, 64, 64, 1)], -1)
    image[:, :, 40:, 3] = 0
    done = fill(image, hole(64, 64, 10, 20, 40, 40))
    assert torch.equal(barred[0], image[0, ..., 3] == 0)
    assert torch.equal(done[..., 3], image[..., 3])


def test_only_what_is_usable_is_copied():
    x = 2 * tiles().movedim(-1, 1) - 1
    x[..., :20] = 0.1
    at = hole(64, 64, 36, 20, 52, 40)[0] > 0
    usable = torch.zeros(64, 64, dtype=torch.bool)
    usable[:, :20] = True
    *_, (_, done) = completed(x, at, usable, FillOptions(), 0)
    *_, (_, free) = completed(x, at, ~at, FillOptions(), 0)
    rough = bands(done)[0][..., 23:37, 39:49].std(), bands(free)[0][..., 23:37, 39:49].std()
    assert rough[0] < 0.05 < 0.2 < rough[1]


@pytest.mark.parametrize("box", [(0, 0, 40, 40), (3, 3, 40, 40), (0, 0, 34, 40)])
def test_a_mask_that_leaves_nothing_is_refused(box):
    with pytest.raises(ValueError, match=r"leaves \d+ patches of 7x7 pixels .* smaller mask"):
        fill(photo(40, 40, 3, batch=1), hole(40, 40, *box))


def test_what_cannot_be_is_refused_in_a_sentence():
    image, mask = photo(40, 40, 3, batch=1), hole(40, 40, 10, 10, 20, 20)
    with pytest.raises(ValueError, match="image is 40x40 pixels and mask 30x40; give all in one"):
        fill(image, mask[..., :30])
    with pytest.raises(ValueError, match="patch is 8; give an odd number such as 9"):
        fill(image, mask, patch=8)


def canvas(draw, side=24, patch=3):
    at = torch.zeros(side, side, dtype=torch.bool)
    at[9:15, 8:16] = True
    known = ~(F.max_pool2d(at[None, None].float(), patch, 1, patch // 2)[0, 0] > 0)
    known &= inner(at, patch // 2)
    return Canvas(draw(side, side, 2).contiguous(), at, known, patch)


def test_the_nearest_of_all_is_the_nearest_and_a_pass_only_improves(draw):
    c = canvas(draw)
    known = c.known.flatten().nonzero()[:, 0]
    t, s = (patches(c.pixels, 3, k).flatten(1) for k in (c.centres, known))
    far = (t[:, None] - s).square().sum(2)
    exact = nearest_of_all(c, c.centres, known)
    assert torch.equal(exact, known[far.argmin(1)])
    weight = (draw(24, 24, 2) > 0).float()
    w = patches(weight, 3, c.centres).flatten(1)
    partly = (w[:, None] * (t[:, None] - s).square()).sum(2).argmin(1)
    assert torch.equal(nearest_of_all(c, c.centres, known, weight), known[partly])
    generator = torch.Generator().manual_seed(0)
    source = known[torch.randint(len(known), (len(t),), generator=generator)]
    before = c.distance(c.centres, source)
    for _ in range(12):
        source, best = improved(c, source, 24, generator)
        assert (best <= before).all() and torch.equal(best, c.distance(c.centres, source))
        before = best
    assert c.known.flatten()[source].all()
    assert best.mean() < 1.5 * far.amin(1).mean()


def test_votes_and_copies_take_what_the_patches_have(draw):
    c = canvas(draw)
    truth = c.pixels.clone()
    best = torch.ones(len(c.centres))
    c.pixels[c.hole] = 9.0
    c.flat[:] = c.flat.where(~c.hole.flatten()[:, None], 9.0)
    source = c.centres - 24 * 7  # from seven rows above: all the same way
    vote(c, source, best)
    assert torch.allclose(c.pixels[9:12, 8:16], truth[2:5, 8:16])
    found = copies(c, source, best)
    y, x = c.hole.nonzero()[0]
    assert found[y * 24 + x] == (y - 7) * 24 + x and found[0] == 0


def test_a_seam_is_evened_out_and_an_outline_stays():
    ramp = torch.linspace(-0.04, 0.04, 40).expand(1, 3, 40, 40).clone()
    at = torch.zeros(40, 40, dtype=torch.bool)
    at[10:30, 15:25] = True
    copied = torch.arange(1600).view(40, 40).clone()
    copied[10:30, 15:20] -= 12  # darker on the left, brighter on the right
    copied[10:30, 20:25] += 12
    step = (ramp.flatten(2)[..., copied.flatten()].view_as(ramp) - ramp).abs().max()
    assert step > 0.02 and (even(ramp, at, copied.flatten()) - ramp).abs().max() < 0.1 * step
    edge = torch.where(torch.arange(40) < 20, -0.8, 0.8).expand(1, 3, 40, 40).clone()
    copied = torch.arange(1600).view(40, 40).clone()
    copied[10:30, 15:25] += 12  # all bright: the dark on the left meets it by force
    done = even(edge, at, copied.flatten())
    assert (done[..., 10:30, 16:25] - 0.8).abs().max() < 0.02


def test_specks_over_the_whole_picture_are_no_work_of_squares(monkeypatch):
    monkeypatch.setattr(exemplars, "PAIRS", 0)
    image = 2 * tiles().movedim(-1, 1) - 1
    generator = torch.Generator().manual_seed(0)
    at = F.max_pool2d((torch.rand(1, 1, 64, 64, generator=generator) > 0.995).float(), 3, 1, 1)
    *_, (share, done) = completed(image, at[0, 0] > 0, torch.ones(64, 64) > 0, FillOptions(), 0)
    assert share == 1 and (done - image).abs().mean() < 0.02


def test_the_coarsest_level_sees_around_the_hole():
    at = torch.zeros(320, 320, dtype=torch.bool)
    at[60:140, 50:150] = True
    levels = pyramid(torch.zeros(1, 3, 320, 320), at, torch.ones_like(at), 7)
    assert [len(level.hole) for level in levels] == [320, 160, 80, 40, 20]
    assert all((level.known & level.hole).sum() == 0 for level in levels)


class StoppedError(Exception):
    """Stands for ComfyUI's interrupt."""


@pytest.mark.parametrize("pairs", [exemplars.PAIRS, 0], ids=["all compared", "searched"])
def test_a_large_hole_can_be_stopped_within_every_part_of_the_work(monkeypatch, pairs):
    """Of 2000 x 2000 hidden pixels a single pass takes a minute."""
    monkeypatch.setattr(exemplars, "PAIRS", pairs)
    for module in (nearest_patches, votes):
        monkeypatch.setattr(module, "CHUNK", 64)  # pixels
    asked, ends_in = [], set()

    def interrupted():
        asked.append(sys._getframe(1).f_code.co_name)
        if asked[-1] in ends_in:
            raise StoppedError

    monkeypatch.setattr(host, "check_interrupted", interrupted)
    image, mask = photo(48, 48) ** 2, hole(48, 48, 16, 16, 32, 32)
    fill(image, mask, passes=1)
    calls = Counter(asked)
    parts = {"mean_in_bands", "vote", "copies", "even", "solved"}
    parts.add("nearest_of_all" if pairs else "distance")
    assert all(calls[part] >= 4 for part in parts)
    for part in parts:
        ends_in.add(part)
        with pytest.raises(StoppedError):
            fill(image, mask, passes=1)
        ends_in.clear()
        assert asked[-1] == part
