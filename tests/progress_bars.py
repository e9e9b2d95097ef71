"""ComfyUI's progress bar as a stand-in that writes down what it is told."""

from types import SimpleNamespace

import torch

from undegrade.nodes.comfyui import host


def bar(monkeypatch, method="auto") -> list:
    """The bar for one test; returns what it is told: (value, total, preview).

    method: what `--preview-method` says.
    """
    told = []

    class ProgressBar:
        def __init__(self, total):
            self.total = total

        def update_absolute(self, value, total=None, preview=None):
            told.append((value, total, preview))

    known = {
        "comfy.utils": SimpleNamespace(ProgressBar=ProgressBar),
        "comfy.cli_args": SimpleNamespace(
            args=SimpleNamespace(preview_method=SimpleNamespace(value=method))
        ),
        "comfy.model_management": SimpleNamespace(
            get_torch_device=lambda: torch.device("cpu"),
            intermediate_device=lambda: torch.device("cpu"),
            throw_exception_if_processing_interrupted=lambda: None,
        ),
    }
    monkeypatch.setattr(host, "comfy", known.get)
    return told
