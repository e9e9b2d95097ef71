"""The only file that knows ComfyUI: device, memory, progress, interrupt and model folders.

ComfyUI is used when it is running in this process, that is when its modules are already imported;
it is never imported from here. Without it the nodes run on the best device at hand, report progress
to a sink that `set_progress_sink` installs, and find models in the pack's own `models` folder.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from ...models.prior import Prior
from ...models.registry import innermost, networks_of
from ...pipelines.operators.contract import Operator
from .placed_networks import patchers_for
from .wall import settle

PRIOR_FOLDER = "diffusion_priors"
PREVIEW_SIDE = 512  # pixels
PREVIEW_EVERY = 0.1  # seconds
STITCHED_EVERY = 0.5  # seconds, where a preview is stitched from tiles
WEIGHT_SUFFIXES = {".safetensors", ".pt", ".pth", ".bin", ".ckpt"}
DIFFUSERS_MARKS = {"model_index.json", "config.json"}  # one of which a folder of theirs holds

ProgressSink = Callable[[str | None, int, int], None]
"""(title, value, total) -> None."""


@runtime_checkable
class HostedPrior(Protocol):
    """A prior whose network belongs to ComfyUI, which must prepare it for a run."""

    def running(self) -> AbstractContextManager[torch.device]:
        """Prepared while the block runs; the device it computes on."""
        ...


_sink: ProgressSink | None = None


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


def outputs() -> tuple[torch.device, torch.dtype]:
    """Where, and of which type, ComfyUI wants the tensors that a node gives out."""
    management = comfy("comfy.model_management")
    if not management:
        return torch.device("cpu"), torch.float32
    asked = getattr(management, "intermediate_dtype", None)  # since 0.17
    return management.intermediate_device(), asked() if asked else torch.float32


def previews() -> bool:
    """Whether the user wants to see pictures of a run: `--preview-method`, or its setting."""
    options = comfy("comfy.cli_args")
    return bool(options) and options.args.preview_method.value != "none"


def check_interrupted() -> None:
    """Raise ComfyUI's own interrupt when the user has pressed Cancel."""
    management = comfy("comfy.model_management")
    if management:
        management.throw_exception_if_processing_interrupted()


@contextmanager
def running(prior: Prior, operator: Operator | None = None) -> Iterator[torch.device]:
    """The prior's networks, and the operator's, on the device they compute on, which is given,
    while the block runs.

    ComfyUI's memory management brings them there and may take them away again afterwards. A prior
    that is ComfyUI's own (`HostedPrior`) prepares and releases itself, on a device of its own.
    """
    inner, others = innermost(prior), operator.networks if operator else ()
    if isinstance(inner, HostedPrior):
        with inner.running() as target:
            if others:
                place([*others], target)
            yield target
        return
    target = device()
    place([*networks_of(inner), *others], target)
    yield target


def place(networks: list[torch.nn.Module], target: torch.device) -> None:
    """Bring networks onto `target`, under ComfyUI's ModelPatcher where there is one.

    Whole: the layers are torch's own, which cannot fetch what was left behind as ComfyUI's can.
    Ordinary tensors afterwards, whatever ComfyUI has made of them on the way.
    """
    management, patching = comfy("comfy.model_management"), comfy("comfy.model_patcher")
    if management and patching:
        patchers = patchers_for(patching, networks, target, management.unet_offload_device())
        with torch.inference_mode():  # as ComfyUI's own nodes load
            management.load_models_gpu(patchers, force_full_load=True)
    else:
        for network in networks:
            torch.nn.Module.to(network, target)
    for network in networks:
        settle(network)


