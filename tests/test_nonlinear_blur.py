"""The kernel-embedding network against official numbers, its loader, and the operator around it."""

from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from undegrade.models.kernel_embedding import KernelWizard, kernel_wizard_of, load_kernel_wizard
from undegrade.models.weights import UnsupportedWeightsError
from undegrade.nodes.comfyui.wall import left
from undegrade.pipelines.operators.nonlinear_blur import NonlinearBlur

GOLDEN = Path(__file__).parent / "golden" / "kernel_wizard.safetensors"
OFFICIAL_SHAPES = {  # of the official network with nf 4, one front and one back block
    "adapter.model.down.0.weight": (4, 4, 4, 4),
    "adapter.model.submodule.down.1.weight": (8, 4, 4, 4),
    "adapter.model.submodule.submodule.down.1.weight": (16, 8, 4, 4),
    "adapter.model.submodule.submodule.submodule.down.1.weight": (32, 16, 4, 4),
    "adapter.model.submodule.submodule.submodule.submodule.down.1.weight": (32, 32, 4, 4),
    "adapter.model.submodule.submodule.submodule.submodule.up.1.weight": (64, 32, 4, 4),
    "adapter.model.submodule.submodule.submodule.up.1.weight": (64, 16, 4, 4),
    "adapter.model.submodule.submodule.up.1.weight": (32, 8, 4, 4),
    "adapter.model.submodule.up.1.weight": (16, 4, 4, 4),
    "adapter.model.up.1.bias": (4,),
    "adapter.model.up.1.weight": (8, 4, 4, 4),
    **{f"feature_extractor.{k}.bias": (4,) for k in (0, 2, 4)},
    "feature_extractor.0.weight": (4, 3, 3, 3),
    "feature_extractor.2.weight": (4, 4, 3, 3),
    "feature_extractor.4.weight": (4, 4, 3, 3),
    **{f"feature_extractor.6.conv{c}.bias": (4,) for c in (1, 2)},
    **{f"feature_extractor.6.conv{c}.weight": (4, 4, 3, 3) for c in (1, 2)},
    **{f"recon_trunk.0.conv{c}.bias": (4,) for c in (1, 2)},
    **{f"recon_trunk.0.conv{c}.weight": (4, 4, 3, 3) for c in (1, 2)},
    "recon_trunk.1.bias": (16,),
    "recon_trunk.1.weight": (16, 4, 3, 3),
    "recon_trunk.4.bias": (256,),
    "recon_trunk.4.weight": (256, 4, 3, 3),
    "recon_trunk.7.bias": (64,),
    "recon_trunk.7.weight": (64, 64, 3, 3),
    "recon_trunk.9.bias": (3,),
    "recon_trunk.9.weight": (3, 64, 3, 3),
}


def pseudo_random(*shape, start=0.0):
    """Values in [-1, 1] that look random, from a formula: the same on every machine."""
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.float64) + start
    v = torch.sin(12.9898 * i + 0.5) * 43758.5453
    return (2 * (v - v.floor()) - 1).float().reshape(shape)


@cache
@cache
def pseudo_weights():
    """The tensors that the official network was given."""
    tensors = {}
    for i, key in enumerate(sorted(OFFICIAL_SHAPES)):
        shape = OFFICIAL_SHAPES[key]
        fan = torch.Size(shape[1:]).numel() if len(shape) > 1 else 16
        tensors[key] = 0.8 * (3 / fan) ** 0.5 * pseudo_random(*shape, start=1e4 * i)
    return tensors


@pytest.fixture(scope="module")
def network():
    return kernel_wizard_of(pseudo_weights())


def test_official_numbers(network):
    picture = (pseudo_random(2, 3, 128, 128) + 1) / 2
    code = 1.2 * pseudo_random(2, 32, 1, 1, start=7e5)
    expected = load_file(GOLDEN)["picture.change"]
    change = (network(picture, code) - picture)[..., ::5, ::5]
    assert (change - expected).abs().max() < 1e-5 * expected.abs().max()
    other = (network(picture, -code) - picture)[..., ::5, ::5]
    assert (other - expected).abs().max() > 1e-3 * expected.abs().max()


