"""Every node with small inputs: models, sockets and settings that take little time."""

import json
from functools import cache

import comfy_fakes
import inversion_models
import pytest
import region_guiders
import stablesr_modules
import stablesr_patchers
import torch
from diffusers_folders import pixel_folder
from node_calls import WIDGETS, call, inputs_of, photo
from safetensors.torch import save_file
from test_inversion_nodes import GOLDEN, latent, load_file
from test_nonlinear_blur import pseudo_weights

from undegrade.models import feature_injection, noise_predictor
from undegrade.models.known_files import BLURS, DIFFUSERS, STABLESR
from undegrade.models.stablesr import read_module
from undegrade.nodes.comfyui import guider_prior, host, struct_condition
from undegrade.nodes.regions.injection import FOLDER as INJECTIONS

FILE = "small.safetensors"
QUICK = {
    "UndegradeLoadDiffusersPrior": {"folder": "ddpm"},
    "UndegradeNonlinearBlur": {"file": "small.pth"},
    "UndegradeStableSRModule": {"file": FILE},
    "UndegradeLoadFeatureInjection": {"file": FILE},
    "UndegradeEstimateBlurKernel": {"kernel_size": 3, "noise_level": 0.05},
    "UndegradeMotionBlur": {"side": 9, "length": 5.0},
    "UndegradePosteriorSampler": {"steps": 3, "keep_trajectory": True},
    "UndegradeLangevinMeasurementUpdate": {"iterations": 2},
    "UndegradeCalibrateRegions": {"steps": 10, "tile": 32},
    "UndegradeTileSplitter": {"tile": 32, "overlap": 16, "latent": None},
    "UndegradeRegionAdaptiveSampler": {"steps": 10, "regressor": None},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Small weights of the kinds that the pack does not bring."""
    root = tmp_path_factory.mktemp("models")
    for folder in (BLURS, STABLESR, INJECTIONS):
        (root / folder).mkdir()
    pixel_folder(root / DIFFUSERS / "ddpm")
    torch.save(pseudo_weights(), root / BLURS / "small.pth")
    save_file(stablesr_modules.tensors(), root / STABLESR / FILE)
    module = read_module(root / STABLESR / FILE)
    known = {"module": FILE, "prints": json.dumps(feature_injection.fingerprints(module))}
    phi = feature_injection.StructInjection(128, 4)  # the module's width
    save_file(phi.state_dict(), root / INJECTIONS / FILE, known)
    return root


@pytest.fixture
def comfyui(models, monkeypatch):
    """Stand-ins for what four of the nodes ask of ComfyUI."""
    comfy_fakes.install(monkeypatch)
    known = {**region_guiders.install(monkeypatch), **comfy_fakes.modules([])}
    monkeypatch.setattr(host, "model_roots", lambda name: [models / name])
    monkeypatch.setattr(host, "comfy", lambda _: None)
    monkeypatch.setattr(guider_prior, "comfy", known.get)
    monkeypatch.setattr(struct_condition, "comfy", stablesr_patchers.modules().get)


@cache
def output(node_id, number=0):
    """What a node gives for small inputs."""
    return call(node_id, **small_inputs(node_id))[number]


def predictor():
    weights = {k: v for k, v in load_file(GOLDEN).items() if k.startswith(noise_predictor.PREFIX)}
    return noise_predictor.load(weights, {}, "small", 32)


def guider():
    unet = {"channel_mult": [1, 2, 4], "model_channels": 320}
    patcher = comfy_fakes.Patcher(
        comfy_fakes.Eps(), comfy_fakes.Latents(), comfy_fakes.SD15(unet), []
    )
    return comfy_fakes.Guider(patcher)


VALUES = {  # of a socket
    "IMAGE": lambda: photo(),
    "MASK": lambda: (photo()[..., 0] > 0.5).float(),
    "DIFFUSION_PRIOR": lambda: output("UndegradeLoadPixelPrior"),
    "DEGRADATION_OPERATOR": lambda: call("UndegradeDownscale", factor=2)[0],
    "MEASUREMENT": lambda: output("UndegradeDegradeImage", 1),
    "MEASUREMENT_UPDATE": lambda: output("UndegradeCGMeasurementUpdate"),
    "SWITCH_RULE": lambda: output("UndegradeDeterministicSwitch"),
    "RESTORATION_TRAJECTORY": lambda: output("UndegradePosteriorSampler", 1),
    "LATENT": lambda: output("UndegradeTileSplitter"),
    "TILE_GRID": lambda: output("UndegradeTileSplitter", 1),
    "STEP_POLICY": lambda: output("UndegradeStepPolicy"),
    "STRUCT_INJECTION": lambda: output("UndegradeLoadFeatureInjection"),
    "FEATURE_INJECTION": lambda: output("UndegradeFeatureInjection"),
    "REGION_REGRESSOR": lambda: output("UndegradeLoadRegionEntropyRegressor"),
    "NOISE_PREDICTOR": lambda: output("UndegradeLoadNoisePredictor"),
    "SIGMAS": lambda: torch.tensor([inversion_models.LEVELS[100], 0.0]),
    "MODEL": inversion_models.model,
    "GUIDER": guider,
    "VAE": comfy_fakes.VAE,
}
OTHERS = {  # where a node needs another value than the next one
    "UndegradeKernelBlur": lambda: {"kernel": photo(9, 9)},
    "UndegradeEstimateJPEGQuality": lambda: {"image": photo(16, 16)},  # more only takes longer
    "UndegradePosteriorStatistics": lambda: {"images": photo(batch=4)},
    "UndegradeDecodeWithPrior": lambda: {"latent": {"samples": photo().movedim(-1, 1)}},
    "UndegradePredictedNoise": lambda: {"predictor": predictor()},
    "UndegradeStableSRModule": lambda: {"model": stablesr_patchers.model(), "latent": latent()},
}


def small_inputs(node_id) -> dict:
    """A value for every socket, and settings that take little time."""
    given = {**QUICK.get(node_id, {}), **OTHERS.get(node_id, dict)()}
    sockets = {n: s[0] for n, s in inputs_of(node_id).items() if isinstance(s[0], str)}
    for name, kind in sockets.items():
        if kind not in WIDGETS and name not in given:
            given[name] = VALUES[kind]()
    return given
