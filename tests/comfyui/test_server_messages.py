"""Progress, previews and Cancel, as they come over the websocket."""

import io
import time
from itertools import pairwise

import pytest
from comfyui.graphs import graph, only
from PIL import Image

LARGE = (352, 288)  # width, height: a network call takes some tenths of a second
SHOWN = (512, 427)  # ComfyUI enlarges previews of 48x40 to its largest side
SECOND = 10  # pictures in one, at most; a run's last one may be one more
QUICKER = {
    "UndegradeRegionAdaptiveSamplerStock": {"tile": 128, "overlap": 64},
    "UndegradeCGMeasurementUpdate": {"iterations": 2},
}
CANCELLED = {  # workflow -> (the node that is stopped, settings, after how many calls)
    "demo_super_resolution_x4": ("UndegradePosteriorSampler", {}, 22),
    "Use AdaDiffSR with its regressor": ("UndegradeRegionAdaptiveSampler", {}, 5),
    "Use AdaDiffSR": ("UndegradeCalibrateRegions", {}, 3),
    "Enlarge a small bad picture": ("UndegradeInversionSampler", {"steps": 5}, 4),
    "Use a checkpoint": ("UndegradePosteriorSampler", {}, 2),
    "Use AdaDiffSR with a checkpoint": ("SamplerCustomAdvanced", {}, 2),
}
CHECKPOINTS = ("Use a checkpoint", "Use AdaDiffSR with a checkpoint")  # slow enough when small


def pictures(run, node):
    """The previews of a node, each told apart by its metadata."""
    mine = [(known, jpeg) for known, jpeg in run.previews if known["node_id"] == node]
    for known, _ in mine:
        assert known["prompt_id"] == run.prompt_id
        assert {"display_node_id", "parent_node_id", "real_node_id"} <= set(known)
    return [Image.open(io.BytesIO(jpeg)) for _, jpeg in mine]


@pytest.fixture(scope="module")
def large(server, photo):
    """A larger picture in the server's input folder."""
    Image.open(photo).resize(LARGE).save(server.base / "input" / "large.png")
    return "large.png"


def test_every_network_call_moves_the_bar_and_every_step_shows_its_picture(server, known, large):
    """Of a run whose steps take longer than ComfyUI and the pack hold anything back."""
    settings = {
        "LoadImage": {"image": large},
        "UndegradeMultiResolutionPrior": {"levels": 1},
        "UndegradePosteriorSampler": {"steps": 4, "ode_steps": 2, "seed": 11},
    }
    prompt = graph("demo_super_resolution_x4", known, settings)
    run, node = server.run(prompt), only(prompt, "UndegradePosteriorSampler")
    assert run.end == "success", run.error
    assert run.progress(node) == [(k, 8) for k in range(1, 9)]
    shown = pictures(run, node)
    for picture in shown:
        assert picture.format == "JPEG" and max(picture.size) == max(SHOWN)
    assert len(shown) == len({picture.tobytes() for picture in shown}) == 4


def test_a_quick_run_sends_no_picture_twice_nor_more_than_ten_a_second(server, known):
    settings = {"UndegradePosteriorSampler": {"steps": 28, "ode_steps": 3, "seed": 12}}
    prompt = graph("demo_super_resolution_x4", known, settings)
    run, node = server.run(prompt), only(prompt, "UndegradePosteriorSampler")
    assert run.end == "success", run.error
    assert run.progress(node)[-1] == (84, 84)
    shown = pictures(run, node)
    assert {picture.size for picture in shown} == {SHOWN}
    assert len({picture.tobytes() for picture in shown}) == len(shown)
    assert 2 <= len(shown) <= SECOND * run.seconds + 1


@pytest.mark.parametrize(
    ("name", "node_type", "settings"),
    [
        ("Use AdaDiffSR with its regressor", "UndegradeRegionAdaptiveSampler", {"steps": 12}),
        ("Use AdaDiffSR", "UndegradeCalibrateRegions", {"steps": 20}),
        ("Enlarge a small bad picture", "UndegradeInversionSampler", {"steps": 5}),
        ("demo_uncertainty_map", "UndegradePosteriorSampler", {"steps": 5, "samples": 3}),
    ],
)
def test_every_sampler_reports(server, known, name, node_type, settings):
    prompt = graph(name, known, {node_type: settings})
    run, node = server.run(prompt), only(prompt, node_type)
    assert run.end == "success", run.error
    values = [value for value, _ in run.progress(node)]
    total = run.progress(node)[-1][1]
    assert values == sorted(values) and values[-1] == total >= settings["steps"] / 2
    shown = pictures(run, node)
    if node_type != "UndegradeCalibrateRegions":  # it makes no picture
        assert 1 <= len(shown) <= SECOND * run.seconds + 1
        assert {picture.size for picture in shown} == {SHOWN}


@pytest.mark.parametrize("name", CANCELLED)
def test_cancel_stops_within_one_network_call(server, known, large, name, request, record_property):
    node_type, settings, after = CANCELLED[name]
    settings = {node_type: settings, **QUICKER}
    if name in CHECKPOINTS:
        request.getfixturevalue("weights")
    else:
        settings["LoadImage"] = {"image": large}
    prompt = graph(name, known, settings)
    node, times, cancelled = only(prompt, node_type), [], []

    def cancel(kind, data, _):
        state = data["nodes"].get(node, {}) if kind == "progress_state" else {}
        if state.get("state") == "running" and state["max"] > 1:
            times.append((state["value"], time.monotonic()))
            if state["value"] >= after and not cancelled:
                cancelled.extend((state["value"], time.monotonic()))
                server.fetch("/interrupt", {})
        if kind == "execution_interrupted":
            cancelled.append(time.monotonic())

    run = server.run(prompt, cancel)
    assert run.end == "interrupted" and run.of("execution_interrupted")[0]["node_id"] == node
    value, at, ended = cancelled
    assert max(v for v, _ in times) <= value + 1
    slowest = max(b - a for (_, a), (_, b) in pairwise(times))
    record_property(f"{name}: seconds from Cancel to the end", f"{ended - at:.2f}")
    record_property(f"{name}: seconds of the slowest call before", f"{slowest:.2f}")
    assert ended - at < 2 * slowest + 0.5
    again = server.run(graph("demo_super_resolution_x4", known, {"UndegradePosteriorSampler": {
        "steps": 2, "seed": int(1e6 * ended) % 2**32}}))  # fmt: skip
    assert again.end == "success", again.error
