"""Whole runs on a card: the CPU's pictures, the same twice, and how often the host waits."""

import copy
from contextlib import contextmanager

import pretended_device
import pytest
import torch
from every_node import output, small_inputs
from node_calls import call, measured, photo

from undegrade.models.pixel import PixelPrior
from undegrade.nodes.comfyui.wall import repeatable
from undegrade.pipelines import answers

pytestmark = pytest.mark.usefixtures("comfyui")
STEPS = 6


def sampled(**given):
    """The Posterior Sampler with the built-in prior at three resolutions."""
    prior = given.pop("prior", None) or output("UndegradeMultiResolutionPrior")
    m = given.pop("measurement", None) or measured()[1]
    given = {"prior": prior, "measurement": m, "steps": STEPS, **given}
    return call("UndegradePosteriorSampler", **given)[0]


def daps():
    update = call("UndegradeLangevinMeasurementUpdate", iterations=3)[0]
    return sampled(prior=output("UndegradeLoadPixelPrior"), update=update, ode_steps=2)


def dps():
    return sampled(update=output("UndegradeGradientMeasurementUpdate"))


def tiled():
    prior = call("UndegradeTiledPrior", prior=output("UndegradeLoadPixelPrior"), tile=32,
                 overlap=16, tiles_per_call=3)[0]  # fmt: skip
    return sampled(prior=prior, update=output("UndegradeGradientMeasurementUpdate"))


def blurred():
    """A blur that is a network, first on pictures of the CPU, then in the run."""
    operator = output("UndegradeNonlinearBlur")
    image, m = call("UndegradeDegradeImage", image=photo(64, 64), operator=operator)
    declared = call("UndegradeMeasurementFromImage", image=image, operator=operator)[0]
    assert m.y.device == declared.y.device == image.device
    update = call("UndegradeCGMeasurementUpdate", iterations=2)[0]
    prior = output("UndegradeLoadPixelPrior")
    restored = sampled(prior=prior, measurement=m, update=update, steps=2)
    residual = call("UndegradeMeasurementConsistency", image=restored, measurement=declared)[0]
    return torch.cat([restored, residual])


def regions():
    return call("UndegradeRegionAdaptiveSampler", **small_inputs("UndegradeRegionAdaptiveSampler"))


def inversion():
    given = {**small_inputs("UndegradeInversionSampler"), "sigmas": None, "steps": 3}
    return call("UndegradeInversionSampler", **given)[0]


RUNS = {
    "SubDAPS++": sampled,
    "DAPS": daps,
    "DPS": dps,
    "tiled": tiled,
    "nonlinear blur": blurred,
    "regions": lambda: regions()[0]["samples"],
    "inversion": inversion,
}
every_run = pytest.mark.parametrize("name", RUNS)


@every_run
def test_a_run_gives_the_cpus_picture(name, card, use):
    use("cpu")
    expected = RUNS[name]()
    use(card)
    result = RUNS[name]()
    assert result.device.type == "cpu"
    apart = (expected - result).square().mean().sqrt()
    assert apart < 0.006 * (1 + expected.std())  # 0.05 dB of an error of 0.05
    if name not in WAITS:  # of the others it is seen where waits are counted
        assert torch.equal(RUNS[name](), result)


@pytest.mark.cuda
@every_run
def test_the_same_seed_gives_the_same_bits(name, cuda, use):
    with repeatable():
        use(cuda)
        assert torch.equal(RUNS[name](), RUNS[name]())


class OnACardOfItsOwn(PixelPrior):
    """As ComfyUI's models may be, which are not all loaded on its default device."""

    @contextmanager
    def running(self):
        self.network.to(pretended_device.CARD)
        yield pretended_device.CARD


def test_an_inversion_where_the_prior_is_not_on_the_default_device(use):
    def enlarged(prior):
        given = {**small_inputs("UndegradeInversionSampler"), "prior": prior, "steps": 2}
        return call("UndegradeInversionSampler", **{**given, "sigmas": None})[0]

    use("cpu")
    built_in = output("UndegradeLoadPixelPrior")
    expected = enlarged(built_in)
    with pretended_device.pretended():
        own = OnACardOfItsOwn(copy.deepcopy(built_in.network), built_in.spec)
        assert (enlarged(own) - expected).abs().max() < 1e-4


TOLD = "pipelines/operators/adjoint.py told"  # once a check
PROBE = "pipelines/operators/adjoint.py probe"
FINITE = "pipelines/answers.py end"  # of all predictions, once a run
DENSE = "pipelines/operators/compose.py <lambda>"
HALVED = "pipelines/operators/banded.py banded"
SENT, GIVEN = "nodes/posterior/sampler.py run", "nodes/images.py channels"
KEPT = "nodes/posterior/correctors.py states_of"  # the corrector's state, once a run
WAITS = {  # (what is read back, what is sent) in a whole run
    "SubDAPS++": (  # nothing in a step: a derivative at each of two sizes, and the result
        {TOLD: 2, FINITE: 1, GIVEN: 1, KEPT: 1},
        {SENT: 1, DENSE: 4, PROBE: 4},
    ),
    "DAPS": (
        {TOLD: 1, FINITE: 1, GIVEN: 1, KEPT: 1},
        {SENT: 1, HALVED: 4, PROBE: 2},
    ),
    "DPS": (  # its derivative is tried at every level
        {TOLD: 8, FINITE: 1, GIVEN: 1, KEPT: 1},
        {SENT: 1, DENSE: 4, PROBE: 10},
    ),
    "tiled": (
        {TOLD: 3, FINITE: 1, GIVEN: 1, KEPT: 1},
        {SENT: 1, HALVED: 4, PROBE: 4},
    ),
    "regions": (  # one read a call: what the regions gained
        {FINITE: 1, "pipelines/adadiffsr/information_gain.py __call__": 10,
         "nodes/images.py given": 1},
        {"nodes/regions/sampler.py task_of": 2},
    ),
    "inversion": (
        {FINITE: 1, "nodes/inversion/sampler.py enlarge": 1,
         "pipelines/invsr/sampler.py predicted": 1},
        {"nodes/inversion/sampler.py enlarge": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WAITS)
def test_the_host_waits_no_more_often_than_written_down(name, use, monkeypatch):
    """As where updates are played back: of those that are not, one may be told that it ended."""
    monkeypatch.setattr(answers, "recording", lambda: True)
    with pretended_device.pretended() as waits:
        use(pretended_device.CARD)
        first = RUNS[name]()  # constants are made and sent once
        waits.clear()
        assert torch.equal(RUNS[name](), first)
    for seen, known in zip((waits.reads, waits.uploads), WAITS[name], strict=True):
        assert {line: n for line, n in seen.items() if n > known.get(line, 0)} == {}
