"""Float32 is float32 behind the wall, and runs repeat; the user's choices hold again after it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from undegrade.nodes.comfyui.wall import repeatable
from undegrade.pipelines.operators import jpeg

cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul


def chosen():
    return cudnn.allow_tf32, matmul.allow_tf32, torch.get_float32_matmul_precision()


@pytest.mark.parametrize("convolutions", [True, False])
@pytest.mark.parametrize("products", [True, False])
def test_tf32_is_off_inside_and_as_it_was_outside(convolutions, products):
    kept = cudnn.allow_tf32, matmul.allow_tf32
    try:
        cudnn.allow_tf32, matmul.allow_tf32 = convolutions, products
        before = chosen()
        with pytest.raises(KeyError), repeatable():
            assert chosen() == (False, False, "highest")
            raise KeyError
        assert chosen() == before
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = kept


def test_threads_that_overlap_do_not_end_each_others():
    """As tasks of `batch --together` do."""
    kept = cudnn.allow_tf32
    try:
        cudnn.allow_tf32 = True
        first, second = repeatable(), repeatable()
        with ThreadPoolExecutor(1) as other:
            first.__enter__()
            other.submit(second.__enter__).result()
            first.__exit__(None, None, None)
            assert not cudnn.allow_tf32
            other.submit(second.__exit__, None, None, None).result()
        assert cudnn.allow_tf32
    finally:
        cudnn.allow_tf32 = kept


@pytest.mark.parametrize("name, wanted", [("deterministic", True), ("benchmark", False)])
@pytest.mark.parametrize("chosen", [True, False])
def test_cudnn_repeats_inside_and_does_as_chosen_outside(name, wanted, chosen):
    kept = getattr(cudnn, name)
    try:
        setattr(cudnn, name, chosen)
        with repeatable():
            assert getattr(cudnn, name) is wanted
        assert getattr(cudnn, name) is chosen
    finally:
        setattr(cudnn, name, kept)


@pytest.mark.skipif(not hasattr(matmul, "fp32_precision"), reason="torch has one way only")
def test_also_where_it_was_chosen_in_torchs_newer_way():
    kept = matmul.fp32_precision
    try:
        matmul.fp32_precision = "tf32"
        with repeatable():
            assert matmul.fp32_precision == "ieee" and not cudnn.allow_tf32
        assert matmul.fp32_precision == "tf32" and cudnn.allow_tf32
    finally:
        matmul.fp32_precision = kept
    assert not matmul.allow_tf32


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_also_where_products_were_given_a_precision(precision):
    try:
        torch.set_float32_matmul_precision(precision)
        with repeatable():
            assert torch.get_float32_matmul_precision() == "highest" and not matmul.allow_tf32
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.skipif(not hasattr(cudnn, "conv"), reason="torch has one way only")
@pytest.mark.parametrize("owner", [torch.backends, cudnn])
def test_also_where_it_was_chosen_for_everything(owner):
    kept = owner.fp32_precision
    try:
        owner.fp32_precision = "tf32"
        with repeatable():
            assert cudnn.conv.fp32_precision == "ieee" and not cudnn.allow_tf32
        assert cudnn.conv.fp32_precision == "tf32" and cudnn.allow_tf32
    finally:
        owner.fp32_precision = kept


def test_overlapping_threads_leave_no_algorithms_deterministic():
    first, second = jpeg.repeatable(), jpeg.repeatable()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.are_deterministic_algorithms_enabled()
    second.__exit__(None, None, None)
    assert not torch.are_deterministic_algorithms_enabled()
