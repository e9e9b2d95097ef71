"""What large pictures cost the command: processor time, memory, and how much of it is allocation.

Run: python benchmarks/large_pictures.py [MEGAPIXELS ...] [--jobs NAME ...] [--calls]. Megapixels
are those of the result. Each is a run of its own: with --calls the network called three times, with
memory kept (as the command does) and without; then the workflows. What was not run again is kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pack

OUT = Path(__file__).parent / "results" / "large_pictures.json"
CALLS = """
import sys
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "kept":
    import importlib.util
    file = sys.argv[1] + "/../headless/own_process.py"
    spec = importlib.util.spec_from_file_location("own", file)
    own = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(own)
    assert own.keep_memory()
import pack, torch
torch.set_num_threads(1)
from undegrade.models.registry import BUILT_IN, load_pixel_prior
x = torch.randn(1, 3, int(sys.argv[3]), int(sys.argv[3]))
with torch.no_grad():
    for _ in range(3):
        load_pixel_prior(BUILT_IN).denoise(x, torch.tensor([0.3]))
"""
COMMAND = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import pack
from undegrade.headless.cli import main
sys.exit(main())
"""


def measured(*command: str) -> dict[str, float]:
    """Processor seconds, those of them in the system, and the most memory in GB."""
    code = ("import resource, subprocess, sys; "
            "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
            "u = resource.getrusage(resource.RUSAGE_CHILDREN); "
            "print(u.ru_utime, u.ru_stime, u.ru_maxrss)")
    told = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True,
                          text=True).stdout.split()
    user, system, most = map(float, told)
    return {"s": round(user + system, 1), "system s": round(system, 1),
            "GB": round(most * 1024 / 1e9, 2)}


NOISY = "Denoise a photo"  # which has nothing to do in a clean one
JOBS = {  # workflow -> how many times larger its result is than the picture
    "Repair a JPEG": 1,
    "Sharpen with a known kernel": 1,
    "Sharpen a blurred photo": 1,
    NOISY: 1,
    "Remove an object": 1,
    "Restore an old photo": 1,
    "Enlarge a photo": 2,
    "Enlarge a small bad picture": 4,
}


def job(name: str, side: int) -> dict[str, float]:
    """A workflow whose result has `side` pixels a side, through the command."""
    import numpy as np
    from PIL import Image

    here, example = str(Path(__file__).parent), pack.ROOT / "workflows" / "input" / "example.png"
    with tempfile.TemporaryDirectory() as folder:
        given = side // JOBS[name]
        picture, file = Image.open(example).convert("RGB").resize((given, given)), "picture.jpg"
        if name == NOISY:
            noise = 15 * np.random.default_rng(0).normal(size=(given, given, 3))
            picture = Image.fromarray((np.array(picture) + noise).clip(0, 255).astype("uint8"))
            file = "picture.png"
        file = Path(folder) / file
        picture.save(file, quality=30)
        return measured(
            sys.executable, "-c", COMMAND, here, "run", str(pack.workflow(name)), "--input",
            str(file), "--output", folder, "--quiet")


def main() -> None:
    """Print a line per run and write all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("megapixels", type=float, nargs="*", default=[1.0, 4.0])
    parser.add_argument("--jobs", nargs="*", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--calls", action="store_true", help="the network alone, too")
    options = parser.parse_args()
    rows, here = [], str(Path(__file__).parent)
    for size in options.megapixels:
        side = round((size * 2**20) ** 0.5 / 16) * 16
        for how in ("left", "kept") if options.calls else ():
            rows.append({"run": f"3 calls, memory {how}", "side": side,
                         **measured(sys.executable, "-c", CALLS, here, how, str(side))})
            print(rows[-1], flush=True)
        for name in options.jobs:
            rows.append({"run": name, "side": side, **job(name, side)})
            print(rows[-1], flush=True)
    known = json.loads(OUT.read_text())["runs"] if OUT.exists() else []
    kept = {(row["run"], row["side"]): row for row in [*known, *rows]}
    pack.write_results(OUT.stem, {"runs": list(kept.values())})


if __name__ == "__main__":
    main()
