"""Subgraphs become the nodes inside of them, linked as the frontend links what it sends."""

import copy

import pytest

from undegrade.headless.folders import Folders
from undegrade.headless.graph import Link, WorkflowError
from undegrade.headless.load import document
from undegrade.headless.settings import apply_settings
from undegrade.headless.signature import Catalog
from undegrade.headless.stock import stock_classes, stock_titles


@pytest.fixture
def catalog(tmp_path):
    return Catalog(stock_classes(Folders(tmp_path)), stock_titles())


def slot(name, kind="IMAGE", link=None):
    return {"name": name, "type": kind, "link": link}


def link(key, source, place, target, at):
    return {"id": key, "origin_id": source, "origin_slot": place, "target_id": target,
            "target_slot": at, "type": "IMAGE"}


def workflow(mode=0):
    """Load -> [Invert -> [Scale]] -> Save, a subgraph in a subgraph; numbers are used twice."""
    inner = {"id": "inner", "name": "Inner", "inputs": [slot("unused"), slot("picture")],
             "outputs": [slot("out")],
             "nodes": [{"id": 1, "type": "MarkdownNote"},
                       {"id": 2, "type": "ImageScaleBy", "inputs": [slot("image", link=1)],
                        "widgets_values": ["bicubic", 2.0]}],
             "links": [link(1, -10, 1, 2, 0), link(2, 2, 0, -20, 0)]}
    outer = {"id": "outer", "name": "Outer", "inputs": [slot("image")], "outputs": [slot("out")],
             "nodes": [{"id": 2, "type": "ImageInvert", "inputs": [slot("image", link=1)]},
                       {"id": 3, "type": "inner", "inputs": [slot("picture", link=2)],
                        "outputs": [slot("out")]}],
             "links": [link(1, -10, 0, 2, 0), link(2, 2, 0, 3, 0), link(3, 3, 0, -20, 0)]}
    return {"nodes": [
        {"id": 1, "type": "LoadImage", "widgets_values": ["a.png", "image"]},
        {"id": 2, "type": "outer", "mode": mode, "inputs": [slot("image", link=1)],
         "outputs": [slot("out")]},
        {"id": 3, "type": "SaveImage", "inputs": [slot("images", link=2)],
         "widgets_values": ["x"]}],
        "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]],
        "definitions": {"subgraphs": [outer, inner]}}


def test_links_lead_in_and_out(catalog):
    nodes = document(workflow(), catalog).graph().nodes
    assert list(nodes) == ["1", "2:2", "2:3:2", "3"]
    assert nodes["3"].inputs["images"] == Link("2:3:2", 0)
    assert nodes["2:3:2"].inputs == {
        "image": Link("2:2", 0), "upscale_method": "bicubic", "scale_by": 2.0}
    assert nodes["2:2"].inputs == {"image": Link("1", 0)}


@pytest.mark.parametrize(("mode", "images"), [(2, None), (4, Link("1", 0))])
def test_a_muted_and_a_bypassed_one(catalog, mode, images):
    nodes = document(workflow(mode), catalog).graph().nodes
    assert list(nodes) == ["1", "3"] and nodes["3"].inputs.get("images") == images


def test_a_value_is_set_inside(catalog):
    raw = workflow()
    it = document(raw, catalog)
    assert apply_settings(it, ["2:3:2.scale_by=3"]) == []
    assert it.graph().nodes["2:3:2"].inputs["scale_by"] == 3
    assert raw["definitions"]["subgraphs"][1]["nodes"][1]["widgets_values"] == ["bicubic", 3]


def test_a_value_that_the_one_node_shows(catalog):
    """As frontend 1.49 saves it: the host holds it, and what stands inside does not count."""
    raw = workflow()
    inner = raw["definitions"]["subgraphs"][1]
    inner["inputs"][0] = {"name": "factor", "type": "FLOAT"}
    inner["links"].append(link(9, -10, 0, 2, 1))
    inner["nodes"][1]["inputs"].append({**slot("scale_by", "FLOAT", 9), "widget": {}})
    host = raw["definitions"]["subgraphs"][0]["nodes"][1]
    host["inputs"].append({**slot("factor", "FLOAT"), "widget": {"name": "factor"}})
    host["widgets_values"] = [1.5]
    it = document(raw, catalog)
    assert it.graph().nodes["2:3:2"].inputs["scale_by"] == 1.5
    assert apply_settings(it, ["2:3:2.scale_by=4"]) == []
    assert host["widgets_values"] == [4]
    assert it.graph().nodes["2:3:2"].inputs["scale_by"] == 4
    host["widgets_values"] = [None]
    assert document(raw, catalog).graph().nodes["2:3:2"].inputs["scale_by"] == 2.0


def test_nothing_comes_from_an_input_that_is_not_connected(catalog):
    raw = workflow()
    raw["nodes"][1]["inputs"][0]["link"] = None
    assert document(raw, catalog).graph().nodes["2:2"].inputs == {}


def test_what_cannot_be_taken_apart(catalog):
    raw = workflow()
    inner = raw["definitions"]["subgraphs"][1]
    for change, sentence in (({"type": "inner"}, "contains itself"), ({"id": 7}, "more than one")):
        broken = copy.deepcopy(raw)
        inside = broken["definitions"]["subgraphs"][1]
        inside["nodes"] = [{"id": 7, "type": "ImageInvert"}, {**inner["nodes"][1], **change}]
        with pytest.raises(WorkflowError, match=sentence):
            document(broken, catalog)
