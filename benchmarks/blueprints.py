#!/usr/bin/env python3
"""Draws ComfyUI's blueprints, `subgraphs/*.json`, from the workflows: all that the saved picture
needs but the loading and saving, as one node with up to three widgets.

Run: python benchmarks/blueprints.py. A test holds that the files are what it writes.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pack

FOLDER = pack.ROOT / "subgraphs"
INSIDE, OUTSIDE, HOST = -10, -20, 1  # node ids
SPACE = 200  # pixels between the nodes and what leads in and out
CATEGORY = "Undegrade"


@dataclass(frozen=True)
class Blueprint:
    """What a workflow becomes.

    widgets: (node type, widget, its kind, what it is called) of up to three.
    mask: the type of the node in place of which there is a mask to connect.
    """

    workflow: str
    description: str
    widgets: tuple[tuple[str, str, str, str], ...] = ()
    mask: str = ""
    more: tuple[str, str, str] = ()  # type: ignore[assignment]  # a node, an optional input, its type


BLUEPRINTS = {
    "Sharpen Blurred Photo": Blueprint(
        "Sharpen a blurred photo", "Finds how a photograph was blurred and undoes it: sharpen, "
        "deblur, unblur, camera shake, out of focus.", (
            ("UndegradeEstimateBlurKernel", "kind", "COMBO", "kind"),
            ("UndegradeEstimateBlurKernel", "kernel_size", "INT", "largest blur"),
            ("UndegradePosteriorSampler", "seed", "INT", "seed"))),
    "Denoise Photo": Blueprint(
        "Denoise a photo", "Measures the noise of a photograph and takes it out: denoise, grain, "
        "night shot, ISO.", (
            ("UndegradeDenoise", "strength", "FLOAT", "strength"),
            ("UndegradeDenoise", "noise_level", "FLOAT", "noise level"),
            ("UndegradeDenoise", "passes", "INT", "passes"))),
    "Remove Object": Blueprint(
        "Remove an object", "Fills in what the mask covers from what is around it: remove, erase, "
        "heal, inpaint.", (
            ("GrowMask", "expand", "INT", "grow the mask"),
            ("UndegradeFillFromSurroundings", "patch", "INT", "patch"),
            ("UndegradeFillFromSurroundings", "seed", "INT", "seed")), "UndegradeBoxMask",
        ("UndegradeFillFromSurroundings", "do_not_copy", "MASK")),
    "Restore Old Photo": Blueprint(
        "Restore an old photo", "Finds scratches, folds and dust and fills them in: old photo, "
        "scratch, repair.", (
            ("UndegradeFindScratches", "kind", "COMBO", "kind"),
            ("UndegradeFindScratches", "threshold", "FLOAT", "threshold"),
            ("UndegradeFindScratches", "largest_width", "INT", "largest width"))),
    "Enlarge Photo": Blueprint(
        "Enlarge a photo", "Makes a clean small picture larger by any factor: upscale, enlarge, "
        "super-resolution.", (
            ("UndegradeDownscale", "factor", "FLOAT", "scale"),
            ("UndegradeMeasurementFromImage", "noise_level", "FLOAT", "noise level"))),
    "Enlarge Web Picture": Blueprint(
        "Enlarge a web picture", "Makes a small JPEG larger by any factor, without its blocks: "
        "upscale, enlarge, enhance.", (
            ("UndegradeDownscale", "factor", "FLOAT", "scale"),
            ("UndegradeMeasurementFromImage", "noise_level", "FLOAT", "noise level"))),
    "Repair JPEG": Blueprint(
        "Repair a JPEG", "Takes the blocks and the ringing off a JPEG: artifacts, compression, "
        "deblock.", (
            ("UndegradeMeasurementFromImage", "noise_level", "FLOAT", "noise level"),
            ("UndegradePosteriorSampler", "steps", "INT", "steps"))),
    "Enlarge Small Bad Picture": Blueprint(
        "Enlarge a small bad picture", "Enlarges a small, soft, noisy picture four times: upscale, "
        "super-resolution, enhance.", (
            ("UndegradeInversionSampler", "steps", "INT", "steps"),
            ("UndegradeInversionSampler", "strength", "FLOAT", "strength"),
            ("UndegradeInversionSampler", "seed", "INT", "seed"))),
    "InvSR with a Checkpoint": Blueprint(
        "Use InvSR in one step", "Enlarges four times with SD-Turbo and InvSR's noise predictor: "
        "upscale, super-resolution, enhance.", (
            ("CheckpointLoaderSimple", "ckpt_name", "COMBO", "checkpoint"),
            ("UndegradeLoadNoisePredictor", "file", "COMBO", "noise predictor"),
            ("UndegradeInversionSigmas", "start_timestep", "INT", "start timestep"))),
    "AdaDiffSR with a Checkpoint": Blueprint(
        "Use AdaDiffSR with a checkpoint", "Enlarges four times with any checkpoint, each region "
        "in the steps it needs: upscale, super-resolution, enhance.", (
            ("CheckpointLoaderSimple", "ckpt_name", "COMBO", "checkpoint"),
            ("BasicScheduler", "denoise", "FLOAT", "denoise"),
            ("RandomNoise", "noise_seed", "INT", "seed"))),
}


def drawn(name: str) -> dict[str, Any]:
    """The blueprint's file."""
    what = BLUEPRINTS[name]
    workflow = json.loads(pack.workflow(what.workflow).read_text())
    nodes, links, result = _needed(workflow, what.mask)
    if what.more:
        links.append(_connected(nodes, links, *what.more))
    box = _around(list(nodes.values()))
    definition = {
        "id": _uuid(name), "version": 1, "revision": 0, "config": {}, "name": name,
        "state": {"lastGroupId": 0, "lastNodeId": max(nodes), "lastRerouteId": 0,
                  "lastLinkId": max(link["id"] for link in links)},
        "inputNode": {"id": INSIDE, "bounding": [box[0] - SPACE - 120, box[1], 120, 80]},
        "outputNode": {"id": OUTSIDE, "bounding": [box[2] + SPACE, box[1], 120, 60]},
        "inputs": _inputs(name, links), "outputs": [_slot(name, "image", "IMAGE", [result["id"]])],
        "widgets": [], "nodes": list(nodes.values()), "groups": [], "links": links, "extra": {},
        "category": CATEGORY, "description": what.description}
    host = {
        "id": HOST, "type": _uuid(name), "title": name, "pos": [0, 0], "flags": {}, "order": 0,
        "size": [280, 60 + 26 * len(what.widgets)], "mode": 0, "widgets_values": [],
        "inputs": [{"name": slot["name"], "type": slot["type"], "link": None}
                   for slot in definition["inputs"]],
        "outputs": [{"name": "image", "type": "IMAGE", "links": []}],
        "properties": {"cnr_id": "undegrade", "ver": "0.1.0", "proxyWidgets": [
            [str(_only(nodes, kind)["id"]), widget] for kind, widget, *_ in what.widgets]}}
    for kind, *words in what.widgets:
        _call(_only(nodes, kind), *words)
    return {"id": _uuid(f"{name} as a file"), "revision": 0, "last_node_id": HOST,
            "last_link_id": 0, "nodes": [host], "links": [], "groups": [], "config": {},
            "definitions": {"subgraphs": [definition]}, "extra": {}, "version": 0.4}


