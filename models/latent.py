"""Latent diffusion (Stable Diffusion 1.5, 2.1, SD-Turbo) from a folder in diffusers' layout.

Reference: Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022
(arXiv 2112.10752); guidance: Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022 (arXiv
2207.12598).

The network denoises latents z = (E(image) - shift) scale of an autoencoder (E, D), and is told a
text, whose embedding is computed once, when the folder is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .diffusers_folder import (
    Config,
    first_sentence,
    load_network,
    load_pixel_folder,
    network_class,
    read_config,
    read_scheduler,
    side,
)
from .discrete import DiscretePrior
from .prior import PriorSpec
from .weights import UnsupportedWeightsError

SD_SCALE = 0.18215  # of the autoencoder that Stable Diffusion 1 and 2 share
SD_COLOURS = (  # its four latent channels -> red, green, blue in [-1, 1], fitted by its users
    (0.3512, 0.2297, 0.3227),
    (0.3250, 0.4974, 0.2350),
    (-0.2829, 0.1762, 0.2721),
    (-0.2120, -0.2616, -0.7177),
)


@dataclass(eq=False)
class AutoencoderCodec:
    """diffusers' `AutoencoderKL` as a Codec.

    network: runs in the dtype of its own weights, pictures and latents stay float32. factor:
    pixels along a side of one latent pixel. channels: of a latent. scale, shift: z = (E(image) -
    shift) scale.
    """

    network: nn.Module
    factor: int
    channels: int
    scale: float
    shift: float = 0.0

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, c, H / factor, W / factor) float32: the mean of the
        encoder's Gaussian, no sample of it. Raises `ValueError` for sides that are no multiples of
        `factor`.
        """
        height, width = image.shape[-2:]
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"The picture is {width}x{height} pixels, but the autoencoder takes multiples of "
                f"{self.factor}; crop or pad it."
            )
        mean = self.network.encode(image.to(self._dtype)).latent_dist.mean  # type: ignore[operator]
        return self.process_latent_in(mean.float())

    def decode(self, z: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, 3, factor h, factor w) float32, near [-1, 1] but not clipped to it,
        for the sake of derivatives.
        """
        samples = self.process_latent_out(z).to(self._dtype)
        return self.network.decode(samples).sample.float()  # type: ignore[operator]

    def process_latent_in(self, samples: Tensor) -> Tensor:
        """The samples of a LATENT, which are E(image) -> z, same shape."""
        return (samples - self.shift) * self.scale

    def process_latent_out(self, z: Tensor) -> Tensor:
        """z -> the samples of a LATENT, same shape."""
        return z / self.scale + self.shift

    @contextmanager
    def plain_attention(self) -> Iterator[None]:
        """While the block runs the network attends by plain matrix products, which also have a
        forward-mode derivative, and gives what it attended to in the usual order of memory, which
        torch's derivative of the normalisation after it needs.
        """
        from diffusers.models.attention_processor import Attention, AttnProcessor

        network: Any = self.network
        usual = network.attn_processors
        network.set_attn_processor(AttnProcessor())
        attentions = [module for module in network.modules() if isinstance(module, Attention)]
        hooks = [module.register_forward_hook(in_order) for module in attentions]
        try:
            yield
        finally:
            network.set_attn_processor(usual)
            for hook in hooks:
                hook.remove()

    def preview(self, z: Tensor) -> Tensor:
        """A small picture of a latent, (B, c, h, w) -> (B, 3, h, w): for the autoencoder of Stable
        Diffusion 1 and 2 a fixed mixture of the channels, which costs nothing; for any other the
        decoded picture, reduced.
        """
        if z.shape[1] == len(SD_COLOURS) and self.scale == SD_SCALE:
            return torch.einsum("bchw,cr->brhw", z, z.new_tensor(SD_COLOURS))
        return F.avg_pool2d(self.decode(z), self.factor)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype


def in_order(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """A copy of a module's output, contiguous."""
    return output.clone(memory_format=torch.contiguous_format)


class PromptedNetwork(nn.Module):
    """A `UNet2DConditionModel` that always reads the same text, with classifier-free guidance:

        f = f(negative) + scale (f(prompt) - f(negative)),   or f(prompt) where scale is 1.

    unet: diffusers' network. prompt, negative: (1, L, D) text embeddings.
    """

    def __init__(self, unet: nn.Module, prompt: Tensor, negative: Tensor, scale: float) -> None:
        super().__init__()
        self.unet, self.scale = unet, scale
        dtype = next(unet.parameters()).dtype
        self.register_buffer("prompt", prompt.to(dtype))
        self.register_buffer("negative", negative.to(dtype))

    def forward(self, x: Tensor, t: Tensor) -> Any:
        """x: (B, c, h, w), t: (B,) -> an object with `.sample`, (B, c, h, w)."""
        count = x.shape[0]
        prompt, negative = (e.expand(count, -1, -1) for e in (self.prompt, self.negative))  # type: ignore[operator]
        if self.scale == 1:
            return self.unet(x, t, prompt)
        both = torch.cat([negative, prompt])
        out = self.unet(torch.cat([x, x]), torch.cat([t, t]), both)
        without, told = out.sample.chunk(2)
        return type(out)(sample=without + self.scale * (told - without))


