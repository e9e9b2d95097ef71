import pytest
import torch

from undegrade.pipelines.cosines import cosines, transformed, transformed_back


@pytest.mark.parametrize("n", [1, 2, 3, 8, 37, 64])
def test_the_fast_transform_is_the_matrix_and_its_inverse_the_transpose(n):
    x, matrix = torch.randn(2, n, 3, dtype=torch.float64), cosines(n)
    assert torch.allclose(matrix @ matrix.T, torch.eye(n, dtype=torch.float64), atol=1e-12)
    found = transformed(x, 1)
    assert torch.allclose(found, matrix @ x, atol=1e-12)
    assert torch.allclose(transformed_back(x, -2), matrix.T @ x, atol=1e-12)
    assert torch.allclose(transformed_back(found, 1), x, atol=1e-12)
