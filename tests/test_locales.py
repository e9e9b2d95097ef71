"""What ComfyUI's frontend shows in other languages: complete, true to the nodes, safe to compile.

The English is written by this file: `UPDATE_LOCALES=1 python -m pytest tests/test_locales.py`.
"""

import json
import os
import re
from pathlib import Path

import pytest
from node_calls import inputs_of

from undegrade import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

LOCALES = Path(__file__).resolve().parent.parent / "locales"
LANGUAGES = sorted(folder.name for folder in LOCALES.iterdir())
SAME_IN_CHINESE = {"VAE", "Latent", "Sigmas", "PSNR", "SSIM", "LPIPS", "Undegrade"}
SPECIAL = r"[{}@|$]"  # vue-i18n reads these as its own in what it compiles
ESCAPED = r"\{'([{}@|$])'\}"
every_node = pytest.mark.parametrize("node_id", list(NODE_CLASS_MAPPINGS))
every_language = pytest.mark.parametrize("language", LANGUAGES)


def escaped(text: str) -> str:
    return re.sub(SPECIAL, lambda match: "{'" + match[0] + "'}", text)


def english() -> dict:
    """What the node classes say, in the frontend's layout.

    The frontend compiles titles, descriptions and names. It compiles tooltips in its old versions
    and shows them as they are in its new ones, so these must hold nothing that is special.
    """
    return {
        node_id: {
            "display_name": escaped(NODE_DISPLAY_NAME_MAPPINGS[node_id]),
            "description": escaped(cls.DESCRIPTION),
            "inputs": {
                name: {"name": name, "tooltip": settings["tooltip"]}
                for name, (_, settings) in inputs_of(node_id).items()
            },
            "outputs": {
                str(index): {"name": name, "tooltip": tooltip}
                for index, (name, tooltip) in enumerate(
                    zip(cls.RETURN_NAMES, cls.OUTPUT_TOOLTIPS, strict=True)
                )
            },
        }
        for node_id, cls in NODE_CLASS_MAPPINGS.items()
    }


def read(language: str, file: str = "nodeDefs") -> dict:
    return json.loads((LOCALES / language / f"{file}.json").read_text(encoding="utf-8"))


def leaves(tree: dict, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """Path of keys -> text."""
    found = {}
    for key, value in tree.items():
        path = (*above, key)
        found.update(leaves(value, path) if isinstance(value, dict) else {path: value})
    return found


def pairs(node_id: str) -> list[tuple[str, str]]:
    """Every English text of a node that is a sentence, with its Chinese."""
    ours, theirs = leaves(english()[node_id]), leaves(read("zh")[node_id])
    return [(text, theirs[path]) for path, text in ours.items() if path[-1] != "name"]


def numbers(text: str) -> list[str]:
    return sorted(re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", text))


def mentioned(names: list[str], text: str) -> list[str]:
    """Which of the names stand in the text, a longer one hiding the shorter ones inside it."""
    found = []
    for name in sorted(names, key=len, reverse=True):
        text, count = re.subn(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "", text)
        found += [name] if count else []
    return found


def test_english_is_what_the_nodes_say():
    if os.environ.get("UPDATE_LOCALES"):
        text = json.dumps(english(), ensure_ascii=False, indent=2) + "\n"
        (LOCALES / "en" / "nodeDefs.json").write_text(text, encoding="utf-8")
    assert read("en") == english()


@every_language
def test_nothing_is_missing(language):
    assert leaves(read(language)).keys() == leaves(english()).keys()
    parts = {part for cls in NODE_CLASS_MAPPINGS.values() for part in cls.CATEGORY.split("/")}
    assert read(language, "main").keys() == {"nodeCategories"}
    assert read(language, "main")["nodeCategories"].keys() == parts
    files = {path.name for path in (LOCALES / language).iterdir()}
    assert files == {"main.json", "nodeDefs.json"}


@every_language
def test_the_frontend_can_compile_every_text(language):
    for path, text in leaves(read(language)).items():
        assert text == text.strip() and text, path
        compiled = path[-1] in ("display_name", "description")
        assert not re.search(SPECIAL, re.sub(ESCAPED, "", text) if compiled else text), path
    for path in leaves(read(language)):
        assert not any("." in key for key in path), "a dot divides the frontend's keys"


def test_chinese_is_chinese():
    for file in ("main", "nodeDefs"):
        for path, text in leaves(read("zh", file)).items():
            assert re.search(r"[\u4e00-\u9fff]", text) or text in SAME_IN_CHINESE, path
            assert not re.search(r"[\u4e00-\u9fff] ?[,;:?!.](?:\s|$)", text), f"western: {text}"


def test_titles_and_names_are_told_apart():
    for language in LANGUAGES:
        nodes = read(language)
        titles = [node["display_name"] for node in nodes.values()]
        assert len(set(titles)) == len(titles)
        for node_id, node in nodes.items():
            labels = [entry["name"] for entry in node["inputs"].values()]
            assert len(set(labels)) == len(labels), node_id


@every_node
def test_chinese_keeps_numbers_files_and_choices(node_id):
    choices = {choice for kind, _ in inputs_of(node_id).values() if isinstance(kind, list)
               for choice in kind}
    for english_text, chinese in pairs(node_id):
        assert numbers(english_text) == numbers(chinese), chinese
        for name in re.findall(r"models/\w+|\w+\.(?:pth|ckpt)\b", english_text):
            assert name in chinese, name
        for choice in choices:
            assert english_text.count(f"'{choice}'") == chinese.count(f"'{choice}'"), choice


@every_node
def test_chinese_names_nodes_and_widgets_as_the_user_sees_them(node_id):
    nodes = read("zh")
    titles = {title: nodes[other]["display_name"]
              for other, title in NODE_DISPLAY_NAME_MAPPINGS.items()
              if other in nodes and other != node_id and title != "JPEG"}  # a word too
    labels = {name: entry["name"] for name, entry in nodes[node_id]["inputs"].items()}
    plain = [name for name in inputs_of(node_id) if "_" in name]
    for english_text, chinese in pairs(node_id):
        for title in mentioned(list(titles), english_text):
            assert titles[title] in chinese, title
        for name in mentioned(plain, english_text):
            assert labels[name] in chinese, name


def test_widgets_have_labels_of_one_kind():
    """The same name means the same word, unless it is another thing there."""
    words: dict[str, set[str]] = {}
    for node in read("zh").values():
        for name, entry in node["inputs"].items():
            words.setdefault(name, set()).add(entry["name"])
    several = {name for name, labels in words.items() if len(labels) > 1}
    assert several == {"gain", "sample", "samples", "scale"}
