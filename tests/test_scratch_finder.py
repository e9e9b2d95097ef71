"""The network that finds scratches, its weights, and what it is trained on."""

import pytest
import torch
from safetensors.torch import save_file

from undegrade.models.scratch_finder import (
    BUILT_IN,
    ScratchFinder,
    ScratchNetwork,
    built_in,
    load_scratch_finder,
)
from undegrade.models.weights import UnsupportedWeightsError, read_tensors
from undegrade.training.data import stream
from undegrade.training.scratches import marks, scratched


@pytest.mark.parametrize("size", [(8, 8), (3, 50), (37, 61)])
def test_any_size_and_every_picture_alone(size, draw):
    finder = ScratchFinder(ScratchNetwork((4, 6, 8)))
    x = draw(2, 3, *size)
    with torch.no_grad():
        likely = finder.likely(x)
        assert likely.shape == (2, 2, *size) and likely.min() > 0 and likely.max() < 1
        assert torch.allclose(finder.likely(x[1:]), likely[1:], atol=1e-6)


def test_weights_there_and_back_and_others_refused(tmp_path):
    network = ScratchNetwork((4, 6))
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    again = load_scratch_finder(tmp_path / "a.safetensors").network
    assert torch.equal(again.inp.weight, network.inp.weight)
    save_file({"inp.weight": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(UnsupportedWeightsError, match=r"b.safetensors has 1 tensors and is no"):
        load_scratch_finder(tmp_path / "b.safetensors")


def test_the_shipped_one_says_how_it_was_made():
    _, said = read_tensors(BUILT_IN)
    assert said["license"] == "MIT" and said["command"].startswith("python training scratches")
    assert sum(p.numel() for p in built_in().network.parameters()) == 147842


def test_a_sample_says_where_it_was_spoilt():
    """A weight of 0 where a mark hardly shows, 3 on marks, and none on a third of the crops."""
    clean = torch.zeros(3, 64, 64)
    sums = []
    for k in range(12):
        x, found, weight = scratched(clean, stream(0, k))
        assert torch.equal(x, scratched(clean, stream(0, k))[0]) and x.abs().max() <= 1
        assert set(weight.unique().tolist()) <= {0.0, 1.0, 3.0}
        assert torch.equal(weight == 3, found > 0) and found.amin() >= 0
        sums.append(float(found.sum()))
    assert 3 < sum(total > 0 for total in sums) < 12
    counts = [len(marks(stream(1, k))) for k in range(300)]
    assert 0.3 < sum(n == 0 for n in counts) / 300 < 0.45
