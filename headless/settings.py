"""``--set`` and ``--input``: values given on the command line, written into the document.

They go into the document and not into the plan, so that the workflow a PNG carries is the one that
made it.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from .batch.inputs import VIDEOS
from .document import Document, Entry
from .folders import Folders
from .graph import WorkflowError

LOADERS = ("LoadImage", "LoadImageMask")


def apply_settings(document: Document, settings: Iterable[str]) -> list[str]:
    """Write each ``node.widget=value``; the node is named by id, title, or type where unique.

    Returns:
        One sentence for each setting that could not be applied, or gives a widget another value.
    """
    given: dict[tuple[str, str], str] = {}
    return _collect(lambda text: _apply(document, text, given), settings)


def apply_inputs(document: Document, folders: Folders, inputs: Iterable[str]) -> list[str]:
    """Let each ``file`` or ``node=file`` stand in for the picture of a loading node.

    The document gets the file's bare name and ``folders`` its place, so that a path of this
    machine does not end in a picture's metadata.

    Returns:
        One sentence for each that could not be applied, or gives a node another picture.
    """
    given: dict[str, str] = {}
    return _collect(lambda text: _give(document, folders, text, given), inputs)


def _collect(action, texts: Iterable[str]) -> list[str]:
    problems = []
    for text in texts:
        try:
            action(text)
        except WorkflowError as error:
            problems += error.problems
    return problems


def _apply(document: Document, text: str, given: dict[tuple[str, str], str]) -> None:
    target, equals, value = text.partition("=")
    address, dot, name = target.rpartition(".")
    if not (equals and dot and address and name):
        raise WorkflowError(f"--set {text}: expected NODE.WIDGET=VALUE, such as 12.seed=3.")
    entry = find(document, address, f"--set {text}")
    if before := given.get((entry.id, name)):
        raise WorkflowError(f"--set {text}: --set {before} sets the same widget; leave one out.")
    given[entry.id, name] = text
    _write(document, entry, name, value, f"--set {text}")


def _write(document: Document, entry: Entry, name: str, text: str, option: str) -> None:
    widgets = document.widgets(entry)
    if name not in widgets:
        there = f"it has {', '.join(widgets)}" if widgets else "it has none"
        raise WorkflowError(f"{option}: {entry} has no widget {name!r}; {there}.")
    if feeder := document.feeder(entry, name):
        raise WorkflowError(
            f"{option}: {name!r} of {entry} is linked to node {feeder}; set it there.")
    try:
        document.write(entry, name, widgets[name].parse(text))
    except WorkflowError as error:
        raise WorkflowError(f"{option}: {entry} {error}.") from error


def find(document: Document, address: str, option: str) -> Entry:
    """The node an address means: an id, else a title, else a type.

    Raises:
        WorkflowError: no node or more than one answers to it; the sentence begins with ``option``
            and lists what there is.
    """
    for key in ("id", "title", "type"):
        found = [e for e in document.entries if getattr(e, key) == address]
        if len(found) == 1:
            return found[0]
        if found:
            raise WorkflowError(
                f"{option}: {address!r} names {_listed(found)}; name one of them by its id.")
    raise WorkflowError(
        f"{option}: there is no node {address!r}; there are {_listed(document.entries)}.")


def _listed(entries: Iterable[Entry]) -> str:
    return ", ".join(f"{e.id} ({e.title})" for e in entries)


def _give(document: Document, folders: Folders, text: str, given: dict[str, str]) -> None:
    option = f"--input {text}"
    entry, file = split_input(document, text, os.path.isfile(text))
    if before := given.get(entry.id):
        raise WorkflowError(f"{option}: --input {before} is for the same node; leave one out, or "
                            "use 'undegrade batch' for several.")
    if entry.type in LOADERS:  # of no file, too: the one that the workflow names is not looked for
        given[entry.id] = text
        _write(document, entry, "image", folders.give(Path(file)), option)
    if os.path.isdir(file):
        raise WorkflowError(f"{option}: {file} is a folder; name a picture in it, or use "
                            "'undegrade batch' for all of them.")
    if not os.path.isfile(file):
        raise WorkflowError(f"{option}: there is no file {file}.")
    expect_loader(entry, option)
    if Path(file).suffix.lower() in VIDEOS:
        raise WorkflowError(f"{option}: {file} is a video; 'undegrade batch' restores its frames: "
                            f"undegrade batch WORKFLOW --input {file} --output FOLDER.")


def split_input(document: Document, text: str, whole: bool) -> tuple[Entry, str]:
    """The node and the file that ``file`` or ``node=file`` means.

    Args:
        document: the workflow.
        text: what stood behind ``--input``.
        whole: the text is a file's name even where it has an equals sign.

    Raises:
        WorkflowError: no such node, or several to choose from.
    """
    address, equals, file = text.partition("=")
    option = f"--input {text}"
    if whole or not equals:
        return _only_loader(document, option), text
    return find(document, address, option), file


def expect_loader(entry: Entry, option: str) -> None:
    """Refuse a node that loads no picture."""
    if entry.type not in LOADERS:
        raise WorkflowError(f"{option}: {entry} loads no picture; it is of type {entry.type}.")


def _only_loader(document: Document, option: str) -> Entry:
    for kind in LOADERS:
        found = [e for e in document.entries if e.type == kind and e.active]
        if len(found) == 1:
            return found[0]
        if found:
            raise WorkflowError(
                f"{option}: the workflow loads more than one picture, {_listed(found)}; say which, "
                f"as in --input {found[0].id}={option.removeprefix('--input ')}.")
    raise WorkflowError(f"{option}: the workflow has no {' or '.join(LOADERS)} node to give it to.")
