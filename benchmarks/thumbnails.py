"""Draws the thumbnails of the workflows: the graph in ComfyUI's own frontend after a run, and under
it the picture before and after. The frontend lays a badge over the upper left corner of a card.

Run: python benchmarks/thumbnails.py http://127.0.0.1:8188 ["Denoise a photo" ...], with a running
ComfyUI that has the pack, `pip install playwright`, and Debian's chromium.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import urllib.parse
import urllib.request
import uuid
from typing import Any

import numpy as np
import pack
from help_graphs import READY, SETTINGS
from photos import photo
from PIL import Image, ImageDraw, ImageFilter

SIZE, TALLEST = 1000, 560  # the width of a thumbnail, and the height of the graph in it
VIEW = {"width": 1700, "height": 1200}
FIT = """async ([workflow, file, settings]) => {
  await app.loadGraphData(workflow, true, true, 'thumbnail');
  for (const node of app.graph.nodes) {
    for (const widget of node.widgets ?? []) {
      if (node.type === 'LoadImage' && widget.name === 'image') {
        widget.value = file;
        widget.callback?.(file);
      }
      const set = settings[`${node.type}.${widget.name}`];
      if (set !== undefined) widget.value = set;
    }
  }
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const boxes = [...app.graph.nodes.map((n) => [...n.getBounding()]),
                 ...app.graph.groups.map((g) => [...g.pos, ...g.size])];
  const left = Math.min(...boxes.map((b) => b[0])), top = Math.min(...boxes.map((b) => b[1]));
  const right = Math.max(...boxes.map((b) => b[0] + b[2]));
  const bottom = Math.max(...boxes.map((b) => b[1] + b[3]));
  Object.assign(app.canvas.ds, { scale: 0.8, offset: [100 - left, 140 - top] });
  app.canvas.setDirty(true, true);
  const corner = app.canvas.canvas.getBoundingClientRect();
  return { x: corner.x + 68, y: corner.y + 100, width: 0.8 * (right - left) + 24,
           height: 0.8 * (bottom - top) + 24 };
}"""
QUEUE = """async () => {
  const { output, workflow } = await app.graphToPrompt();
  const answer = await app.api.queuePrompt(0, { output, workflow });
  return answer.prompt_id;
}"""


def spoilt(name: str) -> Image.Image:
    """A photograph as people have them: small, noisy, blurred, a JPEG, scratched."""
    x = ((photo("astronaut")[0].permute(1, 2, 0).numpy() + 1) * 127.5)
    picture = Image.fromarray(x.round().astype(np.uint8))
    random = np.random.default_rng(0)
    if name == "noisy":
        noise = random.normal(0, 18, x.shape)
        return Image.fromarray((x + noise).clip(0, 255).round().astype(np.uint8))
    if name == "blurred":
        line = ImageFilter.Kernel((5, 5), _line(5), 5)  # which leaves two pixels of rim alone
        return picture.filter(line).filter(line).crop((8, 8, 248, 248))
    if name in ("jpeg", "small jpeg"):
        small = picture.resize((128, 128), Image.Resampling.LANCZOS)
        return _saved(picture if name == "jpeg" else small, 30)
    if name == "known blur":  # as the workflow's Motion Blur draws it
        from undegrade import NODE_CLASS_MAPPINGS

        made = NODE_CLASS_MAPPINGS["UndegradeMotionBlur"]
        options = {k: spec[1]["default"] for k, spec in made.INPUT_TYPES()["required"].items()
                   if "default" in spec[1]}
        options |= {"path": "straight", "length": 11.0, "angle": 30.0, "border": "replicate"}
        operator, *_ = getattr(made(), made.FUNCTION)(**options)
        blurred = operator(photo("astronaut"))[0].permute(1, 2, 0).numpy()
        noise = np.random.default_rng(0).normal(0, 0.01, blurred.shape)
        return Image.fromarray(((blurred + noise + 1) * 127.5).clip(0, 255).astype(np.uint8))
    if name == "example":
        return Image.open(pack.ROOT / "workflows" / "input" / "example.png").convert("RGB")
    if name == "scratched":
        draw = ImageDraw.Draw(picture)
        for x, to, width in ((40, 52, 1), (118, 96, 2), (205, 214, 1)):
            draw.line([(x, 0), ((x + to) // 2 + 4, 120), (to, 256)], (236, 232, 224), width)
        for x, y in np.random.default_rng(1).integers(4, 250, (24, 2)):
            draw.ellipse([int(x), int(y), int(x) + 2, int(y) + 2], fill=(240, 238, 230))
        return picture
    if name == "small":
        return picture.resize((128, 128), Image.Resampling.LANCZOS)
    return picture


def _line(side: int) -> list[float]:
    return [1.0 if row == column else 0.0 for row in range(side) for column in range(side)]


def _saved(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


WORKFLOWS: dict[str, tuple[str, dict[str, Any]]] = {  # name -> the picture, and what is set
    "Enlarge a small bad picture": ("small jpeg", {}),
    "Sharpen with a known kernel": ("known blur", {}),
    "Use a checkpoint": ("", {}),  # which this machine has not: the graph alone
    "Use a diffusers folder": ("", {}),
    "Use AdaDiffSR": ("small", {}),
    "Use AdaDiffSR with its regressor": ("small", {}),
    "Use tiles on a large photo": ("small", {}),
    "View what was made up": ("small", {}),
    "demo_uncertainty_map": ("example", {}),
    "demo_measure_prior_error": ("example", {}),
    "Denoise a photo": ("noisy", {}),
    "Sharpen a blurred photo": ("blurred", {}),
    "Enlarge a photo": ("small", {}),
    "Enlarge a web picture": ("small jpeg", {}),
    "Repair a JPEG": ("jpeg", {}),
    "Remove an object": ("example", {}),
    "Restore an old photo": ("scratched", {}),
}


def upload(url: str, name: str, picture: Image.Image) -> str:
    """Give the server a picture; returns its name there."""
    stream, mark = io.BytesIO(), uuid.uuid4().hex
    picture.save(stream, "PNG")
    head = (f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="{name}.png"\r\n'
            "Content-Type: image/png\r\n\r\n")
    tail = (f'\r\n--{mark}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n'
            f"--{mark}--\r\n")
    data = head.encode() + stream.getvalue() + tail.encode()
    request = urllib.request.Request(f"{url}/upload/image", data, {
        "Content-Type": f"multipart/form-data; boundary={mark}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())["name"]


def get(url: str) -> bytes:
    """An answer of the server."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


