"""ComfyUI's canvas in a headless Chromium, as a user has it before him."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SIZE = {"width": 1600, "height": 1000}
SETTINGS = {  # what a first start would show on top of the graph
    "Comfy.TutorialCompleted": True,
    "Comfy.Notification.ShowVersionUpdates": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.VueNodes.Enabled": False,
}
# Said with no pack installed too: files that a fresh user has not, help pages by language, what is
# not the server (it is refused), what a newer frontend asks an older server for, a setting that is
# set before it is known, and that `READY` looks for the graph before it is there.
NOT_OURS = ("user.css", "/api/userdata", "/en.md", "ERR_FAILED", "Error fetching file size",
            "/api/jobs", "[Jobs API]", "Failed to fetch queue", "global_subgraphs",
            "index_logo.json", "(reading 'id')", "missingModelMetadata",
            "graph accessed before initialization")  # fmt: skip
READY = """() => window.app?.extensionManager && window.app.graph && window.app.canvas
    && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 100"""
SHOWN = """() => {
    const places = app.graph.nodes.map((node) => [node.id, {
        type: node.type, title: node.title, box: [...node.getBounding()], red: !!node.has_errors,
        known: node.type in LiteGraph.registered_node_types || !!node.isVirtualNode }]);
    const groups = app.graph.groups.map((group) => [group.title, [...group.pos, ...group.size]]);
    const { scale, offset } = app.canvas.ds;
    return { nodes: Object.fromEntries(places), groups: Object.fromEntries(groups), scale,
             offset: [...offset], seen: [window.innerWidth, window.innerHeight] };
}"""


@contextmanager
def chromium() -> Iterator:
    """A running browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Canvas:
    """A page with the frontend of the server at `url`; `problems` is what its console said.

    shots: the folder where `shoot` puts pictures. settings: of the user, added to `SETTINGS`.
    """

    def __init__(self, browser, url: str, shots: Path, settings: dict | None = None):
        self.url, self.shots, self.problems = url, shots, []
        self.context = browser.new_context(viewport=SIZE)
        self.context.route(
            lambda address: not address.startswith((url, "data:", "blob:", "about:")),
            lambda route: route.abort())
        for name, value in {**SETTINGS, **(settings or {})}.items():
            self.context.request.post(f"{url}/settings/{name}", data=json.dumps(value))
        self.page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.on("pageerror", lambda error: self._note(f"{error.message} {error.stack}"))
        self.page.on("console", self._heard)
        self.open()

    def _heard(self, said) -> None:
        ours = "undegrade" in said.location.get("url", "") or "undegrade" in said.text
        if said.type == "error" or (said.type == "warning" and ours):
            self._note(f"{said.text} {said.location.get('url', '')}")

    def _note(self, text: str) -> None:
        if not any(part in text for part in NOT_OURS):
            self.problems.append(text[:500])

    def open(self) -> None:
        """Load the page, and wait until the frontend has restored what it shows first."""
        self.page.goto(self.url, timeout=120_000)
        self.page.wait_for_function(READY, timeout=120_000)
        self.page.wait_for_timeout(1500)

    def close(self) -> None:
        """Close the page."""
        self.context.close()

    def run(self, code: str, *given):
        """What a JavaScript function returns in the page."""
        return self.page.evaluate(code, *given)

    @property
    def version(self) -> str:
        """Of the frontend."""
        return self.run("() => window.__COMFYUI_FRONTEND_VERSION__")

    def load(self, workflow: dict, name: str) -> None:
        """Open a workflow as a file that is dropped on the canvas, and wait until it is drawn."""
        self.run("([it, name]) => app.loadGraphData(it, true, true, name)", [workflow, name])
        self.page.wait_for_timeout(600)

    def saved(self) -> dict:
        """{"workflow": what Save writes, "output": what Run sends}."""
        return self.run("async () => JSON.parse(JSON.stringify(await app.graphToPrompt()))")

    def complaints(self) -> list[str]:
        """What the frontend tells the user: dialogs, messages, and the list of errors."""
        told = [self.page.get_by_role(role) for role in ("dialog", "alert")]
        told.append(self.page.get_by_test_id("error-overlay"))
        return [text for place in told for text in place.all_inner_texts() if text.strip()]

    def shown(self) -> dict:
        """Where everything is: nodes by id, groups by title, and the view."""
        return self.run(SHOWN)

    def shoot(self, name: str) -> None:
        """Keep a picture of the page."""
        self.page.screenshot(path=self.shots / f"{name}.png")
