"""Peak memory of InvSR's noise predictor on one whole picture, in a process of its own per size.

The published layout, 33.8 M random weights, float32. The resident memory at its peak, less what was
there before the call. At 512 the exact pass takes hours on one core; "without products" leaves out
the sums of the attention, which need no memory that grows (they are taken in blocks), and shows at
256 and below that it changes the peak by little.

Run: python benchmarks/predictor_memory.py [--exact 64 128 256] [--without 64 128 256 512].
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import pack
import torch

from undegrade.models.noise_predictor import NoisePredictor, NoisePredictorNetwork, Sizes


def measure(side: int, products: bool) -> dict[str, float]:
    """MiB and s of one call in this process."""
    predictor = NoisePredictor(NoisePredictorNetwork(Sizes()).eval())
    if not products:
        torch.nn.functional.scaled_dot_product_attention = lambda q, k, v, **_: torch.empty_like(q)
    lr, sigma = torch.zeros(1, 3, side, side), torch.tensor([0.5])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with torch.no_grad():
        predictor.predict(lr, sigma)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"MiB": (peak - before) / 1024, "s": seconds}


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description="Peak memory of the noise predictor.")
    parser.add_argument("--exact", type=int, nargs="*", default=[64, 128, 256])
    parser.add_argument("--without", type=int, nargs="*", default=[64, 128, 256, 512])
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.one:
        print(json.dumps(measure(given.one[0], bool(given.one[1]))))
        return
    found: list[dict[str, Any]] = []
    passes = (("exact", given.exact, 1), ("without products", given.without, 0))
    for name, sides, products in passes:
        for side in sides:
            command = [sys.executable, __file__, "--one", str(side), str(products)]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append({"pass": name, "side": side, **json.loads(run.stdout)})
            print(found[-1], flush=True)
    rows = [[f["pass"], f["side"], f["side"] ** 2, f["MiB"], f["s"]] for f in found]
    print(pack.table(["pass", "side", "tokens", "MiB", "s"], rows))
    pack.write_results("predictor_memory", {"passes": found})


if __name__ == "__main__":
    main()