def draw(url: str, page: Any, name: str) -> None:
    """Run a workflow on its picture and write its thumbnail."""
    kind, settings = WORKFLOWS[name]
    before = spoilt(kind or "example")
    path = pack.workflow(name)
    file = upload(url, f"thumbnail {kind}".replace(" ", "_"), before) if kind else "example.png"
    clip = page.evaluate(FIT, [json.loads(path.read_text()), file, settings])
    if not kind:
        page.wait_for_timeout(2500)
        graph = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
        graph.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)
        graph.save(path.with_suffix(".jpg"), quality=82)
        return
    prompt = page.evaluate(QUEUE)
    while prompt not in (told := json.loads(get(f"{url}/history/{prompt}"))):
        page.wait_for_timeout(1000)
    done = told[prompt]
    assert done["status"]["status_str"] == "success", done["status"]
    saved = [image for made in done["outputs"].values() for image in made.get("images", [])
             if image["type"] == "output"]
    query = urllib.parse.urlencode({k: saved[0][k] for k in ("filename", "subfolder", "type")})
    after = Image.open(io.BytesIO(get(f"{url}/view?{query}"))).convert("RGB")
    page.wait_for_timeout(2500)
    graph = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    compose(graph, before, after).save(path.with_suffix(".jpg"), quality=82)
    print(path.with_suffix(".jpg").name, flush=True)


def compose(graph: Image.Image, before: Image.Image, after: Image.Image) -> Image.Image:
    """The graph above; the halves of before and after, large, below."""
    scale, half = min(SIZE / graph.width, TALLEST / graph.height), SIZE // 2
    size = round(graph.width * scale), round(graph.height * scale)
    graph = graph.resize(size, Image.Resampling.LANCZOS)
    sheet = Image.new("RGB", (SIZE, graph.height + half), "#222")
    sheet.paste(graph, ((SIZE - graph.width) // 2, 0))
    for place, picture in enumerate((before, after)):
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.crop((left, top, left + side, top + side))
        way = Image.Resampling.NEAREST if place == 0 and side < half else Image.Resampling.LANCZOS
        sheet.paste(square.resize((half - 2, half), way), (place * (half + 2), graph.height))
    return sheet


def main() -> None:
    """Draw the named thumbnails, or all."""
    from playwright.sync_api import sync_playwright  # pyright: ignore[reportMissingImports]

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("url")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"),
                                             args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport=VIEW)
        for name, value in SETTINGS.items():
            context.request.post(f"{options.url}/settings/{name}", data=json.dumps(value))
        page = context.new_page()
        page.goto(options.url)
        page.wait_for_function(READY, timeout=120_000)
        page.wait_for_timeout(2000)
        for name in options.names or list(WORKFLOWS):
            draw(options.url, page, name)
        browser.close()


if __name__ == "__main__":
    main()
