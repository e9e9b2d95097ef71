"""The built-in prior: what it denoises, preconditioning, precision, one sample in a batch."""

import math

import pretended_device
import pytest
import torch
from torch import nn

from undegrade.models.pixel import PixelNetwork, PixelPrior
from undegrade.models.prior import GaussianPrior, MultiResolutionPrior, Prior, PriorSpec
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.nodes.comfyui.wall import left

SIGMA = 2 * 25 / 255  # the classical 25 of 255, in [-1, 1] units


@pytest.fixture(scope="module")
def prior() -> Prior:
    return load_pixel_prior(BUILT_IN)


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    """A photograph that the prior was not trained on, (1, 3, 256, 256) in [-1, 1]."""
    data = pytest.importorskip("skimage.data")
    transform = pytest.importorskip("skimage.transform")
    picture = transform.resize(data.astronaut(), (256, 256), anti_aliasing=True)
    return torch.from_numpy(picture).float().permute(2, 0, 1)[None] * 2 - 1


def noisy(photo: torch.Tensor, sigma: float) -> torch.Tensor:
    n = torch.randn(photo.shape, generator=torch.Generator().manual_seed(4))
    return photo + sigma * n


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """In dB, for pictures in [-1, 1]."""
    return 10 * math.log10(4 / (a.clamp(-1, 1) - b).square().mean().item())


def levels(*values: float) -> torch.Tensor:
    return torch.tensor(values)


@pytest.mark.parametrize(("of_255", "least"), [(15, 33.7), (25, 31.0), (50, 27.3)])
def test_it_denoises_a_photograph(prior, photo, of_255, least):
    sigma = 2 * of_255 / 255
    x0_hat = prior.denoise(noisy(photo, sigma), levels(sigma))
    assert psnr(x0_hat, photo) >= least
    for wrong in (0.5, 2.0):  # and the noise level is what it says
        assert psnr(prior.denoise(noisy(photo, sigma), levels(wrong * sigma)), photo) < least


def test_it_returns_what_has_no_noise_and_ignores_what_is_all_noise(prior, photo):
    assert psnr(prior.denoise(photo, levels(0.011)), photo) > 35
    assert prior.denoise(noisy(photo, 79.0), levels(79.0)).abs().max() < 1.5


@pytest.mark.parametrize("told", [0.2, 0.6, 2.0])
@pytest.mark.parametrize("held", [0.0, 0.5])
def test_it_bears_being_told_of_noise_that_is_not_there(prior, photo, told, held):
    """Plug-and-play restoration does so."""
    x0_hat = prior.denoise(noisy(photo, held * told), levels(told))
    assert x0_hat.abs().max() < 1.5
    assert psnr(x0_hat, photo) > psnr(prior.denoise(noisy(photo, told), levels(told)), photo) - 0.5


def test_it_is_a_prior_for_three_resolutions(prior):
    assert isinstance(prior, Prior) and isinstance(GaussianPrior(), Prior)
    assert prior.spec.channels == 3 and prior.spec.multiple_of == 16
    assert prior.spec.trained_factors == (1, 2, 4) and prior.spec.factors == (1,)
    several = MultiResolutionPrior(prior)
    assert several.spec.factors == (4, 2, 1) and several.codec is prior.codec


@pytest.mark.parametrize("size", [(16, 48), (64, 64)])
def test_a_sample_alone_in_a_batch_and_in_another_order(prior, draw, size):
    x, sigma = draw(3, 3, *size), levels(0.02, 0.5, 20.0)
    together = prior.denoise(x, sigma)
    turned = prior.denoise(x[[2, 0, 1]], sigma[[2, 0, 1]])
    for b in range(3):
        alone = prior.denoise(x[b : b + 1], sigma[b : b + 1])[0]
        # convolutions may sum in another order for another batch
        assert (alone - together[b]).abs().max() < 1e-5 * alone.abs().max()
        assert (alone - turned[(b + 1) % 3]).abs().max() < 1e-5 * alone.abs().max()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights(prior, photo, dtype):
    half, x = load_pixel_prior(BUILT_IN, dtype), noisy(photo, SIGMA)[..., :128, :128]
    assert next(half.network.parameters()).dtype == dtype
    x0_hat = half.denoise(x, levels(SIGMA))
    full = prior.denoise(x, levels(SIGMA))
    assert x0_hat.dtype == torch.float32
    assert not torch.equal(x0_hat, full)
    clean = photo[..., :128, :128]
    assert psnr(x0_hat, clean) == pytest.approx(psnr(full, clean), abs=0.05)


