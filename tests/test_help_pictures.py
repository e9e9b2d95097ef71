"""The help pages' pictures are those that the scripts in benchmarks/ draw."""

import importlib
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from undegrade import NODE_CLASS_MAPPINGS

ROOT = Path(__file__).resolve().parent.parent
QUICK = (  # and without trained weights, so that a better network does not make them old
    "Downscale", "GaussianBlur", "MotionBlur", "RandomMask", "ComposeOperators", "DegradeImage",
    "EstimateNoiseLevel", "RealWorldDegradation", "TileSplitter", "MatchColors",
)  # fmt: skip


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module
    sys.path.remove(str(ROOT / "benchmarks"))


def difference(a: Image.Image, b: Image.Image) -> float:
    """Mean over blocks of 4x4 pixels and colours, of 255: compression loses noise, not means."""
    assert a.size == b.size
    small = [image.convert("RGB").reduce(4) for image in (a, b)]
    means = ImageStat.Stat(ImageChops.difference(*small)).mean
    return sum(means) / 3


def test_every_picture_is_drawn_by_one_of_two_scripts(scripts):
    results = scripts("help_pictures").PICTURES.keys()
    graphs = scripts("help_graphs").WORKFLOWS
    assert not results & graphs.keys()
    assert {f"Undegrade{name}" for name in results | graphs.keys()} == set(NODE_CLASS_MAPPINGS)
    for workflow in graphs.values():
        assert list((ROOT / "workflows").rglob(f"{workflow}.json"))


@pytest.mark.parametrize("name", QUICK)
def test_a_picture_is_what_its_nodes_give(name, scripts):
    drawn = scripts("help_pictures").PICTURES[name]()
    with Image.open(ROOT / "web" / "docs" / f"Undegrade{name}.webp") as kept:
        assert difference(drawn, kept) < 3, "draw it anew: benchmarks/help_pictures.py"


def test_another_picture_is_seen(scripts):
    blurred = scripts("help_pictures").PICTURES["GaussianBlur"]()
    with Image.open(ROOT / "web" / "docs" / "UndegradeDownscale.webp") as other:
        assert difference(blurred, other) > 3


def test_a_caption_that_is_too_long_is_refused(scripts):
    strips = scripts("strips")
    with pytest.raises(ValueError, match="wider than its picture"):
        strips.strip([("a caption that nobody could read in a narrow panel", strips.example())])
