"""Published weights that this pack reads: where they come from, and under which licence.

Nothing here is downloaded unless the user asks for it on Load Diffusers Prior. A checksum or a
revision stands only where it is known; None means that nobody here has seen the file.
"""

from __future__ import annotations

from dataclasses import dataclass

PRIORS, DIFFUSERS, BLURS = "diffusion_priors", "diffusers", "blur_networks"
PREDICTORS, STABLESR = "invsr", "stablesr"
S_LAB = "NTU S-Lab License 1.0, non-commercial"


@dataclass(frozen=True)
class Known:
    """One published file, or folder in diffusers' layout.

    name: of the file or folder. folder: the one below ComfyUI's `models` where it belongs. url:
    the page or file to get it from. sha256: of a file. repository, revision: of a folder on the
    Hugging Face hub, the revision as a commit.
    """

    name: str
    folder: str
    what: str
    url: str
    licence: str
    sha256: str | None = None
    repository: str | None = None
    revision: str | None = None


HUB = "https://huggingface.co"
DPS_FILES = "https://github.com/DPS2022/diffusion-posterior-sampling"

KNOWN = (
    Known(
        "ffhq_10m.pt",
        PRIORS,
        "ADM network of DPS, faces (FFHQ, 256 pixels)",
        DPS_FILES,
        "none stated for the weights; FFHQ itself is non-commercial",
    ),
    Known(
        "imagenet256.pt",
        PRIORS,
        "the network of 256x256_diffusion_uncond.pt under DPS' name",
        DPS_FILES,
        "MIT, that of guided-diffusion",
    ),
    Known(
        "256x256_diffusion_uncond.pt",
        PRIORS,
        "ADM network of guided-diffusion, ImageNet at 256 pixels",
        "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/256x256_diffusion_uncond.pt",
        "MIT, that of guided-diffusion",
        sha256="a37c32fffd316cd494cf3f35b339936debdc1576dad13fe57c42399a5dbc78b1",
    ),
    Known(
        "GOPRO_wVAE.pth",
        BLURS,
        "blur network of blur-kernel-space-exploring, GoPro scenes",
        "https://github.com/VinAIResearch/blur-kernel-space-exploring",
        "Apache-2.0",
    ),
    Known(
        "noise_predictor_sd_turbo_v5.pth",
        PREDICTORS,
        "noise predictor of InvSR for SD-Turbo",
        f"{HUB}/OAOA/InvSR/resolve/main/noise_predictor_sd_turbo_v5.pth",
        S_LAB,
    ),
    Known(
        "noise_predictor_sd_turbo_v5_diftune.pth",
        PREDICTORS,
        "the same, tuned further",
        f"{HUB}/OAOA/InvSR/resolve/main/noise_predictor_sd_turbo_v5_diftune.pth",
        S_LAB,
    ),
    Known(
        "stablesr_webui_sd-v2-1-512-ema-000117.ckpt",
        STABLESR,
        "StableSR module for SD 2.1 base and SD-Turbo, in webui_512v_models.zip",
        f"{HUB}/Iceclear/StableSR",
        S_LAB,
    ),
    Known(
        "webui_768v_139.ckpt",
        STABLESR,
        "StableSR module for SD 2.1 at 768 pixels",
        f"{HUB}/Iceclear/StableSR/resolve/main/webui_768v_139.ckpt",
        S_LAB,
    ),
    Known(
        "stablesr_000117.ckpt",
        STABLESR,
        "full StableSR checkpoint for 512 pixels, 6.5 GB, with its UNet",
        f"{HUB}/Iceclear/StableSR/resolve/main/stablesr_000117.ckpt",
        S_LAB,
    ),
    Known(
        "stablesr_768v_000139.ckpt",
        STABLESR,
        "full StableSR checkpoint for 768 pixels, 6.5 GB, with its UNet",
        f"{HUB}/Iceclear/StableSR/resolve/main/stablesr_768v_000139.ckpt",
        S_LAB,
    ),
    Known(
        "stablesr_turbo.ckpt",
        STABLESR,
        "full StableSR checkpoint for SD-Turbo, 6.5 GB, with its UNet",
        f"{HUB}/Iceclear/StableSR/resolve/main/stablesr_turbo.ckpt",
        S_LAB,
    ),
    Known(
        "sd-turbo",
        DIFFUSERS,
        "SD-Turbo, latent diffusion at 512 pixels in one to four steps",
        f"{HUB}/stabilityai/sd-turbo",
        "Stability AI, see its LICENSE.md: conditions on commercial use",
        repository="stabilityai/sd-turbo",
        revision="b261bac6fd2cf515557d5d0707481eafa0485ec2",
    ),
    Known(
        "stable-diffusion-2-1-base",
        DIFFUSERS,
        "Stable Diffusion 2.1, latent diffusion at 512 pixels",
        f"{HUB}/stabilityai/stable-diffusion-2-1-base",
        "CreativeML Open RAIL++-M: uses that do harm are forbidden",
        repository="stabilityai/stable-diffusion-2-1-base",
        revision="5ede9e4bf3e3fd1cb0ef2f7a3fff13ee514fdf06",
    ),
)


def known_in(folder: str) -> dict[str, Known]:
    """The published files of one folder below `models`, by name."""
    return {row.name: row for row in KNOWN if row.folder == folder}


def source_of(name: str) -> str:
    """The end of a sentence that tells to get a file: " from ..." where it is known, else ""."""
    return next((f" from {row.url}" for row in KNOWN if row.name == name), "")
