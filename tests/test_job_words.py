"""What the jobs say: what was found of each picture, and what is wrong, by their options."""

import re
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from undegrade.headless.blueprints import JOBS
from undegrade.headless.cli import main
from undegrade.headless.job_words import findings, in_options
from undegrade.headless.job_words import told as put
from undegrade.headless.jobs import _tell


def test_a_refusal_names_the_commands_options():
    said = in_options(JOBS["sharpen"], "Try another kind, kernel_size or seed")
    assert said == "Try another kind, --largest-blur or seed"
    said = in_options(JOBS["enlarge"], "cannot read factor.png or /factor/a: 'factor' is factor.")
    assert said == "cannot read factor.png or /factor/a: '--scale' is --scale."
    said = put(JOBS["remove"], "node 2 (Load Image (as Mask)) failed: cannot read expand it.txt")
    assert said == "cannot read expand it.txt", "a command has no nodes 1 and 2"
    said = put(JOBS["denoise"], "node 1 (Load Image) failed: cannot read a.txt")
    assert said == "cannot read a.txt"
    assert put(JOBS["remove"], "There is no file expand me.png.").endswith(" expand me.png.")
    said = put(JOBS["repair"], "node 10:6 (Posterior Sampler): input 'steps' is 0; take more steps")
    assert said.endswith("input '--steps' is 0; take more steps")
    assert "'steps'" in put(JOBS["repair"], "node 10:5 (Prior): input 'steps' is 0"), "another's"


def test_every_picture_of_a_file_has_its_own_line(tmp_path, capsys):
    job, kind = JOBS["denoise"], "UndegradeDenoise"
    assert findings(job, {kind: ["a.\nb", "c"]}, 2) == ["a. b", "c"]
    assert findings(job, {kind: ["a", "b"]}, 3) == ["a. b"] * 3 and findings(job, {}, 1) == [""]
    clean = np.asarray(Image.linear_gradient("L").resize((64, 64)))
    noise = np.random.default_rng(0).normal(0, 20, (64, 64))
    noisy = (clean + noise).clip(0, 255).astype(np.uint8)
    pages = [Image.fromarray(pixels) for pixels in (noisy, clean, noisy)]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    assert main(["denoise", str(tmp_path / "p.tif"), "--passes", "1"]) == 0
    told = capsys.readouterr()
    assert f"{tmp_path / 'p.tif'}: 3 pictures of 4096 pixels" in told.err
    for number, (line, found) in enumerate(zip(told.out.splitlines(), (
            "noise 0.", "no noise above", "noise 0."), strict=True)):
        assert line.startswith(f"{tmp_path / 'p.tif'}: picture {number + 1}: {found}")


def test_nothing_is_written_where_nothing_is_gained(tmp_path, capsys):
    """A picture without noise, on which Denoise changes nothing."""
    ramp = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    ramp.save(tmp_path / "clean.png")
    assert main(["denoise", str(tmp_path / "clean.png"), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "nothing to gain" in said and said.endswith("nothing was written.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["clean.png"]
    assert main(["denoise", str(tmp_path / "clean.png"), "--quiet", "--force"]) == 0
    assert (tmp_path / "clean_denoised.png").exists()
    assert "nothing was written" not in capsys.readouterr().out
    noise = np.random.default_rng(0).normal(0, 20, (64, 64, 3))
    Image.fromarray((ramp + noise).clip(0, 255).astype(np.uint8)).save(tmp_path / "noisy.png")
    assert main(["denoise", str(tmp_path / "noisy.png"), "--quiet", "--strength", "0"]) == 0
    assert "255; with --strength 0 it comes back as it was; nothing was" in capsys.readouterr().out


def test_what_fails_names_the_commands_options(tmp_path, capsys):
    Image.linear_gradient("L").resize((48, 48)).save(tmp_path / "small.png")
    twice = ["--scale", "2", "--set", "UndegradeDownscale.factor=3"]
    assert main(["enlarge", str(tmp_path / "small.png"), *twice]) == 2
    said = "--set UndegradeDownscale.factor=3: --scale 2 sets the same widget; leave one out.\n"
    assert capsys.readouterr().err == said
    assert main(["enlarge", str(tmp_path / "small.png"), "--scale", "2", "--scale", "3"]) == 2
    assert "--scale: given twice, 2 and 3; leave one out" in capsys.readouterr().err
    assert main(["enlarge", str(tmp_path / "small.png"), "--scale", "0"]) == 2
    assert "input '--scale' is 0.0" in capsys.readouterr().err
    assert main(["sharpen", str(tmp_path / "small.png"), "--quiet"]) == 1
    assert "choose a smaller --largest-blur or" in capsys.readouterr().err
    Image.new("L", (48, 48), 255).save(tmp_path / "mask.png")
    mask = ["--mask", str(tmp_path / "mask.png"), "--quiet"]
    assert main(["remove", str(tmp_path / "small.png"), *mask]) == 1
    assert capsys.readouterr().err.startswith("--mask: 100 % of ")
    assert main(["remove", str(tmp_path / "small.png"), *mask, "--force"]) == 1
    assert capsys.readouterr().err.startswith("--mask: The mask leaves 0 patches of 7x7")
    for name in ("remove", "restore-old"):
        Image.linear_gradient("L").resize((48, 48)).point(lambda v: 255 * (v > 180)).save(
            tmp_path / "mask.png")
        Image.linear_gradient("L").resize((50, 48)).save(tmp_path / "wide.png")
        assert main([name, str(tmp_path / "wide.png"), *mask]) == 1
        assert re.match("--mask: .*48x48.*50x48|--mask: .*50x48.*48x48", capsys.readouterr().err)


def test_of_scratches_each_picture_has_its_own_share(capsys):
    marked = torch.zeros(2, 4, 5)
    marked[1, :2] = 1
    for mask, said in ((None, "scratches on"), ("m.png", "your mask on")):
        options = SimpleNamespace(job=JOBS["restore-old"], mask=mask, picture="p.tif",
                                  mask_out=None, compare=False)
        _tell(options, SimpleNamespace(saved=["a", "b"], said={}), marked)
        assert capsys.readouterr().out == (f"p.tif: {said} 0.0 % of the picture -> a\n"
                                           f"p.tif: {said} 50.0 % of the picture -> b\n")
