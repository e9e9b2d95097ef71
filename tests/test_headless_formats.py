"""Reading workflows: the format ComfyUI saves, the API format, and PNGs that carry either."""

import json

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from undegrade.headless.folders import Folders
from undegrade.headless.graph import Link, WorkflowError
from undegrade.headless.load import document, load
from undegrade.headless.signature import Catalog, Signature
from undegrade.headless.stock import stock_classes, stock_titles
from undegrade.headless.widget_values import lay_out


class Restore:
    """A node with every kind of widget; the optional ones stand between sockets."""

    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"image": ("IMAGE",), "seed": ("INT", {"default": 7}),
                         "steps": ("INT", {"default": 5, "min": 1, "max": 50}),
                         "mode": (["fast", "good"],)},
            "optional": {"mask": ("MASK",), "note": ("STRING", {"forceInput": True}),
                         "strength": ("FLOAT", {"default": 0.5}), "tile": ("BOOLEAN", {})}}


@pytest.fixture
def catalog(tmp_path):
    classes = {**stock_classes(Folders(tmp_path)), "Restore": Restore}
    return Catalog(classes, stock_titles())


def slot(name, kind, link=None, widget=False):
    more = {"widget": {"name": name}} if widget else {}
    return {"name": name, "type": kind, "link": link, **more}


def ui_node(number, kind, inputs=(), outputs=(), values=(), **more):
    return {"id": number, "type": kind, "mode": 0, "inputs": list(inputs),
            "outputs": [{"name": t, "type": t} for t in outputs],
            "widgets_values": list(values), **more}


def ui_workflow():
    """LoadImage -> Reroute -> Restore -> SaveImage; steps by a node, strength by a primitive."""
    return {
        "version": 0.4, "groups": [{"title": "all"}], "extra": {}, "nodes": [
            ui_node(1, "LoadImage", outputs=("IMAGE", "MASK"), values=("photo.png", "image")),
            ui_node(2, "Reroute", [slot("", "*", 10)], ("IMAGE",)),
            ui_node(3, "PrimitiveInt", outputs=("INT",), values=(9, "fixed")),
            ui_node(4, "PrimitiveNode", outputs=("FLOAT",), values=(0.25, "fixed")),
            ui_node(5, "Restore", [
                slot("image", "IMAGE", 11), slot("mask", "MASK"), slot("note", "STRING"),
                slot("steps", "INT", 12, True), slot("strength", "FLOAT", 13, True)],
                ("IMAGE", "MASK"), (3, "randomize", 20, "good", 0.75, True), title="My restorer"),
            ui_node(6, "SaveImage", [slot("images", "IMAGE", 14)], values=("out", "")),
            ui_node(7, "MarkdownNote", values=("# Hello",)),
            ui_node(8, "Note", values=("Hello",)),
        ],
        "links": [[10, 1, 0, 2, 0, "*"], [11, 2, 0, 5, 0, "IMAGE"], [12, 3, 0, 5, 3, "INT"],
                  [13, 4, 0, 5, 4, "FLOAT"], [14, 5, 0, 6, 0, "IMAGE"]]}


API = {
    "1": {"inputs": {"image": "photo.png"}, "class_type": "LoadImage",
          "_meta": {"title": "Load Image"}},
    "3": {"inputs": {"value": 9}, "class_type": "PrimitiveInt", "_meta": {"title": "Int"}},
    "5": {"inputs": {"seed": 3, "steps": ["3", 0], "mode": "good", "strength": 0.25, "tile": True,
                     "image": ["1", 0]},
          "class_type": "Restore", "_meta": {"title": "My restorer"}},
    "6": {"inputs": {"filename_prefix": "out", "images": ["5", 0]}, "class_type": "SaveImage",
          "_meta": {"title": "Save Image"}},
}


def test_both_formats_make_the_same_plan(catalog):
    from_ui = document(ui_workflow(), catalog).graph()
    from_api = document(API, catalog).graph()
    assert from_ui.prompt() == API == from_api.prompt()
    assert from_ui.nodes["5"].inputs["steps"] == Link("3", 0)
    assert not from_ui.nodes["5"].faults


@pytest.mark.parametrize("mode", [2, 4])
def test_a_muted_or_bypassed_primitive_still_gives_its_value(catalog, mode):
    """The frontend writes it into the widgets that it feeds, whatever its mode."""
    raw = ui_workflow()
    next(n for n in raw["nodes"] if n["type"] == "PrimitiveNode")["mode"] = mode
    assert document(raw, catalog).graph().nodes["5"].inputs["strength"] == 0.25


