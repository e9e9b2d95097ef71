"""What is run again: nothing for the same graph, and what depends on a widget that was changed."""

import pytest
from comfyui.graphs import downstream, graph

NAMES = ("demo_super_resolution_x4", "demo_daps_and_subdaps", "Use AdaDiffSR",
         "Enlarge a small bad picture", "demo_uncertainty_map", "Remove an object",
         "demo_trajectory")  # fmt: skip
CHANGED = ("seed", "noise_level", "tolerance", "threshold", "strength", "gain", "max_skip", "std",
           "preconditioned", "width", "iterations")  # fmt: skip


def another(widget, value):
    """A value that the widget may have too."""
    if widget.kind == "BOOLEAN":
        return not value
    step = 1 if widget.kind == "INT" else 0.01
    return value + step if value + step <= widget.options["max"] else value - step


def changes(prompt, known):
    """(node, widget, another value) for one widget of every node of ours that has such a one."""
    for node_id, node in prompt.items():
        widgets = known[node["class_type"]].widgets
        names = [name for name in CHANGED if name in widgets and name in node["inputs"]]
        names = [name for name in names if not isinstance(node["inputs"][name], list)]
        if names and node["class_type"].startswith("Undegrade"):
            value = node["inputs"][names[0]]
            yield node_id, names[0], another(widgets[names[0]], value)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_graph_is_not_run_again(server, known, name):
    prompt = graph(name, known)
    first, again = server.run(prompt), server.run(prompt)
    assert first.end == again.end == "success", first.error
    assert again.cached == set(prompt) and not again.executed
    shown = [server.get(f"/history/{run.prompt_id}")[run.prompt_id]["outputs"]
             for run in (first, again)]  # fmt: skip
    assert shown[0] == shown[1]  # pictures and figures are there all the same
    assert set(shown[0]) >= set(first.shown)
    if tells_again(server):
        texts = {i: said for i, said in first.shown.items() if said.get("text")}
        assert texts.items() <= again.shown.items()


def tells_again(server):
    """Whether this ComfyUI sends again what a node shows that was taken from the cache."""
    node = "UndegradeEstimateNoiseLevel"
    return server.get(f"/object_info/{node}")[node].get("has_intermediate_output", False)


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_widget_runs_what_depends_on_it(server, known, name):
    prompt = graph(name, known)
    assert server.run(prompt).end == "success"
    tried = 0
    for node_id, widget, value in changes(prompt, known):
        changed = {**prompt[node_id], "inputs": {**prompt[node_id]["inputs"], widget: value}}
        run = server.run({**prompt, node_id: changed})
        assert run.end == "success", run.error
        assert run.executed == downstream(prompt, node_id), (node_id, widget, value)
        assert run.cached == set(prompt) - run.executed
        assert server.run(prompt).end == "success"  # back to the first
        tried += 1
    assert tried >= 2
