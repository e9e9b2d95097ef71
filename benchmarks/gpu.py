"""What a card gives: the benchmark photographs restored as ComfyUI would, times of runs and of
network calls, host waits and peaks of memory.

    python benchmarks/gpu.py --seconds 150

Every figure goes to results/gpu.json as soon as it is known; what no longer fits into the time is
left out, and said so. Without a CUDA device it runs on the CPU and leaves out waits and peaks:
`--photos 1 --sizes 64x64 --steps 3 --channels 32` shows in seconds that it does.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pack
import torch
from photos import EVALUATION, photos
from tasks import NOISE, TITLES, measurements, operators

from undegrade import NODE_CLASS_MAPPINGS
from undegrade.models.prior import MultiResolutionPrior, Prior
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.nodes.comfyui.wall import left
from undegrade.pipelines.measurement import Measurement, simulate
from undegrade.pipelines.metrics import psnr
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.contract import Operator
from undegrade.pipelines.replay import LARGEST, Recordings, ReplayedPrior
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient

WIDTHS = (1, 1, 2, 2, 4, 4)  # of the published FFHQ network, in multiples of 128
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def ffhq_size(channels: int) -> torch.nn.Module:
    """A network of the published FFHQ prior's size with 128 channels (93.6 M), random weights."""
    from diffusers import UNet2DModel  # pyright: ignore[reportPrivateImportUsage]

    down = ["ResnetDownsampleBlock2D"] * 4 + ["AttnDownBlock2D", "ResnetDownsampleBlock2D"]
    up = ["ResnetUpsampleBlock2D", "AttnUpBlock2D"] + ["ResnetUpsampleBlock2D"] * 4
    return UNet2DModel(
        block_out_channels=tuple(channels * width for width in WIDTHS),
        layers_per_block=1,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        attention_head_dim=min(64, channels),
        resnet_time_scale_shift="scale_shift",
    ).eval()


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """Wall-clock seconds, with what the card still had to do."""
    on_cuda = device.type == "cuda"
    if on_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if on_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def waits_of(work: Callable[[], Any]) -> int:
    """How often torch made the host wait for the card."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in seen)


def sampled(prior: Prior, m: Measurement, steps: int) -> torch.Tensor:
    """The Posterior Sampler's defaults, called as ComfyUI does: restored IMAGE."""
    sampler = NODE_CLASS_MAPPINGS["UndegradePosteriorSampler"]()
    with torch.inference_mode():
        return sampler.sample(prior, m, 0, 1, False, **asdict(SamplerOptions(steps=steps)))[0]


def restored(asked: argparse.Namespace, device: torch.device):
    """(title, seconds, waits a step, peak, dB) of the benchmark's photographs, all at once. The
    CPU's stand in results/restoration.json."""
    truth = photos(EVALUATION[: asked.photos])
    prior = MultiResolutionPrior(load_pixel_prior(BUILT_IN))
    for task, m in measurements(truth).items():
        image = sampled(prior, m, asked.steps)  # also constants and kernels
        seconds = seconds_of(lambda m=m: sampled(prior, m, asked.steps), device)
        found = psnr(2 * image.movedim(-1, 1) - 1, truth).mean().item()
        yield f"{TITLES[task]}, {len(truth)} photographs", seconds, None, None, found


def measured(height: int, width: int, operator: Operator) -> Measurement:
    """Of a random picture."""
    truth = 0.4 * per_sample_noise([0])(torch.zeros(1, 3, height, width))
    return simulate(truth, operator, NOISE, per_sample_noise([1]))


def runs(asked: argparse.Namespace, device: torch.device):
    """(title, seconds, waits a step, peak in MiB, None) of the built-in prior, size by size: the
    node, and the same steps played back (`pipelines/replay.py`) where they are small enough."""
    prior = MultiResolutionPrior(load_pixel_prior(BUILT_IN))
    for size in asked.sizes:
        height, width = map(int, size.split("x"))
        for task, title in TITLES.items():
            if height != width and task != "super_resolution":
                continue  # inpainting's mask is square
            m = measured(height, width, operators(1, height)[task])
            for run, how in ((sampled, ""), (played, ", played back")):
                if not how or height * width <= LARGEST:
                    yield (f"{title}, {size}{how}", *figures_of(run, prior, m, asked.steps, device))


def played(prior: MultiResolutionPrior, m: Measurement, steps: int) -> None:
    """The node's steps, recorded and played back."""
    recordings, options = Recordings(), SamplerOptions(steps=steps)
    network = prior.prior.network  # type: ignore[attr-defined]
    device = next(network.parameters()).device
    inner = MultiResolutionPrior(ReplayedPrior(prior.prior, recordings))
    m = replace(m, y=m.y.to(device))
    with left():
        for _ in restore(
            inner, m, schedule_for(inner, options), ConjugateGradient(), per_sample_noise([0]),
            renoise=options.renoise, complementary=options.complementary, replay=recordings,
        ):  # fmt: skip
            pass


def figures_of(
    work: Callable[..., Any], prior: Prior, m: Measurement, steps: int, device: torch.device
):
    """(seconds, waits a step, peak in MiB, None) of a run."""
    work(prior, m, 3)  # constants and kernels
    waits = peak = None
    if device.type == "cuda":
        waits = waits_of(lambda: work(prior, m, steps)) / steps
        torch.cuda.reset_peak_memory_stats()
    seconds = min(seconds_of(lambda: work(prior, m, steps), device) for _ in range(2))
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    return seconds, waits, peak, None


def calls(asked: argparse.Namespace, device: torch.device):
    """(title, seconds of a call, None, None, None) of a network of FFHQ's size."""
    network = ffhq_size(asked.channels).to(device)
    for name, dtype in DTYPES.items():
        torch.nn.Module.to(network, dtype)  # diffusers' own warns
        for side in asked.call_sides:
            x = torch.zeros(1, 3, side, side, dtype=dtype, device=device)
            t = torch.zeros(1, device=device)

            def call(x: torch.Tensor = x, t: torch.Tensor = t) -> Any:
                return network(x, t)

            call()
            took = sorted(seconds_of(call, device) for _ in range(3))[1]
            yield f"FFHQ-size network, {name}, {side}x{side}", took, None, None, None


def main() -> None:
    """Measure until done or out of time, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--photos", type=int, default=len(EVALUATION))
    parser.add_argument("--sizes", nargs="+", default=["256x256", "512x512", "1024x1024",
                        "3072x4096"], help="height x width")  # fmt: skip
    parser.add_argument("--call-sides", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--channels", type=int, default=128)
    asked = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    end, rows, left_out = time.monotonic() + asked.seconds, [], False
    with left():
        for source in (restored, runs, calls):
            for row in source(asked, device):
                rows.append(["-" if figure is None else figure for figure in row])
                pack.write_results("gpu", {"device": name, "rows": rows, "complete": False})
                if left_out := time.monotonic() > end:
                    break
    pack.write_results("gpu", {"device": name, "rows": rows, "complete": not left_out})
    print(f"{name}, torch {torch.__version__}")
    print(pack.table(["work", "s", "waits a step", "peak MiB", "dB"], rows))
    if left_out:
        print(f"Out of time after {asked.seconds:g} s; the rest was left out.")


if __name__ == "__main__":
    main()
