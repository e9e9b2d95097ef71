#!/usr/bin/env python3
"""One workflow of each kind, run small as ComfyUI calls the nodes; for `torch_versions.py`.

Run: python benchmarks/torch_pictures.py OUT.safetensors writes what the workflows gave, float32
IMAGE; python benchmarks/torch_pictures.py A.safetensors --against B.safetensors prints, as JSON,
the largest difference of each picture.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pack
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from undegrade.headless.execution import execute
from undegrade.headless.folders import Folders
from undegrade.headless.graph import Graph, Link, Node
from undegrade.headless.load import load
from undegrade.headless.pack import Pack

WORKFLOWS = (
    "demo_daps_and_subdaps", "demo_dps", "demo_hdr_recovery", "demo_jpeg_repair",
    "demo_motion_deblur", "demo_phase_retrieval", "demo_random_inpainting",
    "demo_super_resolution_x4", "demo_trajectory", "demo_uncertainty_map",
    "Denoise a photo", "Enlarge a photo", "Enlarge a small bad picture", "Enlarge a web picture",
    "Remove an object", "Repair a JPEG", "Restore an old photo", "Sharpen a blurred photo",
    "Use AdaDiffSR", "Use AdaDiffSR with its regressor", "Use tiles on a large photo",
    "View what was made up",
)  # fmt: skip
SMALL = {  # enough to run every node, for a picture of 48x40
    "UndegradePosteriorSampler": {"steps": 4, "samples": 2},
    "UndegradeLangevinMeasurementUpdate": {"iterations": 2},
    "UndegradeEstimateBlurKernel": {"kernel_size": 9},
    "UndegradeMotionBlur": {"side": 9, "length": 5.0},
    "UndegradeRegionAdaptiveSampler": {"steps": 10},
    "UndegradeCalibrateRegions": {"steps": 10},
}
SAVING = ("SaveImage", "PreviewImage")


class Quiet:
    """Told of a run, and says nothing."""

    def started(self, node: Node) -> None:
        """A node begins."""

    def finished(self, node: Node, ui: dict[str, list]) -> None:
        """A node is done."""


def pictures(name: str, folder: Path) -> dict[str, Tensor]:
    """Every IMAGE that a workflow saves, by the workflow and the node that made it."""
    path = pack.workflow(name)
    loaded = Pack.load()
    catalog = loaded.catalog(Folders.around(path, folder))
    graph: Graph = load(path, catalog).graph()
    sources = {}
    for node in graph.nodes.values():
        for widget, value in SMALL.get(node.type, {}).items():
            if not isinstance(node.inputs.get(widget), Link):
                node.inputs[widget] = value
        if node.type == "LoadImage":
            node.inputs["image"] = str(folder / "photo.png")
        if node.type in SAVING:
            link = node.links["images"]
            sources[link.source, link.slot] = f"{name} {link.source}.{link.slot}"
    outputs: dict[str, Any] = execute(
        graph, catalog, Quiet(), targets=sorted({source for source, _ in sources})
    )
    found = {title: outputs[source][slot] for (source, slot), title in sources.items()}
    return {title: torch.cat(list(images)).contiguous() for title, images in found.items()}


def main() -> int:
    """Write the pictures, or compare two files of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--against", type=Path)
    arguments = parser.parse_args()
    if arguments.against:
        found, wanted = load_file(arguments.file), load_file(arguments.against)
        gaps = {name: float((found[name] - wanted[name]).abs().max()) for name in sorted(wanted)}
        sys.stdout.write(json.dumps({name: round(gap, 10) for name, gap in gaps.items()}))
        return 0
    with tempfile.TemporaryDirectory() as place:
        drawn = torch.rand(10, 12, 3, generator=torch.Generator().manual_seed(0))
        small = Image.fromarray((drawn * 255).byte().numpy())
        small.resize((48, 40), Image.Resampling.BICUBIC).save(Path(place) / "photo.png")
        made: dict[str, Tensor] = {}
        for name in WORKFLOWS:
            made |= pictures(name, Path(place))
    save_file(made, arguments.file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
