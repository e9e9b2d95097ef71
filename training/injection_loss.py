"""What feature injection at the structure maps of StableSR is trained to do.

Reference: AdaDiffSR (ECCV 2024, arXiv 2410.17752); StableSR (arXiv 2305.07015). Stable Diffusion,
its autoencoder and the StableSR module stay as they are; phi of `models.feature_injection` learns

    loss = w |D(x, sigma, phi(m, g / tau)) - z|^2,   x = z + sigma n,   m = encoder(z_lr, t)

with z and z_lr the latents of a picture and of its degraded version enlarged 4 times. w makes it
the square error of what the network predicts: 1 / sigma^2 for the noise, 1 + 1 / sigma^2 for v, 1
for the picture. Timesteps are drawn evenly.

The gains g are measured as a run would have measured them, with the estimator that needs no
training: D is asked twice before, one to four base steps apart each time, and (g^F, g^N) is read
off its two predictions, in units of the threshold 1 / N of a base grid of N steps. They are 0 where
a run would know none yet, and for a share of all samples, since stock samplers know of no regions.

Where we depart: the paper publishes neither phi nor its training. There is no perceptual term,
which would need weights of others. The two predictions before are of the same picture and noise,
not of a run, and were made with gains of 0: a run from pure noise for every step would cost tens of
times as much. Nothing forces a growing region to take more of the degraded picture; what g is good
for is learnt from the error alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.discrete import DiscretePrior
from ..models.feature_injection import StructInjection
from ..models.latent import PromptedNetwork
from ..models.modulated_unet import modulated
from ..models.noise_table import timestep_of
from ..models.registry import networks_of
from ..models.stablesr import StableSRNetwork
from ..pipelines.adadiffsr.base_grid import BaseGrid
from ..pipelines.adadiffsr.information_gain import Evaluation, WeightFree, closed_form
from ..pipelines.invsr.sampler import bicubic
from ..pipelines.step import column
from .loop import Task

LONGEST = 4  # base steps between two evaluations
SHOWN = 2  # pictures of a validation


@dataclass(frozen=True, eq=False)
class Visit:
    """Where samples stand in their runs. sigmas: (4, B) float64, levels of the evaluation before
    the last, of the last, of the base node after that, and of this one. steps: (B,) float64 base
    steps between the first two. known: (B,) whether their gains are."""

    sigmas: Tensor
    steps: Tensor
    known: Tensor


def visit(nodes: Tensor, count: int, unknown: float, generator: torch.Generator) -> Visit:
    """Places on a base grid, evenly drawn, between its nodes too.

    nodes: (N + 1,) descending levels, the last the smallest a run may end at.
    """
    place = torch.rand(count, generator=generator).double() * (len(nodes) - 1)
    skips = torch.randint(1, LONGEST + 1, (2, count), generator=generator).double()
    last = place - skips[0]
    first = last - skips[1]
    known = (first >= 0) & (torch.rand(count, generator=generator) >= unknown)
    places = torch.stack([first, last, last + 1, place]).clamp(min=0)
    low = places.floor().long().clamp(max=len(nodes) - 2)
    levels = nodes.log()
    sigmas = torch.lerp(levels[low], levels[low + 1], places - low).exp()
    return Visit(sigmas, skips[1], known)


class InjectionTask(Task):
    """phi under the loss above.

    prior: a latent one. base_steps: N. unknown: share of samples that know no gains. held_out:
    (low, high resolution) of the validation.
    """

    def __init__(
        self, network: StructInjection, prior: DiscretePrior, module: StableSRNetwork,
        base_steps: int, unknown: float, held_out: tuple[Tensor, Tensor],
    ) -> None:
        super().__init__()
        self.network, self.unknown = network, unknown
        self.frozen, self.held_out = (prior, module), held_out
        grid = BaseGrid(steps=base_steps, start_sigma=0.0, spacing="uniform")
        base = grid.sigmas(prior.spec)
        self.nodes = torch.cat([base, base.new_tensor([prior.spec.sigma_min])])
        self.gain = WeightFree(closed_form(base, prior.codec.factor))

    def place(self, device: torch.device) -> None:
        """The prior, the module and the held-out pictures."""
        prior, module = self.frozen
        for network in (*networks_of(prior), module):
            torch.nn.Module.to(network, device)
        self.held_out = (self.held_out[0].to(device), self.held_out[1].to(device))

    def forward(
        self, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The loss at timesteps that are drawn."""
        return {"loss": self.errors(batch, generator).mean()}

    def errors(
        self, batch: tuple[Tensor, Tensor], generator: torch.Generator, injected: bool = True
    ) -> Tensor:
        """The loss of every sample, (B,), with phi or without."""
        low, high = batch
        encode = self.frozen[0].codec.encode
        with torch.no_grad():
            z_lr, z = encode(enlarged(low)), encode(high)
        noise = torch.randn(z.shape, generator=generator).to(z)
        seen = visit(self.nodes, len(z), self.unknown, generator)
        gains = self.gains(z, noise, z_lr, seen) if injected else None
        sigma = seen.sigmas[3].to(z)
        x0_hat = self.denoise(z + column(sigma, z) * noise, sigma, z_lr, gains)
        return self.weight(sigma) * (x0_hat - z).square().flatten(1).mean(1)

    def denoise(self, x: Tensor, sigma: Tensor, z_lr: Tensor, gains: Tensor | None) -> Tensor:
        """D of states (B, C, h, w) at levels (B,); gains: (B, 2) in units of the threshold, None
        for StableSR without phi."""
        prior, module = self.frozen
        network = prior.network
        assert isinstance(network, PromptedNetwork) and prior.spec.sigmas is not None
        with torch.no_grad():
            maps = module.encoder(z_lr, timestep_of(sigma, prior.spec.sigmas))
        if gains is not None:
            maps = self.network(maps, gains, sigma)
        with modulated(network.unet, module, maps):
            return prior.denoise(x, sigma)

    @torch.no_grad()
    def gains(self, z: Tensor, noise: Tensor, z_lr: Tensor, seen: Visit) -> Tensor:
        """g^F / tau and g^N / tau that a run knows when it comes here, (B, 2)."""
        nothing, shown = z.new_zeros(len(z), 2), []
        for level in seen.sigmas[:2]:
            sigma = level.to(z)
            x = z + column(sigma, z) * noise
            shown.append((x, self.denoise(x, sigma, z_lr, nothing)))
        (_, previous), (x, x0_hat) = shown
        before, sigma, following, _ = seen.sigmas
        gain = self.gain(
            Evaluation(x, x0_hat, previous, z_lr, sigma, before, following, seen.steps)
        )
        both = torch.stack([gain.full_reference, gain.no_reference], 1) * (len(self.nodes) - 1)
        return torch.where(seen.known[:, None], both, 0.0).to(z)

    def weight(self, sigma: Tensor) -> Tensor:
        """w, (B,)."""
        prediction = self.frozen[0].prediction
        if prediction == "sample":
            return torch.ones_like(sigma)
        return sigma.square().reciprocal() + float(prediction == "v_prediction")

    def validate(self) -> tuple[dict[str, float], Tensor]:
        """The loss of drawn pictures of another seed with phi and without, at the same timesteps
        and noise; and what one step from timestep T / 2 makes of them."""
        def errors(injected: bool) -> float:
            own = torch.Generator().manual_seed(0)
            return float(self.errors(self.held_out, own, injected).mean())

        low, high = (part[:SHOWN] for part in self.held_out)
        codec, z_lr = self.frozen[0].codec, self.frozen[0].codec.encode(enlarged(low))
        sigma = z_lr.new_full((len(z_lr),), self.nodes[len(self.nodes) // 2].item())
        noise = torch.randn(z_lr.shape, generator=torch.Generator().manual_seed(0)).to(z_lr)
        x = codec.encode(high) + column(sigma, noise) * noise
        x0_hat = self.denoise(x, sigma, z_lr, z_lr.new_zeros(len(z_lr), 2))
        pictures = torch.cat([enlarged(low), codec.decode(x0_hat), high])
        return {"held_out": errors(True), "without": errors(False)}, pictures


def enlarged(low: Tensor) -> Tensor:
    """Four times the size, bicubic, within [-1, 1]."""
    return bicubic(low, 4).clamp(-1, 1)
