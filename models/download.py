"""Download a published folder, when the user has asked for it: pinned, resumed, verified."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from .diffusers_folder import first_sentence
from .known_files import HUB, Known
from .weights import UnsupportedWeightsError

NEEDED = (  # no pickles, no half-precision or ONNX twins, no safety checker
    "model_index.json",
    "LICENSE*",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/*",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)
BLOCK = 1 << 22


class DownloadError(RuntimeError):
    """A folder that could not be downloaded."""


def download(known: Known, target: Path) -> Iterator[tuple[int, int]]:
    """Make the published folder `target`, which is not there yet, yielding (files done, of how
    many).

    Its files are those of the one commit `known.revision`. They gather in a hidden folder beside
    it, where the next try goes on: what has the published checksum is kept, and a file that was cut
    off is continued. Every file is compared with the checksum that the hub has for that commit:
    SHA-256 of large files, git's SHA-1 of small ones.
    Raises `DownloadError` where the hub cannot be reached, and `UnsupportedWeightsError` for a file
    that came damaged, which is removed.
    """
    import huggingface_hub
    from huggingface_hub import errors

    unreachable = (OSError, getattr(errors, "HTTPError", OSError))
    part = target.with_name(f".{target.name}.part")
    repository, revision = known.repository, known.revision
    if not (repository and revision):
        raise DownloadError(f"{known.name} has no known revision; get it from {known.url} by hand.")
    try:
        listed = huggingface_hub.HfApi(endpoint=HUB).model_info(
            repository, revision=revision, files_metadata=True
        )
        files = [f for f in listed.siblings or () if any(fnmatch(f.rfilename, p) for p in NEEDED)]
        for done, file in enumerate(files):
            yield done, len(files)
            path = part / file.rfilename
            if not matches(path, file):
                huggingface_hub.hf_hub_download(
                    repository, file.rfilename, revision=revision, local_dir=part, endpoint=HUB
                )
                verify(path, file, known)
        part.rename(target)
    except unreachable as error:
        raise DownloadError(
            f"{known.name} could not be downloaded ({first_sentence(error)}); check the "
            f"connection, or bring {known.url} at revision {revision} to {target} by hand."
        ) from error
    yield len(files), len(files)


def verify(path: Path, published: Any, known: Known) -> None:
    """Raise `UnsupportedWeightsError` and remove a file that is not what was published."""
    if not matches(path, published):
        path.unlink(missing_ok=True)
        raise UnsupportedWeightsError(
            f"{known.name}'s {published.rfilename} came damaged and was removed; run again to "
            "download it anew."
        )


def matches(path: Path, published: Any) -> bool:
    """Whether a file is there and has the size and checksum that the hub has for it."""
    if not path.is_file() or path.stat().st_size != published.size:
        return False
    if published.lfs:
        digest, wanted = hashlib.sha256(), published.lfs["sha256"]
    else:
        digest, wanted = hashlib.sha1(f"blob {published.size}\0".encode()), published.blob_id
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest() == wanted
