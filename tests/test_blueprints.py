"""The blueprints are what their workflows are, and the command's jobs run them."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from undegrade.headless.blueprints import BLUEPRINTS, JOBS, LOAD, Cost, around, helps, widgets
from undegrade.headless.cli import main
from undegrade.headless.folders import Folders
from undegrade.headless.jobs import _cost
from undegrade.headless.pack import Pack

FILES = sorted(BLUEPRINTS.glob("*.json"))
SMALL = {  # few steps
    "sharpen": {"UndegradeEstimateBlurKernel.kernel_size": 3, "UndegradePosteriorSampler.steps": 2,
                "UndegradeEstimateBlurKernel.kind": "any"},
    "enlarge": {"UndegradePosteriorSampler.steps": 2},
    "repair": {"UndegradePosteriorSampler.steps": 2},
    "remove": {"UndegradeFillFromSurroundings.passes": 1},
    "restore-old": {"UndegradePosteriorSampler.steps": 2},
}
each = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(BLUEPRINTS.parent / "benchmarks"))
    yield importlib.import_module
    sys.path.remove(str(BLUEPRINTS.parent / "benchmarks"))


def test_the_files_are_drawn_from_the_workflows(scripts):
    script = scripts("blueprints")
    assert {path.stem for path in FILES} == set(script.BLUEPRINTS)
    for path in FILES:
        assert path.read_text() == script.text(path.stem), "draw them: benchmarks/blueprints.py"


@each
def test_one_picture_in_one_out_and_few_widgets(path):
    (host,) = json.loads(path.read_text())["nodes"]
    (inside,) = json.loads(path.read_text())["definitions"]["subgraphs"]
    mask = ["mask", "do_not_copy"] if path.stem == "Remove Object" else []
    assert [slot["name"] for slot in inside["inputs"]] == ["image", *mask]
    assert [slot["name"] for slot in inside["outputs"]] == ["image"]
    assert len(host["properties"]["proxyWidgets"]) <= 3 and inside["description"]
    nodes = {str(node["id"]): node for node in inside["nodes"]}
    for key, widget in host["properties"]["proxyWidgets"]:
        assert any(slot["name"] == widget and slot["label"] for slot in nodes[key]["inputs"])


@pytest.mark.parametrize("name", JOBS)
def test_a_job_runs(name, tmp_path, capsys):
    job, exif = JOBS[name], Image.Exif()
    exif[0x010F] = "a camera"
    picture = tmp_path / "photo.jpg"
    drawn = Image.effect_noise((40, 32), 20).convert("RGB")
    drawn.paste((255, 255, 255), (20, 0, 22, 32))
    drawn.save(picture, quality=40, exif=exif)
    mask = Image.new("L", (40, 32))
    mask.paste(255, (8, 8, 16, 16))
    mask.save(tmp_path / "mask.png")
    small = [f"--set={key}={value}" for key, value in SMALL.get(name, {}).items()]
    more = ["--mask", str(tmp_path / "mask.png")] if job.mask else []
    assert main([name, str(picture), "--compare", "--force", *more, *small]) == 0
    made = tmp_path / f"photo_{job.word}.jpg"
    told = capsys.readouterr()
    line, ahead = told.out.splitlines()[0], told.err.splitlines()[0]
    assert re.match(re.escape(f"{picture}: ") + r"\d+ pixels: about .*GB", ahead)
    assert line.startswith(f"{picture}: ") and line.endswith(f" -> {made}")
    with Image.open(made) as result:
        assert result.getexif()[0x010F] == "a camera"
    with Image.open(tmp_path / f"photo_{job.word}_compared.png") as both:
        assert both.width > (3 if job.marks else 2) * 40
    assert main([name, str(tmp_path / "none.png"), *more]) == 2
    assert capsys.readouterr().err == f"There is no file {tmp_path / 'none.png'}.\n"


def test_what_a_job_takes_grows_with_the_result():
    cost = Cost(60, 90, 0.4, 1.2)
    assert cost.said(250_000) == "0.2 megapixels: about 82 seconds of a processor core, 0.7 GB"
    assert cost.said(12_000_000) == "12.0 megapixels: about 19 minutes of a processor core, 14.8 GB"
    assert "about 60 hours of" in Cost(7200 * 30, 0, 0.4, 0).said(1)
    hidden = Cost(1, 0, 0.4, 0.3, 100)
    assert "about 21 seconds" in hidden.said(1_000_000, 200_000)
    for one_by_one, gigabytes in ((False, 6.4), (True, 1.0)):
        several = Cost(1, 2, 0.4, 0.3, 10, one_by_one=one_by_one).said(2_000_000, 400_000, 10)
        assert several == (f"10 pictures of 2.0 megapixels: about 90 seconds of a processor core, "
                           f"{gigabytes} GB")
    planned, made = SimpleNamespace(graph=SimpleNamespace(nodes={
        "1": SimpleNamespace(type="UndegradeDownscale", inputs={"factor": 1.5})})), [[0], [0]]
    made[0][0] = torch.zeros(2, 20, 30, 3)
    said = _cost(SimpleNamespace(job=JOBS["enlarge"]), planned, {LOAD: made})
    assert said.startswith(f"2 pictures of {int(20 * 30 * 1.5**2)} pixels: ")


def test_the_command_runs_the_blueprints_themselves():
    for job in JOBS.values():
        raw = json.loads((BLUEPRINTS / f"{job.blueprint}.json").read_text())
        assert around(job)["definitions"] == raw["definitions"]
        assert len(widgets(job)) == len(raw["nodes"][0]["properties"]["proxyWidgets"])


@pytest.mark.parametrize("name", JOBS)
def test_the_help_of_a_choice_names_all_that_may_be_chosen(name):
    job, catalog = JOBS[name], Pack.load().catalog(Folders(Path("output")))
    (inside,) = json.loads((BLUEPRINTS / f"{job.blueprint}.json").read_text())["definitions"][
        "subgraphs"]
    types = {str(node["id"]): node["type"] for node in inside["nodes"]}
    for option, (key, widget) in widgets(job).items():
        for choice in catalog[types[key]].widgets[widget].choices or ():
            assert f"'{choice}'" in helps(job)[option], f"undegrade {name} --{option}"


def test_a_mask_that_was_found_is_written_corrected_and_taken(tmp_path, capsys):
    picture, mask, out = (str(tmp_path / name) for name in ("scan.png", "mask.png", "out.png"))
    scan = Image.new("RGB", (64, 56), (90, 90, 90))
    scan.paste((250, 250, 250), (10, 30, 60, 32))
    scan.save(picture)
    quick = ["--set=UndegradePosteriorSampler.steps=2", "--quiet"]
    assert main(["restore-old", picture, "--mask-out", mask, *quick]) == 0
    assert f"what was filled in: {mask}\n" in capsys.readouterr().out
    with Image.open(mask) as found:
        assert found.size == (64, 56) and found.getpixel((30, 30)) == 255
        assert found.getpixel((30, 8)) == 0
        corrected = found.point(lambda _: 0)
    corrected.paste(255, (4, 4, 12, 8))
    corrected.save(tmp_path / "mine.png")
    mine = ["--mask", str(tmp_path / "mine.png")]
    assert main(["restore-old", picture, *mine, "--output", out, *quick]) == 0
    assert "your mask on 0.9 % of the picture" in capsys.readouterr().out
    with Image.open(out) as done:
        assert done.getpixel((30, 31)) == (250, 250, 250), "it was not marked by hand"
    for given, said in [([*mine, "--kind", "dark"], "leave --kind out, or --mask"),
                        (["--mask-out", mask], "there is a file of that name"),
                        (["--mask-out", str(tmp_path / "m.jpg")], "ends in .png"),
                        (["--mask-out", f"{tmp_path}/{'m' * 300}.png"], "File name too long"),
                        (["--mask-out", str(tmp_path / "none" / "m.png")], "there is no folder"),
                        (["--mask-out", str(tmp_path / "scan_restored_2.png")],
                         "the restored picture is written there"),
                        (["--mask-out", f"{tmp_path}/b.png", "--output", f"{tmp_path}/b.png"],
                         "the restored picture is written there")]:
        assert main(["restore-old", picture, *given, *quick]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["remove", "restore-old"])
def test_of_a_mask_without_white_is_said_that_it_is(name, tmp_path, capsys):
    picture, mask = tmp_path / "scan.png", tmp_path / "mask.png"
    Image.new("RGB", (40, 32), (90, 90, 90)).save(picture)
    Image.new("RGBA", (40, 32), (0, 0, 255, 0)).save(mask)
    assert main([name, str(picture), "--mask", str(mask), "--quiet"]) == 1
    said = f"nothing in {mask} is white or in a bright colour, and that is what is filled in.\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("name", ["remove", "restore-old"])
def test_greys_around_white_as_jpeg_leaves_them_are_not_filled(name, tmp_path, capsys):
    picture, mask, out = (tmp_path / file for file in ("scan.png", "mask.png", "out.png"))
    scan = Image.linear_gradient("L").resize((48, 40)).convert("RGB")
    scan.paste((250, 0, 0), (20, 12, 28, 20))
    scan.save(picture)
    white = Image.new("L", (48, 40), 3)
    white.paste(200, (20, 12, 28, 20))
    quick = ["--set=UndegradePosteriorSampler.steps=1"] if name == "restore-old" else []
    given = [name, str(picture), "--mask", str(mask), "--output", str(out), "--quiet", *quick]
    white.point(lambda v: v // 2).save(mask)
    assert main(given) == 1 and not out.exists()
    assert f"nothing in {mask} is white" in capsys.readouterr().err
    white.save(mask)
    assert main(given) == 0
    assert name == "remove" or "your mask on 3.3 % of" in capsys.readouterr().out
    with Image.open(out) as done:
        assert done.getpixel((24, 16)) != (250, 0, 0)
        assert done.getpixel((4, 4)) == scan.getpixel((4, 4))
