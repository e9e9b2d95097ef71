"""Recordings that outlive a run, on a card: the bits of what is launched, and the memory back."""

import pytest
import torch
from cuda.test_recorded_runs import left_on_the_card, records, restored
from node_calls import call, measured

from undegrade.nodes.comfyui import kept
from undegrade.nodes.comfyui.kept import KEPT
from undegrade.pipelines.replay import Recordings

__all__ = ["records"]  # a fixture
pytestmark = pytest.mark.cuda
M = measured(height=128, width=96)[1]


@pytest.fixture
def counted(monkeypatch):
    """How many pieces of work were recorded."""
    done, record = [], Recordings.record

    def noted(self, work, tensors):
        done.append(self.lasting)
        return record(self, work, tensors)

    monkeypatch.setattr(Recordings, "record", noted)
    return done


def away(network):
    """As ComfyUI moves it: what is kept goes before."""
    KEPT.throw_away()
    network.cpu()


def test_runs_and_reloads_give_the_bits_of_what_is_launched(records, counted):
    prior = call("UndegradeLoadPixelPrior")[0]
    records(False)
    expected = [restored(prior=prior, m=M, seed=seed) for seed in (0, 1)]
    records(True)
    for _ in range(2):
        assert torch.equal(restored(prior=prior, m=M, seed=0), expected[0])
        assert counted.count(True) >= 2 and KEPT.recordings.known
        counted.clear()
        assert torch.equal(restored(prior=prior, m=M, seed=1), expected[1])
        assert True not in counted, "the second run records no call of the network"
        away(prior.network)
        counted.clear()


def test_weights_that_moved_unseen_are_noticed(records):
    prior = call("UndegradeLoadPixelPrior")[0]
    expected = restored(prior=prior, m=M)
    held = [p.data for p in prior.network.parameters()]
    for parameter in prior.network.parameters():
        parameter.data = parameter.data.clone()
    for old in held:
        old.fill_(torch.nan)
    assert torch.equal(restored(prior=prior, m=M), expected)


def test_other_graphs_that_come_and_go_between_two_runs_change_no_bit(records, counted):
    """Those of updates go with every run, and cuBLAS's memory of their stream with them."""
    prior = call("UndegradeLoadPixelPrior")[0]
    expected = restored(prior=prior, m=M)
    for side in (64, 96):
        other = Recordings()
        x = torch.ones(1, 1, side, side, device="cuda")
        for _ in range(3):
            other("product", lambda x: x @ x, x)
        other.close()
        torch.cuda.empty_cache()
        filled = torch.full((2**26,), torch.nan, device="cuda")
        counted.clear()
        assert torch.equal(restored(prior=prior, m=M), expected) and True not in counted
        del filled


def test_the_memory_is_bounded_and_comes_back(records, monkeypatch, record_property):
    prior = call("UndegradeLoadPixelPrior")[0]
    restored(prior=prior, m=measured(height=256, width=256)[1])
    before = left_on_the_card()
    restored(prior=prior, m=measured(height=256, width=256)[1])
    record_property("held at 256x256, MiB", KEPT.recordings.held / 2**20)
    assert 0 < KEPT.recordings.held <= kept.MOST_BYTES
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() - before[1] >= KEPT.recordings.held
    assert left_on_the_card() <= before

    monkeypatch.setattr(kept, "MOST_BYTES", 2**20)
    restored(prior=prior, m=measured(height=256, width=256)[1])
    assert not KEPT.recordings.known
    assert left_on_the_card() <= before
