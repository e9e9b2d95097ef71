"""Weight files that are published: what a loader lists, and where a file lies."""

from __future__ import annotations

from pathlib import Path

from ..models.known_files import known_in, source_of
from .comfyui import host


def published_files(folder: str) -> list[str]:
    """The user's files in a folder below `models`, and the published ones by their names."""
    return list(dict.fromkeys([*host.model_files(folder), *known_in(folder)]))


def published_path(folder: str, file: str) -> Path:
    """Where a listed file lies. Raises `FileNotFoundError` for a published one that is not there,
    and says where to get it."""
    if file in known_in(folder) and file not in host.model_files(folder):
        raise FileNotFoundError(f"{file} is not in models/{folder}; get it{source_of(file)}.")
    return host.model_path(folder, file)