def test_links_may_be_objects_and_the_request_body_is_read(catalog):
    raw = ui_workflow()
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    raw["links"] = [dict(zip(keys, link, strict=True)) for link in raw["links"]] + [None]
    assert document(raw, catalog).graph().prompt() == API
    assert document({"prompt": API, "client_id": "x"}, catalog).graph().prompt() == API


def test_muted_nodes_vanish_with_the_inputs_they_feed(catalog):
    raw = ui_workflow()
    raw["nodes"][2]["mode"] = 2
    graph = document(raw, catalog).graph()
    assert "3" not in graph.nodes
    assert "steps" not in graph.nodes["5"].inputs
    assert graph.nodes["5"].inputs["seed"] == 3


def test_a_bypassed_node_hands_on_what_fits(catalog):
    raw = ui_workflow()
    raw["nodes"][4]["mode"] = 4
    graph = document(raw, catalog).graph()
    assert graph.nodes["6"].inputs["images"] == Link("1", 0)  # through Restore and Reroute
    assert "5" not in graph.nodes


@pytest.mark.parametrize(("out", "kind", "inputs", "expected"), [
    (0, "IMAGE", [("MASK", 1), ("IMAGE", 2)], Link("2", 0)),  # the type decides, not the place
    (1, "MASK", [("IMAGE", 1), ("MASK", 2)], Link("2", 0)),  # the same place
    (1, "MASK", [("MASK", 1), ("MASK", 2)], Link("2", 0)),  # the same place before the first
    (0, "IMAGE", [("INT", 1), ("IMAGE,MASK", 2), ("IMAGE", 3)], Link("3", 0)),  # the exact type
    (0, "IMAGE", [("INT", 1), ("IMAGE,MASK", 2)], Link("2", 0)),  # else one that may be connected
    (0, "IMAGE", [("MASK", 1), ("INT", 2)], None),  # nothing fits
    (0, "*", [("MASK", 1), ("IMAGE", 2)], Link("1", 0)),  # any type: by place
])
def test_bypass_rules(catalog, out, kind, inputs, expected):
    nodes = [ui_node(i, "EmptyImage") for i in (1, 2, 3)] + [
        ui_node(4, "Unknown", [slot(f"i{n}", t, n) for t, n in inputs], ("IMAGE", "MASK"), mode=4),
        ui_node(5, "Reroute", [slot("", "*", 9)]),
        ui_node(6, "PreviewAny", [slot("source", kind, 10)]),
        ui_node(7, "PreviewAny", [slot("source", kind, 9)])]
    links = [[i, i, 0, 4, 0, ""] for i in (1, 2, 3)] + [[9, 4, out, 5, 0, ""], [10, 5, 0, 6, 0, ""]]
    graph = document({"nodes": nodes, "links": links}, catalog).graph()
    assert graph.nodes["7"].inputs.get("source") == expected
    assert graph.nodes["6"].inputs.get("source") == expected  # a Reroute asks for what its end does


def test_circle_of_reroutes_is_a_fault_not_a_hang(catalog):
    nodes = [ui_node(1, "Reroute", [slot("", "*", 1)]), ui_node(2, "Reroute", [slot("", "*", 2)]),
             ui_node(3, "PreviewAny", [slot("source", "*", 3)])]
    links = [[1, 2, 0, 1, 0, "*"], [2, 1, 0, 2, 0, "*"], [3, 1, 0, 3, 0, "*"]]
    node = document({"nodes": nodes, "links": links}, catalog).graph().nodes["3"]
    assert "circle" in node.faults["source"]


def names(signature, values):
    return {name: value for name, value in lay_out(signature, values) if name}


def test_widget_values_in_order():
    signature = Signature(Restore)
    assert list(signature.widgets) == ["seed", "steps", "mode", "strength", "tile"]
    full = names(signature, [1, "increment", 2, "good", 0.1, True])
    assert full == {"seed": 1, "steps": 2, "mode": "good", "strength": 0.1, "tile": True}
    assert names(signature, [1, "fixed", 2]) == {
        "seed": 1, "steps": 2, "mode": "fast", "strength": 0.5, "tile": False}
    assert names(signature, []) == {
        "seed": 7, "steps": 5, "mode": "fast", "strength": 0.5, "tile": False}


