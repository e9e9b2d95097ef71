"""The manifest of published weights, and that help pages and errors agree with it."""

import re
from pathlib import Path

import pytest
import torch
from diffusers_folders import edit, pixel_folder
from node_calls import call, inputs_of

from undegrade import NODE_CLASS_MAPPINGS
from undegrade.models.known_files import (
    BLURS,
    DIFFUSERS,
    KNOWN,
    PREDICTORS,
    PRIORS,
    known_in,
    source_of,
)
from undegrade.models.weights import UnsupportedWeightsError, read_tensors
from undegrade.nodes import priors
from undegrade.nodes.comfyui import host
from undegrade.nodes.degradation import blurs

DOCS = Path(__file__).resolve().parent.parent / "web" / "docs"
PAGES = {
    PRIORS: "UndegradeLoadPixelPrior",
    DIFFUSERS: "UndegradeLoadDiffusersPrior",
    BLURS: "UndegradeNonlinearBlur",
    PREDICTORS: "UndegradeLoadNoisePredictor",
}


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: row.name)
def test_rows_are_complete(row):
    assert row.url.startswith("https://") and len(row.what) > 10 and len(row.licence) > 5
    assert row.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", row.sha256)
    assert row.revision is None or re.fullmatch(r"[0-9a-f]{40}", row.revision)
    assert (row.repository is None) == (row.revision is None) == (row.folder != DIFFUSERS)
    assert row.repository is None or row.url.endswith(row.repository)
    assert [r.name for r in KNOWN].count(row.name) == 1


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: row.name)
def test_help_pages_name_the_files_and_their_licences(row):
    page = PAGES.get(row.folder)
    if page not in NODE_CLASS_MAPPINGS:
        pytest.skip(f"no node reads models/{row.folder} yet")
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert row.name in text or row.folder == PREDICTORS, f"{page}.md does not name {row.name}"
    licences = text.split("## Weights and licence")[1].split("## ")[0]
    assert re.split("[,:;]", row.licence)[0] in licences, f"{page}.md hides the licence"


