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
from undegrade.training.natural_lines import natural, twigs, whiskers, writing
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
    """A weight of 0 where a mark hardly shows, 3 on marks, 8 on dust, and no marks on a third of
    the crops."""
    clean = torch.zeros(3, 64, 64)
    sums = []
    for k in range(12):
        x, found, weight = scratched(clean, stream(0, k))
        assert torch.equal(x, scratched(clean, stream(0, k))[0]) and x.abs().max() <= 1
        assert set(weight.unique().tolist()) <= {0.0, 1.0, 3.0, 8.0}
        assert torch.equal(weight >= 3, found > 0) and found.amin() >= 0
        sums.append(float(found.sum()))
    assert 3 < sum(total > 0 for total in sums) < 12
    every = [kind for k in range(300) for kind in marks(stream(1, k))]
    assert set(every) == {"streak", "dust", "hair", "crack"} and every.count("dust") > 400
    counts = [len(marks(stream(1, k))) for k in range(300)]
    assert 0.3 < sum(n == 0 for n in counts) / 300 < 0.45


def test_twigs_writing_and_whiskers_belong_to_the_picture():
    clean = torch.zeros(3, 96, 96)
    shares = []
    for k in range(12):
        x = natural(clean, stream(3, k))
        assert torch.equal(x, natural(clean, stream(3, k))) and x.abs().max() <= 1
        shares.append(float((x != 0).any(0).float().mean()))
    assert sum(shares) / 12 > 0.03 and max(shares) < 0.6
    for lines in (twigs, writing, whiskers):
        drawn = lines(stream(4, 0), 96)
        assert len(drawn) > 1 and all(path.shape[1] == 2 and 0 < broad < 6 for path, broad in drawn)
