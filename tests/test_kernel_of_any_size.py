"""Kernel Blur takes a kernel of any size, either way round."""

import pytest
import torch
from node_calls import call, photo
from scipy import ndimage

from undegrade.nodes.images import to_pixels
from undegrade.pipelines.operators.blur import KernelBlur

INNER = (..., slice(8, -8), slice(8, -8))


def drawn(height, width):
    return torch.rand(height, width, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("size", [(5, 5), (4, 4), (3, 6), (7, 2), (1, 4), (1, 1)])
def test_any_size_is_the_convolution_of_scipy(size):
    weights, (x, _) = drawn(*size), to_pixels(photo(40, 32))
    k = weights / weights.sum()
    y = KernelBlur(weights=weights)(x)
    for plane, blurred in zip(x[0], y[0], strict=True):
        origin = tuple(-1 if n % 2 == 0 else 0 for n in size)  # it centres even sides after turning
        wanted = torch.from_numpy(ndimage.convolve(plane.numpy(), k.numpy(), origin=origin))
        torch.testing.assert_close(blurred[INNER], wanted[INNER], atol=1e-5, rtol=0)


def test_a_turned_kernel_is_the_same_given_the_other_way_round():
    kernel = drawn(6, 9)[None, ..., None].expand(1, 6, 9, 3)
    turned, shown = call("UndegradeKernelBlur", kernel=kernel.flip(1, 2), turned=True)
    plain, same = call("UndegradeKernelBlur", kernel=kernel)
    x = to_pixels(photo(40, 32))[0]
    assert torch.equal(turned(x), plain(x)) and torch.equal(shown, same)
    assert not torch.allclose(call("UndegradeKernelBlur", kernel=kernel.flip(1, 2))[0](x), plain(x))