def _uuid(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"undegrade/{text}"))


def _slot(name: str, slot: str, kind: str, links: list[int]) -> dict[str, Any]:
    return {"id": _uuid(f"{name}/{slot}"), "name": slot, "type": kind, "linkIds": links}


def _inputs(name: str, links: list[dict]) -> list[dict]:
    found: dict[int, list[int]] = {}
    for link in links:
        if link["origin_id"] == INSIDE:
            found.setdefault(link["origin_slot"], []).append(link["id"])
    return [_slot(name, ("image", "mask", "do_not_copy")[k], ("IMAGE", "MASK", "MASK")[k], found[k])
            for k in sorted(found)]


def _connected(nodes: dict[int, dict], links: list[dict], kind: str, name: str,
               type_: str) -> dict[str, Any]:
    """A link from a third input into an optional one of a node."""
    node, key = _only(nodes, kind), 1 + max(link["id"] for link in links)
    node["inputs"].append({"name": name, "type": type_, "link": key})
    return {"id": key, "origin_id": INSIDE, "origin_slot": 2, "type": type_,
            "target_id": node["id"], "target_slot": len(node["inputs"]) - 1}


def _only(nodes: dict[int, dict], kind: str) -> dict:
    return next(node for node in nodes.values() if node["type"] == kind)


def _call(node: dict, widget: str, kind: str, label: str) -> None:
    """Give a widget the name that the one node shows."""
    slots = [slot for slot in node["inputs"] if slot["name"] == widget]
    if not slots:
        kind = type(label).__name__
        slots = [{"name": widget, "type": kind, "widget": {"name": widget}, "link": None}]
        node["inputs"].append(slots[0])
    slots[0]["label"] = label


def _needed(workflow: dict, mask: str) -> tuple[dict[int, dict], list[dict], dict]:
    """The nodes that the saved picture needs, their links, and the one that leads out."""
    by_id = {node["id"]: node for node in workflow["nodes"]}
    save = next(node for node in workflow["nodes"] if node["type"] == "SaveImage")
    reached, links, waiting = {}, [], [save["id"]]
    while waiting:
        target = waiting.pop()
        for key, source, slot, end, place, kind in workflow["links"]:
            if end != target:
                continue
            loaded = by_id[source]["type"] in ("LoadImage", mask)
            slot = 1 if by_id[source]["type"] == mask else slot
            links.append({"id": key, "origin_id": INSIDE if loaded else source,
                          "origin_slot": slot, "type": kind,
                          "target_id": OUTSIDE if end == save["id"] else end,
                          "target_slot": 0 if end == save["id"] else place})
            if not loaded and source not in reached:
                reached[source] = by_id[source]
                waiting.append(source)
    links.sort(key=lambda link: link["id"])
    kept = {link["id"] for link in links}
    nodes = {key: json.loads(json.dumps(reached[key])) for key in sorted(reached)}
    for order, node in enumerate(nodes.values()):
        node["order"] = order
        for output in node["outputs"]:
            output["links"] = [key for key in output["links"] or [] if key in kept] or None
    return nodes, links, next(link for link in links if link["target_id"] == OUTSIDE)


def _around(nodes: list[dict]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom."""
    return (min(n["pos"][0] for n in nodes), min(n["pos"][1] for n in nodes),
            max(n["pos"][0] + n["size"][0] for n in nodes),
            max(n["pos"][1] + n["size"][1] for n in nodes))


def text(name: str) -> str:
    """The blueprint's file as text."""
    return json.dumps(drawn(name), indent=1) + "\n"


def main() -> None:
    """Write every blueprint."""
    FOLDER.mkdir(exist_ok=True)
    for name in BLUEPRINTS:
        (Path(FOLDER) / f"{name}.json").write_text(text(name))
        print(name)


if __name__ == "__main__":
    main()
