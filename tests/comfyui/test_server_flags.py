"""What the user asks of ComfyUI on its command line: half precision between nodes, no previews."""

import json

import pytest
from comfyui import checkout
from comfyui.conftest import start
from comfyui.graphs import NAMES, catalog, graph
from comfyui.test_server_workflows import COMFYUI_ONLY, PUBLISHED

HALF = "--fp16-intermediates"
BUILT_IN = sorted(set(NAMES) - set(COMFYUI_ONLY) - set(PUBLISHED))
HOSTED = ["Use a checkpoint", "Use AdaDiffSR with a checkpoint", "Use InvSR in one step",
          "Use StableSR"]
GROWN = "Remove an object"  # ComfyUI's own Grow Mask takes no mask in half precision


@pytest.fixture(scope="module")
def half(place, photo, weights):
    """A server without previews, and with half precision where this ComfyUI has it; (it, has)."""
    (place / "flags").mkdir()
    (place / "flags" / "models").symlink_to(weights, target_is_directory=True)
    known = HALF in (checkout.checkout() / "comfy" / "cli_args.py").read_text()
    flags = ["--preview-method", "none", *([HALF] if known else [])]
    with start(place / "flags", *flags) as server:
        (server.base / "input" / photo.name).write_bytes(photo.read_bytes())
        yield server, known


@pytest.mark.parametrize("name", BUILT_IN + HOSTED)
def test_it_runs_and_shows_no_pictures_on_its_way(half, name):
    server, known = half
    run = server.run(graph(name, catalog(server.get("/object_info"))))
    if known and name == GROWN:
        assert run.error.strip() == "GrowMask: array type not supported"
        return
    assert run.end == "success", run.error
    assert not run.previews


def test_every_picture_mask_and_latent_leaves_in_the_format_that_is_asked_for(half):
    """Of the nodes that the workflows above ran."""
    server, known = half
    lines = (server.base / "numbers" / "formats.jsonl").read_text().splitlines()
    found = [(node, *said.split()) for node, answer in map(json.loads, lines) for said in answer]
    wrong = [one for one in found if one[2:] != ("float16" if known else "float32", "cpu")]
    assert not wrong
    assert {kind for _, kind, *_ in found} == {"IMAGE", "MASK", "LATENT"}
    assert len({node for node, *_ in found}) >= 14
