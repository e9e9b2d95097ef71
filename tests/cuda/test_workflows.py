"""Every workflow that runs without a download, on a card as on the CPU."""

import pytest
import torch
from PIL import Image
from test_workflows import NEEDS_WEIGHTS, WORKFLOWS, needs_comfyui, small_settings

from undegrade.headless.cli import main

OURS = [p for p in WORKFLOWS if p.stem not in NEEDS_WEIGHTS and not needs_comfyui(p)]
SIZE = (48, 40)  # width, height
BRIGHTER = {("demo_uncertainty_map", "ComfyUI_00002_.png"): 10}  # maps, times what they show


def pictures(path, folder):
    """The saved pictures of a short run, by file, as numbers in [0, 255]."""
    folder.mkdir()
    drawn = torch.rand(10, 12, 3, generator=torch.Generator().manual_seed(0))
    image = Image.fromarray((drawn * 255).byte().numpy()).resize(SIZE, Image.Resampling.BICUBIC)
    image.save(folder / "photo.png")
    out = folder / "out"
    given = ["--input", str(folder / "photo.png"), "--output", str(out), "--quiet"]
    assert main(["run", str(path), *given, *small_settings(path)]) == 0
    found = {}
    for file in sorted(out.rglob("*.png")):
        with Image.open(file) as opened:
            data = bytearray(opened.convert("RGB").tobytes())
        found[file.relative_to(out)] = torch.frombuffer(data, dtype=torch.uint8).float()
    return found


@pytest.mark.cuda
@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_a_workflow_gives_the_same(path, cuda, use, tmp_path):
    """46 dB between the two: what moves the error of a restoration of 26 dB by 0.05 dB. JPEG's
    rounding lets two runs go different ways (`test_operators.py`): 40 dB."""
    use("cpu")
    expected = pictures(path, tmp_path / "cpu")
    use(cuda)
    result = pictures(path, tmp_path / "card")
    assert expected.keys() == result.keys() and expected
    for name, picture in expected.items():
        apart = (picture - result[name]) / 255 / BRIGHTER.get((path.stem, name.name), 1)
        least = -4 if "UndegradeJPEG" in path.read_text() else -4.6
        assert apart.square().mean() < 10**least, name
