"""The shipped workflows: sound, complete, and running."""

import json
from pathlib import Path

import pytest
import torch
from node_calls import WIDGETS, inputs_of
from PIL import Image

from undegrade import NODE_CLASS_MAPPINGS
from undegrade.headless.cli import Pack, main
from undegrade.headless.folders import Folders
from undegrade.headless.load import load
from undegrade.headless.signature import Catalog
from undegrade.headless.stock import stock_classes, stock_titles
from undegrade.headless.validation import validate

FOLDER = Path(__file__).resolve().parent.parent / "workflows"
WORKFLOWS = sorted(FOLDER.rglob("*.json"))
DEMO = FOLDER / "demo"
NEEDS_WEIGHTS = {
    "demo_nonlinear_deblur": "GOPRO_wVAE.pth",
    "Use a diffusers folder": "a diffusers folder",
}
COMFYUI = json.loads((Path(__file__).parent / "comfyui_nodes.json").read_text())  # of 0.3.64
DEGRADES = ("UndegradeDegradeImage", "UndegradeRealWorldDegradation")
LEGIBLE, TITLE = 0.7, 30  # of the canvas: a zoom at which text is drawn well; pixels above a node
SMALL = {  # enough to run every node, for a picture of 48x40
    "UndegradePosteriorSampler": {"steps": 3, "samples": 2},
    "UndegradeLangevinMeasurementUpdate": {"iterations": 2},
    "UndegradeEstimateBlurKernel": {"kernel_size": 3},
    "UndegradeMotionBlur": {"side": 9, "length": 5.0},
    "UndegradeRegionAdaptiveSampler": {"steps": 10},
    "UndegradeCalibrateRegions": {"steps": 10},
}
each = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def comfyui_classes() -> dict[str, type]:
    """Nodes that only ComfyUI has, as it declared them: their surface, and nothing to run."""
    return {
        name: type(
            name,
            (),
            {
                "INPUT_TYPES": classmethod(lambda _, known=known: known["input"]),
                "RETURN_TYPES": tuple(known["output"]),
                "RETURN_NAMES": tuple(known["names"]),
                "FUNCTION": "run",
            },
        )
        for name, known in COMFYUI.items()
    }


def needs_comfyui(path: Path) -> bool:
    return any(node["type"] in COMFYUI for node in nodes_of(path))


def nodes_of(path: Path) -> list[dict]:
    return json.loads(path.read_text())["nodes"]


@each
def test_only_a_demonstration_spoils_the_picture_and_says_so(path):
    graph = json.loads(path.read_text())
    spoilt = spoils(graph["nodes"])
    assert (path.parent == DEMO) == path.stem.startswith("demo_") == bool(spoilt), spoilt
    (note,) = [n["widgets_values"][0] for n in graph["nodes"] if n["type"] == "MarkdownNote"]
    assert ("**A demonstration:**" in note) == bool(spoilt)


def spoils(nodes: list[dict]) -> list[str]:
    """The nodes that make a picture worse than it came."""
    return [n["type"] for n in nodes if n["type"] in DEGRADES
            or (n["type"] == "ImageScaleBy" and n["widgets_values"][1] < 1)]


def test_every_node_of_the_pack_is_used():
    used = {node["type"] for path in WORKFLOWS for node in nodes_of(path)}
    assert set(NODE_CLASS_MAPPINGS) <= used


@each
def test_every_widget_has_its_value(path):
    """What the frontend writes when it saves: a widget that came later has its default."""
    for node in nodes_of(path):
        if node["type"] in NODE_CLASS_MAPPINGS:
            asked = [settings for kind, settings in inputs_of(node["type"]).values()
                     if isinstance(kind, list) or kind in WIDGETS]
            written = len(asked) + sum("control_after_generate" in each for each in asked)
            assert len(node.get("widgets_values") or []) == written, node["type"]


@each
def test_it_explains_itself_and_has_a_thumbnail(path):
    notes = [n for n in nodes_of(path) if n["type"] == "MarkdownNote"]
    assert len(notes) == 1 and len(notes[0]["widgets_values"][0]) > 100
    with Image.open(path.with_suffix(".jpg")) as thumbnail:
        assert thumbnail.format == "JPEG" and 300 <= thumbnail.width <= 1200


@each
def test_seeds_are_fixed(path):
    for node in nodes_of(path):
        words = [v for v in node.get("widgets_values") or [] if isinstance(v, str)]
        assert not {"randomize", "increment", "decrement"} & set(words)


@each
def test_it_opens_at_a_legible_zoom(path):
    """The frontend fits a template's nodes, 10 pixels around them, into 3/4 of its 1600x1000."""
    boxes = [(*n["pos"], *n["size"]) for n in nodes_of(path)]
    width = max(x + w for x, _, w, _ in boxes) - min(x for x, *_ in boxes)
    height = max(y + h for _, y, _, h in boxes) - min(y - TITLE for _, y, *_ in boxes)
    assert min(0.75 * 1600 / (width + 20), 0.75 * 1000 / (height + 20)) >= LEGIBLE
    assert json.loads(path.read_text())["extra"]["ds"]["scale"] >= LEGIBLE


@each
def test_it_compares_before_and_after(path):
    (compare,) = [n for n in nodes_of(path) if n["type"] == "ImageCompare"]
    left, right = compare["inputs"]
    assert (left["name"], right["name"]) == ("image_a", "image_b")
    links = {link[0]: tuple(link[1:3]) for link in json.loads(path.read_text())["links"]}
    saved = [n for n in nodes_of(path) if n["type"] == "SaveImage"]
    assert links[right["link"]] in {links[n["inputs"][0]["link"]] for n in saved}
    assert links[left["link"]] != links[right["link"]]


@each
def test_nothing_is_wrong_with_it(path, tmp_path):
    folders = Folders.around(path, tmp_path)
    pack = Pack.load()
    classes = {**stock_classes(folders), **comfyui_classes(), **pack.classes}
    catalog = Catalog(classes, {**stock_titles(), **pack.titles})
    assert validate(load(path, catalog).graph(), catalog) == []


def small_settings(path: Path) -> list[str]:
    """The command's options for `SMALL`."""
    settings = []
    for node in nodes_of(path):
        for widget, value in SMALL.get(node["type"], {}).items():
            if not is_linked(node, widget):
                settings += ["--set", f"{node['id']}.{widget}={value}"]
    return settings


@each
def test_it_runs(path, tmp_path):
    if path.stem in NEEDS_WEIGHTS:
        pytest.skip(f"needs {NEEDS_WEIGHTS[path.stem]}")
    if needs_comfyui(path):
        pytest.skip("needs nodes that only ComfyUI has, and a checkpoint")
    image = torch.rand(40, 48, 3, generator=torch.Generator().manual_seed(0))
    Image.fromarray((image * 255).byte().numpy()).save(tmp_path / "photo.png")
    output = tmp_path / "out"
    given = ["--input", str(tmp_path / "photo.png"), "--output", str(output), "--quiet"]
    assert main(["run", str(path), *given, *small_settings(path)]) == 0
    saved = [p for p in output.rglob("*.png") if "preview" not in p.parts]
    assert saved
    for picture in saved:
        with Image.open(picture) as restored:
            assert json.loads(restored.text["workflow"])["nodes"]


def is_linked(node: dict, widget: str) -> bool:
    slots = [i for i in node.get("inputs", []) if i["name"] == widget]
    return bool(slots and slots[0].get("link"))
