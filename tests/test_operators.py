"""One battery for every degradation operator of `operator_cases`.

That each is what it says stands in test_operator_parity.
"""

import contextlib

import pytest
import torch
from operator_cases import CASES, LINEAR, NONLINEAR, cases

from undegrade.nodes.comfyui.wall import left
from undegrade.pipelines.operators.canvas import Crop
from undegrade.pipelines.operators.inpainting import Inpainting

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def dot(u, v):
    return (u.double() * v.double()).sum().item()


def gap(a, b):
    """Largest difference, relative to the largest value."""
    return ((a - b).abs().max() / b.abs().max().clamp(min=1e-30)).item()


def structured(name):
    table = {key: case for key, case in LINEAR.items() if name in case.make().structure}
    assert table
    return cases(table)


def dense(operator, size):
    """A's matrix for one channel, float64."""
    n = size[0] * size[1]
    return operator(torch.eye(n, dtype=torch.float64).view(n, 1, *size)).flatten(1).T


@cases(LINEAR)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_adjoint_and_linearity(case, dtype, draw):
    operator, tolerance = case.make(), TOLERANCE[dtype]
    x, z = (draw(3, 3, *case.size, dtype=dtype) for _ in range(2))
    a_x, adjoint = operator.vjp(x)
    u = draw(*a_x.shape, dtype=dtype)
    assert adjoint(u).shape == x.shape
    assert adjoint(u).dtype == a_x.dtype == dtype
    assert abs(dot(a_x, u) - dot(x, adjoint(u))) <= tolerance * (a_x.norm() * u.norm()).item()
    assert torch.equal(operator.jvp(z, x), a_x)
    assert operator.linear
    assert gap(operator(2 * x - 0.3 * z), 2 * a_x - 0.3 * operator(z)) < 5 * tolerance


@cases(CASES)
def test_overrides_are_the_derived_derivatives(case, draw):
    operator = case.make()
    x, v = (draw(3, 3, *case.size, dtype=torch.float64) for _ in range(2))
    y, pullback = operator.vjp(x)
    derived_y, derived = torch.func.vjp(operator.__call__, x)[:2]
    u = draw(*y.shape, dtype=torch.float64)
    assert torch.equal(y, derived_y)
    assert gap(pullback(u), derived(u)[0]) < 1e-10
    derived_jvp = torch.func.jvp(operator.surrogate, (x,), (v,))[1]
    assert gap(operator.jvp(x, v), derived_jvp) < 1e-10


@cases(NONLINEAR)
def test_derivatives_agree_with_finite_differences(case, draw):
    operator = case.make()
    x, v = (draw(3, 3, *case.size, dtype=torch.float64) for _ in range(2))
    x, h = 0.3 * x, 1e-6
    y, pullback = operator.vjp(x)
    u = draw(*y.shape, dtype=torch.float64)
    slope = (operator(x + h * v) - operator(x - h * v)) / (2 * h)
    assert abs(dot(u, slope) - dot(pullback(u), v)) < 1e-4 * abs(dot(u, slope))
    smooth = (operator.surrogate(x + h * v) - operator.surrogate(x - h * v)) / (2 * h)
    assert (smooth - operator.jvp(x, v)).norm() < 1e-4 * smooth.norm()
    assert not operator.linear


@cases(CASES)
def test_a_sample_does_not_depend_on_its_batch_and_inputs_stay(case, draw):
    operator = case.make()
    x, v = draw(3, 3, *case.size), draw(3, 3, *case.size)
    before = x.clone()
    y, pullback = operator.vjp(x)
    u = draw(*y.shape)
    u_before = u.clone()
    whole = y, pullback(u), operator.jvp(x, v)
    assert torch.equal(x, before)
    assert torch.equal(u, u_before)
    if isinstance(operator, Inpainting) and operator.seen.shape[0] == 3:
        operator = Inpainting(operator.seen[1:2])
    y_1, pullback_1 = operator.vjp(x[1:2])
    alone = y_1, pullback_1(u[1:2]), operator.jvp(x[1:2], v[1:2])
    for one, many in zip(alone, whole, strict=True):  # JPEG divides by quantisation steps
        assert gap(one, many[1:2]) < (1e-6 if operator.linear else 1e-5)


@cases(CASES)
def test_sizes_and_first_guess(case, draw):
    operator = case.make()
    y = operator(draw(3, 3, *case.size))
    whole = any(isinstance(m, Crop) for m in getattr(operator, "operators", (operator,)))
    if not whole:  # a crop forgets how large the canvas was
        assert operator.input_size(*y.shape[-2:]) == case.size
    guess = operator.guess(y)
    assert tuple(guess.shape) == (3, 3, *operator.input_size(*y.shape[-2:]))
    assert torch.isfinite(guess).all()


@contextlib.contextmanager
def as_a_node():
    """Where ComfyUI has called a node of the pack."""
    with torch.inference_mode(), left():
        yield


@cases(CASES)
@pytest.mark.parametrize("first", ["inference", "derivative", "plain"])
def test_constants_serve_every_mode_wherever_they_were_made(case, first, draw):
    operator = case.make()
    x = draw(3, 3, *case.size)
    if first == "derivative":
        torch.func.vjp(operator.__call__, x)[1](operator(x))
        torch.func.jvp(operator.surrogate, (x,), (x,))
    with as_a_node() if first == "inference" else contextlib.nullcontext():
        y, pullback = operator.vjp(x)
        back, forth = pullback(y), operator.jvp(x, x)
    leaf = x.clone().requires_grad_()
    operator(leaf).backward(y.clone())
    assert gap(back, leaf.grad) < 1e-5
    with as_a_node():
        assert gap(operator.vjp(x)[1](y), back) < 1e-6
        assert gap(operator.jvp(x, x), forth) < 1e-6
        assert torch.equal(operator(x), y)


@structured("separable")
def test_separable_operators_are_their_matrices(case, draw):
    operator = case.make()
    x = draw(2, 3, *case.size, dtype=torch.float64)
    rows, columns = operator.matrices(*case.size)
    assert rows.dtype == columns.dtype == torch.float64
    assert gap(rows @ x @ columns.T, operator(x)) < 1e-12


@structured("one_to_one")
def test_one_to_one_operators_have_a_diagonal_normal_matrix(case):
    operator = case.make()
    A = dense(Inpainting(operator.seen[:1]) if hasattr(operator, "seen") else operator, case.size)
    assert ((A != 0).sum(1) <= 1).all()
    normal = A.T @ A
    assert torch.equal(normal, normal.diagonal().diag())


@structured("circulant")
def test_circulant_operators_commute_with_shifts(case, draw):
    operator = case.make()
    x = draw(1, 1, *case.size, dtype=torch.float64)

    def normal(z):
        return operator.vjp(z)[1](operator(z))

    for shift in ((1, 0), (0, 1), (5, -3)):
        moved = normal(x.roll(shift, (-2, -1)))
        assert gap(moved, normal(x).roll(shift, (-2, -1))) < 1e-12
