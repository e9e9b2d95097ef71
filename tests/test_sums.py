"""Sums over samples: the same bits alone and in a batch, in as few kernels for many as for one."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from undegrade.pipelines.sums import by_rows, dot, dots, mean_square, squares

SHAPES = [(3, 5, 2), (3, 25, 17), (3, 64, 64), (3, 70, 61), (1, 96, 128), (3, 160, 160)]


class Kernels(TorchDispatchMode):
    """Counts operations that are more than another view of the same values."""

    def __init__(self):
        super().__init__()
        self.count, self.summed = 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not func.is_view
        if func.overloadpacket is torch.ops.aten.sum:
            self.summed.append(args[0].shape)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_sample_is_summed_as_it_is_alone(shape, draw):
    u, v = draw(9, *shape), draw(9, *shape) + 0.1
    products = (u * v).flatten(1)
    exact = products.double().sum(1)
    for add in (lambda b: dot(u[b], v[b]), lambda b: by_rows(products[b])):
        whole = add(slice(None))
        bound = 1e-6 * products.abs().sum(1).max()
        assert (whole - exact).abs().max() < bound
        for b in range(9):
            assert torch.equal(add(slice(b, b + 1)), whole[b : b + 1])
            assert torch.equal(add(slice(b, b + 3)), whole[b : b + 3])


@pytest.mark.parametrize("shape", SHAPES)
def test_many_samples_take_as_many_kernels_as_one(shape, draw):
    counts = set()
    for batch in (1, 2, 16):
        values = draw(batch, *shape).flatten(1)
        with Kernels() as kernels:
            by_rows(values)
        counts.add(kernels.count)
        for *rows, values in kernels.summed:  # what CUDA adds in one order, however many rows
            many = torch.Size(rows).numel() >= 16
            assert values <= 32 or (values <= 2048 and values % 4 == 0 and many)
    assert len(counts) == 1 and counts.pop() <= 4


def test_several_sums_are_those_of_each(draw):
    us, v = draw(2, 5, 3, 25, 17), draw(5, 3, 25, 17)
    products = (us * v).flatten(2)
    assert all(torch.equal(a, dot(u, v)) for a, u in zip(dots(us, v), us, strict=True))
    assert all(torch.equal(a, dot(u, u)) for a, u in zip(squares(*us), us, strict=True))
    together = by_rows(products.flatten(0, 1)).view(2, 5)
    assert all(torch.equal(a, by_rows(b)) for a, b in zip(together, products, strict=True))


def test_a_mean_square_is_that_of_each_sample(draw):
    v = draw(4, 3, 20, 30)
    assert torch.allclose(mean_square(v), v.double().square().mean((1, 2, 3)).float())
    assert torch.equal(mean_square(v[2:3])[0], mean_square(v)[2])
