"""Every shipped workflow, queued over HTTP with small settings, finishes; and its pictures are
those of `undegrade run`.

Those that load published weights get random ones of the published layout (`random_weights.py`),
under the published names. `COMFYUI_ONLY` says which cannot be compared, and why.
"""

import io
import json

import numpy
import pytest
from comfyui.graphs import NAMES, PREVIEWS, SMALL, graph, with_numbers, written
from PIL import Image

from undegrade import NODE_CLASS_MAPPINGS

CHECKPOINT = "its model is a checkpoint, which only ComfyUI loads and samples"
COMFYUI_ONLY = {
    "Use InvSR in five steps": CHECKPOINT,
    "Use InvSR on a large photo": CHECKPOINT,
    "Use InvSR in one step": CHECKPOINT,
    "Use a checkpoint": CHECKPOINT,
    "Use AdaDiffSR with a checkpoint": CHECKPOINT,
    "Use StableSR": CHECKPOINT,
    "Use StableSR with your training": CHECKPOINT,
    "Use InvSR on a painted picture": CHECKPOINT,
}
PUBLISHED = {  # name -> the loaders that ask for published weights
    "Use a diffusers folder": {"UndegradeLoadDiffusersPrior"},
    "demo_nonlinear_deblur": {"UndegradeNonlinearBlur"},
    **{name: {"CheckpointLoaderSimple"} for name in COMFYUI_ONLY},
    "Use InvSR in five steps": {"CheckpointLoaderSimple", "UndegradeLoadNoisePredictor"},
    "Use InvSR on a large photo": {"CheckpointLoaderSimple", "UndegradeLoadNoisePredictor"},
    "Use InvSR in one step": {"CheckpointLoaderSimple", "UndegradeLoadNoisePredictor"},
    "Use InvSR on a painted picture": {"CheckpointLoaderSimple", "UndegradeLoadNoisePredictor"},
    "Use StableSR": {"CheckpointLoaderSimple", "UndegradeStableSRModule"},
    "Use StableSR with your training": {
        "CheckpointLoaderSimple", "UndegradeStableSRModule", "UndegradeLoadFeatureInjection",
    },
}
BY_PATH = {  # name -> (widget, file or folder below models)
    "Use a diffusers folder": ("UndegradeLoadDiffusersPrior.folder", "diffusers/sd-turbo"),
    "demo_nonlinear_deblur": ("UndegradeNonlinearBlur.file", "blur_networks/GOPRO_wVAE.pth"),
}
LOADERS = set().union(*PUBLISHED.values())
SAMPLERS = ("UndegradePosteriorSampler", "UndegradeRegionAdaptiveSampler",
            "UndegradeInversionSampler", "UndegradeCalibrateRegions",
            "SamplerCustomAdvanced")  # fmt: skip
LEAST = 1e-4  # of [0, 1]


def loaders(prompt) -> set[str]:
    """The loaders of a graph that ask for a file which the pack does not bring."""
    return {
        node["class_type"] for node in prompt.values()
        if node["class_type"] in LOADERS and node["inputs"].get("file") != "built-in"
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_it_finishes_with_the_pictures_of_the_command(
    name, server, known, weights, request, record_property
):
    prompt = graph(name, known)
    assert loaders(prompt) == PUBLISHED.get(name, set())
    run = server.run(with_numbers(prompt, name))
    assert run.end == "success", run.error
    assert_reports(run, prompt)
    assert_nothing_shared_changed(server, prompt)
    pictures = {i: n for i, n in prompt.items() if n["class_type"] in PREVIEWS}
    for node_id in pictures:
        numbers = kept(server.base / "numbers", name, node_id)
        assert numbers.dtype == numpy.float32
        files = [server.view(image) for image in run.shown[node_id]["images"]]
        for file, one in zip(files, numbers, strict=True):
            with Image.open(io.BytesIO(file)) as picture:
                assert numpy.abs(numpy.asarray(picture) / 255 - one.clip(0, 1)).max() < 1 / 255
                assert set(json.loads(picture.text["prompt"])) >= set(prompt)
    record_property(f"{name}: seconds in ComfyUI", f"{run.seconds:.1f}")
    if name not in COMFYUI_ONLY:
        command, place = map(request.getfixturevalue, ("command", "place"))
        difference = compare(name, prompt, pictures, server, command, place)
        record_property(f"{name}: largest difference to the command", f"{difference:.1e}")


def assert_reports(run, prompt):
    """Every sampler moved its bar to the end, and showed what it had where it had several steps;
    but for one whose result ComfyUI had from an earlier workflow with the same node."""
    for node_id, node in prompt.items():
        if node["class_type"] in SAMPLERS and node_id not in run.cached:
            steps = run.progress(node_id)
            assert steps and steps[-1][0] == steps[-1][1], (node, steps)
            shown = [known for known, _ in run.previews if known["node_id"] == node_id]
            assert len(shown) <= len(steps)
            assert shown or len(steps) < 3 or node["class_type"] == "UndegradeCalibrateRegions"


def assert_nothing_shared_changed(server, prompt):
    """RNG, default dtype, threads, matmul precision and more are as before, after every call."""
    lines = (server.base / "numbers" / "changes.jsonl").read_text().splitlines()
    calls = [json.loads(line) for line in lines]
    ours = {node["class_type"] for node in prompt.values()} & set(NODE_CLASS_MAPPINGS)
    assert ours <= {node_id for node_id, _ in calls}
    assert [call for call in calls if call[1]] == []


def compare(name, prompt, pictures, server, command, place):
    """The same graph by the command, number by number."""
    path, settings = written(with_numbers(prompt, name), place, name), []
    if name in BY_PATH:  # the command has no models folder of ComfyUI's
        widget, file = BY_PATH[name]
        settings = ["--set", f"{widget}={server.base / 'models' / file}"]
    command.run(path, "--output", place / "output" / name, *settings)
    differences = []
    for node_id in pictures:
        ours, theirs = (kept(f, name, node_id) for f in (command.numbers, server.base / "numbers"))
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        differences.append(float(numpy.abs(ours - theirs).max()))
    assert max(differences) <= LEAST
    return max(differences)


def kept(folder, name, node_id):
    return numpy.load(folder / f"{name}.{node_id}.npy")


def test_all_workflows_are_covered(known):
    """The tables above name no other workflow, and every node of the pack runs in one."""
    assert set(COMFYUI_ONLY) | set(PUBLISHED) <= set(NAMES)
    used = {node["class_type"] for name in NAMES for node in graph(name, known).values()}
    assert set(NODE_CLASS_MAPPINGS) <= used
    assert set(SMALL) <= used
