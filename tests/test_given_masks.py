"""What a mask file selects, and what is not to be copied into a hole."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy import ndimage
from skimage.data import chelsea
from test_filling import fill, hole

from undegrade.headless.cli import main
from undegrade.headless.erased import uncovered
from undegrade.headless.execution import NodeError
from undegrade.headless.given_masks import selected
from undegrade.pipelines.photograph.scratches import mean_around, mean_in_bands


def test_means_in_bands_are_the_means(draw):
    x = draw(1, 2, 700, 9)
    asked = []
    assert torch.equal(mean_in_bands(x, 5, lambda: asked.append(1)), mean_around(x, 5))
    assert len(asked) == 3


def test_what_is_not_to_be_copied_is_not_and_farther_off_is_looked_for():
    image = torch.full((1, 40, 400, 3), 0.8)
    image[:, :, 130:270] = torch.tensor([0.9, 0.1, 0.1])  # like objects on both sides
    at, spared = hole(40, 400, 190, 15, 210, 25), hole(40, 400, 130, 0, 270, 40)
    assert (fill(image, at)[0, 15:25, 190:210, 1] < 0.2).all()
    done = fill(image, at, do_not_copy=spared)
    assert (done[0, 16:24, 191:209, 1] > 0.7).all()
    assert torch.equal(done[:, :15], image[:, :15])
    said = "The mask and what is not to be copied leave 0 patches .* let more be copied"
    with pytest.raises(ValueError, match=said):
        fill(image, at, do_not_copy=torch.ones(1, 40, 400))
    with pytest.raises(ValueError, match="image and do_not_copy are 1 and 2; give as many"):
        fill(image, at, do_not_copy=torch.cat([spared, spared]))
    with pytest.raises(ValueError, match="do_not_copy 8x8; give all in one size"):
        fill(image, at, do_not_copy=torch.ones(1, 8, 8))


@pytest.mark.parametrize(("colour", "erased", "said"), [
    ((255, 255, 255), False, ""),  # white paint on transparent ground, white below, too
    (None, True, ""),  # the picture with a part erased, as ComfyUI's mask editor saves it
    ((0, 0, 0), False, "nothing in"),  # may mean either
    ("other", True, "neither painted white there nor the picture with parts erased"),
])
def test_a_selection_in_alpha(colour, erased, said, tmp_path, capsys):
    picture, mask, out = (tmp_path / file for file in ("scan.png", "mask.png", "out.png"))
    scan = Image.linear_gradient("L").resize((48, 40)).convert("RGB")
    scan.paste((250, 0, 0), (20, 12, 28, 20))
    scan.save(picture)
    drawn = {None: scan.copy(), "other": scan.rotate(180)}.get(colour) or Image.new(
        "RGB", (48, 40), colour)
    box = Image.new("L", (48, 40), 255 * erased)
    box.paste(255 * (not erased), (20, 12, 28, 20))
    drawn.putalpha(box)
    drawn.save(mask)
    status = main(["remove", str(picture), "--mask", str(mask), "--output", str(out), "--quiet"])
    told = capsys.readouterr()
    assert (status, said in told.out + told.err) == (int(bool(said)), True)
    assert out.exists() is not bool(said)
    if out.exists():
        with Image.open(out) as done:
            assert done.getpixel((24, 16)) != (250, 0, 0)
            assert done.getpixel((4, 4)) == scan.getpixel((4, 4))


def test_what_is_not_to_be_copied(tmp_path, capsys):
    picture, mask, out = (tmp_path / file for file in ("scan.png", "mask.png", "out.png"))
    scan, box = Image.new("RGB", (200, 40), (200, 200, 200)), Image.new("L", (200, 40))
    scan.paste((250, 0, 0), (60, 0, 140, 40))
    scan.save(picture)
    box.paste(255, (96, 16, 104, 24))
    box.save(mask)
    box.paste(255, (60, 0, 140, 40))
    box.save(tmp_path / "like.png")
    given = ["remove", str(picture), "--mask", str(mask), "--output", str(out), "--quiet"]
    assert main([*given, "--do-not-copy", str(tmp_path / "like.png")]) == 0
    with Image.open(out) as done:
        assert done.getpixel((100, 20)) == (200, 200, 200)
    out.unlink()
    for size, said in (((200, 40), "--mask: The mask and what is not to be copied leave 0"),
                       ((9, 9), "--do-not-copy: image is 200x40 pixels and the mask 9x9; give")):
        Image.new("L", size, 255).save(tmp_path / "like.png")
        assert main([*given, "--do-not-copy", str(tmp_path / "like.png")]) == 1
        assert capsys.readouterr().err.startswith(said)


def test_a_part_that_was_erased_is_seen_when_it_is_filled(tmp_path):
    """The picture with a part erased, as both the picture and its mask."""
    erased, out = tmp_path / "erased.png", tmp_path / "out.png"
    scan = Image.linear_gradient("L").resize((48, 40)).convert("RGB")
    alpha = Image.new("L", (48, 40), 255)
    alpha.paste(0, (20, 12, 28, 20))
    alpha.putpixel((3, 3), 200)
    scan.putalpha(alpha)
    scan.save(erased)
    given = ["remove", str(erased), "--mask", str(erased), "--output", str(out), "--quiet"]
    assert main(given) == 0
    with Image.open(out) as done:
        assert done.getpixel((24, 16))[3] == 255 and done.getpixel((3, 3))[3] == 200


def test_the_soft_rim_of_an_erased_part_is_seen_too(tmp_path):
    """A soft brush leaves a rim that is nearer to opaque, in which nothing is filled."""
    erased, out = tmp_path / "erased.png", tmp_path / "out.png"
    scan = Image.linear_gradient("L").resize((64, 56)).convert("RGB")
    alpha = Image.new("L", (64, 56), 255)
    alpha.paste(0, (24, 20, 40, 36))
    alpha = alpha.filter(ImageFilter.GaussianBlur(4))
    alpha.paste(200, (2, 2, 5, 5))  # transparent by itself
    scan.putalpha(alpha)
    scan.save(erased)
    given = ["remove", str(erased), "--mask", str(erased), "--output", str(out), "--quiet"]
    assert main(given) == 0
    with Image.open(out) as done:
        seen = np.array(done.getchannel("A"))
    assert (seen[2:5, 2:5] == 200).all() and (np.array(alpha)[8:50, 10:54] < 250).sum() > 500
    seen[2:5, 2:5] = 255
    assert (seen == 255).all()


def test_a_rim_is_what_hangs_together_with_the_hole():
    inside = torch.rand(60, 80, generator=torch.Generator().manual_seed(0)) < 0.6
    label, _ = ndimage.label(inside.numpy())
    y, x = inside.nonzero()[len(inside.nonzero()) // 2]
    alpha = 1 - 0.4 * inside.float()
    alpha[y, x] = 0
    picture = torch.cat([torch.zeros(1, 60, 80, 3), alpha[None, ..., None]], -1)
    seen = uncovered(picture, (alpha < 0.5)[None].float())[0, ..., 3]
    assert torch.equal(seen == 1, torch.from_numpy((label == label[y, x]) | (label == 0)))


def photograph():
    return Image.fromarray(chelsea()).resize((96, 64))


def drawn(box=(20, 16, 50, 40)):
    mask = Image.new("L", (96, 64))
    mask.paste(255, box)
    return mask


@pytest.mark.parametrize(("mask", "options"), [
    (lambda: drawn().filter(ImageFilter.GaussianBlur(6)), {}),
    (drawn, {"quality": 30}),
    (lambda: drawn().point(lambda v: v * 200 // 255), {"quality": 75}),  # in grey
    (lambda: Image.merge("RGB", (drawn(), Image.new("L", (96, 64)), drawn())), {"quality": 75}),
])
def test_a_mask_may_have_soft_edges_and_be_grey(mask, options, tmp_path):
    mask().save(tmp_path / "mask.jpg", **options)
    share = selected(tmp_path / "mask.jpg", torch.zeros(1, 64, 96, 3)).mean()
    assert share == pytest.approx(30 * 24 / (96 * 64), rel=0.2)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_photograph_is_no_mask(mode, tmp_path):
    photograph().convert(mode).save(tmp_path / "photo.png")
    with pytest.raises(NodeError, match=r"9\d % of .* is between black and white, as in a photo"):
        selected(tmp_path / "photo.png", torch.zeros(1, 64, 96, 3))


def test_a_photograph_is_taken_for_a_mask_where_that_is_forced(tmp_path, capsys):
    path, out = tmp_path / "photo.png", tmp_path / "out.png"
    Image.linear_gradient("L").resize((48, 40)).point(lambda v: v * 3 // 4).save(path)
    given = ["remove", str(path), "--mask", str(path), "--output", str(out), "--quiet"]
    assert main(given) == 1 and "To take what is nearer to white, add --force" in (
        capsys.readouterr().err)
    assert main([*given, "--force"]) == 0 and out.exists()


@pytest.mark.parametrize(("ground", "paint"), [
    ((0, 0, 0), (0, 0, 127)), ((0, 0, 0, 0), (0, 0, 85, 255)), ((0, 0, 0, 0), (0, 0, 0, 255))])
def test_of_paint_that_is_too_dark_is_said_that_it_is(ground, paint, tmp_path, capsys):
    picture, mask = tmp_path / "scan.png", tmp_path / "mask.png"
    Image.linear_gradient("L").resize((48, 40)).save(picture)
    painted = Image.new("RGBA" if len(ground) > 3 else "RGB", (48, 40), ground)
    painted.paste(paint, (20, 12, 28, 20))
    painted.save(mask)
    drawn((20, 12, 28, 20)).crop((0, 0, 48, 40)).save(tmp_path / "good.png")
    dark = "what is painted there is too dark: paint it white.\n"
    assert main(["remove", str(picture), "--mask", str(mask), "--quiet"]) == 1
    assert capsys.readouterr().err == (
        f"nothing in {mask} is white or in a bright colour, and that is what is filled in; {dark}")
    good = ["--mask", str(tmp_path / "good.png"), "--quiet"]
    assert main(["remove", str(picture), *good, "--do-not-copy", str(mask)]) == 1
    assert capsys.readouterr().err.endswith(f"and that is what is not copied; {dark}")


def test_where_nothing_is_spared_the_job_goes_on_and_that_is_said(tmp_path, capsys):
    picture, mask, none = (tmp_path / file for file in ("scan.png", "mask.png", "none.png"))
    scan = Image.linear_gradient("L").resize((48, 40)).convert("RGB")
    scan.paste((250, 0, 0), (20, 12, 28, 20))
    scan.save(picture)
    drawn((20, 12, 28, 20)).crop((0, 0, 48, 40)).save(mask)
    Image.new("L", (48, 40)).save(none)
    given = ["remove", str(picture), "--mask", str(mask), "--quiet"]
    assert main([*given, "--do-not-copy", str(none)]) == 0
    told = capsys.readouterr()
    assert told.err == f"nothing in {none} is white or in a bright colour, so that all may be " \
        "copied.\n" and "scan_removed.png" in told.out


@pytest.mark.parametrize(("colour", "box", "said"), [
    ("black", "lime", ""), ("black", "blue", ""), ("white", "lime", "in white and parts in colour"),
    ("white", "black", "% of"),
])
def test_colours_and_inverted_masks(colour, box, said, tmp_path, capsys):
    picture, mask, out = (tmp_path / file for file in ("scan.png", "mask.png", "out.png"))
    scan = Image.linear_gradient("L").resize((48, 40)).convert("RGB")
    scan.paste("red", (22, 14, 26, 18))
    scan.save(picture)
    drawn = Image.new("RGB", (48, 40), colour)
    drawn.paste(box, (20, 12, 28, 20))
    drawn.save(mask)
    given = ["remove", str(picture), "--mask", str(mask), "--output", str(out), "--quiet"]
    assert main(given) == int(bool(said))
    told = capsys.readouterr()
    assert said in told.out + told.err and out.exists() is not bool(said)
