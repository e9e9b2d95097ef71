"""An operator around another one is the other one, in everything that an operator is asked."""

import torch

from undegrade.nodes.watched import WatchedOperator
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.contract import Operator
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.operators.wrapped import WrappedOperator
from undegrade.pipelines.subdaps.complement import updated
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient
from undegrade.pipelines.updates.update import Surroundings

OWN = {"constant", "trusted_vjp", "matrices"}  # built on the others


def test_nothing_is_left_to_the_contracts_defaults():
    asked = {name for name in vars(Operator) if not name.startswith("_")}
    assert asked - OWN == {name for name in vars(WrappedOperator) if not name.startswith("_")}


def test_pictures_with_masks_of_their_own_keep_them():
    x0_hat, n, masks = (per_sample_noise([s, s + 1])(torch.zeros(2, 1, 8, 6)) for s in (1, 3, 5))
    own = Inpainting((masks > 0).float())
    watched, around = WatchedOperator(own), Surroundings(1.0, 0.2, per_sample_noise([1]))
    assert watched.count == 2
    results = [updated(x0_hat, n, 0.4, ConjugateGradient(), Measurement(own(n), a, 0.1), around)
               for a in (own, watched)]
    for plain, seen in zip(*results, strict=True):
        assert torch.equal(plain, seen)
