"""What the server tells a frontend about the pack: nodes, help, templates, scripts, languages."""

import json
import re

import pytest
from comfyui.checkout import PACK

from undegrade import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from undegrade.headless.folders import Folders
from undegrade.headless.stock import stock_classes

EXTENSION = "/extensions/undegrade"
WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))


@pytest.fixture(scope="module")
def object_info(server):
    return server.get("/object_info")


def test_the_commands_own_nodes_hand_on_what_comfyuis_do(object_info, tmp_path):
    """One later ComfyUI's may hand on more than an earlier's, and in the same places."""
    for name, cls in stock_classes(Folders.around(WORKFLOWS[0], tmp_path)).items():
        theirs = object_info[name]["output"]
        assert list(cls.RETURN_TYPES)[: len(theirs)] == theirs, name


def test_nothing_failed_to_import(server):
    said = server.log.read_text().split("Starting server")[0]
    assert "IMPORT FAILED" not in said and "Traceback" not in said
    assert re.search(r"\d\.\d seconds: .*custom_nodes/undegrade", said)


def test_every_node_is_listed(object_info):
    ours = {name for name, known in object_info.items() if "undegrade" in known["python_module"]}
    assert ours - {"ImageCompare"} == set(NODE_CLASS_MAPPINGS)
    assert "ImageCompare" in object_info  # core's, or the pack's where core has none


@pytest.mark.parametrize("node_id", list(NODE_CLASS_MAPPINGS))
def test_a_node_explains_itself(object_info, node_id):
    listed, cls = object_info[node_id], NODE_CLASS_MAPPINGS[node_id]
    assert listed["display_name"] == NODE_DISPLAY_NAME_MAPPINGS[node_id]
    assert listed["description"] == cls.DESCRIPTION
    assert listed["category"] == cls.CATEGORY and listed["category"].startswith("Undegrade/")
    assert listed["output_tooltips"] == list(cls.OUTPUT_TOOLTIPS)
    assert listed["output_name"] == list(cls.RETURN_NAMES)
    assert len(listed["output_tooltips"]) == len(listed["output"])
    declared = cls.INPUT_TYPES()
    for group in ("required", "optional"):
        names = list(declared.get(group, {}))
        assert list(listed["input"].get(group, {})) == listed["input_order"].get(group, []) == names
        for name in names:
            settings = listed["input"][group][name][1]
            assert settings["tooltip"] == declared[group][name][1]["tooltip"] != ""


@pytest.mark.parametrize("node_id", list(NODE_CLASS_MAPPINGS))
def test_its_help_page_and_pictures_are_served(server, node_id):
    page = server.fetch(f"{EXTENSION}/docs/{node_id}.md")
    assert page == (PACK / "web" / "docs" / f"{node_id}.md").read_bytes()
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.decode()):
        assert len(server.fetch(f"{EXTENSION}/docs/{picture}")) > 500


def test_templates_are_listed(server):
    listed = server.get("/workflow_templates")["undegrade"]
    assert sorted(listed) == sorted(path.stem for path in WORKFLOWS)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_template_and_its_thumbnail_are_served(server, path):
    address = f"/api/workflow_templates/undegrade/{path.stem}"
    assert json.loads(server.fetch(f"{address}.json")) == json.loads(path.read_text())
    assert server.fetch(f"{address}.jpg") == path.with_suffix(".jpg").read_bytes()


def test_scripts_are_listed_and_served(server):
    scripts = {f"{EXTENSION}/{path.name}" for path in (PACK / "web").glob("*.js")}
    assert scripts and scripts <= set(server.get("/extensions"))
    for address in scripts:
        assert server.fetch(address) == (PACK / "web" / address.split("/")[-1]).read_bytes()


def test_translations_are_served(server):
    languages = sorted(path.parent.name for path in (PACK / "locales").glob("*/nodeDefs.json"))
    served = server.get("/i18n")
    assert {"en", "zh"} <= set(languages)
    for language in languages:
        definitions = json.loads((PACK / "locales" / language / "nodeDefs.json").read_text())
        assert served[language]["nodeDefs"].items() >= definitions.items()
        assert set(NODE_CLASS_MAPPINGS) <= set(definitions)
