"""How close a picture is to the true one; pictures are (B, 3, H, W) in [-1, 1], scores (B,)."""

from __future__ import annotations

import importlib.util

import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_WINDOW = 11  # pixels, Gaussian of 1.5 (Wang et al., 2004)
SMALLEST = SSIM_WINDOW // 2 + 1  # pixels a side that the window's reflected border needs
GMSD_CONSTANT = 170.0  # with luma from 0 to 255 (Xue et al., 2014)


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB with a peak of 2, after clipping x to [-1, 1]."""
    error = (x.clamp(-1, 1) - truth).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error)


def ssim(x: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of Wang et al. (2004), by kornia, after clipping x to [-1, 1]."""
    from kornia.metrics import ssim as ssim_map

    a, b = (x.clamp(-1, 1) + 1) / 2, (truth + 1) / 2
    return ssim_map(a, b, SSIM_WINDOW).flatten(1).mean(1)


def gmsd(x: Tensor, truth: Tensor) -> Tensor:
    """Gradient magnitude similarity deviation of Xue et al. (2014, arXiv 1308.3052), 0 for equal
    pictures and lower for closer ones, after clipping x to [-1, 1].

    The standard deviation over the picture of (2 a b + c) / (a^2 + b^2 + c), where a and b are the
    lengths of the Prewitt gradients of luma (0 to 255, averaged over 2x2 pixels). The border pixel
    is repeated for the gradients; the authors' code continues with black, which marks the border
    of both pictures as an edge.
    """
    return gradient_similarity(x.clamp(-1, 1), truth).flatten(1).std(1, correction=0)


def gradient_similarity(x: Tensor, truth: Tensor) -> Tensor:
    """The map whose deviation `gmsd` is, (B, 3, H, W) -> (B, 1, H // 2, W // 2) in [0, 1]."""
    a, b = _gradient_lengths(x), _gradient_lengths(truth)
    return (2 * a * b + GMSD_CONSTANT) / (a.square() + b.square() + GMSD_CONSTANT)


def _gradient_lengths(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H // 2, W // 2)."""
    from kornia.color import rgb_to_grayscale

    luma = F.avg_pool2d(255 * rgb_to_grayscale((pixels + 1) / 2), 2)
    prewitt = luma.new_tensor([[1, 0, -1]]).expand(3, 3) / 3
    kernels = torch.stack([prewitt, prewitt.T])[:, None]
    gradients = F.conv2d(F.pad(luma, (1, 1, 1, 1), mode="replicate"), kernels)
    return gradients.square().sum(1, keepdim=True).sqrt()


def lpips(x: Tensor, truth: Tensor) -> Tensor | None:
    """Learned perceptual distance of Zhang et al. (2018), AlexNet; None where lpips is not
    installed."""
    if importlib.util.find_spec("lpips") is None:
        return None
    import lpips as package  # type: ignore[import-not-found]

    network = package.LPIPS(net="alex", verbose=False).to(x.device)
    with torch.no_grad():
        return network(x.clamp(-1, 1), truth).flatten()
