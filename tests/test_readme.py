"""The README names what there is: nodes, workflows, pictures, files and sections."""

import re
from pathlib import Path

from undegrade import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
WORKFLOWS = {path.stem for path in (ROOT / "workflows").glob("*.json")}


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a section's tables, without their heads and rules."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    lines = [line for table in tables for line in table.splitlines()[2:]]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_links_and_pictures_lead_somewhere():
    headings = {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-")
                for h in re.findall(r"^#+ (.+)$", README, re.M)}
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert len(targets) > 10
    for target in targets:
        assert target[1:] in headings if target[0] == "#" else (ROOT / target).is_file(), target


def test_every_node_is_listed_once():
    listed = [name for _, names in rows(section("Nodes")) for name in names.split(", ")]
    assert sorted(listed) == sorted(NODE_DISPLAY_NAME_MAPPINGS.values())
    assert len(listed) == len(NODE_CLASS_MAPPINGS)


def test_every_workflow_is_recommended_for_something():
    named = set(re.findall(r"`(\w+)`", section("Which node for which damage")))
    assert named == WORKFLOWS


def test_recommended_nodes_exist():
    titles = set(NODE_DISPLAY_NAME_MAPPINGS.values()) | {"any mask", "the measurement updates"}
    found = 0
    for cells in rows(section("Which node for which damage")):
        for name in re.split(r", | or ", cells[1]):
            assert name in titles, name
            found += 1
    assert found > 25


def test_pictures_are_light():
    used = set(re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README))
    assert sum((ROOT / target).stat().st_size for target in used) <= 1_500_000
