"""What the sampler makes of a regressor's maps: gains of regions, and spans of any base grid."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from test_region_regressor import LEVELS, seen, tiny_regressor

from undegrade.models.region_regressor import Trained
from undegrade.pipelines.adadiffsr.information_gain import Evaluation
from undegrade.pipelines.adadiffsr.trained_gain import TrainedGain, trained_spans
from undegrade.pipelines.schedule import karras


@dataclass
class Known:
    """Maps that are given."""

    maps: torch.Tensor
    trained: Trained

    def predict(self, *_):
        return self.maps

    def check(self, prior):
        pass




def evaluation(draw, batch=3) -> Evaluation:
    given = seen(draw, batch)
    sigma = given.pop("sigma"), given.pop("sigma_previous")
    return Evaluation(**given, sigma=sigma[0], sigma_previous=sigma[1],
                      sigma_next=sigma[0] / 1.25, steps=torch.ones(batch, dtype=torch.float64))


def test_the_97th_percentile_against_a_dense_twin(draw):
    maps = draw(3, 2, 8, 9)
    gain = TrainedGain(Known(maps, tiny_regressor().trained))
    found, dense = gain(evaluation(draw)), maps.double().numpy()
    for which, (values, span) in enumerate(
        ((found.full_reference, 0.5), (found.no_reference, 0.25))
    ):
        for b in range(3):
            ordered = np.sort(dense[b, which].ravel())
            place = 0.97 * (ordered.size - 1)
            low = int(place)
            pooled = ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])
            assert values[b].item() == pytest.approx(pooled * np.log(1.25) / span, rel=1e-9)
    assert (gain.calls, gain.regions) == (1, 3)


def test_a_small_island_counts(draw):
    maps = torch.zeros(1, 2, 8, 8)
    maps[:, :, 3:5, 3:5] = 1
    gain = TrainedGain(Known(maps, tiny_regressor().trained))
    assert gain(evaluation(draw, 1)).full_reference.item() > 0.4


def test_spans_of_another_grid():
    regressor = tiny_regressor()
    same = trained_spans(regressor, torch.tensor(LEVELS, dtype=torch.float64))
    assert (same.full_reference, same.no_reference) == (0.5, 0.25)
    assert same.loss == pytest.approx(0.1)
    assert same.measured and same.sigmas == LEVELS
    twice = trained_spans(regressor, karras(20, 0.5, 0.02))
    assert twice.loss == pytest.approx(0.05), "twice as fine, half the error"
    half = trained_spans(regressor, torch.tensor([0.1, 0.02]).double())
    assert half.loss == pytest.approx(0.1 / 4 * 10 / 2), "half the way, two steps of ten"
    for start, end in ((0.6, 0.02), (0.5, 0.01)):
        with pytest.raises(ValueError, match=r"knows noise levels from 0\.5 to 0\.02 and the run"):
            trained_spans(regressor, karras(10, start, end))
