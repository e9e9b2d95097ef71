"""The only file that knows ComfyUI: device, memory, progress, interrupt and model folders.

ComfyUI is used when it is running in this process, that is when its modules are already imported;
it is never imported from here. Without it the nodes run on the best device at hand, report progress
to a sink that `set_progress_sink` installs, and find models in the pack's own `models` folder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..models.codec import Codec
from ..models.prior import Prior, PriorSpec
from ..models.registry import network_of
from ..pipelines.operators.operator import Operator

PRIOR_FOLDER = "diffusion_priors"
PREVIEW_SIDE = 512
WEIGHT_SUFFIXES = {".safetensors", ".pt", ".pth", ".bin", ".ckpt"}

ProgressSink = Callable[[str | None, int, int, Any], None]
"""(title, value, total, PIL image or None) -> None."""

_sink: ProgressSink | None = None
_patchers: WeakKeyDictionary[torch.nn.Module, Any] = WeakKeyDictionary()


def comfy(module: str) -> Any:
    """A module of the running ComfyUI, such as "comfy.utils"; None where ComfyUI is absent."""
    return sys.modules.get(module) if "comfy.model_management" in sys.modules else None


def set_progress_sink(sink: ProgressSink | None) -> ProgressSink | None:
    """Send progress to `sink` where ComfyUI is absent; returns the previous sink."""
    global _sink
    previous, _sink = _sink, sink
    return previous


def device() -> torch.device:
    """Where networks run."""
    management = comfy("comfy.model_management")
    if management:
        return management.get_torch_device()
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def check_interrupted() -> None:
    """Raise ComfyUI's own interrupt when the user has pressed Cancel."""
    management = comfy("comfy.model_management")
    if management:
        management.throw_exception_if_processing_interrupted()


def ready(prior: Prior) -> torch.device:
    """Bring the prior's network onto the compute device through ComfyUI's memory management."""
    network, target = network_of(prior), device()
    management, patching = comfy("comfy.model_management"), comfy("comfy.model_patcher")
    if not (management and patching):
        network.to(target)
        return target
    if network not in _patchers:
        offload = management.unet_offload_device()
        _patchers[network] = patching.ModelPatcher(
            network, load_device=target, offload_device=offload
        )
    management.load_models_gpu([_patchers[network]])
    return target


@dataclass
class Progress:
    """A progress bar counted in network calls, with previews."""

    total: int
    title: str | None = None
    value: int = 0
    preview: Any = None
    _bar: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        utils = comfy("comfy.utils")
        self._bar = utils.ProgressBar(self.total) if utils else None

    def advance(self) -> None:
        """One network call is done. Raises ComfyUI's interrupt when the user has pressed Cancel."""
        check_interrupted()
        self.value += 1
        if self._bar:
            preview = ("JPEG", self.preview, PREVIEW_SIDE) if self.preview else None
            self._bar.update_absolute(self.value, self.total, preview)
        elif _sink:
            _sink(self.title, self.value, self.total, self.preview)


@dataclass(frozen=True, eq=False)
class WatchedPrior:
    """A prior whose every network call counts as progress and may be interrupted."""

    prior: Prior
    progress: Progress

    @property
    def spec(self) -> PriorSpec:
        """The wrapped prior's."""
        return self.prior.spec

    @property
    def codec(self) -> Codec:
        """The wrapped prior's."""
        return self.prior.codec

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        """The wrapped prior's, then one tick."""
        check_interrupted()
        x0_hat = self.prior.denoise(x, sigma, factor)
        self.progress.advance()
        return x0_hat


@dataclass(frozen=True, eq=False)
class WatchedOperator(Operator):
    """An operator that may be interrupted at every pass, for updates that take many."""

    operator: Operator

    @property
    def linear(self) -> bool:  # type: ignore[override]
        """The wrapped operator's, as is everything else here."""
        return self.operator.linear

    @property
    def structure(self) -> frozenset[str]:  # type: ignore[override]
        """What is known of the matrix."""
        return self.operator.structure

    def forward(self, x: Tensor) -> Tensor:
        """A(x)."""
        check_interrupted()
        return self.operator(x)

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """J v."""
        check_interrupted()
        return self.operator.jvp(x, v)

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """A(x) and u -> J^T u."""
        check_interrupted()
        return self.operator.vjp(x)

    def surrogate(self, x: Tensor) -> Tensor:
        """The stand-in."""
        return self.operator.surrogate(x)

    def upsampled(self, factor: int) -> Operator | None:
        """A U, watched too."""
        quicker = self.operator.upsampled(factor)
        return WatchedOperator(quicker) if quicker else None

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of the image."""
        return self.operator.input_size(height, width)

    def guess(self, y: Tensor) -> Tensor:
        """A first image."""
        return self.operator.guess(y)

    def observe(self, y: Tensor) -> Tensor:
        """y without what was not measured."""
        return self.operator.observe(y)

    def matrices(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """(M_h, M_w)."""
        return self.operator.matrices(height, width)


def register_folder(name: str) -> None:
    """Make `models/<name>` known to ComfyUI, so that extra_model_paths.yaml can add to it."""
    paths = comfy("folder_paths")
    if paths:
        folder = str(Path(paths.models_dir) / name)
        paths.add_model_folder_path(name, folder, is_default=True)
        folders, suffixes = paths.folder_names_and_paths[name]
        paths.folder_names_and_paths[name] = (folders, suffixes | WEIGHT_SUFFIXES)


def model_files(name: str) -> list[str]:
    """Weight files that the user has put into the model folder `name`."""
    paths = comfy("folder_paths")
    if paths:
        return paths.get_filename_list(name)
    folder = Path(__file__).parent.parent / "models" / name
    return sorted(p.name for p in folder.glob("*") if p.suffix in WEIGHT_SUFFIXES)


def model_path(name: str, file: str) -> Path:
    """The path of a file that `model_files` listed; without ComfyUI also any path of the user's."""
    paths = comfy("folder_paths")
    if paths:
        return Path(paths.get_full_path_or_raise(name, file))
    given = Path(file).expanduser()
    return given if given.is_file() else Path(__file__).parent.parent / "models" / name / file
