"""Tells before a run that a picture of the user's would be spoilt before it is restored."""

from collections.abc import Collection

from .graph import Graph, Link, Node

SPOILS = ("UndegradeDegradeImage", "UndegradeRealWorldDegradation")
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


def own_box(graph: Graph, given: Collection[str]) -> str:
    """One line where a given picture is filled in a box that the workflow brings, or nothing."""
    pictures = [str(n.inputs["image"]) for n in graph.nodes.values()
                if isinstance(n.inputs.get("image"), str) and n.inputs["image"] in given]
    boxes = [n for n in graph.nodes.values() if n.type == "UndegradeBoxMask"]
    if not pictures or not boxes:
        return ""
    values = ", ".join(f"{k} {v}" for k, v in boxes[0].inputs.items() if not isinstance(v, Link))
    return (f"{boxes[0]} is filled in ({values}), whatever {pictures[0]} shows there; change it by "
            f"--set {boxes[0].id}.WIDGET=VALUE, or give a mask of yours: undegrade remove "
            f"{pictures[0]} --mask FILE.\n")


def _spoils(node: Node) -> bool:
    factor = node.inputs.get("scale_by", 1)
    return node.type in SPOILS or (isinstance(factor, int | float) and factor < 1)
