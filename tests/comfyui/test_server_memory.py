"""Fifty queued runs leave the server's memory where it was."""

import sys
from pathlib import Path

import pytest
from comfyui.conftest import start
from comfyui.graphs import catalog, graph
from PIL import Image

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
RUNS, SETTLED = 50, 10
SIZE = (128, 112)  # one picture kept from every run would add 6.6 MiB
MIB = 2**20
RETURNED = {  # what is freed goes back to the system at once, so that it is not counted
    "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "524288", "MALLOC_TRIM_THRESHOLD_": "524288",
}  # fmt: skip


@pytest.fixture(scope="module")
def fresh(place, photo):
    """A server of its own, so that no other test's models count."""
    with start(place / "memory", **RETURNED) as server:
        Image.open(photo).resize(SIZE).save(server.base / "input" / photo.name)
        yield server


def resident(server) -> float:
    """What the server's process holds, in MiB."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * 4096 / MIB


def seeded(prompt, seed):
    """The graph with other seeds: nothing that draws is taken from the cache."""
    return {
        node_id: {**node, "inputs": {n: seed if n == "seed" and not isinstance(v, list) else v
                                     for n, v in node["inputs"].items()}}
        for node_id, node in prompt.items()
    }  # fmt: skip


CASES = {  # name -> (workflows, MiB that may be added)
    "one graph": (["demo_super_resolution_x4"], 3),
    "five graphs in turn": (["Sharpen a blurred photo", "Use AdaDiffSR with its regressor",
                             "demo_uncertainty_map", "Enlarge a small bad picture",
                             "demo_daps_and_subdaps"], 12),
    "a prior loaded anew": (["demo_random_inpainting"], 100),  # it would be 280 if they all stayed
}  # fmt: skip


def precise(prompt, number):
    """The graph with its prior loaded in another number format each time."""
    for node in prompt.values():
        if node["class_type"] == "UndegradeLoadPixelPrior":
            node["inputs"]["precision"] = ("float32", "bfloat16")[number % 2]
    return prompt


@pytest.mark.parametrize("case", CASES)
def test_memory_stays(fresh, case, record_property):
    known, (names, most) = catalog(fresh.get("/object_info")), CASES[case]
    prompts, used = [graph(name, known) for name in names], []
    for number in range(RUNS):
        prompt = seeded(prompts[number % len(prompts)], 1000 + number)
        run = fresh.run(precise(prompt, number) if case == "a prior loaded anew" else prompt)
        assert run.end == "success", run.error
        used.append(resident(fresh))
    settled, last = used[SETTLED - 1], used[-1]
    record_property(f"{case}: MiB after runs {SETTLED} and {RUNS}", f"{settled:.1f}, {last:.1f}")
    assert last - settled < most, [round(value) for value in used]
