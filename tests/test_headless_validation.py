"""Every problem of a workflow is found before anything runs, and said in one sentence."""

import pytest

from undegrade.headless.folders import Folders
from undegrade.headless.load import document
from undegrade.headless.signature import Catalog, accepts
from undegrade.headless.stock import stock_classes, stock_titles
from undegrade.headless.validation import validate


class Restore:
    """A node of the pack, with one widget of each kind."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"image": ("IMAGE,MASK",), "seed": ("INT", {"min": 0, "max": 2**64 - 1}),
                         "strength": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0}),
                         "mode": (["fast", "good"],)},
            "optional": {"text": ("STRING", {}), "tile": ("BOOLEAN", {}),
                         "choice": ("COMBO", {"options": ["a", "b"]}), "any": ("*",),
                         "level": ([1, 2, 4],)}}


class Even:
    """A node that checks one of its inputs itself."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"size": ("INT", {"max": 10}), "other": ("INT", {"max": 10})}}

    @classmethod
    def VALIDATE_INPUTS(cls, size):
        if size == 6:
            raise KeyError("six")
        return size is None or size % 2 == 0 or f"size is {size}; it must be even."


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path / "out", (tmp_path,))


@pytest.fixture
def catalog(folders):
    classes = {**stock_classes(folders), "Restore": Restore, "Even": Even}
    return Catalog(classes, stock_titles() | {"Restore": "Restore Picture"})


def api(**more):
    inputs = {"image": ["1", 0], "seed": 1, "strength": 0.5, "mode": "fast"} | more
    inputs = {name: value for name, value in inputs.items() if value is not ...}
    return {"1": {"class_type": "EmptyImage", "inputs": {
                "width": 8, "height": 8, "batch_size": 1, "color": 0}},
            "2": {"class_type": "Restore", "inputs": inputs},
            "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}}


def problems_of(raw, catalog):
    return validate(document(raw, catalog).graph(), catalog)


def test_a_good_workflow_has_no_problems(catalog):
    assert problems_of(api(), catalog) == []
    assert problems_of(api(text="x", tile=True, choice="b", any={"a": 1}), catalog) == []


@pytest.mark.parametrize(("change", "sentence"), [
    ({"image": ...}, "input 'image' is not connected; it needs a link of type IMAGE,MASK"),
    ({"image": 3}, "input 'image' takes a link of type IMAGE,MASK, not the value 3"),
    ({"image": ["9", 0]}, "input 'image' is linked to node 9, which the workflow does not contain"),
    ({"image": ["1", 4]},
     "input 'image' is linked to output 4 of node 1 (EmptyImage), which has 1 output"),
    ({"image": ["1", 0, 0]}, "input 'image' holds ['1', 0, 0]; a link is [node id, output number]"),
    ({"text": ["1", 0]},
     "input 'text' expects STRING but is linked to output 0 of node 1 (EmptyImage), "
     "which gives IMAGE"),
    ({"mode": ["1", 0]},
     "input 'mode' expects one of a list but is linked to output 0 of node 1 (EmptyImage), "
     "which gives IMAGE"),
    ({"seed": ...}, "input 'seed' is missing"),
    ({"seed": -1}, "input 'seed' is -1; it must be at least 0"),
    ({"seed": 1.5}, "input 'seed' takes a whole number, not 1.5"),
    ({"seed": True}, "input 'seed' takes a whole number, not True"),
    ({"seed": "many"}, "input 'seed' takes a whole number, not 'many'"),
    ({"strength": 1.01}, "input 'strength' is 1.01; it must be at most 1.0"),
    ({"strength": float("nan")}, "input 'strength' takes a finite number, not nan"),
    ({"strength": None}, "input 'strength' takes a finite number, not None"),
    ({"mode": "best"}, "input 'mode' is 'best', which is not one of 'fast', 'good'"),
    ({"choice": "c"}, "input 'choice' is 'c', which is not one of 'a', 'b'"),
    ({"text": None}, "input 'text' takes text, not None"),
    ({"tile": "false"}, "input 'tile' takes true or false, not 'false'"),
    ({"stepz": 3}, "has no input 'stepz'; it takes image, seed, strength, mode, text, tile, "
                   "choice, any, level"),
])
def test_each_problem_is_one_sentence(catalog, change, sentence):
    assert problems_of(api(**change), catalog) == [f"node 2 (Restore Picture): {sentence}."]


def test_all_problems_are_collected(catalog):
    found = problems_of(api(seed=-1, strength=2, mode="x", image=...), catalog)
    assert len(found) == 4


def test_values_are_brought_to_their_types(catalog):
    graph = document(api(seed=3.0, strength=1, text=5, tile=1, level=4.0), catalog).graph()
    assert validate(graph, catalog) == []
    inputs = graph.nodes["2"].inputs
    values = [inputs[n] for n in ("seed", "strength", "text", "tile", "level")]
    assert values == [3, 1.0, "5", True, 4]
    assert [type(v) for v in values] == [int, float, str, bool, int]


def test_seeds_keep_every_digit(catalog):
    graph = document(api(seed=2**64 - 1), catalog).graph()
    assert validate(graph, catalog) == []
    assert graph.nodes["2"].inputs["seed"] == 2**64 - 1


@pytest.mark.parametrize(("received", "expected", "fits"), [
    ("IMAGE", "IMAGE", True), ("IMAGE", "MASK", False), ("IMAGE", "*", True), ("*", "INT", True),
    ("MASK", "IMAGE,MASK", True), ("IMAGE, MASK", "MASK", True), ("LATENT", "IMAGE,MASK", False),
    ("IMAGEX", "IMAGE", False), (["a"], ["a"], True), (["a"], ["b"], False),
    ("STRING", ["a"], False),
])
def test_socket_types(received, expected, fits):
    assert accepts(received, expected) is fits


def test_unknown_nodes(catalog):
    raw = {"nodes": [
        {"id": 1, "type": "ImageScaleTo", "properties": {"cnr_id": "comfy-core"}},
        {"id": 2, "type": "KSampler", "title": "Sampler", "properties": {"cnr_id": "comfy-core"}},
        {"id": 3, "type": "Foo", "properties": {"cnr_id": "foo-pack"}}], "links": []}
    scale, sampler, foo = problems_of(raw, catalog)
    assert scale.startswith("node 1 (ImageScaleTo): stock node ImageScaleTo is not implemented by "
                            "the undegrade command; open the workflow in ComfyUI, or replace it by "
                            "one of: ImageScale, ")
    assert sampler.startswith("node 2 (Sampler): stock node KSampler is not implemented")
    assert sampler.endswith("or replace it by one that 'undegrade nodes' lists.")
    assert foo.startswith("node 3 (Foo): the node type (of the pack foo-pack) Foo is not")


def test_no_output_node(catalog):
    raw = api()
    del raw["3"]
    assert problems_of(raw, catalog) == [
        "the workflow has no output node that is switched on; add a SaveImage, PreviewImage or "
        "PreviewAny node."]


def test_only_nodes_that_are_needed_must_be_complete(catalog):
    raw = api() | {"8": {"class_type": "Restore", "inputs": {}}}
    assert problems_of(raw, catalog) == []
    raw["3"]["inputs"]["images"] = ["8", 0]
    assert problems_of(raw, catalog) == [  # the others have defaults
        "node 8 (Restore Picture): input 'image' is not connected; it needs a link of type "
        "IMAGE,MASK.", "node 8 (Restore Picture): input 'seed' is missing."]


def test_a_circle_names_its_nodes_in_the_direction_of_the_links(catalog):
    def invert(source):
        return {"class_type": "ImageInvert", "inputs": {"image": [source, 0]}}

    raw = {"1": invert("3"), "2": invert("1"), "3": invert("2"), "4": invert("3"),
           "5": {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}}}
    (found,) = problems_of(raw, catalog)
    path = " -> ".join(f"node {i} (ImageInvert)" for i in (1, 2, 3, 1))
    assert found == f"the links run in a circle: {path}; remove one of them."


