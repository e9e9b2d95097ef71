"""A sampling step against the bare call of its network, and that network in other number formats.

The network has the official FFHQ size, 93.6 M parameters with random weights: time does not depend
on the weights. One picture of 256 x 256, SubDAPS++ with its default update. All are timed in turn,
round after round, and the best time of each counts: on a CPU the processor's time, which other
programs disturb less than the clock's. What a step takes beside its network is measured within the
step. On a CUDA device float16 and torch.compile are timed too.

Run: python benchmarks/prior_speed.py [--rounds 5] [--threads 1].
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import pack
import torch
from photos import photo
from tasks import measurements
from tqdm import tqdm
from update_share import official_size_network

from undegrade.models.discrete import DiscretePrior
from undegrade.models.noise_table import vp_sigmas
from undegrade.models.prior import PriorSpec
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient

SIGMA, TASK = 0.2, "super_resolution"
BARE, CALL, STEP = "network, float32", "prior, float32", "step of the sampler, float32"


def calls(network: torch.nn.Module, device: torch.device) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    sigmas = vp_sigmas(torch.float32)
    spec = PriorSpec(
        multiple_of=32, sigma_min=sigmas[0].item(), sigma_max=sigmas[-1].item(), sigmas=sigmas
    )
    prior = DiscretePrior(network, spec)
    truth = photo("astronaut")
    x = (truth + SIGMA * per_sample_noise([1])(truth)).to(device)
    sigma, t = torch.tensor([SIGMA], device=device), torch.tensor([200.0], device=device)
    measurement = measurements(truth)[TASK]
    measurement = type(measurement)(
        measurement.y.to(device), measurement.operator, measurement.noise_level
    )
    schedule = schedule_for(prior, SamplerOptions(steps=1000))
    steps = restore(prior, measurement, schedule, ConjugateGradient(), per_sample_noise([2]))
    found: dict[str, Callable[[], object]] = {
        BARE: lambda: network(x, t),
        CALL: lambda: prior.denoise(x, sigma),
        STEP: lambda: next(steps),
    }
    others = {n: DiscretePrior(other, spec) for n, other in formats(network, device).items()}
    return found | {f"prior, {name}": lambda p=p: p.denoise(x, sigma) for name, p in others.items()}


def formats(network: torch.nn.Module, device: torch.device) -> dict[str, torch.nn.Module]:
    """The network in other number formats and orders of memory."""
    found = {}
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if device.type == "cuda":
        dtypes["float16"] = torch.float16
    for name, dtype in dtypes.items():
        other = torch.nn.Module.to(copy.deepcopy(network), dtype)
        if name != "float32":
            found[name] = copy.deepcopy(other)
        found[f"{name}, channels last"] = other.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if device.type == "cuda":
        found["float16, compiled"] = torch.compile(copy.deepcopy(found["float16"]))
    return found


def now(device: torch.device) -> float:
    """Seconds, once the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def beside(network: torch.nn.Module, step: Callable[[], object], device: torch.device) -> float:
    """The share of a step's time that is not its network's."""
    marks: list[float] = []
    hooks = [
        network.register_forward_pre_hook(lambda *_: marks.append(now(device))),
        network.register_forward_hook(lambda *_: marks.append(now(device))),
    ]
    start = now(device)
    step()
    whole = now(device) - start
    for hook in hooks:
        hook.remove()
    return 1 - sum(b - a for a, b in zip(marks[::2], marks[1::2], strict=True)) / whole


def main() -> None:
    """Print the table and write benchmarks/results/prior_speed.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.no_grad():
        network = torch.nn.Module.to(official_size_network(), device)
        timed, shares = calls(network, device), []
        best = dict.fromkeys(timed, float("inf"))
        for k in tqdm(range(options.rounds + 1)):
            for name, function in timed.items():
                start = now(device)
                function()
                took = now(device) - start
                if k:  # the first round warms up
                    best[name] = min(best[name], took)
            shares.append(beside(network, timed[STEP], device))
    against = {name: took / best[BARE] for name, took in best.items()}
    rows = [[name, f"{best[name]:.3f}", f"{against[name]:.3f}"] for name in timed]
    print(pack.table(["one 256 x 256 picture", "s", "of the bare network"], rows))
    share = sorted(shares)[len(shares) // 2]
    print(f"a step takes {100 * share:.2f} % of its time beside its network")
    found = {name: {"s": best[name], "of the bare network": against[name]} for name in timed}
    settings = {"rounds": options.rounds, "threads": options.threads, "device": device.type}
    pack.write_results("prior_speed", {**settings, "beside the network": share, "calls": found})


if __name__ == "__main__":
    main()
