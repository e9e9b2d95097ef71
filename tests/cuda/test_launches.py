"""How many kernels a step of SubDAPS++ launches, and how many of them a recording plays back: as
torch's operations on a pretended card, one kernel or copy each."""

from collections import Counter

import pretended_device
import pytest
import torch
from every_node import output
from node_calls import call
from torch.utils._python_dispatch import TorchDispatchMode

from undegrade.nodes.comfyui.wall import left
from undegrade.pipelines import answers
from undegrade.pipelines.measurement import simulate
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.replay import ReplayedPrior
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient

pytestmark = pytest.mark.usefixtures("comfyui")
NONE = {"aten::empty_like", "aten::empty", "aten::new_empty", "aten::detach", "aten::_unsafe_view",
        "aten::lift_fresh", "aten::empty_strided", "aten::new_empty_strided"}  # fmt: skip
OPERATORS = {
    "super-resolution": ("UndegradeDownscale", {"factor": 4}),
    "motion": ("UndegradeMotionBlur", {"length": 5.0}),
    "Gaussian": ("UndegradeGaussianBlur", {"std": 2.0}),
    "inpainting": ("UndegradeInpaintingMask", {"mask": torch.eye(32)[None]}),
}


class Launched(TorchDispatchMode):
    """Counts the card's operations, by what they are launched for."""

    def __init__(self):
        super().__init__()
        self.counts, self.what = Counter(), "between"

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        there = any(isinstance(t, pretended_device.Pretended)
                    for t in pretended_device.tensors_of((*args, out)))  # fmt: skip
        if there and not func.is_view and func._schema.name not in NONE:
            self.counts[self.what] += 1
        return out

    def replay(self, key, work, *tensors):
        before = self.what
        self.what = "network" if hasattr(key[0], "denoise") else "update"
        try:
            return work(*tensors)
        finally:
            self.what = before


def of_a_step(name, pictures, use):
    """What the second of four steps launches; the first makes constants."""
    use(pretended_device.CARD)
    node, given = OPERATORS[name]
    operator = call(node, **given)[0]
    prior, seeds = output("UndegradeLoadPixelPrior"), [*range(pictures)]
    torch.nn.Module.to(prior.network, pretended_device.CARD)
    m = simulate(torch.zeros(pictures, 3, 32, 32), operator, 0.05, per_sample_noise(seeds))
    m = m.at(operator, m.y.to(pretended_device.CARD))
    options = SamplerOptions(steps=4)
    with Launched() as launched:
        quick = ReplayedPrior(prior, launched.replay)
        run = restore(
            quick, m, schedule_for(quick, options), ConjugateGradient(), per_sample_noise(seeds),
            complementary=True, replay=launched.replay,
        )  # fmt: skip
        for _ in range(2):
            launched.counts.clear()
            next(run)
    return dict(launched.counts)


NETWORK, BETWEEN = 117, 8  # noise, finiteness and the next state are between
UPDATES = {  # for 16 pictures as for two
    "super-resolution": 102, "motion": 270, "Gaussian": 208, "inpainting": 25,
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_a_step_launches_no_more_than_written_down(name, use, monkeypatch):
    monkeypatch.setattr(answers, "recording", lambda: True)
    known = {"network": NETWORK, "update": UPDATES[name], "between": BETWEEN}
    with pretended_device.pretended(), left():
        for pictures in (1, 8):
            found = of_a_step(name, pictures, use)
            assert {what: n for what, n in found.items() if n > known[what]} == {}, found
            assert found.keys() == known.keys()