def load_diffusers_prior(
    folder: str | Path,
    prompt: str = "",
    negative_prompt: str = "",
    cfg_scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> DiscretePrior:
    """The prior of a folder in diffusers' layout, pixel or latent, on the CPU.

    prompt, negative_prompt: texts, of latent models only. cfg_scale: guidance, 1 for none; other
    values call the network on twice the batch. dtype: of the denoising network; the autoencoder
    stays in float32, since its rounding would pass for noise of the measurement.
    Raises `FileNotFoundError`, `UnsupportedWeightsError` for a folder that cannot be used, and
    `ValueError` for texts that cannot.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; check the name.")
    if network_class(folder) != "UNet2DModel":
        return load_latent_folder(folder, (negative_prompt, prompt), cfg_scale, dtype)
    if prompt or negative_prompt or cfg_scale != 1:
        raise ValueError(
            f"{folder.name} is a pixel prior that reads no text; leave both prompts empty and "
            "cfg_scale at 1."
        )
    return load_pixel_folder(folder, dtype)


def load_latent_folder(
    folder: Path, texts: tuple[str, str], cfg_scale: float, dtype: torch.dtype
) -> DiscretePrior:
    """The latent prior of a folder; texts: (negative prompt, prompt)."""
    unet = load_network(folder / "unet", "UNet2DConditionModel", folder.name, dtype)
    codec = load_codec(folder)
    config: Config = dict(unet.config)  # type: ignore[arg-type]
    latents = codec.channels
    if (config["in_channels"], config["out_channels"]) != (latents, latents):
        raise UnsupportedWeightsError(
            f"{folder.name} has a network of {config['in_channels']} channels in and "
            f"{config['out_channels']} out on latents of {latents}; choose one that is not made "
            "for inpainting or editing."
        )
    sigmas, prediction, clip = read_scheduler(folder)
    negative, told = embed_texts(folder, texts).split(1)
    if told.shape[-1] != config["cross_attention_dim"]:
        raise UnsupportedWeightsError(
            f"{folder.name} has text embeddings of {told.shape[-1]} numbers and a network that "
            f"reads {config['cross_attention_dim']}; its parts do not belong together, download "
            "it again."
        )
    spec = PriorSpec(
        channels=latents,
        multiple_of=2 ** (len(config["block_out_channels"]) - 1),
        native_size=side(config, folder.name) * codec.factor,
        sigma_min=sigmas[0].item(),
        sigma_max=sigmas[-1].item(),
        sigmas=sigmas,
        name=folder.name,
    )
    network = PromptedNetwork(unet, told, negative, cfg_scale).eval()
    return DiscretePrior(network, spec, prediction, clip, codec)


def load_codec(folder: Path) -> AutoencoderCodec:
    """The autoencoder of a folder, in float32. Raises `UnsupportedWeightsError`."""
    network = load_network(folder / "vae", "AutoencoderKL", folder.name, torch.float32)
    config: Config = dict(network.config)  # type: ignore[arg-type]
    if config.get("latents_mean") is not None or config.get("latents_std") is not None:
        raise UnsupportedWeightsError(
            f"{folder.name} has an autoencoder with a mean and deviation per channel, which is not "
            "read here; choose Stable Diffusion 1.5, 2.1 or SD-Turbo."
        )
    factor = 2 ** (len(config["block_out_channels"]) - 1)
    shift = config.get("shift_factor") or 0.0
    latents = config["latent_channels"]
    return AutoencoderCodec(network, factor, latents, config["scaling_factor"], shift)


def embed_texts(folder: Path, texts: tuple[str, ...]) -> Tensor:
    """CLIP's last hidden states of texts, (N, L, D) float32; the encoder is dropped afterwards.

    Raises `ImportError` without transformers, `UnsupportedWeightsError` for an encoder or tokenizer
    that is not there, broken or of another class, `ValueError` for a text that is too long.
    """
    config = read_config(folder / "text_encoder" / "config.json")
    if config.get("architectures") != ["CLIPTextModel"]:
        raise UnsupportedWeightsError(
            f"{folder.name} has the text encoder {config.get('architectures')}, which is not "
            "CLIPTextModel; choose Stable Diffusion 1.5, 2.1 or SD-Turbo."
        )
    try:
        from transformers import (  # pyright: ignore[reportMissingImports]
            CLIPTextModel,
            CLIPTokenizer,
        )
    except ImportError as error:
        raise ImportError(
            "Latent folders need the package transformers to read the prompt; install it with pip "
            "install transformers, or load the checkpoint with ComfyUI's own nodes and use Prior "
            "From Guider."
        ) from error
    from safetensors import SafetensorError

    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        encoder, found = CLIPTextModel.from_pretrained(
            folder / "text_encoder", local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UnsupportedWeightsError(
            f"{folder.name} has a text_encoder or tokenizer that transformers cannot read "
            f"({first_sentence(error)}); download it again."
        ) from error
    if found["missing_keys"] or found["mismatched_keys"]:
        raise UnsupportedWeightsError(
            f"{folder.name} has a text_encoder without {len(found['missing_keys'])} and with "
            f"{len(found['mismatched_keys'])} misshapen of its tensors; download it again."
        )
    ids = [token_ids(tokenizer, text) for text in texts]
    return encoder.float().eval()(torch.tensor(ids)).last_hidden_state.detach()


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text, padded to the tokenizer's length. Raises `ValueError` for a longer
    one."""
    longest = tokenizer.model_max_length
    ids = tokenizer(text, padding="max_length", max_length=longest).input_ids
    if len(ids) > longest:
        raise ValueError(
            f"The prompt has {len(ids) - 2} tokens, but the model reads {longest - 2}; shorten it: "
            f"{text[:60]!r}."
        )
    return ids
