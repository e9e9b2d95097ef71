"""Workflows run from the Run button: previews while they run, pictures and words that stay."""

import json
import re

import pytest
from browser.conftest import FOLDER
from browser.test_opening import outside, overlaps

SMALL = {
    "demo_motion_deblur": {"UndegradePosteriorSampler.steps": 6},
    "demo_daps_and_subdaps": {"UndegradePosteriorSampler.steps": 6,
                         "UndegradeLangevinMeasurementUpdate.iterations": 3},
    "Enlarge a small bad picture": {"UndegradeInversionSampler.steps": 3},
    "Use AdaDiffSR": {"UndegradeRegionAdaptiveSampler.steps": 10,
                      "UndegradeCalibrateRegions.steps": 10,
                      "UndegradeInversionSampler.steps": 3},
    "demo_uncertainty_map": {"UndegradePosteriorSampler.steps": 6,
                        "UndegradePosteriorSampler.samples": 2},
}  # fmt: skip
SAMPLERS = ("UndegradePosteriorSampler", "UndegradeInversionSampler",
            "UndegradeRegionAdaptiveSampler")  # fmt: skip
WORDS = {  # by node type
    "UndegradeScoreRestoration": r"PSNR \d+\.\d+ dB, SSIM [\d.]+",
    "UndegradeMatchColors": r"\d",
    "UndegradeInversionSampler": r"\d",
    "UndegradeMeasurementConsistency": r"\d",
}
SET = """(settings) => {
    for (const [place, value] of Object.entries(settings)) {
        const [type, name] = place.split(".");
        for (const node of app.graph.nodes.filter((one) => one.type === type))
            node.widgets.find((widget) => widget.name === name).value = value;
    }
}"""
SEED = """(seed) => { for (const node of app.graph.nodes)
    for (const widget of node.widgets ?? []) if (widget.name === "seed") widget.value = seed; }"""
WATCH = """() => {
    const api = window.comfyAPI.api.api;
    const watched = window.watched = { previews: {}, blobs: {}, end: null };
    api.addEventListener("b_preview_with_metadata", ({ detail }) =>
        watched.blobs[detail.nodeId] = (watched.blobs[detail.nodeId] ?? 0) + 1);
    for (const end of ["success", "error", "interrupted"])
        api.addEventListener("execution_" + end, ({ detail }) =>
            watched.end = detail.exception_message ?? end);
    setInterval(() => {
        const drawn = (id, source) => (watched.previews[id] ??= {})[source] = true;
        for (const node of app.graph.nodes)
            for (const image of node.imgs ?? [])
                if (image.src.startsWith("blob:") && image.naturalWidth) drawn(node.id, image.src);
        for (const image of document.querySelectorAll("[data-node-id] img[src^='blob:']"))
            if (image.naturalWidth)
                drawn(image.closest("[data-node-id]").dataset.nodeId, image.src);
    }, 20);
}"""
LASTING = """() => Object.fromEntries(app.graph.nodes.map((node) => [node.id, {
    type: node.type, title: node.title,
    images: [...(node.imgs ?? []), ...document.querySelectorAll(`[data-node-id="${node.id}"] img`)]
        .filter((image) => image.naturalWidth && image.src.includes("/view?")).length,
    words: node.widgets?.find((widget) => widget.name === "result")?.value,
    widgets: node.widgets?.map((widget) => widget.name) ?? [] }]))"""


CORES = "[data-testid=image-compare-viewport]"
LOADED = """(box) => [...box.querySelectorAll("img")].every((image) => image.naturalWidth > 0)"""


def click_run(canvas, name: str, tag: str) -> dict:
    """Open a workflow, press Run, wait for its end; returns what was seen while it ran."""
    workflow = json.loads(next(FOLDER.rglob(f"{name}.json")).read_text())
    canvas.problems.clear()
    canvas.load(workflow, name)
    canvas.run(SET, SMALL[name])
    canvas.run(SEED, len(tag))  # else the server has the results at hand
    canvas.run(WATCH)
    canvas.page.get_by_role("button", name="Run", exact=True).first.click()
    canvas.page.wait_for_function("() => watched.end || Object.keys(watched.previews).length",
                                  timeout=300_000)  # fmt: skip
    canvas.shoot(f"{name}{tag}_running")
    canvas.page.wait_for_function("() => watched.end", timeout=300_000)
    canvas.page.wait_for_timeout(2000)
    canvas.shoot(f"{name}{tag}_done")
    return canvas.run("() => watched")


@pytest.fixture(scope="module", params=[*SMALL, "demo_motion_deblur html"])
def done(request, open_canvas):
    """A workflow that has run: (the canvas, what was seen). html: nodes as HTML, "Nodes 2.0"."""
    name, html = request.param.removesuffix(" html"), request.param.endswith(" html")
    canvas = open_canvas(**{"Comfy.VueNodes.Enabled": html})
    canvas.html = html
    if html and int(canvas.version.split(".")[1]) < 30:
        pytest.skip(f"HTML nodes are an experiment in frontend {canvas.version}")
    yield canvas, click_run(canvas, name, "_html" if html else "")
    canvas.close()


def test_it_succeeds_and_nobody_complains(done):
    canvas, watched = done
    assert watched["end"] == "success"
    assert canvas.problems == []
    assert not [text for text in canvas.complaints() if "error" in text.lower()]


def test_every_sampler_shows_its_picture_while_it_works(done):
    canvas, watched = done
    nodes = canvas.shown()["nodes"]
    samplers = {node_id for node_id, node in nodes.items() if node["type"] in SAMPLERS}
    assert samplers
    for node_id in samplers:
        assert watched["blobs"].get(node_id, 0) >= 2
        assert watched["previews"].get(node_id)  # a fast run is over before the second is drawn


def test_results_stay_on_their_nodes(done):
    for node in done[0].run(LASTING).values():
        if node["type"] in ("SaveImage", "PreviewImage"):
            assert node["images"], node
        if node["type"] in WORDS:
            assert re.search(WORDS[node["type"]], node["words"] or ""), node


def test_pictures_and_words_have_room(done):
    if done[0].html:
        pytest.skip("HTML nodes are taller than those that the workflows were laid out with")
    shown = done[0].shown()
    assert overlaps(shown) == [] and outside(shown) == []
    for node in done[0].run(LASTING).values():  # a preview takes all the room below it
        previews = [name for name in node["widgets"] if name.startswith("$$")]
        assert node["widgets"][len(node["widgets"]) - len(previews):] == previews


def test_a_slider_lies_between_before_and_after(done):
    canvas = done[0]
    compare = canvas.page.locator(CORES if canvas.html else ".undegrade-compare").first
    compare.wait_for()
    assert compare.locator("img").count() == 2
    assert compare.evaluate(LOADED)
    box = compare.bounding_box()
    canvas.page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    clip = compare.locator("img").nth(1).evaluate("(image) => image.style.clipPath")
    assert re.search(r"inset\(0(px)? 7[3-7]", clip), clip


def test_words_are_neither_saved_nor_sent(done):
    saved = done[0].saved()
    assert "PSNR" not in json.dumps(saved)
    assert all("result" not in node["inputs"] for node in saved["output"].values())
