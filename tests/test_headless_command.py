"""The undegrade command: what it writes, prints and returns."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from undegrade.headless.cli import Pack, main
from undegrade.headless.console import Lasting


class Host:
    """Stands for nodes/comfyui/host.py."""

    def __init__(self):
        self.sink = None

    def set_progress_sink(self, sink):
        previous, self.sink = self.sink, sink
        return previous


@pytest.fixture
def pack():
    host = Host()

    class Brighten:
        """Adds an amount in steps, reporting progress; refuses more than 0.9; 0.5 is Ctrl-C."""

        RETURN_TYPES = ("IMAGE",)
        FUNCTION = "run"

        @classmethod
        def INPUT_TYPES(cls):
            amount = ("FLOAT", {"default": 0.1, "max": 1})
            return {"required": {"image": ("IMAGE",), "amount": amount, "seed": ("INT", {})}}

        def run(self, image, amount, seed):
            for step in range(3):
                host.sink(None, step + 1, 3)
                if amount == 0.5 and step == 1:
                    raise KeyboardInterrupt
            if amount > 0.9:
                raise ValueError("amount is too large; give at most 0.9")
            return (image + amount,)

    return Pack({"Brighten": Brighten}, {"Brighten": "Brighten Up"}, host)


def workflow():
    return {
        "version": 0.4, "last_node_id": 4, "last_link_id": 3, "groups": [],
        "nodes": [
            {"id": 1, "type": "LoadImage", "mode": 0, "inputs": [],
             "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
             "widgets_values": ["photo.png", "image"]},
            {"id": 2, "type": "Brighten", "mode": 0,
             "inputs": [{"name": "image", "type": "IMAGE", "link": 1}],
             "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [2, 3]}],
             "widgets_values": [0.1, 5, "fixed"]},
            {"id": 3, "type": "SaveImage", "mode": 0,
             "inputs": [{"name": "images", "type": "IMAGE", "link": 2}],
             "widgets_values": ["bright"]},
            {"id": 4, "type": "PreviewAny", "mode": 4, "title": "Size",
             "inputs": [{"name": "source", "type": "*", "link": 3}], "widgets_values": []}],
        "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"], [3, 2, 0, 4, 0, "*"]]}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a workflow and its picture, in which the command is run."""
    monkeypatch.chdir(tmp_path)
    Path("w.json").write_text(json.dumps(workflow()))
    Image.new("RGB", (31, 37), (51, 102, 204)).save("photo.png")
    return tmp_path


def pixel(path):
    with Image.open(path) as picture:
        return picture.getpixel((0, 0))


def test_run_writes_the_picture_and_says_where(place, pack, capsys, monkeypatch):
    monkeypatch.setattr(Lasting, "isatty", lambda _: True)
    assert main(["run", "w.json"], pack) == 0
    out, err = capsys.readouterr()
    assert out == f"Save Image: {Path('output/bright_00001_.png')}\n"
    assert "Brighten Up: 100%" in err and "3/3" in err
    assert pixel("output/bright_00001_.png") == (76, 127, 229)  # 0.1 brighter
    assert main(["run", "w.json", "--output", "o/p", "--quiet"], pack) == 0
    assert capsys.readouterr().err == ""
    assert os.listdir("o/p") == ["bright_00001_.png"]
    assert pack.host.sink is None


def test_a_log_gets_no_bars(place, pack, capsys):
    assert main(["run", "w.json"], pack) == 0
    assert capsys.readouterr().err == ""


def test_the_picture_carries_the_workflow_that_made_it(place, pack):
    Path("other").mkdir()
    Image.new("RGB", (8, 8), (0, 0, 0)).save("other/dark.png")
    arguments = ["--set", "2.amount=0.4", "--set", "2.seed=18446744073709551615", "--quiet"]
    assert main(["run", "w.json", "--input", "other/dark.png", *arguments], pack) == 0
    expected = workflow()
    expected["nodes"][0]["widgets_values"] = ["dark.png", "image"]
    expected["nodes"][1]["widgets_values"] = [0.4, 2**64 - 1, "fixed"]
    with Image.open("output/bright_00001_.png") as picture:
        assert json.loads(picture.text["workflow"]) == expected
        prompt = json.loads(picture.text["prompt"])
    assert prompt["2"]["inputs"] == {"image": ["1", 0], "amount": 0.4, "seed": 2**64 - 1}
    shutil.copy("other/dark.png", "dark.png")
    assert main(["run", "output/bright_00001_.png", "--output", "again", "--quiet"], pack) == 0
    assert pixel("again/bright_00001_.png") == pixel("output/bright_00001_.png") == (102,) * 3


