"""Runs inside a real ComfyUI: prints as JSON what Load Feature Injection does to StableSR Module,
and a regressor to Region-Adaptive Sampler (stock), all with random weights.

usage: python injection_facts.py COMFYUI_FOLDER PACK_FOLDER WORK_FOLDER
"""

# ruff: noqa: I001, TID251
import json
import sys
from pathlib import Path

import guider_facts as small  # puts ComfyUI on the path, on the CPU
import region_facts as regions
import stablesr_facts as stable

import comfy.utils
import folder_paths
import torch
from safetensors.torch import save_file
from stablesr_modules import tensors

LATENT = (16, 24)


def random_injection(width=128):
    """phi that changes the maps by some tenths, and listens to the gains."""
    from undegrade.models.feature_injection import StructInjection

    network, generator = StructInjection(width), torch.Generator().manual_seed(4)
    for parameter in network.parameters():
        size = max(1, parameter[0].numel())
        random = torch.randn(parameter.shape, generator=generator)
        parameter.data = 0.5 * random / size**0.5 if parameter.ndim > 1 else 0 * random
    return network.requires_grad_(False)


def files(work):
    """A module, and injections that belong to it and that do not."""
    from undegrade.models import feature_injection, stablesr

    folder_paths.add_model_folder_path("stablesr", str(work))
    folder_paths.add_model_folder_path("feature_injections", str(work))
    torch.save(tensors(unet=64, width=128), work / "module.ckpt")
    prints = feature_injection.fingerprints(stablesr.read_module(work / "module.ckpt"))
    for name, network, known in (
        ("new", feature_injection.StructInjection(128), prints),
        ("trained", random_injection(), prints),
        ("other", random_injection(), ("print",)),
    ):
        said = {"module": "module.ckpt", "prints": json.dumps(known)}
        save_file(network.state_dict(), str(work / f"{name}.safetensors"), said)


def patched(nodes, base, latent, injection=""):
    """StableSR Module through the nodes, with or without Load Feature Injection."""
    load = nodes["UndegradeLoadFeatureInjection"]().load
    given = {"injection": load(f"{injection}.safetensors")[0]} if injection else {}
    patch = nodes["UndegradeStableSRModule"]().patch
    return patch(base, "module.ckpt", {"samples": latent}, 1.0, **given)[0]


def stock(base, sigmas, latent) -> torch.Tensor:
    euler = regions.comfy.samplers.sampler_object("euler")
    return regions.run(small.guider(base, 3), euler, sigmas, latent)


def one_by_one(nodes, base, sigmas, latent, grid) -> torch.Tensor:
    """Every tile a canvas of its own, sampled by the Region-Adaptive Sampler."""
    parts, noises = [], grid.cut(regions.Given(*LATENT).noise)
    for tile, noise in zip(grid.cut(latent), noises, strict=True):
        given = regions.Given(grid.tile, grid.tile)
        given.noise = noise[None]
        guider = small.guider(patched(nodes, base, tile[None], "trained"), 3)
        sampled = regions.SamplerCustomAdvanced().sample(
            given, guider, regions.ours(nodes), sigmas, {"samples": tile[None]}
        )
        parts.append(sampled[0]["samples"])
    return grid.stitch(torch.cat(parts))


def by_diffusers(nodes, base, latent) -> dict:
    """x0_hat of three samples, each at its own level and with its own gains, as the training
    computes it with diffusers' UNet of the same weights."""
    from diffusers import UNet2DConditionModel
    from undegrade.models import stablesr
    from undegrade.models.discrete import DiscretePrior
    from undegrade.models.noise_table import timestep_of
    from undegrade.models.latent import PromptedNetwork
    from undegrade.models.modulated_unet import modulated
    from undegrade.models.prior import PriorSpec
    from undegrade.nodes.comfyui.model_patches import GAINS
    from undegrade.nodes.comfyui.guider_prior import prepared

    own = base.model.diffusion_model.state_dict()
    names = comfy.utils.unet_to_diffusers(stable.UNET)
    unet = UNet2DConditionModel(
        block_out_channels=(64, 128, 256, 256), layers_per_block=2, cross_attention_dim=1024,
        attention_head_dim=(1, 2, 4, 4), use_linear_projection=True, sample_size=32,
        down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    )
    wanted = unet.state_dict().keys()
    unet.load_state_dict({name: own[names[name]] for name in wanted})
    sampling = base.model.model_sampling
    texts = [small.conditioning(k)[0][0] for k in (1, 2)]
    prompted = PromptedNetwork(unet.eval(), *texts, 3.0)
    table = sampling.sigmas.double()
    spec = PriorSpec(4, sigmas=table)
    prior = DiscretePrior(prompted, spec, "epsilon", None)
    x, sigma = regions.smooth(*LATENT, 3), table[[30, 400, 900]].float()
    gains = torch.tensor([[3.0, -1.0], [0.5, 0.2], [0.0, 2.0]])
    z_lr = base.model.process_latent_in(latent)
    module = stablesr.read_module(Path(small.WORK) / "module.ckpt")
    maps = module.encoder(z_lr, timestep_of(sigma, spec.sigmas))
    found = {}
    for name, injection in (("trained", random_injection()), ("", None)):
        injected = injection(maps, gains, sigma) if injection else maps
        with modulated(unet, module, injected):
            theirs = prior.denoise(x, sigma)
        clone = patched(nodes, base, latent, name)
        with prepared(small.guider(clone, 3), x.shape) as guider:
            options = dict(guider.run_options)
            own = {**options.get("transformer_options", {}), GAINS: gains}
            ours = guider(x, sigma, model_options={**options, "transformer_options": own}, seed=0)
        found[f"diffusers {name}".strip()] = regions.difference(ours, theirs)
        found[f"without diffusers {name}".strip()] = regions.difference(
            ours, prior.denoise(x, sigma)
        )
    return found