@pytest.mark.parametrize(("values", "text"), [
    ([1, 20, "good"], "has 20 among its widget values where the control of 'seed'"),
    ([1, "fixed", 2, "good", 0.1, True, "more"], "has 7 widget values, more than"),
])
def test_widget_values_of_another_version(values, text):
    with pytest.raises(WorkflowError, match=text):
        lay_out(Signature(Restore), values)


def test_upload_word_stands_behind_the_required_widgets(catalog):
    assert names(catalog["LoadImage"], ["a.png", "image"]) == {"image": "a.png"}
    assert names(catalog["LoadImage"], ["a.png"]) == {"image": "a.png"}
    expected = {"image": "a.png", "channel": "red"}
    assert names(catalog["LoadImageMask"], ["a.png", "red", "image"]) == expected

    class Loader(Restore):
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"file": ([], {"image_upload": True}), "word": ("STRING", {})},
                    "optional": {"more": ("STRING", {"default": "x"})}}

    expected = {"file": "a.png", "word": "image", "more": "x"}
    assert names(Signature(Loader), ["a.png", "image"]) == expected
    assert names(Signature(Loader), ["a.png", "image", "image", "y"]) == expected | {"more": "y"}


def test_widget_values_by_name(catalog):
    raw = {"nodes": [ui_node(1, "Restore") | {"widgets_values": {"steps": 4, "mode": "good"}}],
           "links": []}
    inputs = document(raw, catalog).graph().nodes["1"].inputs
    assert (inputs["steps"], inputs["mode"], inputs["seed"]) == (4, "good", 7)


def test_wrapped_lists_in_api_format(catalog):
    raw = {"1": {"class_type": "PreviewAny", "inputs": {"source": {"__value__": ["1", 0]}}}}
    graph = document(raw, catalog).graph()
    assert graph.nodes["1"].inputs["source"] == ["1", 0]
    assert graph.prompt()["1"]["inputs"] == raw["1"]["inputs"]


def test_files(catalog, tmp_path):
    path = tmp_path / "w.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(API).encode())
    assert load(path, catalog).graph().prompt() == API
    chunks = PngInfo()
    chunks.add_text("workflow", json.dumps(ui_workflow()))
    Image.new("RGB", (3, 2)).save(tmp_path / "p.png", pnginfo=chunks)
    assert load(tmp_path / "p.png", catalog).graph().prompt() == API
    chunks = PngInfo()
    chunks.add(b"tEXt", b"prompt\0" + json.dumps(API).encode(), after_idat=True)
    Image.new("RGB", (3, 2)).save(tmp_path / "p.png", pnginfo=chunks)
    assert load(tmp_path / "p.png", catalog).graph().prompt() == API


@pytest.mark.parametrize(("content", "text"), [
    (b'{"nodes": [\n  {"id": 1,]}', r"not valid JSON: .* at line 2, column \d+"),
    (b"", "not valid JSON: .* at line 1, column 1"),
    (b"\xff\xfe\x00", "not a text file in UTF-8"),
    (b"[1, 2]", "holds no workflow"),
    (b'{"a": 1}', "holds no workflow"),
    (b'{"1": {"class_type": "A"}, "2": {}}', "node 2: expected {class_type, inputs}"),
    (b'{"nodes": [{"type": "A"}]}', "expected a node with id and type"),
    (b'{"nodes": [{"id": 1, "type": "A", "inputs": [3]}]}', "node 1 .A.: 'inputs' is .3., which"),
    (b'{"nodes": [{"id": 1, "type": "A"}, {"id": 1, "type": "B"}]}', "id 1 is given to more"),
    (b'{"nodes": [], "links": [[1, 2]]}', "cannot read the link"),
    (b"[" * 100_000, "nested too deeply|not valid JSON"),
])
def test_unreadable_files(catalog, tmp_path, content, text):
    path = tmp_path / "w.json"
    path.write_bytes(content)
    with pytest.raises(WorkflowError, match=text):
        load(path, catalog)


def test_files_that_are_not_there_or_carry_nothing(catalog, tmp_path):
    with pytest.raises(WorkflowError, match=r"cannot read the workflow .*missing\.json"):
        load(tmp_path / "missing.json", catalog)
    Image.new("RGB", (3, 2)).save(tmp_path / "p.png")
    with pytest.raises(WorkflowError, match="carries no workflow"):
        load(tmp_path / "p.png", catalog)
    (tmp_path / "half.png").write_bytes((tmp_path / "p.png").read_bytes()[:40])
    with pytest.raises(WorkflowError, match="cannot read the picture"):
        load(tmp_path / "half.png", catalog)
