"""What a workflow takes, said before it starts where it is known: of those that do one of the
everyday jobs in the same steps."""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .blueprints import JOBS, Cost, around, counted, in_words, kinds_in

if TYPE_CHECKING:
    from .graph import Graph
    from .pack import Pack
    from .signature import Catalog

OURS = "Undegrade"
KERNEL = "UndegradeEstimateBlurKernel"
BESIDE = {"UndegradeMeasurementConsistency", "UndegradeScoreRestoration"}  # a few seconds at most
COUNTS = ("steps", "samples", "schedule", "draws", "ode_steps", "passes", "kernel_size", "refine")
LOOKED_AT = 200  # pictures of a batch whose sizes are read


def known_cost(graph: "Graph", catalog: "Catalog") -> Cost | None:
    """That of the job that has the same nodes and counts, None where there is none such; what a
    mask hides would have to be known, too, and is not."""
    from .load import document

    work = _work(graph)
    kinds = [kind for kind, *_ in work]
    alike = (job for job in JOBS.values() if not job.mask
             and sorted(filter(_counts, kinds_in(job))) == kinds)
    return next((of_kind(job.cost, graph) for job in alike
                 if _work(document(around(job), catalog).graph()) == work), None)


def of_kind(cost: Cost, graph: "Graph") -> Cost:
    """That of a graph that names the kind of its blur, so that no kernel is searched."""
    kinds = {node.inputs.get("kind") for node in graph.nodes.values() if node.type == KERNEL}
    return replace(cost, searched_seconds=0.0) if kinds - {"any"} else cost


def of_run(plan: Any, host: Any) -> str:
    """A line on the picture that a workflow loads (`running.Plan`), or nothing."""
    names = [str(node.inputs.get("image")) for node in plan.graph.nodes.values()
             if node.type == "LoadImage"]
    cost = known_cost(plan.graph, plan.catalog) if len(names) == 1 else None
    if not cost or host.device().type != "cpu":
        return ""
    pixels, pictures = _size(plan.folders.find(names[0]))
    pixels = int(pixels * enlarged(plan.graph))
    return f"{names[0]}: {cost.said(pixels, pictures=pictures)}.\n" if pixels else ""


def of_batch(options: argparse.Namespace, job: Any, pack: "Pack", items: Sequence[Any]) -> str:
    """A line on all pictures of a batch in this process, or nothing.

    job, items: `batch.plan.Job` and `batch.inputs.Item`.
    """
    from .folders import Folders
    from .load import document

    pictures = [item.path for item in items if not item.is_video]
    if options.quiet or options.engine != "local" or not pictures or len(pictures) < len(items):
        return ""
    catalog = pack.catalog(Folders(options.output))
    graph = document(json.loads(job.workflow), catalog).graph()
    cost = known_cost(graph, catalog)
    if not cost or pack.host.device().type != "cpu":
        return ""
    looked = pictures[:: -(-len(pictures) // LOOKED_AT)]
    sizes = [(pixels * enlarged(graph) / 1e6, count) for pixels, count in map(_size, looked)]
    seconds, gigabytes = zip(*(cost.of(*size) for size in sizes), strict=True)
    time = in_words(sum(seconds) / len(sizes) * len(pictures))
    return (f"{counted(len(pictures), 'picture')}: about {time} of a processor core, "
            f"{max(gigabytes):.1f} GB for the largest.\n")


def _work(graph: "Graph") -> list[tuple[str, ...]]:
    """Our nodes and what they count, in no order."""
    return sorted((node.type, *(str(node.inputs.get(name)) for name in COUNTS))
                  for node in graph.nodes.values()
                  if _counts(node.type))


def _counts(kind: str) -> bool:
    """Whether nodes of a type take time worth telling."""
    return kind.startswith(OURS) and kind not in BESIDE


def enlarged(graph: "Graph") -> float:
    """How many times as many pixels the result has."""
    factors = (node.inputs.get("factor") for node in graph.nodes.values()
               if node.type == "UndegradeDownscale")
    return math.prod(float(f) for f in factors if isinstance(f, int | float)) ** 2


def _size(file: Any) -> tuple[int, int]:
    """The pixels of each picture of a file, and how many pictures it has; 0 of what Pillow cannot
    open, which is said when it is loaded."""
    from PIL import Image

    from .stock.reading import ONE

    try:
        with Image.open(file) as picture:
            several = picture.format not in ONE
            return (picture.width * picture.height,
                    getattr(picture, "n_frames", 1) if several else 1)
    except (OSError, ValueError, SyntaxError):
        return 0, 1
