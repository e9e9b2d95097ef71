"""How close a picture is to the true one; pictures are (B, 3, H, W) in [-1, 1], scores (B,)."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

SSIM_WINDOW = 11  # pixels, Gaussian of 1.5 (Wang et al., 2004)


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB with a peak of 2, after clipping x to [-1, 1]."""
    error = (x.clamp(-1, 1) - truth).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error)


def ssim(x: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of Wang et al. (2004), by kornia, after clipping x to [-1, 1]."""
    from kornia.metrics import ssim as ssim_map

    a, b = (x.clamp(-1, 1) + 1) / 2, (truth + 1) / 2
    return ssim_map(a, b, SSIM_WINDOW).flatten(1).mean(1)


def lpips(x: Tensor, truth: Tensor) -> Tensor | None:
    """Learned perceptual distance of Zhang et al. (2018), AlexNet; None where lpips is not
    installed."""
    if importlib.util.find_spec("lpips") is None:
        return None
    import lpips as package  # type: ignore[import-not-found]

    network = package.LPIPS(net="alex", verbose=False).to(x.device)
    with torch.no_grad():
        return network(x.clamp(-1, 1), truth).flatten()
