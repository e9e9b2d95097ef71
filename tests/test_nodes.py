"""Every node: what ComfyUI needs of it, what users are promised, and what it does to bad input."""

import inspect
import json
import random
from pathlib import Path

import pytest
import torch
from undegrade import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from undegrade.models.prior import GaussianPrior
from undegrade.nodes import host
from undegrade.nodes.sampling import RestorationTrajectory
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.subdaps import SamplerOptions

SNAPSHOT = Path(__file__).parent / "node_signatures.json"
STOCK = {"IMAGE", "MASK", "LATENT", "MODEL", "VAE", "INT", "FLOAT", "STRING", "BOOLEAN"}
OURS = {
    "DIFFUSION_PRIOR",
    "DEGRADATION_OPERATOR",
    "MEASUREMENT",
    "MEASUREMENT_UPDATE",
    "SWITCH_RULE",
    "RESTORATION_TRAJECTORY",
}
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN"}
every_node = pytest.mark.parametrize("node_id", list(NODE_CLASS_MAPPINGS))


def inputs_of(node_id: str) -> dict:
    sections = NODE_CLASS_MAPPINGS[node_id].INPUT_TYPES()
    return {**sections.get("required", {}), **sections.get("optional", {})}


def call(node_id: str, **given):
    """Run a node with its widgets' defaults, under inference_mode as ComfyUI does."""
    cls = NODE_CLASS_MAPPINGS[node_id]
    values = {}
    for name, (kind, settings) in inputs_of(node_id).items():
        if isinstance(kind, list):
            values[name] = settings.get("default", kind[0])
        elif kind in WIDGETS:
            values[name] = settings["default"]
    with torch.inference_mode():
        out = getattr(cls(), cls.FUNCTION)(**{**values, **given})
    return out["result"] if isinstance(out, dict) else out


def photo(height=32, width=48, channels=3, batch=1) -> torch.Tensor:
    """A smooth picture with an edge, IMAGE."""
    v, u = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    planes = torch.stack([u, v, (u + v > 1).float(), 0.5 + 0.5 * u], -1)[..., :channels]
    return planes.expand(batch, -1, -1, -1).clone()


def small_prior() -> GaussianPrior:
    return GaussianPrior(std=0.5)


# What ComfyUI and its users need


@every_node
def test_node_is_complete(node_id):
    cls = NODE_CLASS_MAPPINGS[node_id]
    assert node_id.startswith("Undegrade") and cls.CATEGORY.startswith("Undegrade/")
    assert NODE_DISPLAY_NAME_MAPPINGS[node_id].strip()
    assert len(cls.DESCRIPTION) > 20 and cls.SEARCH_ALIASES
    assert len(cls.RETURN_TYPES) == len(cls.RETURN_NAMES) == len(cls.OUTPUT_TOOLTIPS)
    assert set(cls.RETURN_TYPES) <= STOCK | OURS
    assert callable(getattr(cls, cls.FUNCTION))


@every_node
def test_every_input_has_a_tooltip_and_a_legal_default(node_id):
    for name, (kind, settings) in inputs_of(node_id).items():
        assert len(settings["tooltip"]) > 10, name
        if isinstance(kind, list):
            assert settings.get("default", kind[0]) in kind
        elif kind in ("INT", "FLOAT"):
            assert settings["min"] <= settings["default"] <= settings["max"], name
        elif kind not in WIDGETS:
            assert kind in STOCK | OURS, name


@every_node
def test_the_function_takes_exactly_the_declared_inputs(node_id):
    cls = NODE_CLASS_MAPPINGS[node_id]
    parameters = inspect.signature(getattr(cls, cls.FUNCTION)).parameters
    named = {n for n, p in parameters.items() if n != "self" and p.kind is not p.VAR_KEYWORD}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    assert named <= set(inputs_of(node_id))
    assert open_ended or named == set(inputs_of(node_id))