def test_a_long_chain_is_no_circle(catalog):
    raw = {str(i): {"class_type": "ImageInvert", "inputs": {"image": [str(i - 1), 0]}}
           for i in range(1, 3000)}
    raw["0"] = api()["1"]
    raw["end"] = {"class_type": "PreviewImage", "inputs": {"images": ["2999", 0]}}
    assert problems_of(raw, catalog) == []


def test_many_ways_to_a_node_cost_no_more_than_one(catalog):
    raw = {str(i): {"class_type": "ImageBatch", "inputs": {
        "image1": [str(i - 1), 0], "image2": [str(i - 1), 0]}} for i in range(1, 60)}
    raw["0"] = api()["1"]
    raw["end"] = {"class_type": "PreviewImage", "inputs": {"images": ["59", 0]}}
    assert problems_of(raw, catalog) == []


def test_group_nodes_are_refused_plainly(catalog):
    found = problems_of({"nodes": [{"id": 1, "type": "workflow>Mine"}], "links": []}, catalog)
    assert found[0].startswith("node 1 (workflow>Mine): is a group node, which the undegrade")


def test_what_hand_written_json_leaves_out_has_its_default(catalog):
    graph = document(api(strength=..., mode=...), catalog).graph()
    assert validate(graph, catalog) == []
    assert graph.nodes["2"].inputs["strength"] == 0.5
    assert graph.nodes["2"].inputs["mode"] == "fast"


def test_a_link_that_the_file_lost(catalog):
    raw = {"nodes": [{"id": 1, "type": "PreviewImage", "inputs": [
        {"name": "images", "type": "IMAGE", "link": 5}]}], "links": []}
    assert problems_of(raw, catalog) == [
        "node 1 (Preview Image): input 'images' follows link 5, which is not in the file's list of "
        "links; open the workflow in ComfyUI and save it again."]


@pytest.mark.parametrize(("size", "other", "sentence"), [
    (4, 4, None), (12, 4, None),  # its own check replaces the limits of 'size'
    (3, 4, "size is 3; it must be even"),
    (6, 4, "its own check of the inputs failed: KeyError: 'six'"),
    (4, 12, "input 'other' is 12; it must be at most 10"),
    ("x", 4, "input 'size' takes a whole number, not 'x'"),
])
def test_validate_inputs(catalog, size, other, sentence):
    raw = {"1": {"class_type": "Even", "inputs": {"size": size, "other": other}},
           "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}
    expected = [f"node 1 (Even): {sentence}."] if sentence else []
    assert problems_of(raw, catalog) == expected


def test_a_picture_that_is_not_there(catalog, tmp_path):
    raw = {"1": {"class_type": "LoadImage", "inputs": {"image": "no.png", "upload": "image"}},
           "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}
    assert problems_of(raw, catalog) == [
        f"node 1 (Load Image): 'no.png' was not found in {tmp_path}; name a picture with --input."]
