"""The training loop: an interrupted run ends in the same weights, bit for bit."""

import csv
import os
import signal

import numpy as np
import pytest
import torch
from torch import nn

from undegrade.training import loop


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
        out=str(out), steps=steps, batch=8, rate=0.02, warm_up=3, save_every=10,
        validate_every=5, **{"average": 0.9, **given},
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


def test_a_resumed_run_ends_in_the_same_weights(tmp_path):
    whole = weights(run(tmp_path / "whole", 40))
    run(tmp_path / "cut", 40, stop_at=27)  # seven steps after its last checkpoint
    assert [p.name for p in loop.checkpoints(tmp_path / "cut")] == ["00000020"]
    resumed = weights(run(tmp_path / "cut", 40))
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
    table = [rows(tmp_path / name) for name in ("whole", "cut")]
    assert [[r["step"] for r in t] for t in table] == 2 * [list(map(str, range(5, 41, 5)))]
    assert table[0][7]["square"] == table[1][7]["square"]
    assert float(table[0][7]["square"]) < 0.3 * float(table[0][0]["square"])
    assert float(table[0][7]["error"]) < float(table[0][0]["error"])
    for name, given in (("seed", {"seed": 1}), ("average", {"average": 0.0})):
        other = weights(run(tmp_path / name, 40, **given))
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
    options = loop.LoopOptions(out=str(tmp_path), steps=30, batch=4)
    accelerator = loop.start(options)
    with pytest.raises(KeyboardInterrupt):
        for step in loop.train(Line(), POINTS, options, accelerator):
            if step == 3:
                os.kill(os.getpid(), signal.SIGTERM)
    assert [p.name for p in loop.checkpoints(tmp_path)] == ["00000004"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_rate_rises_and_falls():
    options = loop.LoopOptions(steps=100, warm_up=10, rate=1.0)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)

    def rate(step):
        loop.set_rate(optimizer, options, step)
        return optimizer.param_groups[0]["lr"]

    assert rate(1) < rate(5) < rate(10) and rate(10) > 0.97
    assert rate(55) == pytest.approx(0.01 + 0.99 * 0.5 * (1 + np.cos(0.55 * np.pi)))
    assert rate(100) == pytest.approx(0.01)
