"""Reads a workflow from a file: JSON in either format, or a PNG that carries one."""

import json
from pathlib import Path
from typing import Any

from .api_format import ApiDocument
from .blueprints import ROOT
from .document import Document
from .graph import WorkflowError
from .signature import Catalog
from .ui_format import UiDocument

OWN = ROOT / "workflows"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def named(path: Path) -> Path:
    """A workflow file, or one of the pack's own by its name: "Denoise a photo"."""
    own = OWN / f"{path.name.removesuffix('.json')}.json"
    alone = path == Path(path.name) and not path.exists()  # a name, in no folder
    return own if alone and own.is_file() else path


def load(path: Path, catalog: Catalog) -> Document:
    """Read a workflow file.

    Raises:
        WorkflowError: no such file, not JSON (with line and column), or no workflow in it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WorkflowError(
            f"cannot read the workflow {path}: {error.strerror or error}."
        ) from error
    text = _from_png(path) if data.startswith(PNG_SIGNATURE) else _decoded(path, data)
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise WorkflowError(
            f"{path} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from error
    except RecursionError as error:
        raise WorkflowError(f"{path} is nested too deeply to be a workflow.") from error
    return document(raw, catalog, str(path))


def document(raw: Any, catalog: Catalog, name: str = "the workflow") -> Document:
    """Tell the two formats apart.

    Raises:
        WorkflowError: the object is in neither format, or its parts have wrong kinds.
    """
    if isinstance(raw, dict) and isinstance(raw.get("nodes"), list):
        return UiDocument(raw, catalog)
    if isinstance(raw, dict) and isinstance(raw.get("prompt"), dict):
        raw = raw["prompt"]  # the body of a request to ComfyUI's server
    if isinstance(raw, dict) and any(isinstance(v, dict) and "class_type" in v
                                     for v in raw.values()):
        return ApiDocument(raw, catalog)
    raise WorkflowError(
        f"{name} holds no workflow: expected an object with 'nodes' and 'links' (saved by "
        "ComfyUI) or {id: {class_type, inputs}} (API format).")


def _decoded(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WorkflowError(
            f"{path} is not a text file in UTF-8 (byte {error.start}); expected a workflow's JSON."
        ) from error


def _from_png(path: Path) -> str:
    from PIL.PngImagePlugin import PngImageFile

    try:
        with PngImageFile(path) as image:  # of any size, which Image.open refuses: no pixel is kept
            found = image.info.get("workflow") or image.info.get("prompt")
            chunks = image.info if found else image.text  # reads on to what is behind the pixels
    except (OSError, ValueError, SyntaxError) as error:
        raise WorkflowError(f"cannot read the picture {path}: {error}.") from error
    found = chunks.get("workflow") or chunks.get("prompt")
    if not found:
        raise WorkflowError(f"the picture {path} carries no workflow in its metadata.")
    return str(found)
