"""What the tests of `undegrade batch` share: pictures, a small pack, and how to run it."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from undegrade.headless.cli import main
from undegrade.headless.pack import Pack
from undegrade.models.codec import Identity
from undegrade.models.prior import PriorSpec
from undegrade.pipelines.noise import per_sample_noise

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "workflows" / "demo" / "demo_super_resolution_x4.json"
QUICK = ("--set", "UndegradePosteriorSampler.steps=2")


class Calls:
    """What the small pack's nodes did: priors loaded, rows per network call, resident bytes."""

    def __init__(self):
        self.loads, self.rows, self.resident = 0, [], []


class Mixing(torch.nn.Module):
    """A prior whose answer's last bits depend on the rows of a call, as real networks' do."""

    spec, codec = PriorSpec(name="mixing"), Identity()

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def denoise(self, x, sigma, factor=1):
        self.calls.rows.append(len(x))
        return x * (0.9 + 1e-3 * len(x)) - 0.01 * sigma[:, None, None, None]


def pack(calls):
    """Load Prior (constant), Restore (three network calls, a seed), Sharpness (a report)."""

    class LoadPrior:
        RETURN_TYPES, FUNCTION = ("DIFFUSION_PRIOR",), "run"

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {}}

        def run(self):
            calls.loads += 1
            return (Mixing(calls),)

    class Restore:
        RETURN_TYPES, FUNCTION = ("IMAGE",), "run"

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"prior": ("DIFFUSION_PRIOR",), "image": ("IMAGE",),
                                 "seed": ("INT", {"max": 2**64 - 1}),
                                 "samples": ("INT", {"default": 1})}}

        def run(self, prior, image, seed, samples):
            if image.mean() > 0.99:
                raise ValueError("the picture is white; give another")
            x = image.movedim(-1, 1).repeat_interleave(samples, 0)
            noise = per_sample_noise([seed + b for b in range(len(x))])
            for level in (0.3, 0.2, 0.1):
                x = prior.denoise(x + level * noise(x), torch.full((len(x),), level))
            with open("/proc/self/statm") as file:
                calls.resident.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
            return (x.movedim(1, -1),)

    class Sharpness:
        RETURN_TYPES, RETURN_NAMES, FUNCTION = ("FLOAT", "STRING"), ("sharpness", "text"), "run"
        OUTPUT_NODE = True

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"image": ("IMAGE",)}}

        def run(self, image):
            return image.diff(dim=1).abs().mean().item(), "text"

    classes = {c.__name__: c for c in (LoadPrior, Restore, Sharpness)}
    return Pack(classes, {}, SimpleNamespace(set_progress_sink=lambda sink: None))


def workflow(**changes):
    """The small pack's workflow in API format; a change of None takes a node away."""
    nodes = {
        "1": ("LoadImage", {"image": "somewhere.png"}),
        "2": ("LoadPrior", {}),
        "3": ("Restore", {"prior": ["2", 0], "image": ["1", 0], "seed": 5, "samples": 1}),
        "4": ("SaveImage", {"images": ["3", 0], "filename_prefix": "restored"}),
        "5": ("Sharpness", {"image": ["3", 0]}),
        "6": ("PreviewImage", {"images": ["1", 0]})} | changes
    return {i: {"class_type": n[0], "inputs": n[1]} for i, n in nodes.items() if n}


def write_pictures(folder, count, sides=((16, 24),)):
    """Smooth pictures of the given (height, width) in turn, spread over two subfolders."""
    for i in range(count):
        h, w = sides[i % len(sides)]
        y, x = np.mgrid[:h, :w] / 8
        pixels = np.stack([np.sin(x * (k + i % 7)) * np.cos(y + i) for k in range(3)], -1)
        path = Path(folder) / "ab"[i % 2] / f"p{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(((pixels + 1) * 110).astype(np.uint8)).save(path)


def batch(file, out, *options, calls=None, pattern="in/**/*.png"):
    """Run `undegrade batch` in this process, with the small pack where `calls` is given."""
    argv = ["batch", str(file), "--input", pattern, "--output", str(out), "--quiet", *options]
    return main(argv, pack(calls) if calls else None)


def files(folder):
    """Everything a run wrote but the manifest: name -> bytes."""
    folder = Path(folder)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*"))
            if p.is_file() and p.name not in ("manifest.jsonl", ".undegrade.lock")}


def manifest(folder):
    """The manifest's lines by input, the last of each."""
    lines = (Path(folder) / "manifest.jsonl").read_text().splitlines()
    return {line["input"]: line for line in map(json.loads, lines)}
