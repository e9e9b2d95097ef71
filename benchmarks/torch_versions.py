#!/usr/bin/env python3
"""Whether every version of torch restores what torch 2.13.0 does: `make matrix`.

For each version a virtual environment below .matrix, with the pack's requirements under
constraints.txt; in it the numerical tests, and `torch_pictures.py`, whose pictures are compared
with those of the reference version. Prints a table, versions by test files, and writes it to
benchmarks/results/torch_versions.json after each version, beside what other runs of the same
tests found. Exits 1 where anything differs.

A CUDA build takes 5 to 7 GB, so each environment is deleted before the next is made (--keep leaves
them). Where a version cannot be installed the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".matrix"
RESULTS = ROOT / "benchmarks" / "results" / "torch_versions.json"
REFERENCE = "2.13.0"
VERSIONS = (
    "2.7.0", "2.7.1", "2.8.0", "2.9.1", "2.10.0", "2.11.0", "2.12.1", REFERENCE, "2.14.1", "2.15.0",
)  # fmt: skip
TOLERANCE = 1e-5  # of a picture in [0, 1], against the reference
TESTS = (
    "adadiffsr", "adjoint", "at_least", "base_grid", "blind", "blurred_jpeg", "canvas_bound",
    "closed_form", "color", "complement", "condition", "corrector", "cosines", "denoising",
    "downscale", "draws", "failing_predictor", "feature_injection", "feature_injection_nodes",
    "filling", "gmsd", "gradient_posterior", "guider_prior", "information_gain", "inversion_nodes",
    "inversion_sampler", "inversion_sigmas", "invsr", "invsr_sizes", "jpeg_cells", "jpeg_quality",
    "jpeg_repair", "kept", "kernel_of_any_size", "langevin", "large_states", "latent",
    "latent_prior", "masks", "modulated_unet", "motion_blur", "no_global_state", "noise",
    "noise_level", "noise_predictor", "nonlinear_blur", "number_format", "operator_parity",
    "operators", "pixel_predictor", "pixel_prior", "posterior_statistics", "prior_from_guider",
    "quality_maps", "real_world", "recorded", "recordings", "region_nodes", "region_overlaps",
    "region_regressor", "region_regressor_nodes", "region_sampler", "region_sampler_regressor",
    "retouching", "schedule", "scratch_finder", "stablesr", "stablesr_model", "start_noise",
    "step_policy", "subdaps", "subdaps_exactness", "sums", "switch", "through_decoder",
    "tile_nodes", "tiled_prior", "tiling", "training_clock", "training_resident",
    "training_restored", "two_runs", "updates", "updates_official", "upsampled_blur", "vae_codec",
    "wall", "wrapped_operator",
)  # fmt: skip
PACKAGES = ("accelerate", "pytest", "pytest-timeout", "pytest-xdist", "scikit-image", "scipy")


def main() -> int:
    """Run the versions named, the reference first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", default=VERSIONS, help="default: all")
    parser.add_argument("--jobs", default="2", help="test processes")
    parser.add_argument("--keep", action="store_true", help="leave the environments")
    arguments = parser.parse_args()
    PLACE.mkdir(exist_ok=True)
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"tests": None}
    rows: dict[str, dict[str, Any]] = known["versions"] if known["tests"] == [*TESTS] else {}
    wanted = [REFERENCE, *(v for v in arguments.versions if v != REFERENCE)]
    for version in wanted:
        rows[version] = row_of(version, arguments.jobs)
        print_row(version, rows[version])
        if not arguments.keep:
            shutil.rmtree(place_of(version), ignore_errors=True)
        rows = {v: rows[v] for v in sorted(rows, key=lambda v: [*map(int, v.split("."))])}
        RESULTS.write_text(json.dumps({"tests": TESTS, "versions": rows}, indent=1) + "\n")
    print(markdown(rows))
    return int(any(not is_right(rows[version]) for version in wanted))


