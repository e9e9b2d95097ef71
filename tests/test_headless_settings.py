"""--set and --input: values from the command line, written into the document."""

from pathlib import Path

import pytest

from undegrade.headless.cli import main
from undegrade.headless.folders import Folders
from undegrade.headless.load import document
from undegrade.headless.settings import apply_inputs, apply_settings
from undegrade.headless.signature import Catalog
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
                         "choice": ("COMBO", {"options": ["a", "b"]}), "any": ("*",)}}


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path / "out", (tmp_path,))


@pytest.fixture
def catalog(folders):
    classes = {**stock_classes(folders), "Restore": Restore}
    return Catalog(classes, stock_titles() | {"Restore": "Restore Picture"})


def api(**more):
    inputs = {"image": ["1", 0], "seed": 1, "strength": 0.5, "mode": "fast"} | more
    inputs = {name: value for name, value in inputs.items() if value is not ...}
    return {"1": {"class_type": "EmptyImage", "inputs": {
                "width": 8, "height": 8, "batch_size": 1, "color": 0}},
            "2": {"class_type": "Restore", "inputs": inputs},
            "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}}


def ui(title=None):
    return {"nodes": [
        {"id": 1, "type": "Restore", "inputs": [
            {"name": "strength", "type": "FLOAT", "link": 1, "widget": {"name": "strength"}}],
         "widgets_values": [5, "fixed", 0.5], **({"title": title} if title else {})},
        {"id": 2, "type": "PrimitiveNode", "title": "how strong", "widgets_values": [0.5, "fixed"]},
        {"id": 3, "type": "LoadImage", "widgets_values": ["old.png", "image"]}],
        "links": [[1, 2, 0, 1, 0, "FLOAT"]]}


@pytest.mark.parametrize(
    "setting", ["1.seed=9", "Restore.seed=9", "v1.2 test.seed=9", "1.seed=0x9"])
def test_set_by_id_title_or_type(catalog, setting):
    raw = ui("v1.2 test")
    doc = document(raw, catalog)
    assert apply_settings(doc, [setting]) == []
    assert doc.graph().nodes["1"].inputs["seed"] == 9
    assert raw["nodes"][0]["widgets_values"][:3] == [9, "fixed", 0.5]  # what the PNG will carry


def test_set_reaches_values_the_file_left_out_and_primitives(catalog):
    raw = ui()
    doc = document(raw, catalog)
    assert apply_settings(doc, ["1.tile=true", "how strong.value=0.75", "1.text=a=b.c"]) == []
    inputs = doc.graph().nodes["1"].inputs
    assert (inputs["tile"], inputs["strength"], inputs["text"]) == (True, 0.75, "a=b.c")
    assert raw["nodes"][1]["widgets_values"] == [0.75, "fixed"]
    assert raw["nodes"][0]["widgets_values"] == [5, "fixed", 0.5, "fast", "a=b.c", True, "a"]


def test_set_in_api_format(catalog):
    doc = document(api(), catalog)
    assert apply_settings(doc, ["2.mode=good", "2.strength=1", "2.seed=18446744073709551615"]) == []
    inputs = doc.graph().nodes["2"].inputs
    assert (inputs["mode"], inputs["strength"], inputs["seed"]) == ("good", 1.0, 2**64 - 1)


@pytest.mark.parametrize(("setting", "sentence"), [
    ("1.seed", "--set 1.seed: expected NODE.WIDGET=VALUE, such as 12.seed=3."),
    ("seed=3", "--set seed=3: expected NODE.WIDGET=VALUE, such as 12.seed=3."),
    ("9.seed=3", "--set 9.seed=3: there is no node '9'; there are 1 (Restore Picture), "
                 "2 (how strong), 3 (Load Image)."),
    ("1.sed=3", "--set 1.sed=3: node 1 (Restore Picture) has no widget 'sed'; it has seed, "
                "strength, mode, text, tile, choice."),
    ("1.strength=1", "--set 1.strength=1: 'strength' of node 1 (Restore Picture) is linked to node "
                     "2; set it there."),
])
def test_settings_that_fit_nothing(catalog, setting, sentence):
    assert apply_settings(document(ui(), catalog), [setting]) == [sentence]


def test_an_ambiguous_title(catalog):
    raw = ui("how strong")
    (found,) = apply_settings(document(raw, catalog), ["how strong.value=1"])
    assert found == ("--set how strong.value=1: 'how strong' names 1 (how strong), 2 (how strong); "
                     "name one of them by its id.")


def test_a_set_value_of_the_wrong_type_is_found_by_validation(catalog):
    doc = document(api(), catalog)
    assert apply_settings(doc, ["2.seed=many"]) == []
    (found,) = validate(doc.graph(), catalog)
    assert found.endswith("input 'seed' takes a whole number, not 'many'.")


def test_input_replaces_the_single_picture(catalog, folders, tmp_path):
    picture = tmp_path / "elsewhere" / "new.png"
    picture.parent.mkdir()
    picture.touch()
    raw = ui()
    raw["nodes"].append({"id": 4, "type": "LoadImage", "mode": 2})  # muted: not meant
    doc = document(raw, catalog)
    assert apply_inputs(doc, folders, [str(picture)]) == []
    assert raw["nodes"][2]["widgets_values"] == ["new.png", "image"]  # no path of this machine
    assert folders.find("new.png") == picture


def test_input_of_several(catalog, folders, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "p.png").write_text(name)
    raw = {str(i): {"class_type": "LoadImage", "inputs": {"image": "x"}} for i in (1, 2)}
    doc = document(raw, catalog)
    file = tmp_path / "a" / "p.png"
    (found,) = apply_inputs(doc, folders, [str(file)])
    assert found == (f"--input {file}: the workflow loads more than one picture, 1 (Load Image), "
                     f"2 (Load Image); say which, as in --input 1={file}.")
    assert apply_inputs(doc, folders, [f"1={file}", f"2={tmp_path / 'b' / 'p.png'}"]) == []
    names = [raw[i]["inputs"]["image"] for i in ("1", "2")]
    assert [folders.find(name).read_text() for name in names] == ["a", "b"]


def test_inputs_that_fit_nothing(catalog, folders, tmp_path):
    doc = document(api(), catalog)
    picture = tmp_path / "p.png"
    picture.touch()
    found = apply_inputs(doc, folders, [str(picture), f"2={picture}", "2=nowhere.png"])
    assert "has no LoadImage or LoadImageMask node" in found[0]
    assert "node 2 (Restore Picture) loads no picture; it is of type Restore" in found[1]
    assert "there is no file nowhere.png" in found[2]


def test_what_is_said_of_a_jobs_settings_names_widgets_as_set_takes_them(tmp_path, capsys):
    from PIL import Image

    Image.new("RGB", (40, 40), "grey").save(tmp_path / "a.png")
    assert main(["denoise", str(tmp_path / "a.png"), "--set", "UndegradeDenoise.strenght=1"]) == 2
    assert "it has strength, noise_level, passes" in capsys.readouterr().err
    assert main(["denoise", str(tmp_path)]) == 2
    assert "is a folder; name a picture in it" in capsys.readouterr().err


def test_a_workflow_of_the_packs_own_is_named_from_anywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check", "Denoise a photo"]) == 0  # with the picture beside it
    assert "nothing wrong" in capsys.readouterr().out
    for command in ("run", "check", "batch"):
        assert main([command, "Denoise a photo", "--input", "nix.png"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    Path("w.json").write_text('{"1": {"class_type": "LoadImage", "inputs": {"image": "no.png"}}, '
                              '"2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}}')
    assert main(["run", "w.json", "--input", "nix.png"]) == 2
    assert capsys.readouterr().err == "--input nix.png: there is no file nix.png.\n"
    assert main(["check", "elsewhere/Denoise a photo.json"]) == 2  # not what was meant
    assert "cannot read the workflow elsewhere" in capsys.readouterr().err
    (tmp_path / "Denoise a photo").write_text("{}")  # a file of that name comes first
    assert main(["check", "Denoise a photo"]) == 2
    assert "holds no workflow" in capsys.readouterr().err


def test_what_is_given_twice_is_refused_and_not_replaced(catalog, folders, tmp_path):
    doc = document(api(), catalog)
    twice = ["2.strength=0.2", "2.seed=3", "Restore.strength=0.4", "2.strength=0.2"]
    same = "--set 2.strength=0.2 sets the same widget; leave one out."
    assert apply_settings(doc, twice) == [f"--set Restore.strength=0.4: {same}",
                                          f"--set 2.strength=0.2: {same}"]
    doc = document({"1": {"class_type": "LoadImage", "inputs": {"image": "x"}}}, catalog)
    for name in "ab":
        (tmp_path / name).touch()
    (found,) = apply_inputs(doc, folders, [str(tmp_path / "a"), f"1={tmp_path / 'b'}"])
    assert found.startswith(f"--input 1={tmp_path / 'b'}: --input {tmp_path / 'a'} is for the same")


def test_each_option_takes_one_value_and_check_all_that_run_takes(capsys):
    for command in ("check", "batch", "denoise"):
        assert main([command, "x", "--output", "a", "--output", "b"]) == 2
        assert "--output: given twice, a and b; leave one out" in capsys.readouterr().err
    several = ["--set", "UndegradeDenoise.passes=1", "--set", "UndegradeDenoise.passes=2"]
    assert main(["check", "Denoise a photo", *several]) == 0
    assert main(["check", "Denoise a photo", *several, "--set", "UndegradeDenoise.passes=0"]) == 2
    assert "input 'passes' is 0" in capsys.readouterr().err
    assert main(["batch", "Denoise a photo", "--input", "x.png", *several]) == 2
    assert "sets the same widget" in capsys.readouterr().err
