"""README and `docs/` name what there is: nodes, workflows, pictures, files and sections."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from undegrade import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
NODES = (ROOT / "docs" / "nodes.md").read_text(encoding="utf-8")
WORKFLOWS = {path.stem for path in (ROOT / "workflows").rglob("*.json")}


def section(title: str) -> str:
    return NODES.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a section's tables, without their heads and rules."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table(text)]


def table(text: str) -> list[str]:
    """The lines of a section's tables, without their heads and rules."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    return [line for found in tables for line in found.splitlines()[2:]]


def headings(page: Path) -> set[str]:
    """The anchors of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", t).strip().lower().replace(" ", "-") for t in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_pictures_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)]+)\)", page.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        there = (page.parent / unquote(file)).resolve() if file else page
        assert there.is_file(), target
        assert not anchor or anchor in headings(there), target


def test_the_readme_is_short_and_leads_to_every_page():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= set(re.findall(r"\((docs/\w+\.md)", text))


def test_every_node_is_listed_once():
    listed = [name for _, names in rows(section("Nodes")) for name in names.split(", ")]
    assert sorted(listed) == sorted(NODE_DISPLAY_NAME_MAPPINGS.values())
    assert len(listed) == len(NODE_CLASS_MAPPINGS)


def test_every_workflow_is_recommended_for_something():
    lines = table(section("Which node for which damage"))
    named = set(re.findall(r"`([\w -]+)`", "\n".join(lines)))
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
    for page in PAGES:
        used = set(re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")))
        assert sum((page.parent / unquote(target)).stat().st_size for target in used) <= 1_500_000