def signatures() -> dict:
    """Ids, sockets and widgets with their kinds: the promises to shared workflows."""

    def kinds(section: dict) -> dict:
        return {n: "COMBO" if isinstance(k, list) else k for n, (k, _) in section.items()}

    return {
        node_id: {
            "inputs": {k: kinds(v) for k, v in cls.INPUT_TYPES().items()},
            "outputs": dict(zip(cls.RETURN_NAMES, cls.RETURN_TYPES, strict=True)),
        }
        for node_id, cls in sorted(NODE_CLASS_MAPPINGS.items())
    }


def test_nothing_that_workflows_rely_on_has_been_renamed():
    """A new node or widget is added to the snapshot; a released one is never changed there."""
    assert signatures() == json.loads(SNAPSHOT.read_text())


# What they do


def measured(**given):
    operator = call("UndegradeDownscale", factor=2)[0]
    return call("UndegradeDegradeImage", image=photo(**given), operator=operator)


def sampled(m, **given):
    defaults = {"prior": small_prior(), "measurement": m, "steps": 3, "sigma_max": 5.0}
    return call("UndegradePosteriorSampler", **{**defaults, **given})


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grey_rgb_and_rgba_come_back_as_they_went_in(channels):
    degraded, m = measured(channels=channels, batch=2)
    assert degraded.shape == (2, 16, 24, channels)
    image, _ = sampled(m)
    assert image.shape == (2, 32, 48, channels)
    assert image.dtype == torch.float32 and image.min() >= 0 and image.max() <= 1
    if channels == 4:
        torch.testing.assert_close(image[..., 3], photo(channels=4, batch=2)[..., 3])


@pytest.mark.parametrize("size", [(1, 1), (37, 31), (5, 64)])
def test_any_size(size):
    operator = call("UndegradeGaussianBlur", std=1.0)[0]
    m = call("UndegradeDegradeImage", image=photo(*size), operator=operator)[1]
    prior = call("UndegradeMultiResolutionPrior", prior=small_prior())[0]
    assert sampled(m, prior=prior)[0].shape == (1, *size, 3)


def test_same_seed_same_picture_and_another_seed_another():
    m = measured()[1]
    assert torch.equal(sampled(m, seed=5)[0], sampled(m, seed=5)[0])
    assert not torch.equal(sampled(m, seed=5)[0], sampled(m, seed=6)[0])


def test_samples_are_the_runs_of_the_following_seeds():
    m = measured()[1]
    both = sampled(m, samples=2, seed=5)[0]
    torch.testing.assert_close(both, torch.cat([sampled(m, seed=s)[0] for s in (5, 6)]))


def test_inputs_are_not_changed():
    image, m = photo(), measured()[1]
    before, y = image.clone(), m.y.clone()
    call("UndegradeDegradeImage", image=image, operator=m.operator)
    trajectory = sampled(m, keep_trajectory=True)[1]
    x = trajectory.steps[0].x.clone()
    call("UndegradeTrajectoryPreview", trajectory=trajectory)
    call("UndegradeTrajectoryCorrector", trajectory=trajectory)
    call("UndegradeMeasurementConsistency", image=image, measurement=m)
    assert torch.equal(image, before) and torch.equal(m.y, y)
    assert torch.equal(trajectory.steps[0].x, x)


def test_a_run_without_a_kept_trajectory_holds_no_steps_and_can_be_corrected():
    image, trajectory = sampled(measured()[1])
    assert isinstance(trajectory, RestorationTrajectory) and trajectory.steps == ()
    assert call("UndegradeTrajectoryCorrector", trajectory=trajectory)[0].shape == image.shape
    with pytest.raises(ValueError, match="turn keep_trajectory on"):
        call("UndegradeTrajectoryPreview", trajectory=trajectory)


