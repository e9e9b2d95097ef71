"""Who reads a run's trajectory: correctors that come later, and nodes that get other ids."""

import numpy
from comfyui.graphs import downstream, graph, only, with_numbers

NAME, SAMPLER = "demo_trajectory", "UndegradePosteriorSampler"


def renumbered(prompt):
    """The same graph inside a subgraph, as the frontend names its nodes."""

    def named(value):
        return [f"99:{value[0]}", value[1]] if isinstance(value, list) else value

    return {
        f"99:{i}": {**node, "inputs": {name: named(v) for name, v in node["inputs"].items()}}
        for i, node in prompt.items()
    }


def test_nodes_that_move_into_a_subgraph_are_not_run_again(server, known):
    prompt = graph(NAME, known)
    first, again = server.run(prompt), server.run(renumbered(prompt))
    assert first.end == again.end == "success", again.error
    assert again.cached == set(renumbered(prompt)) and not again.executed


def test_a_corrector_that_comes_later_is_fed_by_a_run_of_its_own(server, known):
    prompt = graph(NAME, known)
    own = only(prompt, SAMPLER)
    prompt[own]["inputs"]["seed"] = 77
    prompt["90"] = {"class_type": "PreviewImage", "inputs": {"images": [own, 0]}}
    prompt = with_numbers(prompt, "later")
    readers = [i for i, n in prompt.items() if [own, 1] in n["inputs"].values()]
    later = set().union(*(downstream(prompt, i) for i in readers))

    def numbers(asked):
        done = server.run(asked)
        assert done.end == "success", done.error
        found = {p.name: numpy.load(p) for p in (server.base / "numbers").glob("later.*.npy")}
        return done, found

    done, _ = numbers({i: node for i, node in prompt.items() if i not in later})
    assert own in done.executed
    done, late = numbers(prompt)
    assert own in done.cached and later <= done.executed
    numbers({**prompt, own: {**prompt[own], "inputs": {**prompt[own]["inputs"], "seed": 78}}})
    done, fresh = numbers(prompt)
    assert own in done.executed
    assert late.keys() == fresh.keys() and len(late) > 2
    assert all(numpy.array_equal(late[name], fresh[name]) for name in late)