def regressor(channels, value):
    """One that sees the same gain everywhere."""
    from undegrade.models.region_regressor import RegionRegressor, RegressorNetwork, Trained

    class Constant(RegionRegressor):
        def predict(self, x, *_):
            return torch.full((len(x), 2, 2, 2), value)

    known = Trained("random", ("",), (4.0, 0.02), (0.01, 0.02), (0.5, 0.25), 0.1, "some")
    return Constant(RegressorNetwork(channels, (8, 12, 16), 16), known)


def steered(nodes, base, latent) -> dict:
    """How many tiles the network is asked for on a base grid of 10 steps."""
    policy = nodes["UndegradeStepPolicy"]().make(
        mode="error", quality="fast", threshold=0.005, max_skip=4, early_exit=False,
        adaptive_start=False, start_sigma_easy=0.1,
    )[0]  # fmt: skip
    sigmas, found = regions.karras(base, 10, 3.0), {}

    def asked(made) -> int:
        count = []
        guider = small.guider(base, 1)
        predict = guider.predict_noise
        guider.predict_noise = lambda x, *a, **k: count.append(len(x)) or predict(x, *a, **k)
        regions.run(guider, regions.ours(nodes, policy, regressor=made), sigmas, latent)
        return sum(count)

    found["skips"], found["every"] = (asked(regressor(4, value)) for value in (0.0, 10.0))
    found["foreign"] = stable.refused(lambda: asked(regressor(3, 1.0)))
    return found


def main() -> None:
    comfy.utils.set_progress_bar_enabled(False)
    with torch.inference_mode():
        nodes, base, latent = small.pack(), stable.model(), regions.smooth(*LATENT)
        from undegrade.pipelines.tiling import TileGrid

        files(Path(small.WORK))
        sigmas, facts = regions.karras(base, 3, 3.0), {}
        plain = stock(patched(nodes, base, latent), sigmas, latent)
        fresh = stock(patched(nodes, base, latent, "new"), sigmas, latent)
        facts["untrained is the same"] = torch.equal(plain, fresh)
        trained = patched(nodes, base, latent, "trained")
        stocked = stock(trained, sigmas, latent)
        facts["trained"] = regions.difference(stocked, plain)
        facts["again"] = regions.difference(stock(trained, sigmas, latent), stocked)
        whole = regions.run(small.guider(trained, 3), regions.ours(nodes), sigmas, latent)
        alone = one_by_one(nodes, base, sigmas, latent, TileGrid(*LATENT, 16, 8))
        facts["tiles"] = regions.difference(whole, alone)
        square = regions.smooth(LATENT[1], LATENT[1])  # one tile: only the gains differ from stock
        canvas = regions.ours(nodes, tile=8 * LATENT[1], overlap=0)
        for name in ("new", "trained"):
            one = patched(nodes, base, square, name)
            region = regions.run(small.guider(one, 3), canvas, sigmas, square)
            facts[f"gains {name}"] = regions.difference(region, stock(one, sigmas, square))
        facts |= by_diffusers(nodes, base, regions.smooth(*LATENT, 3))
        facts["other"] = stable.refused(lambda: patched(nodes, base, latent, "other"))
        facts |= steered(nodes, base, latent)
    sys.stdout.write("\n" + json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
