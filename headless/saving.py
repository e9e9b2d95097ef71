"""What would go wrong when pictures are saved, told before anything runs."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .folders import Folders, fill_in_widgets
from .graph import Graph, Link
from .signature import Catalog
from .trial import why_not, within
from .validation import output_nodes

CHANNELS = 3


def save_problems(graph: Graph, catalog: Catalog, folders: Folders) -> list[str]:
    """One sentence for each name that cannot be written, and for a disk without room.

    A name that is computed while the workflow runs is not known yet.
    """
    from .stock.files import SaveImage

    if why := why_not(folders.output / "picture.png"):
        return [f"--output {folders.output}: cannot write there: {why}; choose another --output."]
    outputs = [graph.nodes[i] for i in output_nodes(graph, catalog)]
    saves = [node for node in outputs if issubclass(catalog[node.type].node_class, SaveImage)]
    problems = []
    for node in saves:
        prefix = _known(node.inputs.get("filename_prefix", "ComfyUI"), graph)
        if isinstance(prefix, str) and (problem := folders.problem(
                fill_in_widgets(prefix, graph.prompt()),
                catalog[node.type].node_class.KIND == "temp")):
            problems.append(f"{node}: {problem}.")
    return problems or _room(graph, [node.id for node in saves], folders)


def _known(value: Any, graph: Graph) -> Any:
    """What a link to nodes that only hold a value gives; other links as they are."""
    from .stock.values import PRIMITIVES

    while isinstance(value, Link) and graph.nodes[value.source].type in PRIMITIVES:
        value = graph.nodes[value.source].inputs["value"]
    return value


def _room(graph: Graph, saves: Iterable[str], folders: Folders) -> list[str]:
    """Whether one picture of the largest size that goes in has room, incompressible as it may be.

    How large a workflow makes it is only known when it runs.
    """
    width, height = max((_size(graph, i, folders) for i in graph.upstream(saves)),
                        key=lambda size: size[0] * size[1], default=(0, 0))
    need, free = width * height * CHANNELS, shutil.disk_usage(within(folders.output)).free
    if need <= free:
        return []
    return [f"--output {folders.output}: {free / 1e6:.3f} MB are free there, and a picture of "
            f"{width}x{height} may take {need / 1e6:.3f} MB; make room or choose another --output."]


def _size(graph: Graph, node_id: str, folders: Folders) -> tuple[int, int]:
    """The (width, height) of what a node loads or makes, (0, 0) of all else."""
    from PIL import Image

    inputs = graph.nodes[node_id].inputs
    name, sides = inputs.get("image"), (inputs.get("width"), inputs.get("height"))
    if isinstance(name, str):
        try:
            source = folders.find(name)
            if isinstance(source, Path):
                with Image.open(source) as picture:
                    return picture.size
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return 0, 0  # which the node that loads it will say
    width, height = sides
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)
