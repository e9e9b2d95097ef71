"""What large pictures cost the command: processor time, memory, and how much of it is allocation.

Run: python benchmarks/large_pictures.py [MEGAPIXELS ...]. Each is a run of its own: the network
called three times, with memory kept (as the command does) and without; then "Repair a JPEG".
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


def main() -> None:
    """Print a line per run and write all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("megapixels", type=float, nargs="*", default=[1.0, 4.0])
    rows, here = [], str(Path(__file__).parent)
    for size in parser.parse_args().megapixels:
        side = round((size * 2**20) ** 0.5 / 16) * 16
        for how in ("left", "kept"):
            rows.append({"run": f"3 calls, memory {how}", "side": side,
                         **measured(sys.executable, "-c", CALLS, here, how, str(side))})
            print(rows[-1], flush=True)
        with tempfile.TemporaryDirectory() as folder:
            from PIL import Image

            file = Path(folder) / "picture.jpg"
            example = pack.ROOT / "workflows" / "input" / "example.png"
            Image.open(example).convert("RGB").resize((side, side)).save(file, quality=30)
            rows.append({"run": "Repair a JPEG", "side": side, **measured(
                sys.executable, "-c", COMMAND, here, "run",
                str(pack.ROOT / "workflows" / "Repair a JPEG.json"), "--input", str(file),
                "--output", folder, "--quiet")})
        print(rows[-1], flush=True)
    OUT.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
