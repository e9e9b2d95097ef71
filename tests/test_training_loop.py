"""The training loop: an interrupted run ends in the same weights, bit for bit."""

import csv
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from undegrade.training import loop, optimizers


class Line(loop.Task):
    """Fits y = 2 x + 1 with noise from the generator and a dropout, so that both are held."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(1, 8), nn.SiLU(), nn.Linear(8, 1))

    def forward(self, batch, generator):
        noise = torch.randn(batch.shape, generator=generator)
        y = self.network(batch + 0.05 * noise)
        y = nn.functional.dropout(y, 0.05, self.training)  # from the global generator
        return {"square": (y - 2 * batch - 1).square().mean()}

    def validate(self):
        x = torch.linspace(-1, 1, 9)[:, None]
        return {"error": float((self.network(x) - 2 * x - 1).abs().mean())}, None


POINTS = torch.linspace(-1, 1, 4096)[torch.randperm(4096, generator=torch.Generator())][:, None]


def run(out, steps, stop_at=0, **given):
    """A run of `Line`, left at a step or finished; its task."""
    options = loop.LoopOptions(
        out=str(out), steps=steps, batch=8, warm_up=3, save_every=10, validate_every=5,
        **{"average": 0.9, "rate": 0.02, **given},
    )
    accelerator = loop.start(options)
    task = Line()
    for step in loop.train(task, POINTS, options, accelerator):
        if step == stop_at:
            break
    return task


def weights(task) -> list[torch.Tensor]:
    return [p.detach().clone() for p in task.network.parameters()]


def rows(out) -> list[dict]:
    with (out / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("chosen", [{}, {"optimizer": "muon", "rate": 0.1}])
def test_a_resumed_run_ends_in_the_same_weights(tmp_path, chosen):
    whole = weights(run(tmp_path / "whole", 40, **chosen))
    run(tmp_path / "cut", 40, stop_at=27, **chosen)  # seven steps after its last checkpoint
    assert [p.name for p in loop.checkpoints(tmp_path / "cut")] == ["00000020"]
    resumed = weights(run(tmp_path / "cut", 40, **chosen))
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
    table = [rows(tmp_path / name) for name in ("whole", "cut")]
    assert [[r["step"] for r in t] for t in table] == 2 * [list(map(str, range(5, 41, 5)))]
    assert table[0][7]["square"] == table[1][7]["square"]
    assert float(table[0][7]["square"]) < 0.3 * float(table[0][0]["square"])
    assert float(table[0][7]["error"]) < float(table[0][0]["error"])
    for name, given in (("seed", {"seed": 1}), ("average", {"average": 0.0})):
        other = weights(run(tmp_path / name, 40, **chosen, **given))
        assert not torch.equal(other[0], whole[0]), f"the {name} plays no part"


def test_a_finished_run_has_nothing_left_to_do_and_a_longer_one_goes_on(tmp_path):
    whole = weights(run(tmp_path, 20))
    assert all(torch.equal(a, b) for a, b in zip(whole, weights(run(tmp_path, 20)), strict=True))
    run(tmp_path, 30)
    with pytest.raises(ValueError, match="has seen 30 steps, but 20 are asked for"):
        run(tmp_path, 20)


def test_a_half_written_checkpoint_is_not_one(tmp_path):
    whole = weights(run(tmp_path / "a", 20))
    run(tmp_path / "b", 20, stop_at=12)
    (tmp_path / "b" / "checkpoints" / "part").mkdir()
    (tmp_path / "b" / "checkpoints" / "part" / "model.safetensors").write_text("broken")
    resumed = weights(run(tmp_path / "b", 20))
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


def test_a_signal_ends_the_run_with_a_checkpoint(tmp_path):
    before = signal.getsignal(signal.SIGTERM)  # another library may have its own
    options = loop.LoopOptions(out=str(tmp_path), steps=30, batch=4)
    accelerator = loop.start(options)
    with pytest.raises(KeyboardInterrupt):
        for step in loop.train(Line(), POINTS, options, accelerator):
            if step == 3:
                os.kill(os.getpid(), signal.SIGTERM)
    assert [p.name for p in loop.checkpoints(tmp_path)] == ["00000004"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_rate_rises_and_falls():
    def rate(step):
        return optimizers.rate_at(step, steps=100, warm_up=10, highest=1.0)

    assert rate(1) < rate(5) < rate(10) and rate(10) > 0.97
    assert rate(55) == pytest.approx(0.01 + 0.99 * 0.5 * (1 + np.cos(0.55 * np.pi)))
    assert rate(100) == pytest.approx(0.01)


@pytest.mark.parametrize("shape", [(20, 7), (7, 20), (12, 12), (8, 3, 3, 3)])
def test_muon_makes_singular_values_equal_and_keeps_the_vectors(shape, draw):
    weight, gradient = nn.Parameter(draw(*shape)), draw(*shape)
    before, weight.grad = weight.detach().clone(), gradient
    optimizers.Muon([weight], lr=0.1).step()
    left, _, right = torch.linalg.svd(gradient.flatten(1), full_matrices=False)
    length = 0.1 * 0.2 * max(gradient.flatten(1).shape) ** 0.5
    step = (before * (1 - 0.1 * 0.01) - weight.detach()).flatten(1) / length
    inner = left.T @ step @ right.T
    assert inner.diagonal().min() > 0.6 and inner.diagonal().max() < 1.3
    assert (inner - inner.diagonal().diag()).abs().max() < 0.1
    assert (step - left @ inner @ right).abs().max() < 0.1


def test_muon_remembers_and_serves_matrices_only(draw):
    weight, bias = nn.Parameter(torch.zeros(6, 6)), nn.Parameter(torch.zeros(6))
    matrices, rest = optimizers.optimizers([weight, bias], "muon", 0.1)
    assert [id(p) for p in matrices.param_groups[0]["params"]] == [id(weight)]
    assert [id(p) for p in rest.param_groups[0]["params"]] == [id(bias)]
    first, second = draw(6, 6), draw(6, 6)
    for gradient in (first, second):
        weight.grad = gradient
        matrices.step()
    momentum = 0.95 * 0.05 * first + 0.05 * second
    assert torch.allclose(matrices.state[weight]["momentum"], momentum, atol=1e-6)
    optimizers.set_rate([matrices, rest], 0.5)
    assert {g["lr"] for s in (matrices, rest) for g in s.param_groups} == {0.5}


TWO = """
import os, signal, sys
sys.path[:0] = sys.argv[1:3]
import accelerate, conftest, test_training_loop as t
task = t.run(sys.argv[3], steps=6, average=0.0)
print(accelerate.PartialState().num_processes, [float(w.sum()) for w in t.weights(task)])
options = t.loop.LoopOptions(out=sys.argv[3] + "-ended", steps=500, batch=2)
accelerator = t.loop.start(options)
try:
    for step in t.loop.train(t.Line(), t.POINTS, options, accelerator):
        if step == 3 and accelerator.process_index == 1:
            os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    print("stopped after", step)
"""


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What two processes print of two runs of theirs, on one CPU, started as torchrun does, and
    where the second run went."""
    out = tmp_path_factory.mktemp("two") / "run"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    tests = Path(__file__).resolve().parent
    command = [sys.executable, "-c", TWO, str(tests), str(tests.parent), str(out)]
    started = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=out.parent,
            env={**os.environ, **shared, "RANK": str(k), "LOCAL_RANK": str(k)},
        )
        for k in range(2)
    ]
    try:
        said = [process.communicate(timeout=100)[0].splitlines() for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0]
    return said, out.with_name("run-ended")


def test_two_processes_share_a_run(two_processes, tmp_path):
    """Each has its own samples, and all have one set of weights."""
    said = [lines[0] for lines in two_processes[0]]
    alone = run(tmp_path / "alone", 6, average=0.0)
    assert said[0] == said[1] and said[0].startswith("2 [")
    assert said[0][2:].strip() != str([float(w.sum()) for w in weights(alone)])


def test_a_signal_to_one_process_ends_all_after_the_same_step(two_processes):
    said, out = two_processes
    assert [lines[1:] for lines in said] == [["stopped after 4"]] * 2
    assert [folder.name for folder in loop.checkpoints(out)] == ["00000004"]