def test_published_sizes():
    """Tensor shapes of the published weights (nf 64, 10 front and 20 back blocks)."""
    with torch.device("meta"):
        whole = KernelWizard()
    assert (whole.code_channels, whole.stride) == (512, 128)
    assert sum(p.numel() for p in whole.parameters()) == 23_662_531
    assert len(whole.state_dict()) == 2 * (3 + 20 + 40 + 4) + 11


def test_loading(tmp_path, network):
    extractor = {"kernel_extractor.model.1.weight": torch.zeros(2, 2)}
    torch.save(pseudo_weights() | extractor, tmp_path / "GOPRO_wVAE.pth")
    loaded = load_kernel_wizard(tmp_path / "GOPRO_wVAE.pth")
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert not any(p.requires_grad for p in loaded.parameters())
    assert not loaded.training
    with pytest.raises(FileNotFoundError, match="no weight file"):
        load_kernel_wizard(tmp_path / "absent.pth")


def without(*keys):
    return {key: value for key, value in pseudo_weights().items() if key not in keys}


FOREIGN = {
    "another network": ({"conv_in.weight": torch.zeros(3)}, "x holds no blur network"),
    "a missing tensor": (
        without("adapter.model.up.1.bias"),
        r"x lacks 1 tensors of the blur network \(adapter.model.up.1.bias\); download it",
    ),
    "a missing block": (without("recon_trunk.0.conv2.weight"), r"recon_trunk.0.conv2.weight"),
    "an unknown tensor": (pseudo_weights() | {"extra": torch.zeros(1)}, r"1 unexpected \(extra\)"),
    "another shape": (
        pseudo_weights() | {"recon_trunk.9.bias": torch.zeros(4)},
        "1 of another shape",
    ),
}


@pytest.mark.parametrize("case", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_weights(case):
    tensors, sentence = case
    with pytest.raises(UnsupportedWeightsError, match=sentence):
        kernel_wizard_of(tensors, "x")


def test_the_operator_is_the_official_one_at_multiples_of_128(network, draw):
    """clip(2 G((x + 1) / 2, 1.2 n) - 1, -1, 1), the code drawn in one call."""
    x = draw(2, 3, 128, 256).clamp(-1, 1)
    n = torch.randn(1, 32, 1, 2, generator=torch.Generator().manual_seed(7))
    expected = 2 * network((x + 1) / 2, 1.2 * n.expand(2, -1, -1, -1)) - 1
    result = NonlinearBlur(network, seed=7)(x)
    assert torch.equal(result, expected.clamp(-1, 1))
    assert (result == 1).any()  # clipping took place
    assert not torch.equal(NonlinearBlur(network, seed=8)(x), result)


@pytest.mark.parametrize("size", [(37, 31), (1, 1), (130, 40)])
def test_any_size_inside_a_node(network, draw, size):
    x, operator = 0.5 * draw(3, 3, *size), NonlinearBlur(network, seed=1)
    with torch.inference_mode(), left():
        y, pullback = operator.vjp(x)
        u, v = draw(*y.shape), draw(*x.shape)
        assert y.shape == x.shape
        assert torch.isfinite(y).all()
        forward, back = operator.jvp(x, v), pullback(u)
        pairs = (forward * u).double().sum(), (back * v).double().sum()
        assert abs(pairs[0] - pairs[1]) < 1e-5 * (forward.norm() * u.norm())
        alone = operator(x[2:])
    assert torch.allclose(alone, y[2:], atol=1e-6)


def test_derivatives_agree_with_finite_differences(network, draw):
    double = kernel_wizard_of({key: value.double() for key, value in pseudo_weights().items()})
    operator = NonlinearBlur(double.double(), seed=1)
    x, v = (draw(1, 3, 37, 31, dtype=torch.float64) for _ in range(2))
    x, h = 0.3 * x, 1e-6
    slope = (operator(x + h * v) - operator(x - h * v)) / (2 * h)
    assert (operator.jvp(x, v) - slope).norm() < 1e-4 * slope.norm()
    y, pullback = operator.vjp(x)
    u = draw(*y.shape, dtype=torch.float64)
    assert abs((slope * u).sum() - (pullback(u) * v).sum()) < 1e-4 * (slope * u).sum().abs()
