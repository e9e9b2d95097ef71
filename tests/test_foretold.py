"""What `run` and `batch` say a workflow takes before it starts, where a job's cost is known."""

from pathlib import Path

import pytest
from PIL import Image

from undegrade.headless import foretold
from undegrade.headless.blueprints import JOBS, around
from undegrade.headless.cli import main

WORKFLOWS = Path(foretold.__file__).parents[1] / "workflows"
ONE_STEP = ("--set", "UndegradePosteriorSampler.steps=1")
KNOWN = {"sharpen": "Sharpen a blurred photo", "denoise": "Denoise a photo",
         "restore-old": "Restore an old photo", "enlarge": "Enlarge a web picture",
         "repair": "Repair a JPEG"}


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    for n, side in enumerate((40, 80)):
        Image.linear_gradient("L").resize((side, 32)).save(f"p{n}.png")


def planned(name, *settings):
    """What is said of a workflow for p1.png, by its plan alone."""
    from argparse import Namespace

    from undegrade.headless.pack import Pack
    from undegrade.headless.running import prepare

    pack = Pack.load()
    options = Namespace(workflow=WORKFLOWS / f"{name}.json", output=Path("out"), format=None,
                        input=["p1.png"])
    return foretold.of_run(prepare(options, pack, settings), pack.host)


@pytest.mark.parametrize("job", KNOWN)
def test_a_jobs_workflow_takes_what_the_job_takes(pictures, job, monkeypatch):
    built = []
    monkeypatch.setattr(foretold, "around", lambda job: built.append(job) or around(job))
    enlarged = 4 if job == "enlarge" else 1
    factor = ["UndegradeDownscale.factor=2"] if job == "enlarge" else []
    expected = JOBS[job].cost.said(80 * 32 * enlarged)
    assert planned(KNOWN[job], *factor) == f"p1.png: {expected}.\n"
    assert built == [JOBS[job]], "graphs of jobs with other nodes are not built"


def test_a_search_is_foretold_by_the_picture_and_only_where_there_is_one(pictures):
    """One thread: 'any' at 150x150 took 22 s, and at 320x320 66 to 74; a line 10 and 18 to 23."""
    cost = JOBS["sharpen"].cost
    assert "about 22 seconds" in cost.said(150 * 150) and "about 74 " in cost.said(320 * 320)
    assert cost.of(1.0)[0] == 142
    known = planned(KNOWN["sharpen"], "UndegradeEstimateBlurKernel.kind=straight motion")
    assert "about 8 seconds" in known and "about 10 " in planned(KNOWN["sharpen"])


def test_of_others_nothing_is_said(pictures):
    assert planned("Repair a JPEG", "UndegradePosteriorSampler.steps=50") == ""
    assert planned("Enlarge a photo") == ""


def test_both_commands_say_it_before_they_start(pictures, capsys, monkeypatch):
    monkeypatch.setattr(foretold, "COUNTS", ())  # one step in place of the job's
    workflow = str(WORKFLOWS / "Repair a JPEG.json")
    for quiet in ([], ["--quiet"]):
        assert main(["run", workflow, "--input", "p0.png", *ONE_STEP, *quiet]) == 0
        said = capsys.readouterr().err
        assert said.startswith("p0.png: 1280 pixels: about 4 seconds") != bool(quiet)
    assert main(["batch", workflow, "--input", "p?.png", "--output", "../all", *ONE_STEP]) == 0
    assert "2 pictures: about 8 seconds of a processor core, 0.3 GB for the" in (
        capsys.readouterr().err)


def test_every_picture_of_a_file_counts(pictures):
    Path("p1.png").rename("one.png")
    with Image.open("one.png") as picture:
        picture.save("p1.png", "TIFF", save_all=True, append_images=[picture.copy()] * 19)
    said = planned("Denoise a photo")
    assert said == f"p1.png: {JOBS['denoise'].cost.said(80 * 32, pictures=20)}.\n"
    assert "20 pictures of 2560 pixels: about 42 seconds" in said
    assert foretold._size("p1.png") == (2560, 20) and foretold._size("one.png") == (2560, 1)
