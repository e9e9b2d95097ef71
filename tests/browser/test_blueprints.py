"""Blueprints in ComfyUI's real frontend: found by name, put on the canvas, run.

ComfyUI before 0.3.67 does not read them from packs.
"""

import json
from urllib.error import HTTPError

import pytest
from browser.conftest import FOLDER

BLUEPRINTS = sorted(path.stem for path in (FOLDER.parent / "subgraphs").glob("*.json"))
HELD = """() => app.graph.nodes.map((node) => ({
    title: node.title, inputs: node.inputs.filter((slot) => !slot.widget).map((slot) => slot.name),
    outputs: node.outputs.map((slot) => slot.name),
    widgets: (node.widgets ?? []).map((widget) => widget.label ?? widget.name) }))"""
AROUND = """() => {
    const [blueprint] = app.graph.nodes;
    const load = LiteGraph.createNode("LoadImage"), save = LiteGraph.createNode("SaveImage");
    app.graph.add(load);
    app.graph.add(save);
    load.widgets.find((widget) => widget.name === "image").value = "example.png";
    load.connect(0, blueprint, 0);
    if (blueprint.inputs[1]?.type === "MASK") load.connect(1, blueprint, 1);
    blueprint.connect(0, save, 0);
}"""


@pytest.fixture(scope="module")
def canvas(server, open_canvas):
    try:
        listed = server.get("/global_subgraphs").values()
    except HTTPError:
        pytest.skip("this ComfyUI reads no blueprints from packs")
    ours = [entry for entry in listed if "undegrade" in entry["info"]["node_pack"]]
    assert sorted(entry["name"] for entry in ours) == BLUEPRINTS
    opened = open_canvas()
    yield opened
    opened.close()


def put(canvas, name):
    """Search for a blueprint as a user does, and put it on an empty canvas."""
    page = canvas.page
    canvas.run("() => { app.graph.clear(); app.canvas.ds.reset(); }")
    page.wait_for_timeout(500)
    page.mouse.dblclick(800, 500)
    page.wait_for_timeout(1200)
    page.keyboard.type(name, delay=20)
    page.wait_for_timeout(1500)
    page.keyboard.press("Enter")
    page.wait_for_timeout(800)
    page.mouse.click(800, 450)
    page.wait_for_timeout(1200)


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_it_is_the_first_hit_for_its_name_and_comes_whole(canvas, name):
    canvas.problems.clear()
    put(canvas, name)
    canvas.shoot(f"blueprint_{name}")
    (node,) = canvas.run(HELD)
    raw = json.loads((FOLDER.parent / "subgraphs" / f"{name}.json").read_text())
    (inside,) = raw["definitions"]["subgraphs"]
    nodes = {str(one["id"]): one for one in inside["nodes"]}
    labels = [next(slot["label"] for slot in nodes[key]["inputs"] if slot["name"] == widget)
              for key, widget in raw["nodes"][0]["properties"]["proxyWidgets"]]
    assert node == {"title": name, "inputs": [slot["name"] for slot in inside["inputs"]],
                    "outputs": ["image"], "widgets": labels}
    assert canvas.problems == []


def test_it_runs(canvas, server):
    put(canvas, "Enlarge Small Bad Picture")
    canvas.run(AROUND)
    run = server.run(canvas.saved()["output"])
    assert run.end == "success", run.error
    assert any(run.shown[key].get("images") for key in run.shown)