def test_api_format_carries_no_workflow(place, pack):
    prompt = {"1": {"class_type": "EmptyImage", "inputs": {
                  "width": 8, "height": 8, "batch_size": 1, "color": 0}},
              "2": {"class_type": "SaveImage", "inputs": {
                  "images": ["1", 0], "filename_prefix": "%EmptyImage.width%"}}}
    Path("api.json").write_text(json.dumps(prompt))
    assert main(["run", "api.json", "--quiet"], pack) == 0
    with Image.open("output/8_00001_.png") as picture:
        assert set(picture.text) == {"prompt"}


def test_texts_and_previews_are_printed(place, pack, capsys):
    raw = {"1": {"class_type": "PrimitiveString", "inputs": {"value": "28.5 dB"}},
           "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]},
                 "_meta": {"title": "Score"}},
           "3": {"class_type": "SolidMask", "inputs": {"value": 1, "width": 4, "height": 4}},
           "4": {"class_type": "MaskPreview", "inputs": {"mask": ["3", 0]}}}
    Path("t.json").write_text(json.dumps(raw))
    assert main(["run", "t.json"], pack) == 0
    preview = Path("output/preview/ComfyUI_00001_.png")
    assert capsys.readouterr().out == f"Score: 28.5 dB\nMaskPreview: {preview}\n"
    assert preview.is_file()


def test_what_is_wrong_is_said_before_anything_runs(place, pack, capsys):
    arguments = ["--set", "2.amount=7", "--set", "9.x=1", "--input", "nowhere.png"]
    for command in ("run", "check"):
        assert main([command, "w.json", *arguments], pack) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.splitlines() == [
            "--input nowhere.png: there is no file nowhere.png.",
            "--set 9.x=1: there is no node '9'; there are 1 (Load Image), 2 (Brighten Up), "
            "3 (Save Image), 4 (Size).",
            "node 2 (Brighten Up): input 'amount' is 7.0; it must be at most 1."]
    assert main(["run", "w.json", "--input", "."], pack) == 2
    assert capsys.readouterr().err == ("--input .: . is a folder; name a picture in it, or use "
                                       "'undegrade batch' for all of them.\n")
    assert not Path("output").exists()
    assert main(["run", "missing.json"], pack) == 2
    assert "cannot read the workflow missing.json" in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_made(place, pack, capsys):
    assert main(["run", "w.json", "--output", "photo.png"], pack) == 2
    assert capsys.readouterr().err.startswith("--output photo.png: cannot write there: ")


def test_a_node_that_fails(place, pack, capsys):
    assert main(["run", "w.json", "--set", "2.amount=0.95", "--quiet"], pack) == 1
    sentence = "node 2 (Brighten Up) failed: amount is too large; give at most 0.9.\n"
    assert capsys.readouterr().err == sentence
    assert os.listdir("output") == []
    assert pack.host.sink is None
    arguments = ["--set", "2.amount=0.95", "--quiet", "--traceback"]
    assert main(["run", "w.json", *arguments], pack) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and err.endswith(sentence)


def test_stopping(place, pack, capsys):
    assert main(["run", "w.json", "--set", "2.amount=0.5"], pack) == 130
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == "stopped" and "Traceback" not in err
    assert pack.host.sink is None


def test_stopping_while_a_picture_is_written(place, pack, monkeypatch):
    def half(self, stream, **options):
        stream.write(b"\x89PNG")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", half)
    assert main(["run", "w.json", "--quiet"], pack) == 130
    assert os.listdir("output") == []


def test_a_bar_begins_again_when_the_node_does(place, pack, capsys, monkeypatch):
    def twice(self, image, amount, seed):
        for total in (2, 4):
            for step in range(total):
                pack.host.sink("Both passes", step + 1, total)
        return (image,)

    pack.classes["Brighten"].run = twice
    monkeypatch.setattr(Lasting, "isatty", lambda _: True)
    assert main(["run", "w.json"], pack) == 0
    err = capsys.readouterr().err
    assert "Both passes: 100%" in err and "4/4" in err


def test_check_and_nodes(place, pack, capsys):
    assert main(["check", "w.json"], pack) == 0
    assert capsys.readouterr().out == "w.json: 3 nodes, nothing wrong.\n"
    assert not Path("output").exists()
    assert main(["nodes"], pack) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["Brighten"] == "Brighten Up" and lines["ImageScale"] == "Upscale Image"


@pytest.mark.parametrize(("arguments", "status"), [
    (["--help"], 0), (["run", "--help"], 0), ([], 2), (["walk"], 2), (["run"], 2)])
def test_command_line(arguments, status, capsys):
    assert main(arguments, SimpleNamespace()) == status
    assert "usage: undegrade" in "".join(capsys.readouterr())
