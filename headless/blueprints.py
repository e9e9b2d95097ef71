"""The everyday jobs, each with its blueprint of ComfyUI's, `subgraphs/*.json`."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BLUEPRINTS, LOCALE = ROOT / "subgraphs", ROOT / "locales" / "en" / "nodeDefs.json"
WINDOW = 0.32**2  # million pixels in which a kernel is searched
LOAD, MASK, SAVE, SPARED, HOST = "1", "2", "3", "4", "10"  # node ids


@dataclass(frozen=True)
class Cost:
    """What a job takes on one processor core: seconds and GB of any picture, and more for each
    million pixels of the result and of those that a mask hides
    (`benchmarks/large_pictures.py`). searched_seconds: of a search in a window of the picture, less
    where the picture is smaller than the window. one_by_one: pictures of one file are not held in
    memory together."""

    seconds: float
    more_seconds: float
    gigabytes: float
    more_gigabytes: float
    hidden_seconds: float = 0.0
    searched_seconds: float = 0.0
    one_by_one: bool = False

    def of(self, millions: float, pictures: int = 1) -> tuple[float, float]:
        """Seconds and GB for so many results of so many million pixels, none of them hidden."""
        searched = min(1.0, millions / WINDOW) * self.searched_seconds
        held = millions * (1 if self.one_by_one else pictures)
        return (pictures * (self.seconds + millions * self.more_seconds + searched),
                self.gigabytes + held * self.more_gigabytes)

    def said(self, pixels: int, hidden: int = 0, pictures: int = 1) -> str:
        """For a result of so many pixels, so many of them hidden, and so many such."""
        millions = pixels / 1e6
        seconds, gigabytes = self.of(millions, pictures)
        seconds += pictures * hidden / 1e6 * self.hidden_seconds
        size = f"{millions:.1f} megapixels" if millions >= 0.1 else counted(pixels, "pixel")
        several = f"{pictures} pictures of " if pictures > 1 else ""
        return (f"{several}{size}: about {in_words(seconds)} of a processor core, "
                f"{gigabytes:.1f} GB")


def counted(number: int, what: str) -> str:
    """So many of something, such as 1 picture."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def in_words(seconds: float) -> str:
    """A time in the unit that tells it with two digits or three."""
    units = ((100.0, 1.0, "seconds"), (6000.0, 60.0, "minutes"), (math.inf, 3600.0, "hours"))
    _, unit, name = next(each for each in units if seconds < each[0])
    return f"{seconds / unit:.0f} {name}"


@dataclass(frozen=True)
class Job:
    """One job: its blueprint, the word behind the result's name, and when there is nothing to do.

    tells: the node types whose texts say what was found.
    nothing: node type -> what its outputs say against going on, or ""; a picture that comes back
        as it was is not written in any case.
    finds: what the mask (H, W) of a picture says was found, where no text does.
    mask: whether a mask must be given. marks: whether the first of those outputs is one, which a
        mask may replace.
    options: what the command says of options whose node's tooltip speaks of the node alone.
    cost: on the processor.
    """

    blueprint: str
    word: str
    about: str
    tells: tuple[str, ...] = ()
    nothing: Mapping[str, Callable[[list[list]], str]] = field(default_factory=dict)
    finds: Callable[[Any], str] | None = None
    mask: bool = False
    marks: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    cost: Cost = field(kw_only=True)


def _whole(outputs: list[list]) -> str:
    return str(outputs[2][0]) if outputs[0][0] == 100 else ""


def _unscratched(outputs: list[list]) -> str:
    return "" if outputs[0][0].any() else "no scratches found"


def _scratched(mask: Any) -> str:
    return f"scratches on {100 * float((mask > 0).float().mean()):.1f} % of the picture"


def _sharp(outputs: list[list]) -> str:
    first, *more = str(outputs[4][0]).splitlines()
    if first.startswith("no blur"):
        return first
    doubts = [line for line in more if line.startswith(("Doubtful", "Parts"))]
    return ". ".join([first, *doubts]).rstrip(".") if doubts else ""


JOBS = {
    "sharpen": Job("Sharpen Blurred Photo", "sharpened", "undo the blur of a photograph",
                   ("UndegradeEstimateBlurKernel",), {"UndegradeEstimateBlurKernel": _sharp},
                   options={"kind": "'any' finds every kernel, such as a shaken hand's; "
                                    "'straight motion', 'out of focus' and 'Gaussian' look for "
                                    "fewer numbers, and are surer where you know what happened"},
                   cost=Cost(8, 76, 0.4, 1.2, searched_seconds=58)),
    "denoise": Job("Denoise Photo", "denoised", "take the noise out of a photograph",
                   ("UndegradeDenoise",), cost=Cost(2, 41, 0.4, 0.3, one_by_one=True)),
    "remove": Job("Remove Object", "removed", "remove what a mask covers", mask=True,
                  options={"grow-the-mask": "pixels by which the mask grows first"},
                  cost=Cost(3, 2, 0.4, 0.3, 110, one_by_one=True)),
    "restore-old": Job("Restore Old Photo", "restored", "fill in scratches, folds and dust",
                       (), {"UndegradeFindScratches": _unscratched}, _scratched,
                       marks=True, options={"kind": "marks that are 'bright', 'dark' or 'both'"},
                       cost=Cost(5, 49, 0.4, 1.4)),
    "enlarge": Job("Enlarge Web Picture", "enlarged", "make a picture up to 8 times larger",
                   ("UndegradeEstimateJPEGQuality",),
                   options={"scale": "how many times larger each side becomes; 1.5, too"},
                   cost=Cost(3, 47, 0.3, 0.9)),
    "repair": Job("Repair JPEG", "repaired", "take blocks and ringing off a JPEG",
                  ("UndegradeEstimateJPEGQuality",), {"UndegradeEstimateJPEGQuality": _whole},
                  cost=Cost(4, 42, 0.3, 0.9)),
}