@dataclass
class Progress:
    """A progress bar counted in network calls, with a picture at most once in `every` seconds."""

    total: int
    title: str | None = None
    every: float = PREVIEW_EVERY
    value: int = 0
    _bar: Any = field(default=None, repr=False)
    _due: float = field(default=float("-inf"), repr=False)

    def __post_init__(self) -> None:
        utils = comfy("comfy.utils")
        self._bar = utils.ProgressBar(self.total) if utils else None

    def advance(self, calls: int = 1) -> None:
        """Network calls are done, or need none. Raises ComfyUI's interrupt when the user has
        pressed Cancel."""
        check_interrupted()
        self.value += calls
        if self._bar:
            self._bar.update_absolute(self.value, self.total)
        elif _sink:
            _sink(self.title, self.value, self.total)

    def reach(self, value: int) -> None:
        """So many calls are done, or need none; see `advance`."""
        self.advance(value - self.value)

    def show(self, picture: Callable[[], Any]) -> None:
        """A new picture: `picture` makes it, a PIL image, and is called only if it is sent.

        It is when the last one was sent `every` seconds ago, or the bar is full; never where the
        user has switched previews off, or there is no ComfyUI.
        """
        waits = time.monotonic() < self._due and self.value < self.total
        if waits or not (self._bar and previews()):
            return
        self._bar.update_absolute(self.value, self.total, ("JPEG", picture(), PREVIEW_SIDE))
        self._due = time.monotonic() + self.every


def register_folder(name: str) -> None:
    """Make `models/<name>` known to ComfyUI, so that extra_model_paths.yaml can add to it."""
    paths = comfy("folder_paths")
    if paths:
        folder = str(Path(paths.models_dir) / name)
        paths.add_model_folder_path(name, folder, is_default=True)
        folders, suffixes = paths.folder_names_and_paths[name]
        paths.folder_names_and_paths[name] = (folders, suffixes | WEIGHT_SUFFIXES)


def model_roots(name: str) -> list[Path]:
    """The folders in which models of the kind `name` are looked for, the first one our own."""
    paths = comfy("folder_paths")
    if paths:
        if name not in paths.folder_names_and_paths:
            return [Path(paths.models_dir) / name]
        return [Path(root) for root in paths.get_folder_paths(name)]
    return [Path(__file__).parents[2] / "models" / name]


def model_files(name: str) -> list[str]:
    """Weight files that the user has put into the model folder `name`."""
    paths = comfy("folder_paths")
    if paths:
        return paths.get_filename_list(name)
    (folder,) = model_roots(name)
    return sorted(p.name for p in folder.glob("*") if p.suffix in WEIGHT_SUFFIXES)


def diffusers_folders(name: str) -> list[str]:
    """Folders in diffusers' layout that the user has put into the model folder `name`, by their
    path below it.
    """
    found = set()
    for root in model_roots(name):
        for here, below, files in os.walk(root, followlinks=True):
            below[:] = [folder for folder in below if not folder.startswith(".")]
            if not DIFFUSERS_MARKS.isdisjoint(files):
                below.clear()
                found.add(Path(here).relative_to(root).as_posix())
    return sorted(found - {"."})


def folder_path(name: str, folder: str) -> Path:
    """Where a folder lies that was listed, or where it belongs; without ComfyUI also any path of
    the user's.
    """
    roots = model_roots(name)
    given = [] if comfy("folder_paths") else [Path(folder).expanduser()]
    places = [root / folder for root in roots] + given
    return next((place for place in places if place.is_dir()), roots[0] / folder)


def model_path(name: str, file: str) -> Path:
    """The path of a file or folder that was listed; without ComfyUI also any path of the user's."""
    if (folder := folder_path(name, file)).is_dir():
        return folder
    paths = comfy("folder_paths")
    if paths:
        return Path(paths.get_full_path_or_raise(name, file))
    given = Path(file).expanduser()
    return given if given.is_file() else model_roots(name)[0] / file


def listed(widget: str, file: str, names: list[str], folder: str) -> bool | str:
    """What VALIDATE_INPUTS answers: True for a listed name and, without ComfyUI, a path of the
    user's; else a sentence."""
    by_path = file and not comfy("folder_paths") and Path(file).expanduser().exists()
    if file in names or by_path:
        return True
    return f"{widget} is {file!r}, which is not in models/{folder}"