def row_of(version: str, jobs: str) -> dict[str, Any]:
    """Install a version, run its tests and its pictures."""
    folder = place_of(version)
    python = folder / "bin" / "python"
    if not python.exists() and (why := install(version, folder, python)):
        return {"error": why}
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    report, pictures = PLACE / f"{version}.xml", PLACE / f"{version}.safetensors"
    files = [f"tests/test_{name}.py" for name in TESTS]
    pytest = [python, "-m", "pytest", "-n", jobs, "--dist", "loadfile", f"--junitxml={report}"]
    run([*pytest, "-p", "no:cacheprovider", *files], quiet, PLACE / f"{version}.tests.log")
    made = run(
        [python, "benchmarks/torch_pictures.py", pictures], quiet, PLACE / f"{version}.pictures.log"
    )
    found: dict[str, Any] = {"tests": counted(report)}
    if made:
        return {**found, "error": f"pictures ended with {made}; see .matrix/{version}.pictures.log"}
    compared = [python, "benchmarks/torch_pictures.py", pictures]
    compared += ["--against", PLACE / f"{REFERENCE}.safetensors"]
    output = subprocess.run(compared, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {**found, "pictures": json.loads(output)}


def install(version: str, folder: Path, python: Path) -> str | None:
    """Make the environment; a sentence where the version cannot be had."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    loose = PLACE / "constraints.txt"
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    loose.write_text("\n".join(line for line in lines if not line.startswith("torch==")) + "\n")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    log = PLACE / f"{version}.install.log"
    if run([*pip, f"torch=={version}"], {**os.environ}, log):
        return f"torch {version} cannot be installed here; see .matrix/{log.name}"
    rest = [*pip, "--constraint", loose, f"torch=={version}", "-r", "requirements.txt", *PACKAGES]
    if run(rest, {**os.environ}, log):
        return f"the requirements do not go with torch {version}; see .matrix/{log.name}"
    return None


def run(command: list[Any], environment: dict[str, str], log: Path) -> int:
    """The command's exit status; what it printed goes to the log."""
    with log.open("w") as out:
        return subprocess.run(
            command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT, check=False
        ).returncode


def counted(report: Path) -> dict[str, list[int]]:
    """Test file -> [passed, failed]; a test that is skipped counts as neither."""
    found = {name: [0, 0] for name in TESTS}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.attrib["classname"].split(".")[1].removeprefix("test_")
        if case.find("skipped") is None:
            failed = case.find("failure") is not None or case.find("error") is not None
            found[name][failed] += 1
    return found


def is_right(row: dict[str, Any]) -> bool:
    """Whether every test passed, none is missing, and every picture is the reference's."""
    if "error" in row:
        return False
    passed = all(good and not bad for good, bad in row["tests"].values())
    return passed and all(gap <= TOLERANCE for gap in row["pictures"].values())


def place_of(version: str) -> Path:
    """The environment's folder."""
    return PLACE / f"torch-{version}"


def print_row(version: str, row: dict[str, Any]) -> None:
    """What is known of a version, as soon as it is."""
    bad = {name: pair for name, pair in row.get("tests", {}).items() if pair[1] or not pair[0]}
    print(version, "right" if is_right(row) else "NOT RIGHT", bad or "", row.get("error", ""))
    print("  pictures:", row.get("pictures"), flush=True)


def markdown(rows: dict[str, dict[str, Any]]) -> str:
    """The table: a line per test file and picture, a column per version."""

    def line(name: str, kind: str, key: str, show: Callable[[Any], str]) -> str:
        cells = (row.get(kind, {}).get(key) for row in rows.values())
        return f"| {name} | " + " | ".join("-" if c is None else show(c) for c in cells) + " |"

    lines = ["| | " + " | ".join(rows) + " |", "|---" * (len(rows) + 1) + "|"]
    lines += [line(f"`test_{name}.py`", "tests", name, tally) for name in TESTS]
    lines += [line(n, "pictures", n, "{:.0e}".format) for n in rows[REFERENCE].get("pictures", {})]
    return "\n".join(lines)


def tally(pair: list[int]) -> str:
    """[passed, failed] as the table shows it."""
    passed, failed = pair
    return f"**{failed} of {passed + failed} fail**" if failed else str(passed)


if __name__ == "__main__":
    sys.exit(main())
