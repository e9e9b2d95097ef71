"""Every shipped workflow in ComfyUI's real frontend: it opens well and comes out as it went in."""

import json
from itertools import combinations

import pytest
from browser.conftest import FOLDER, WORKFLOWS
from comfyui.graphs import catalog, graph

LEGIBLE = 0.7  # below 0.6 the canvas draws no text
KEPT = ("type", "pos", "size", "mode", "title", "widgets_values", "color", "bgcolor")


@pytest.fixture(scope="module")
def object_info(server):
    """Every node of the server, as it describes them."""
    return server.get("/object_info")


@pytest.fixture(scope="module", params=WORKFLOWS, ids=lambda path: path.stem)
def opened(request, canvas):
    """One workflow on the canvas: (its name, the file, the canvas)."""
    name, workflow = request.param.stem, json.loads(request.param.read_text())
    canvas.problems.clear()
    canvas.load(workflow, name)
    canvas.shoot(name)
    yield name, workflow, canvas
    canvas.page.keyboard.press("Escape")  # a dialog, if there is one


def test_nothing_is_missing_and_nobody_complains(opened):
    _, workflow, canvas = opened
    nodes = canvas.shown()["nodes"]
    assert set(nodes) == {str(node["id"]) for node in workflow["nodes"]}
    assert [node for node in nodes.values() if node["red"] or not node["known"]] == []
    assert canvas.complaints() == [] and canvas.problems == []


def test_the_first_view_shows_all_of_it_in_legible_letters(opened):
    shown = opened[2].shown()
    assert shown["scale"] >= LEGIBLE
    assert outside_the_page(shown) == []


def test_nodes_and_groups_stand_clear_of_each_other(opened):
    shown = opened[2].shown()
    assert overlaps(shown) == [] and outside(shown) == []
    apart = combinations(shown["groups"].items(), 2)
    assert [(one[0], two[0]) for one, two in apart if cross(one[1], two[1])] == []


def test_run_sends_what_the_command_runs(opened, object_info):
    name, _, canvas = opened
    sent, ours = canvas.saved()["output"], graph(name, catalog(object_info), {})
    assert set(sent) == set(ours)
    for node_id, node in sent.items():
        assert node["class_type"] == ours[node_id]["class_type"]
        assert node["_meta"]["title"] == ours[node_id]["_meta"]["title"]
        inputs = object_info[node["class_type"]]["input"]
        declared = {known for group in inputs.values() for known in group}
        extra = set(node["inputs"]) - declared  # the frontend's own, which the server ignores
        assert not extra or node["class_type"] == "PreviewAny"
        assert {k: v for k, v in node["inputs"].items() if k in declared} == ours[node_id]["inputs"]


def test_save_writes_what_was_opened(opened):
    _, workflow, canvas = opened
    saved = canvas.saved()["workflow"]
    assert [link[1:] for link in sorted(saved["links"])] == \
        [link[1:] for link in sorted(workflow["links"])]  # fmt: skip
    assert [(g["title"], g["bounding"], g["color"]) for g in saved["groups"]] == \
        [(g["title"], g["bounding"], g["color"]) for g in workflow["groups"]]  # fmt: skip
    again = {int(node["id"]): node for node in saved["nodes"]}
    assert set(again) == {node["id"] for node in workflow["nodes"]}
    for node in workflow["nodes"]:
        kept = again[node["id"]]
        assert {k: kept.get(k) or None for k in KEPT} == {k: node.get(k) or None for k in KEPT}
        assert plugs(kept)[:len(plugs(node))] == plugs(node)
        assert not any(plug[2] for plug in plugs(kept)[len(plugs(node)):])  # what newer core adds
        for name, value in node["properties"].items():
            assert kept["properties"][name] == value


def test_weights_that_are_missing_are_offered(server, open_canvas):
    missing = server.base / "models" / "checkpoints" / "sd_turbo.safetensors"
    missing.unlink()
    try:
        canvas = open_canvas()
        name = "Use InvSR in one step"
        canvas.load(json.loads((FOLDER / f"{name}.json").read_text()), name)
        canvas.page.wait_for_timeout(1500)
        assert missing.name in "".join(canvas.complaints())
        if (details := canvas.page.get_by_role("button", name="View details")).count():
            details.click()
        canvas.page.get_by_role("button", name="Download").first.wait_for()
        canvas.shoot("missing_weights")
    finally:
        missing.touch()


def plugs(node: dict) -> list[tuple]:
    """The linked inputs and the outputs of a node."""
    linked = [(i["name"], i["type"], i["link"]) for i in node["inputs"] if i["link"]]
    return linked + [(o["name"], o["type"], sorted(o["links"] or [])) for o in node["outputs"]]


def outside_the_page(shown: dict) -> list[str]:
    """What sticks out of what the user sees; the canvas may lie under bars of 40 pixels."""
    boxes = {node["title"]: node["box"] for node in shown["nodes"].values()} | shown["groups"]
    return [title for title, box in boxes.items() for s in (0, 1)
            if (box[s] + shown["offset"][s]) * shown["scale"] <= 40
            or (box[s] + box[s + 2] + shown["offset"][s]) * shown["scale"] >= shown["seen"][s]]


def cross(one: list[float], two: list[float]) -> bool:
    return all(max(one[s], two[s]) < min(one[s] + one[s + 2], two[s] + two[s + 2]) for s in (0, 1))


def overlaps(shown: dict) -> list[tuple[str, str]]:
    """Pairs of nodes that hide a part of each other."""
    pairs = combinations(shown["nodes"].values(), 2)
    return [(a["title"], b["title"]) for a, b in pairs if cross(a["box"], b["box"])]


def outside(shown: dict) -> list[str]:
    """Nodes that stick out of a group, or belong to none; a note stands alone."""
    def within(box: list[float], group: list[float]) -> bool:
        return all(group[s] <= box[s] and box[s] + box[s + 2] <= group[s] + group[s + 2]
                   for s in (0, 1))  # fmt: skip

    return [node["title"] for node in shown["nodes"].values() if node["type"] != "MarkdownNote"
            and not any(within(node["box"], group) for group in shown["groups"].values())]