def test_preview_shows_the_first_and_the_last_step():
    prior = call("UndegradeMultiResolutionPrior", prior=small_prior(), levels=2)[0]
    image, trajectory = sampled(measured()[1], prior=prior, keep_trajectory=True, steps=5)
    frames = call("UndegradeTrajectoryPreview", trajectory=trajectory, frames=3)[0]
    assert frames.shape == (3, 32, 48, 3)
    torch.testing.assert_close(frames[-1:], image)


def test_statistics_are_the_mean_and_the_deviation():
    images = torch.tensor([0.2, 0.4, 0.6, 0.5, 0.5, 0.5]).view(6, 1, 1, 1).expand(6, 2, 2, 3)
    mean, uncertainty, std = call("UndegradePosteriorStatistics", images=images, samples=3, gain=2.0)
    torch.testing.assert_close(mean[:, 0, 0, 0], torch.tensor([0.4, 0.5]))
    torch.testing.assert_close(uncertainty[:, 0, 0], torch.tensor([0.4, 0.0]))
    assert std == pytest.approx(0.1)
    with pytest.raises(ValueError, match="cannot be grouped by 4"):
        call("UndegradePosteriorStatistics", images=images, samples=4)


def test_consistency_is_one_for_the_truth_and_large_for_another_picture():
    image = photo(64, 64)
    operator = call("UndegradeGaussianBlur", std=1.0)[0]
    m = call("UndegradeDegradeImage", image=image, operator=operator)[1]
    assert call("UndegradeMeasurementConsistency", image=image, measurement=m)[1] == pytest.approx(
        1, abs=0.03
    )
    assert call("UndegradeMeasurementConsistency", image=1 - image, measurement=m)[1] > 5


def test_consistency_counts_only_what_was_seen():
    image = photo(64, 64)
    mask = call("UndegradeRandomMask", image=image, hidden=0.7)[0]
    operator = call("UndegradeInpaintingMask", mask=mask)[0]
    m = call("UndegradeDegradeImage", image=image, operator=operator)[1]
    residual, ratio, back = call("UndegradeMeasurementConsistency", image=image, measurement=m)
    assert ratio == pytest.approx(1, abs=0.05)
    hidden = mask[0] > 0.5
    torch.testing.assert_close(residual[0][hidden], torch.full_like(residual[0][hidden], 0.5))
    torch.testing.assert_close(back[0][hidden], image[0][hidden], atol=1e-4, rtol=0)


def test_masks_are_white_where_hidden():
    mask = call("UndegradeBoxMask", image=photo(32, 32))[0]
    assert mask.shape == (1, 32, 32) and mask[0, 16, 16] == 1 and mask[0, 0, 0] == 0
    operator = call("UndegradeInpaintingMask", mask=mask)[0]
    assert isinstance(operator, Inpainting) and operator.seen[0, 0, 16, 16] == 0


def test_scores_of_a_picture_with_itself_and_with_noise():
    image = photo(64, 64) * 0.8 + 0.1
    noisy = image + 0.02 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    psnr, ssim, _, report = call("UndegradeScoreRestoration", image=noisy, reference=image)
    assert psnr == pytest.approx(34, abs=0.3) and 0.3 < ssim < 1 and f"{psnr:.2f} dB" in report
    assert call("UndegradeScoreRestoration", image=image, reference=image)[1] == pytest.approx(1)


def test_nodes_touch_no_global_state():
    m = measured()[1]
    before = (torch.get_rng_state(), random.getstate(), torch.get_num_threads())
    sampled(m, samples=2)
    after = (torch.get_rng_state(), random.getstate(), torch.get_num_threads())
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


# Progress and interruption


class Stop(Exception):
    """Stands for ComfyUI's InterruptProcessingException, a plain Exception."""


def test_cancel_stops_within_one_network_call(monkeypatch):
    calls = []

    class Counting(GaussianPrior):
        def denoise(self, x, sigma, factor=1):
            calls.append(sigma)
            return super().denoise(x, sigma, factor)

    def interrupted():
        if len(calls) == 4:
            raise Stop

    monkeypatch.setattr(host, "check_interrupted", interrupted)
    with pytest.raises(Stop):
        sampled(measured()[1], prior=Counting(), steps=20)
    assert len(calls) == 4


