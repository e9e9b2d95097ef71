"""Everything wrong with a plan, found before anything runs: one sentence for each."""

import difflib
from typing import Any

from .blueprints import counted
from .graph import Graph, Link, Node, WorkflowError
from .signature import Catalog, Input, Signature, accepts

CORE = "comfy-core"  # how the frontend marks stock nodes in a saved workflow


def validate(graph: Graph, catalog: Catalog) -> list[str]:
    """Check a plan against the node classes.

    As in ComfyUI every node's type must be known, and only nodes that an output node needs must be
    complete. Literals are brought to their declared types in place, and defaults are filled in.

    Returns:
        The problems, in the plan's order; none means the plan can run.
    """
    unknown = [n for n in graph.nodes.values() if n.type not in catalog and "" not in n.faults]
    problems = [_unknown(node, catalog) for node in unknown]
    try:
        graph.upstream(graph.nodes)
    except WorkflowError as error:
        return problems + error.problems
    outputs = output_nodes(graph, catalog)
    if not outputs and not problems and not any("" in n.faults for n in graph.nodes.values()):
        problems.append("the workflow has no output node that is switched on; add a SaveImage, "
                        "PreviewImage or PreviewAny node.")
    needed = set(graph.upstream(outputs)) if outputs else set(graph.nodes)
    for node in graph.nodes.values():
        if node.id in needed or "" in node.faults:
            problems += [f"{node}: {text}." for text in _check_node(node, graph, catalog)]
    return problems


def output_nodes(graph: Graph, catalog: Catalog) -> list[str]:
    """The ids of the nodes a run starts from."""
    known = [n for n in graph.nodes.values() if n.type in catalog]
    return [n.id for n in known if catalog[n.type].is_output]


def _unknown(node: Node, catalog: Catalog) -> str:
    kind = {CORE: "stock node", "": "node type"}.get(
        node.origin, f"the node type (of the pack {node.origin})")
    near = difflib.get_close_matches(node.type, list(catalog.classes), n=5, cutoff=0.6)
    instead = f"replace it by one of: {', '.join(near)}" if near else \
        "replace it by one that 'undegrade nodes' lists"
    return (f"{node}: {kind} {node.type} is not implemented by the undegrade command; open the "
            f"workflow in ComfyUI, or {instead}.")


def _check_node(node: Node, graph: Graph, catalog: Catalog) -> list[str]:
    problems = [text for text in node.faults.values() if text]
    if node.type not in catalog:
        return problems
    signature = catalog[node.type]
    takes = ", ".join(signature.inputs) or "none"
    problems += [f"has no input {name!r}; it takes {takes}"
                 for name in node.inputs if name not in signature.inputs]
    received: dict[str, Any] = {}
    for name, declared in signature.inputs.items():
        if name in node.faults:
            continue
        try:
            if name not in node.inputs:
                _fill_absent(node, declared)
            elif isinstance(node.inputs[name], Link):
                received[name] = _check_link(node.inputs[name], graph, catalog)
                if "input_types" not in signature.checked and received[name] is not None:
                    _check_type(node.inputs[name], received[name], declared, graph)
            else:
                limits = name not in signature.checked
                node.inputs[name] = declared.read(node.inputs[name], limits)
        except (TypeError, ValueError) as error:
            problems.append(f"input {name!r} {error}")
    return problems or _ask_class(node, signature, received)


def _fill_absent(node: Node, declared: Input) -> None:
    """A widget that hand-written JSON leaves out has its default, where it declares one."""
    if not declared.required:
        return
    if declared.is_widget and ("default" in declared.options or declared.choices):
        node.inputs[declared.name] = declared.read(declared.default)
    elif declared.is_widget:
        raise ValueError("is missing")
    else:
        raise ValueError(f"is not connected; it needs a link of type {declared.kind}")


def _check_link(link: Link, graph: Graph, catalog: Catalog) -> Any:
    """The type of the output a link comes from, or None where the source's type is unknown."""
    source = graph.nodes.get(link.source)
    if source is None:
        raise ValueError(f"is linked to node {link.source}, which the workflow does not contain")
    if source.type not in catalog:
        return None
    outputs = catalog[source.type].outputs
    if not 0 <= link.slot < len(outputs):
        raise ValueError(
            f"is linked to output {link.slot} of {source}, which has "
            f"{counted(len(outputs), 'output')}")
    return outputs[link.slot]


def _check_type(link: Link, received: Any, declared: Input, graph: Graph) -> None:
    if not accepts(received, declared.kind):
        expected = "one of a list" if declared.choices is not None else declared.kind
        raise TypeError(f"expects {expected} but is linked to output {link.slot} of "
                        f"{graph.nodes[link.source]}, which gives {received}")


def _ask_class(node: Node, signature: Signature, received: dict[str, Any]) -> list[str]:
    """Call VALIDATE_INPUTS as ComfyUI does: linked values are unknown yet, hence None."""
    if not hasattr(signature.node_class, "VALIDATE_INPUTS"):
        return []
    values = {name: None if isinstance(value, Link) else value
              for name, value in node.inputs.items() if name in signature.checked}
    if "input_types" in signature.checked:
        values["input_types"] = received
    try:
        answer = signature.node_class.VALIDATE_INPUTS(**values)
    except Exception as error:
        return [f"its own check of the inputs failed: {type(error).__name__}: {error}"]
    if answer is True:
        return []
    return [str(answer).rstrip(".") if answer else "its own check refuses these inputs"]
