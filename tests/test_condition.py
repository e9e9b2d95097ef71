"""How many steps are enough: the bound against dense matrices, and updates that take no more."""

import pytest
import torch
from dense_twins import asymmetric, dense, random_mask

from undegrade.pipelines import answers
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.operators.blur import GaussianBlur
from undegrade.pipelines.operators.canvas import Crop, NearestUpsample
from undegrade.pipelines.operators.compose import Compose
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.updates.condition import condition, steps_enough
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient

SIZE, RHO = (1, 16, 24), 1e-5
EVEN = {
    "bicubic": lambda: Downscale(4),
    "bicubic, half size": lambda: Compose((NearestUpsample(2), Downscale(4))),
    "bicubic, quarter": lambda: Compose((NearestUpsample(4), Downscale(4))),
    "mean": lambda: Downscale(4, "area"),
    "mean, quarter": lambda: Compose((NearestUpsample(4), Downscale(4, "area"))),
    "mean of 8/3": lambda: Downscale(8 / 3, "area"),
}


@pytest.mark.parametrize("name", EVEN)
def test_gradients_have_fallen_by_then(draw, name):
    operator, tolerance = EVEN[name](), 0.03
    A = dense(operator, SIZE)
    eigenvalues = torch.linalg.eigvalsh(A @ A.T)
    seen = eigenvalues[eigenvalues > 1e-9]
    kappa = condition(operator, torch.zeros(1, *SIZE))
    assert kappa == pytest.approx((seen[-1] / seen[0]).item(), rel=1e-4)
    steps = steps_enough(kappa, tolerance)
    x0_hat = draw(40, *SIZE)
    y = operator(x0_hat) + draw(*operator(x0_hat).shape)
    vectors = torch.linalg.eigh(A @ A.T)[1].T[eigenvalues > 1e-9].float()
    y[:20] = operator(x0_hat[:20])  # and what is hardest: as much of every eigenvector's gradient
    y[:20] += (torch.sign(draw(20, len(seen))) * seen.float().rsqrt() @ vectors).view_as(y[:20])
    update = ConjugateGradient(iterations=steps, tolerance=1e-4)
    z = update(x0_hat, 1.0, Measurement(y, operator, RHO**0.5)).double().flatten(1)
    start, target = x0_hat.double().flatten(1), y.double().flatten(1)
    first = (start @ A.T - target) @ A
    last = (z @ A.T - target) @ A + RHO * (z - start)
    assert (last.norm(dim=1) <= tolerance * first.norm(dim=1)).all()


def test_where_nothing_is_known_nothing_is_said():
    like = torch.zeros(1, *SIZE)
    for operator in (
        Downscale(5),  # borders weigh less
        Compose((Crop(15, 21), Downscale(3))),
        GaussianBlur(std=1.0),
        asymmetric("circular"),
        random_mask(1, 16, 24),
    ):
        assert condition(operator, like) is None
    circular = condition(GaussianBlur(std=1.0, border="circular"), like)
    assert circular is None or steps_enough(circular, 0.03) > 100
    assert steps_enough(4.0, 0.0) == torch.inf
    assert [steps_enough(k, 0.03) for k in (1.0, 4.2, 16.0)] == [1, 5, 11]


class Steps:
    """How often an operator is asked for its derivative, which is once a step."""

    def __init__(self, monkeypatch, operator):
        self.count, jvp = 0, type(operator).jvp

        def counted(*given):
            self.count += 1
            return jvp(*given)

        monkeypatch.setattr(type(operator), "jvp", counted)


RECORDED = {
    "mask": (lambda: random_mask(1, 16, 24), 1),
    "mask, quarter": (lambda: Compose((NearestUpsample(4), random_mask(1, 64, 96))), 1),
    "bicubic": (EVEN["bicubic"], 4),
    "mean": (EVEN["mean"], 1),
    "uneven": (lambda: Downscale(5), 10),
}


@pytest.mark.parametrize("name", RECORDED)
def test_a_recording_takes_no_more_steps_than_are_enough(draw, name, monkeypatch):
    make, expected = RECORDED[name]
    operator, x0_hat = make(), draw(3, *SIZE)
    m = Measurement(operator(draw(3, *SIZE)), operator, 0.05)
    alone = ConjugateGradient()(x0_hat, 1.0, m)
    steps = Steps(monkeypatch, operator)
    monkeypatch.setattr(answers, "recording", lambda: True)
    recorded = ConjugateGradient()(x0_hat, 1.0, m)
    assert torch.equal(alone, recorded) and steps.count == expected
