"""Draws the example pictures of nodes whose weights are not shipped: the node among its neighbours,
as ComfyUI's canvas shows them, from a workflow of the pack. web/docs/<NodeId>.webp.

Run: python benchmarks/help_graphs.py http://127.0.0.1:8188 [PredictedNoise ...], with a running
ComfyUI that has the pack, `pip install playwright`, and Debian's chromium.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
from typing import Any

import pack
from help_pictures import DOCS, LIMIT
from PIL import Image

WORKFLOWS = {
    "LoadDiffusersPrior": "Use a diffusers folder",
    "PriorFromGuider": "Use a checkpoint",
    "NonlinearBlur": "demo_nonlinear_deblur",
    "RegionAdaptiveSamplerStock": "Use AdaDiffSR with a checkpoint",
    "StableSRModule": "Use StableSR",
    "LoadFeatureInjection": "Use StableSR",
    "PredictedNoise": "Use InvSR in one step",
    "InversionSigmas": "Use InvSR in one step",
}
WIDTH = 720  # pixels, the most of a picture
READY = """() => window.app?.extensionManager && window.app.graph && window.app.canvas
    && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 100"""
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False,
            "Comfy.Graph.CanvasInfo": False, "Comfy.Graph.CanvasMenu": False,
            "Comfy.Locale": "en", "Comfy.Workflow.ShowMissingModelsWarning": False}
NEIGHBOURS = """async ([workflow, type]) => {
  await app.loadGraphData(workflow, true, true, 'help');
  const graph = app.graph;
  let node = graph.nodes.find((n) => n.type === type);
  if (!node) {  // in no workflow: connected to the first node that takes it
    node = LiteGraph.createNode(type);
    graph.add(node);
    const takes = (n) => (n.inputs ?? []).findIndex((i) => i.type === node.outputs[0].type);
    const target = graph.nodes.find((n) => n !== node && takes(n) >= 0);
    node.connect(0, target, takes(target));
  }
  const ends = (links) => links.filter((l) => l != null).map((l) => graph.links[l]);
  const before = new Set(ends(node.inputs.map((i) => i.link)).map((l) => l.origin_id));
  const after = new Set(ends(node.outputs.flatMap((o) => o.links ?? [])).map((l) => l.target_id));
  const columns = [[], [node], []];
  for (const n of [...graph.nodes]) {
    if (n === node) continue;
    if (before.has(n.id)) columns[0].push(n);
    else if (after.has(n.id)) columns[2].push(n);
    else graph.remove(n);
  }
  for (const group of [...(graph.groups ?? [])]) graph.remove(group);
  let x = 0, bottom = 0, gap = 60;
  for (const column of columns) {
    let y = 0;
    for (const n of column) {
      n.title = LiteGraph.registered_node_types[n.type].title;
      const [w, h] = n.computeSize();
      n.setSize([Math.max(w, 265), n.type === 'LoadImage' ? 300 : h]);
      n.pos = [x, y + 30];
      y += n.size[1] + gap;
    }
    bottom = Math.max(bottom, y - gap);
    x += column.length ? Math.max(...column.map((n) => n.size[0])) + gap : 0;
  }
  Object.assign(app.canvas.ds, { scale: 1, offset: [150, 150] });
  app.canvas.deselectAll?.();
  app.canvas.setDirty(true, true);
  const corner = app.canvas.canvas.getBoundingClientRect();
  return { x: corner.x + 130, y: corner.y + 120, width: x - gap + 40, height: bottom + 80 };
}"""


def graphs(url: str, names: list[str]) -> None:
    """One picture per name."""
    from playwright.sync_api import sync_playwright  # pyright: ignore[reportMissingImports]

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"),
                                             args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport={"width": 1600, "height": 1200})
        for name, value in SETTINGS.items():
            context.request.post(f"{url}/settings/{name}", data=json.dumps(value))
        page = context.new_page()
        page.goto(url)
        page.wait_for_function(READY, timeout=120_000)
        page.wait_for_timeout(2000)  # the frontend restores its own last workflow first
        for name in names:
            save(name, page)
        browser.close()


def save(name: str, page: Any) -> None:
    """Screenshot of a node and its neighbours."""
    workflow = json.loads(pack.workflow(WORKFLOWS[name]).read_text())
    clip = page.evaluate(NEIGHBOURS, [workflow, f"Undegrade{name}"])
    page.wait_for_timeout(1000)
    image = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    image.thumbnail((WIDTH, 10_000), Image.Resampling.LANCZOS)
    file = DOCS / f"Undegrade{name}.webp"
    image.save(file, quality=80, method=6)
    print(f"{file.name}: {image.width}x{image.height}, {file.stat().st_size} bytes")
    assert file.stat().st_size <= LIMIT


def main() -> None:
    """Draw the named graphs, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("url")
    parser.add_argument("names", nargs="*", help="node ids without Undegrade")
    options = parser.parse_args()
    graphs(options.url, options.names or list(WORKFLOWS))


if __name__ == "__main__":
    main()
