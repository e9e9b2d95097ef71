"""Where users look for help: the page of every node, and the pack's workflows among templates."""

import json

import pytest
from browser.conftest import TEMPLATES
from browser.test_opening import LEGIBLE, outside_the_page
from PIL import Image

from undegrade import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

SELECT = """(type) => {
    app.graph.clear();
    const node = LiteGraph.createNode(type);
    node.pos = [600, 200];
    app.graph.add(node);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [200, 100];
    app.canvas.selectNode(node);
    app.canvas.setDirty(true, true);
}"""
HELP = ".node-help-content"
PICTURES = """(selector) => [...document.querySelectorAll(selector + " img")].every(
    (image) => image.complete && image.naturalWidth > 0)"""
DRAWN = """(title, size) => {  // the picture of the card with this title
    let card = title;
    while (card && !card.querySelector("img")) card = card.parentElement;
    return [...card?.querySelectorAll("img") ?? []].some(
        (image) => image.naturalWidth === size[0] && image.naturalHeight === size[1]);
}"""
COLOURS = """() => [LGraphCanvas.link_type_colors.DIFFUSION_PRIOR,
    app.canvas.default_connection_color_byType.DIFFUSION_PRIOR,
    getComputedStyle(document.documentElement)
        .getPropertyValue("--color-datatype-DIFFUSION_PRIOR").trim()]"""


@pytest.fixture(scope="module")
def reader(open_canvas):
    """A page with help pages open."""
    canvas = open_canvas()
    yield canvas
    canvas.close()


@pytest.mark.parametrize("node_id", list(NODE_CLASS_MAPPINGS))
def test_the_help_page_of_a_node_opens(reader, node_id):
    page, title = reader.page, NODE_DISPLAY_NAME_MAPPINGS[node_id]
    reader.problems.clear()
    reader.run(SELECT, node_id)
    button = page.get_by_test_id("info-button").first
    button.wait_for()
    if page.locator(f"{HELP} h1").all_inner_texts() != [title]:
        button.dispatch_event("click")  # an open page may lie over it
    page.locator(f"{HELP} h1", has_text=title).wait_for()
    assert page.locator(f"{HELP} h1").all_inner_texts() == [title]
    sections = page.locator(f"{HELP} h2").all_inner_texts()
    assert "Outputs" in sections and "Limits" in sections
    assert page.locator(f"{HELP} table").count()
    page.wait_for_function(PICTURES, arg=HELP)
    assert reader.problems == []
    reader.shoot(f"help_{node_id}")


def test_the_templates_are_there_with_their_pictures(open_canvas):
    canvas = open_canvas()
    page = canvas.page
    page.get_by_role("button", name="Templates").first.click()
    shown = page.get_by_role("dialog").first
    shown.get_by_text("undegrade", exact=True).click(timeout=60_000)
    page.wait_for_timeout(2000)
    canvas.shoot("templates")
    search = shown.get_by_placeholder("Search")
    for path in TEMPLATES:
        search.fill(path.stem)
        with Image.open(path.with_suffix(".jpg")) as thumbnail:
            wanted = list(thumbnail.size)
        card = shown.get_by_text(path.stem, exact=True).first
        for _ in range(40):  # cards and pictures come a little later, and come anew
            if card.count() and card.evaluate(DRAWN, wanted):
                break
            page.wait_for_timeout(250)
        else:
            pytest.fail(f"{path.stem} is not there with its picture of {wanted} pixels")
    assert canvas.problems == []


def test_the_templates_are_in_the_order_of_their_names(open_canvas):
    canvas = open_canvas()
    listed = canvas.run("async () => (await app.api.getWorkflowTemplates()).undegrade")
    assert listed == sorted(path.stem for path in TEMPLATES)


@pytest.fixture(scope="module")
def chooser(open_canvas):
    """A page whose workflows all come from the Templates dialog."""
    canvas = open_canvas()
    yield canvas
    canvas.close()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_opens_whole_and_legible(chooser, path):
    page, workflow = chooser.page, json.loads(path.read_text())
    chooser.problems.clear()
    page.get_by_role("button", name="Templates").first.click()
    shown = page.get_by_role("dialog").first
    page.wait_for_timeout(1000)  # it comes in slowly
    shown.get_by_text("undegrade", exact=True).click(timeout=60_000)
    shown.get_by_placeholder("Search").fill(path.stem)
    page.wait_for_timeout(1000)  # the cards move to their places
    shown.get_by_text(path.stem, exact=True).first.click(timeout=60_000)
    page.wait_for_function("(id) => app.graph.id === id", arg=workflow["id"])
    page.wait_for_timeout(700)
    chooser.shoot(f"template_{path.stem}")
    view = chooser.shown()
    assert view["scale"] >= LEGIBLE
    assert outside_the_page(view) == []
    assert chooser.complaints() == [] and chooser.problems == []


def test_sockets_have_the_packs_colours(canvas):
    assert len(set(canvas.run(COLOURS))) == 1