def test_errors_say_where_a_known_file_comes_from(tmp_path):
    path = tmp_path / "256x256_diffusion_uncond.pt"
    torch.save({"a": torch.zeros(999)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UnsupportedWeightsError, match=r"download it again from https://openaipub"):
        read_tensors(path)
    assert source_of("mine.pt") == ""


# Load Pixel Prior and Load Diffusers Prior


@pytest.fixture
def models(tmp_path, monkeypatch):
    """The model folders of this test."""
    monkeypatch.setattr(host, "model_roots", lambda name: [tmp_path / name])
    return tmp_path


def make(path: Path, *files: str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for file in files:
        (path / file).write_text("{}")


def test_folders_are_offered_instead_of_the_files_in_them(models):
    make(models / PRIORS, "a.pt", "notes.txt")
    make(models / PRIORS / "church", "config.json")
    make(models / PRIORS / "more" / "faces", "model_index.json")
    make(models / PRIORS / "more" / "faces" / "unet", "config.json")
    make(models / PRIORS / ".cache" / "x", "config.json")
    assert priors.pixel_priors() == ["built-in", "a.pt", "church", "more/faces"]


def test_files_inside_a_folder_are_left_out_as_comfyui_lists_them(models, monkeypatch):
    make(models / PRIORS / "church" / "unet", "config.json")
    make(models / PRIORS / "church", "model_index.json")
    monkeypatch.setattr(host, "model_files", lambda name: ["a.pt", "church/unet/w.safetensors"])
    assert priors.pixel_priors() == ["built-in", "a.pt", "church"]


def test_published_folders_are_offered_too(models):
    make(models / DIFFUSERS / "mine", "model_index.json")
    make(models / DIFFUSERS / "sd-turbo", "model_index.json")
    assert priors.diffusers_priors() == ["mine", "sd-turbo", "stable-diffusion-2-1-base"]
    kinds = inputs_of("UndegradeLoadDiffusersPrior")
    assert kinds["folder"][0] == priors.diffusers_priors()
    assert kinds["download"][1]["default"] is False


@pytest.mark.parametrize(
    ("node", "field"),
    [
        (priors.LoadPixelPrior, "file"),
        (priors.LoadDiffusersPrior, "folder"),
        (blurs.NonlinearBlurNode, "file"),
    ],
)
def test_a_path_is_taken_on_the_command_line_only(models, monkeypatch, node, field):
    make(models / "elsewhere", "config.json")
    given = {field: str(models / "elsewhere")}
    assert node.VALIDATE_INPUTS(**given) is True
    assert "which is not in models/" in node.VALIDATE_INPUTS(**{field: "nothing"})
    assert "which is not in models/" in node.VALIDATE_INPUTS(**{field: ""})
    monkeypatch.setattr(host, "comfy", lambda module: object())
    monkeypatch.setattr(host, "model_files", lambda name: [])
    assert "which is not in models/" in node.VALIDATE_INPUTS(**given)


def test_a_published_file_that_is_not_there(models):
    assert blurs.blur_files() == ["GOPRO_wVAE.pth"]
    with pytest.raises(FileNotFoundError, match=r"models/blur_networks; get it from https://git"):
        call("UndegradeNonlinearBlur", file="GOPRO_wVAE.pth")


def test_a_published_folder_that_is_not_there(models):
    with pytest.raises(FileNotFoundError) as error:
        call("UndegradeLoadDiffusersPrior", folder="sd-turbo")
    for part in ("switch download on", known_in(DIFFUSERS)["sd-turbo"].url, "b261bac6"):
        assert part in str(error.value)
    assert str(models / DIFFUSERS / "sd-turbo") in str(error.value)


def test_downloading_shows_progress_and_stops(models, monkeypatch):
    asked, seen = [], []

    def download(known, target):
        asked.append((known.name, target))
        yield from ((done, 3) for done in range(4))
        make(target, "config.json")

    monkeypatch.setattr(priors, "download", download)
    previous = host.set_progress_sink(lambda *report: seen.append(report[:3]))
    try:
        path = priors.published_folder("sd-turbo", True)
        assert path.is_dir() and asked == [("sd-turbo", path)]
        assert seen == [("Downloading sd-turbo", done, 3) for done in (1, 2, 3)]
        assert priors.published_folder("sd-turbo", True) == path and len(asked) == 1
    finally:
        host.set_progress_sink(previous)
    with pytest.raises(KeyboardInterrupt):
        monkeypatch.setattr(host, "check_interrupted", interrupt)
        priors.published_folder("stable-diffusion-2-1-base", True)


def interrupt():
    raise KeyboardInterrupt


def test_a_pixel_folder_through_the_node(models, draw):
    pixel_folder(models / DIFFUSERS / "ddpm")
    (prior,) = call("UndegradeLoadDiffusersPrior", folder="ddpm", precision="bfloat16")
    assert {p.dtype for p in prior.network.parameters()} == {torch.bfloat16}
    assert prior.denoise(draw(1, 3, 32, 32), torch.tensor([1.0])).dtype == torch.float32
    for given in ({"prompt": "a"}, {"negative_prompt": "a"}, {"cfg_scale": 2.0}):
        with pytest.raises(ValueError, match="ddpm is a pixel prior that reads no text"):
            call("UndegradeLoadDiffusersPrior", folder="ddpm", **given)
    edit(models / DIFFUSERS / "ddpm" / "unet" / "config.json", _class_name="UNet3DConditionModel")
    with pytest.raises(UnsupportedWeightsError, match="a UNet3DConditionModel where a UNet2DCond"):
        call("UndegradeLoadDiffusersPrior", folder="ddpm")


def test_a_pixel_folder_through_load_pixel_prior(models):
    pixel_folder(models / PRIORS / "ddpm")
    (prior,) = call("UndegradeLoadPixelPrior", file="ddpm")
    assert prior.spec.name == "ddpm" and prior.spec.native_size == 32


def test_without_comfyui_models_lie_in_the_packs_own_folder(monkeypatch):
    monkeypatch.setattr(host, "comfy", lambda name: None)
    assert host.model_roots("diffusers") == [Path(__file__).parents[1] / "models" / "diffusers"]