class Stub(nn.Module):
    """Stands for the network: remembers what it was given and returns ones."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        self.given = given
        return torch.ones_like(given[0])


def test_the_preconditioning_is_karras(draw):
    """Table 1 of Karras et al., 2022, with sigma_data 0.5; the level is log2 of the reduction."""
    x, sigma, stub = draw(3, 3, 4, 6), levels(0.02, 0.5, 30.0), Stub()
    x0_hat = PixelPrior(stub, PriorSpec()).denoise(x, sigma, factor=4)
    scaled, c_noise, level = stub.given
    for b, s in enumerate(sigma.tolist()):
        variance = s**2 + 0.25
        assert torch.allclose(scaled[b], x[b] / variance**0.5, rtol=1e-5)
        assert c_noise[b].item() == pytest.approx(math.log(s) / 4, rel=1e-5)
        assert level[b].item() == 2
        expected = 0.25 / variance * x[b] + s * 0.5 / variance**0.5
        assert torch.allclose(x0_hat[b], expected, rtol=1e-5, atol=1e-6)


def test_the_network_sees_sixteen_frequencies_of_the_noise_level():
    features = PixelNetwork._features(levels(-1.1, 0.6), levels(0.0, 2.0))
    frequencies = [0.5 * 16 ** (k / 15) for k in range(16)]  # 0.5 to 8
    for b, (c, level) in enumerate([(-1.1, 0.0), (0.6, 2.0)]):
        expected = [math.sin(c * f) for f in frequencies] + [math.cos(c * f) for f in frequencies]
        expected += [c, level, level**2 / 2]
        assert features[b].tolist() == pytest.approx(expected, abs=1e-5)


def test_the_level_is_an_input_of_the_network(prior, photo):
    x = noisy(photo, SIGMA)[..., :64, :64]
    outputs = [prior.denoise(x, levels(SIGMA), factor) for factor in (1, 2, 4)]
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        assert 1e-4 < (outputs[a] - outputs[b]).abs().max() < 0.5


def test_gradients_go_through_in_a_node(prior, draw):
    x, u, sigma = draw(1, 3, 16, 16), draw(1, 3, 16, 16), levels(0.3)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(prior.denoise(leaf, sigma), leaf, u)
    with torch.inference_mode(), left():
        _, pullback = torch.func.vjp(lambda z: prior.denoise(z, sigma), x)
        assert (pullback(u)[0] - expected).abs().max() < 1e-5


def test_the_gaussian_prior_is_a_conditional_mean():
    """Against samples: among pairs (x0, x), x0 regresses on x with the denoiser's slope."""
    generator, mean, std, sigma = torch.Generator().manual_seed(0), 0.2, 0.5, 0.7
    for factor in (1, 2):
        n = torch.randn((2, 1, 1, 200, 1000), generator=generator)
        x0 = mean + std / factor * n[0]  # the average of factor^2 pixels
        x = x0 + sigma * n[1]
        x0_hat = GaussianPrior(mean, std).denoise(x, levels(sigma), factor)
        error = x0_hat - x0  # unbiased and uncorrelated with x
        assert abs(error.mean().item()) < 5e-3
        assert abs((error * (x - mean)).mean().item()) < 5e-3


def test_embeddings_that_are_made_at_once_change_rounding_alone(draw):
    network = PixelNetwork((8, 16, 24)).requires_grad_(False)
    x, c, level = draw(3, 3, 16, 24), levels(-1.1, 0.2, 0.6), levels(0.0, 1.0, 2.0)
    with pretended_device.pretended(), torch.no_grad():
        network.to(pretended_device.CARD)
        there = [t.to(pretended_device.CARD) for t in (x, c, level)]
        called = []
        found = network(*there).cpu()
        network.enc[0][1].e.register_forward_hook(lambda *_: called.append(1))
        one_by_one = network(*there).cpu()
    assert called == [1] and not torch.equal(found, one_by_one)
    assert (found - one_by_one).abs().max() < 1e-6 * one_by_one.abs().max()


class Adapted(nn.Module):
    """A layer with LoRA, as PEFT makes one: its weight and bias are the layer's own."""

    weight = property(lambda self: self.layer.weight)
    bias = property(lambda self: self.layer.bias)

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return 1.5 * self.layer(x)


class Louder(nn.Linear):
    def forward(self, x):
        return 1.5 * super().forward(x)


def adapted(name):
    return lambda block: setattr(block, name, Adapted(getattr(block, name)))


def repeated(block):
    """As nodes for pictures that repeat without a seam change convolutions."""
    block.a.padding_mode, block.a._reversed_padding_repeated_twice = "circular", [1] * 4


def convolved(block):
    block.a._conv_forward = lambda x, *_: 1.5 * x


def watched(block):
    louder = lambda layer, _, out: 1.5 * out if layer is block.e else None  # noqa: E731
    return nn.modules.module.register_module_forward_hook(louder)


CHANGES = {
    "LoRA of an embedding": adapted("e"),
    "LoRA of a convolution": adapted("a"),
    "a layer of its own": lambda block: setattr(block.e, "__class__", Louder),
    "another border": repeated,
    "another convolution": convolved,
    "a hook on all layers": watched,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_layer_that_was_changed_is_asked(change, draw):
    network = PixelNetwork((8, 16)).requires_grad_(False)
    x, c, level = draw(1, 3, 16, 24), levels(0.2), levels(1.0)
    before = network(x, c, level)
    handle = change(network.enc[0][0])
    try:
        expected = network(x, c, level)
        with pretended_device.pretended(), torch.no_grad():
            network.to(pretended_device.CARD)
            found = network(*(t.to(pretended_device.CARD) for t in (x, c, level))).cpu()
    finally:
        if handle:
            handle.remove()
    assert (expected - before).abs().max() > 1e-3
    assert (found - expected).abs().max() < 1e-6