def test_progress_counts_network_calls_and_shows_pictures():
    seen = []
    previous = host.set_progress_sink(lambda *report: seen.append(report))
    try:
        sampled(measured()[1], steps=4, ode_steps=2)
    finally:
        host.set_progress_sink(previous)
    assert [value for _, value, _, _ in seen] == list(range(1, 9))
    assert {total for _, _, total, _ in seen} == {8}
    assert seen[-1][3].size == (48, 32)


# Bad input


@pytest.mark.parametrize(
    ("node_id", "given", "said"),
    [
        ("UndegradeDegradeImage", {"image": photo(), "operator": 1}, "operator is a int; connect"),
        ("UndegradePosteriorSampler", {"prior": 1, "measurement": None}, "prior is a int; connect"),
        (
            "UndegradePosteriorSampler",
            {"prior": small_prior(), "measurement": photo()},
            "measurement is a Tensor; connect",
        ),
        ("UndegradeTrajectoryCorrector", {"trajectory": 3}, "connect Posterior Sampler"),
        ("UndegradeMultiResolutionPrior", {"prior": None}, "prior is a NoneType; connect"),
        ("UndegradeComposeOperators", {"first": None, "second": None}, "first is a NoneType"),
    ],
)
def test_wrong_kinds_on_custom_sockets(node_id, given, said):
    with pytest.raises(TypeError, match=said):
        call(node_id, **given)


@pytest.mark.parametrize("level", [0.0, -0.1, float("nan"), float("inf")])
def test_noise_level_must_be_positive(level):
    operator = call("UndegradeDownscale")[0]
    with pytest.raises(ValueError, match="give a number above 0"):
        call("UndegradeMeasurementFromImage", image=photo(), operator=operator, noise_level=level)


def test_switch_points_that_do_not_fit():
    for text, said in (("0.5", "need 2 rising"), ("a, b", "write fractions"), ("0.7, 0.3", "rising")):
        with pytest.raises(ValueError, match=said):
            call("UndegradeMultiResolutionPrior", prior=small_prior(), switch_points=text)


def test_threshold_below_zero():
    with pytest.raises(ValueError, match="threshold is -1"):
        call("UndegradeDeterministicSwitch", threshold=-1.0)


def test_mask_of_another_size_and_a_mask_that_hides_everything():
    operator = call("UndegradeInpaintingMask", mask=torch.zeros(1, 8, 8))[0]
    with pytest.raises(ValueError, match="mask is 8x8 pixels .* image is 48x32"):
        call("UndegradeDegradeImage", image=photo(), operator=operator)
    with pytest.raises(ValueError, match="hides every pixel"):
        call("UndegradeInpaintingMask", mask=torch.ones(1, 8, 8))


def test_even_and_empty_kernels():
    with pytest.raises(ValueError, match="odd side"):
        call("UndegradeKernelBlur", kernel=torch.ones(1, 4, 4, 3))
    with pytest.raises(ValueError, match="zero everywhere"):
        call("UndegradeKernelBlur", kernel=torch.zeros(1, 5, 5, 3))
    with pytest.raises(ValueError, match="batch of 2"):
        call("UndegradeKernelBlur", kernel=torch.ones(2, 5, 5, 3))


def test_factor_that_does_not_divide():
    operator = call("UndegradeDownscale", factor=3)[0]
    with pytest.raises(ValueError, match="which 3 does not divide; crop it to 48x30"):
        call("UndegradeDegradeImage", image=photo(), operator=operator)


def test_scores_of_different_sizes():
    with pytest.raises(ValueError, match="48x32 and reference 32x32"):
        call("UndegradeScoreRestoration", image=photo(), reference=photo(32, 32))


def test_options_have_one_source():
    widgets = inputs_of("UndegradePosteriorSampler")
    assert widgets["steps"][1]["default"] == SamplerOptions().steps
