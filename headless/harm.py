"""Tells before a run that a picture of the user's would be spoilt before it is restored."""

from collections.abc import Collection

from .graph import Graph, Link, Node

SPOILS = ("UndegradeDegradeImage", "UndegradeRealWorldDegradation")
EXAMPLES = {  # node type -> what it does to a picture, and what does it by the picture's own
    "UndegradeBoxMask": ("is filled in ({values}), whatever {picture} shows there",
                         "give a mask of yours: undegrade remove {picture} --mask FILE"),
    "UndegradeMotionBlur": ("is the blur that is undone ({values}), whatever blur {picture} has",
                            "let it be found: undegrade sharpen {picture}"),
}
OURS = "Undegrade"  # what our nodes make of a picture is no longer the user's
ADVICE = ("which is for comparing an answer with the truth; for a picture that is already broken "
          "take a workflow whose name does not begin with demo_, or Measurement From Image instead")


def harm(graph: Graph, given: Collection[str]) -> str:
    """One line where a given picture leads into a node that spoils it, or nothing.

    Args:
        graph: the plan.
        given: the names of the pictures that the user gave.
    """
    loads = [n for n in graph.nodes.values()
             if isinstance(n.inputs.get("image"), str) and n.inputs["image"] in given]
    reached = {node.id: str(node.inputs["image"]) for node in loads}
    waiting = [*reached]
    while waiting:
        source = waiting.pop()
        for node in graph.nodes.values():
            if node.id in reached or Link(source, 0) not in node.inputs.values():
                continue
            if _spoils(node):
                return f"{reached[source]} is spoilt by {node} before it is restored, {ADVICE}.\n"
            if not node.type.startswith(OURS):
                reached[node.id] = reached[source]
                waiting.append(node.id)
    return ""


def of_its_own(graph: Graph, given: Collection[str]) -> str:
    """One line where what is done to a given picture is the workflow's example: a box that is
    filled in, a blur that is undone; or nothing."""
    pictures = [str(n.inputs["image"]) for n in graph.nodes.values()
                if isinstance(n.inputs.get("image"), str) and n.inputs["image"] in given]
    own = [n for n in graph.nodes.values() if n.type in EXAMPLES]
    if not pictures or not own:
        return ""
    values = ", ".join(f"{k} {v}" for k, v in own[0].inputs.items() if not isinstance(v, Link))
    done, otherwise = (
        said.format(picture=pictures[0], values=values) for said in EXAMPLES[own[0].type])
    return (f"{own[0]} {done}; change it by --set "
            f"{own[0].id}.WIDGET=VALUE, or {otherwise}.\n")


def _spoils(node: Node) -> bool:
    factor = node.inputs.get("scale_by", 1)
    return node.type in SPOILS or (isinstance(factor, int | float) and factor < 1)