def blueprint(job: Job) -> dict[str, Any]:
    """The blueprint's file."""
    return json.loads((BLUEPRINTS / f"{job.blueprint}.json").read_text(encoding="utf-8"))


def widgets(job: Job) -> dict[str, tuple[str, str]]:
    """Option -> the id of the node inside and its widget."""
    raw = blueprint(job)
    (host,), (inside,) = raw["nodes"], raw["definitions"]["subgraphs"]
    nodes, found = {str(node["id"]): node for node in inside["nodes"]}, {}
    for key, widget in host["properties"]["proxyWidgets"]:
        labels = [slot.get("label") for slot in nodes[key]["inputs"] if slot["name"] == widget]
        found[(labels[0] or widget).replace(" ", "-")] = key, widget
    return found


def helps(job: Job) -> dict[str, str]:
    """Option -> what it is, in the job's own words or the tooltip of the widget of a node inside,
    and what the blueprint sets it to."""
    (inside,) = blueprint(job)["definitions"]["subgraphs"]
    nodes, found = {str(node["id"]): node for node in inside["nodes"]}, {}
    for option, (key, widget) in widgets(job).items():
        node, own = nodes[key], job.options.get(option)
        said = own or tooltips()[node["type"]]["inputs"][widget]["tooltip"]
        found[option] = f"{said} (default: {values(node)[widget]})"
    return found


def values(node: dict[str, Any]) -> dict[str, Any]:
    """Widget -> its value in the blueprint. A node of the pack has them in the order in which it
    declares them, one of ComfyUI's as they are listed; after a seed stands what becomes of it."""
    sockets = [slot["name"] for slot in node["inputs"] if "widget" not in slot]
    shown = [slot["name"] for slot in node["inputs"] if "widget" in slot]
    declared = tooltips().get(node["type"], {}).get("inputs") or shown
    names = [name for name in declared if name not in sockets]
    places = [each for name in names for each in ([name, ""] if name == "seed" else [name])]
    return dict(zip(places, node["widgets_values"], strict=False))


@cache
def tooltips() -> dict[str, Any]:
    """Node type -> what is said of it, in English."""
    return json.loads(LOCALE.read_text(encoding="utf-8"))


def kinds_in(job: Job) -> list[str]:
    """The types of the nodes inside."""
    (inside,) = blueprint(job)["definitions"]["subgraphs"]
    return [node["type"] for node in inside["nodes"]]


def nodes_of(job: Job, kind: str) -> list[str]:
    """The ids of the nodes of a type inside."""
    (inside,) = blueprint(job)["definitions"]["subgraphs"]
    return [str(node["id"]) for node in inside["nodes"] if node["type"] == kind]


def around(job: Job, mask: bool = False, spared: bool = False) -> dict[str, Any]:
    """A workflow of the blueprint between loading and saving; with one that loads a mask, which a
    blueprint that takes none leaves unconnected, and one of what is not to be copied."""
    raw = blueprint(job)
    host = {**raw["nodes"][0], "id": int(HOST)}
    slots = [slot["name"] for slot in host["inputs"]]
    links = [[1, int(LOAD), 0, int(HOST), slots.index("image"), "IMAGE"],
             [2, int(HOST), 0, int(SAVE), 0, "IMAGE"]]
    nodes = [
        {"id": int(LOAD), "type": "LoadImage", "widgets_values": ["", "image"],
         "outputs": [{"name": "IMAGE", "type": "IMAGE"}, {"name": "MASK", "type": "MASK"}]},
        host, {"id": int(SAVE), "type": "SaveImage", "widgets_values": ["picture"],
               "inputs": [{"name": "images", "type": "IMAGE", "link": 2}]}]
    for key, wanted in ((MASK, job.mask or mask), (SPARED, spared)):
        if wanted:
            nodes.append({"id": int(key), "type": "LoadImageMask", "widgets_values": ["", "red"],
                          "outputs": [{"name": "MASK", "type": "MASK"}]})
    if job.mask:
        links.append([3, int(MASK), 0, int(HOST), slots.index("mask"), "MASK"])
    if spared:
        links.append([4, int(SPARED), 0, int(HOST), slots.index("do_not_copy"), "MASK"])
    for key, _, _, target, place, _ in links:
        if str(target) == HOST:
            host["inputs"][place] = {**host["inputs"][place], "link": key}
    return {**raw, "nodes": nodes, "links": links}
