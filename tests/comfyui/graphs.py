"""The shipped workflows as graphs to queue: in API format, small, with their numbers kept."""

import json
from pathlib import Path

from undegrade.headless.load import load
from undegrade.headless.signature import Catalog

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
PATHS = {path.stem: path for path in sorted(FOLDER.rglob("*.json"))}
NAMES = list(PATHS)
PREVIEWS = ("SaveImage", "PreviewImage")
SMALL = {  # enough to run every node, for a picture of 48x40
    "UndegradeLoadDiffusersPrior": {"prompt": "a b"},
    "UndegradePosteriorSampler": {"steps": 3, "samples": 2},
    "UndegradeEstimateBlurKernel": {"kernel_size": 5},
    "UndegradeCGMeasurementUpdate": {"iterations": 2},
    "UndegradeLangevinMeasurementUpdate": {"iterations": 2},
    "UndegradeMotionBlur": {"side": 9, "length": 5.0},
    "UndegradeRegionAdaptiveSampler": {"steps": 10},
    "UndegradeCalibrateRegions": {"steps": 10},
    "UndegradeRegionAdaptiveSamplerStock": {"tile": 128, "overlap": 64},
    "BasicScheduler": {"steps": 10},
    "EmptyLatentImage": {"width": 32, "height": 32},
}


def catalog(object_info: dict) -> Catalog:
    """Every node of a server, as it describes them."""
    classes = {
        name: type(name, (), {
            "INPUT_TYPES": classmethod(lambda _, known=known: known["input"]),
            "RETURN_TYPES": tuple(known["output"]),
            "RETURN_NAMES": tuple(known["output_name"]),
            "OUTPUT_NODE": known["output_node"],
        })
        for name, known in object_info.items()
    }  # fmt: skip
    titles = {name: known["display_name"] or name for name, known in object_info.items()}
    return Catalog(classes, titles)


def graph(name: str, known: Catalog, settings: dict | None = None) -> dict:
    """A workflow in API format.

    settings: node type -> widget -> value, `SMALL` if not given. Widgets that are linked stay so.
    """
    made = load(PATHS[name], known).graph().prompt()
    prompt = {i: n for i, n in made.items() if n["class_type"] in known}  # notes are not sent
    for node in prompt.values():
        chosen = (SMALL if settings is None else settings).get(node["class_type"], {})
        for widget, value in chosen.items():
            if not isinstance(node["inputs"].get(widget), list):
                node["inputs"][widget] = value
    return prompt


def with_numbers(prompt: dict, name: str) -> dict:
    """The same, with every picture that is saved or previewed kept as NAME.NODE.npy."""
    keepers = {
        f"{node_id}0000": {
            "class_type": "KeepNumbers",
            "inputs": {"images": node["inputs"]["images"], "name": f"{name}.{node_id}"},
        }
        for node_id, node in prompt.items()
        if node["class_type"] in PREVIEWS
    }
    return {**prompt, **keepers}


def only(prompt: dict, kind: str) -> str:
    """The one node of a type."""
    (found,) = [node_id for node_id, node in prompt.items() if node["class_type"] == kind]
    return found


def downstream(prompt: dict, node_id: str) -> set[str]:
    """A node and all that depends on it."""
    found = {node_id}
    while more := {
        target for target, node in prompt.items()
        for value in node["inputs"].values()
        if isinstance(value, list) and value[0] in found and target not in found
    }:  # fmt: skip
        found |= more
    return found


def written(prompt: dict, folder: Path, name: str) -> Path:
    """The graph as a file for `undegrade run`."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(prompt))
    return path
