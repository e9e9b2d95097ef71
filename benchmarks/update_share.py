"""Share of the measurement update in a sampling step with a network of the official FFHQ size.

The network has 93.6 M parameters with random weights (diffusers' UNet2DModel with the settings of
the published prior); time does not depend on the weights. One picture of 256 x 256, at full
resolution, where a step is dearest.

Run: python benchmarks/update_share.py [--rounds 3].
"""

from __future__ import annotations

import argparse
import time

import pack
import torch
from photos import photo
from tasks import TITLES, measurements
from tqdm import tqdm

from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient

SIGMA = 0.2
PARAMETERS = 93_563_910


def official_size_network() -> torch.nn.Module:
    """The FFHQ network of the SubDAPS release, random weights. Raises `ValueError` when diffusers
    builds another size."""
    from diffusers.models.unets.unet_2d import UNet2DModel

    base = 128
    attention = (False, False, False, False, True, False)
    network = UNet2DModel(
        in_channels=3,
        out_channels=6,
        layers_per_block=1,
        block_out_channels=tuple(base * m for m in (1, 1, 2, 2, 4, 4)),
        down_block_types=tuple(
            "AttnDownBlock2D" if a else "ResnetDownsampleBlock2D" for a in attention
        ),
        up_block_types=tuple(
            "AttnUpBlock2D" if a else "ResnetUpsampleBlock2D" for a in reversed(attention)
        ),
        downsample_type="resnet",
        upsample_type="resnet",
        resnet_time_scale_shift="scale_shift",
        attention_head_dim=64,
        attn_norm_num_groups=32,
        freq_shift=0,
        norm_eps=1e-5,
    )
    count = sum(p.numel() for p in network.parameters())
    if count != PARAMETERS:
        raise ValueError(f"The network has {count} parameters; the published one {PARAMETERS}.")
    return network.requires_grad_(False).eval()


def shares(network: torch.nn.Module, threads: int, rounds: int) -> dict[str, dict[str, float]]:
    """Best seconds of network and update per task, interleaved, and the update's share."""
    torch.set_num_threads(threads)
    truth = photo("astronaut")
    noise = per_sample_noise([1])
    x0_hat = (truth + 0.1 * noise(truth)).clamp(-1, 1)
    x, t = truth + SIGMA * noise(truth), torch.tensor([200])
    tasks = measurements(truth)
    update = ConjugateGradient(iterations=10, tolerance=0.0)
    best = dict.fromkeys(["network", *tasks], float("inf"))
    for _ in tqdm(range(rounds), desc=f"{threads} thread(s)"):
        best["network"] = min(best["network"], clock(lambda: network(x, t)))
        for name, m in tasks.items():
            seconds = clock(lambda m=m: update(x0_hat, SIGMA, m))
            best[name] = min(best[name], seconds)
    return {
        name: {
            "network s": best["network"],
            "update s": best[name],
            "share": best[name] / (best[name] + best["network"]),
        }
        for name in tasks
    }


def clock(function) -> float:
    """Seconds of one call, by the wall."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Print the table and write benchmarks/results/update_share.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    network = official_size_network()
    with torch.no_grad():
        found = {f"{n} threads": shares(network, n, rounds) for n in (1, 2)}
    rows = [
        [
            TITLES[task],
            threads[0],
            f"{v['network s']:.2f}",
            f"{v['update s']:.3f}",
            f"{100 * v['share']:.1f} %",
        ]
        for threads, tasks in found.items()
        for task, v in tasks.items()
    ]
    print(pack.table(["ten steps of CG", "threads", "network s", "update s", "share"], rows))
    pack.write_results("update_share", {"rounds": rounds, "threads": found})


if __name__ == "__main__":
    main()
