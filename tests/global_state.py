"""What one pack could change under another: the state that everything in a process shares."""

import hashlib
import logging
import os
import random
import sys
import warnings

import numpy
import torch

SHARED = (torch, torch.Tensor, torch.nn.functional, torch.nn.Module, torch.nn.Conv2d, numpy, random)


def state() -> dict:
    """Name -> value; two calls compare equal where nothing was changed."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return {
        "torch random": digest(torch.get_rng_state().numpy().tobytes()),
        "python random": digest(repr(random.getstate()).encode()),
        "numpy random": digest(repr(numpy.random.get_state()).encode()),
        "dtype": str(torch.get_default_dtype()),
        "device": str(torch.get_default_device()),
        "threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "gradients": [torch.is_grad_enabled(), torch.is_inference_mode_enabled()],
        "autocast": [torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")],
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul": [cuda.matmul.allow_tf32, cuda.matmul.allow_fp16_reduced_precision_reduction],
        "attention": [cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(),
                      cuda.math_sdp_enabled()],
        "cudnn": [cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32],
        "onednn": [torch.backends.mkldnn.enabled, torch.backends.mkldnn.allow_tf32],
        "numpy errors": numpy.geterr(),
        "path": list(sys.path),
        "environment": dict(os.environ),
        "warnings": repr(warnings.filters),
        "logging": [logging.root.level, len(logging.root.handlers)],
        "hooks": [sys.excepthook is sys.__excepthook__, sys.getrecursionlimit(), os.getcwd()],
        "functions": {
            f"{owner.__name__}.{name}": id(value)
            for owner in SHARED
            for name, value in vars(owner).items()
        },
    }  # fmt: skip


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def changed(before: dict, after: dict) -> list[str]:
    """What differs; of functions those that were replaced, since an import may add some."""
    names = [key for key in before if key != "functions" and before[key] != after[key]]
    now = after["functions"]
    return names + [n for n, known in before["functions"].items() if now.get(n) != known]
