"""A noise predictor that gives no numbers."""

import pytest
import torch
from node_calls import call, photo
from start_noises import ClosedForm, pixel_prior


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("which", [0, 1])
def test_a_predictor_that_gives_no_numbers_is_the_one_that_is_named(bad, which):
    class Failing(ClosedForm):
        def predict(self, lr, sigma):
            maps = list(super().predict(lr, sigma))
            maps[which] = torch.full_like(maps[which], bad)
            return tuple(maps)

    predictor = Failing()
    with pytest.raises(FloatingPointError, match=rf"^{predictor.name} predicted NaN or infinite"):
        call(
            "UndegradeInversionSampler",
            prior=pixel_prior(),
            predictor=predictor,
            image=photo(20, 28),
        )
