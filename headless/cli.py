"""The ``undegrade`` command.

Exit status: 0 done, 1 a node failed (``batch``: a picture did, or the disk is full), 2 the workflow
or the command line is wrong (nothing ran), 130 stopped by the user.
"""

import argparse
import itertools
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .console import lasting_console
from .harm import harm
from .own_process import choose_threads, keep_memory
from .pack import Pack

if TYPE_CHECKING:
    from .document import Document
    from .folders import Folders
    from .graph import Graph, WorkflowError
    from .progress import Report
    from .signature import Catalog

DONE, FAILED, REFUSED, STOPPED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None, pack: Pack | None = None) -> int:
    """Run the command.

    Args:
        argv: the arguments, without the command's name; those of the process if None.
        pack: the nodes to offer beside the stock ones; this pack's if None.

    Returns:
        The exit status.
    """
    with lasting_console():
        try:
            options = _parser().parse_args(argv)
        except SystemExit as end:  # --help, or arguments argparse has already complained about
            return int(end.code or 0)
        if argv is None:  # the process is the command's own
            keep_memory()
            choose_threads()
        try:
            return options.action(options, pack or Pack.load())
        except KeyboardInterrupt:
            sys.stderr.write("\nstopped\n")
            return STOPPED


def _parser() -> argparse.ArgumentParser:
    from .batch.command import add_command
    from .jobs import add_commands

    parser = argparse.ArgumentParser(
        prog="undegrade", description="Run workflows of the Undegrade nodes without ComfyUI.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a workflow and write its pictures")
    run.set_defaults(action=_run)
    check = commands.add_parser("check", help="say what is wrong with a workflow; run nothing")
    check.set_defaults(action=_check)
    batch = add_command(commands)
    for command in (run, check, batch):
        command.add_argument(
            "workflow", type=Path,
            help="a workflow saved by ComfyUI, in API format, or a PNG that carries one")
        command.add_argument(
            "--set", action="append", default=[], metavar="NODE.WIDGET=VALUE", dest="settings",
            help="change a value; the node by id, title, or type where unique (12.seed=3); run "
                 "makes a contact sheet of several values for one widget")
    for command in (run, check):
        command.add_argument("--output", type=Path, default=Path("output"), metavar="DIR|FILE",
                             help="where pictures go (default: output); a file's ending is their "
                                  "format")
        command.add_argument("--format", choices=("png", "jpg", "tif", "webp"),
                             help="of the pictures (default: png, which carries the workflow)")
    batch.add_argument("--output", type=Path, default=Path("output"), metavar="DIR",
                       help="where pictures go (default: output)")
    for command in (run, check):
        command.add_argument(
            "--input", action="append", default=[], metavar="[NODE=]FILE",
            help="the picture to load; name the LoadImage node if there are several")
    run.add_argument("--quiet", action="store_true", help="draw no progress bars")
    run.add_argument("--traceback", action="store_true",
                     help="when a node fails, show where in its code")
    add_commands(commands)
    nodes = commands.add_parser("nodes", help="list the nodes a workflow may use")
    nodes.set_defaults(action=_nodes)
    return parser


def _nodes(options: argparse.Namespace, pack: Pack) -> int:
    from .folders import Folders

    catalog = pack.catalog(Folders(Path("output")))
    width = max(map(len, catalog.classes), default=0)
    for name in catalog.classes:
        sys.stdout.write(f"{name:{width}}  {catalog.title(name)}\n")
    return DONE


def _check(options: argparse.Namespace, pack: Pack) -> int:
    from .graph import WorkflowError

    try:
        plan = _prepare(options, pack, options.settings)
    except WorkflowError as error:
        return refuse(error)
    sys.stdout.write(f"{options.workflow}: {len(plan.graph.nodes)} nodes, nothing wrong.\n")
    return DONE


def _run(options: argparse.Namespace, pack: Pack) -> int:
    from .graph import WorkflowError
    from .sheet import captions, draw_sheet, variants

    try:
        chosen, columns = variants(options.settings)
        plans = [_prepare(options, pack, settings) for settings in chosen]
        make_folder(plans[0].folders.output)
    except WorkflowError as error:
        return refuse(error)
    sys.stderr.write(harm(plans[0].graph, plans[0].folders.given))
    pictures = []
    for plan, caption in zip(plans, captions(chosen), strict=True):
        if len(plans) > 1:
            sys.stdout.write(f"--set {caption}\n")
        status, report = carry_out(plan, pack, options.quiet, options.traceback)
        if status != DONE:
            return status
        pictures += [(caption, path) for path in report.saved[:1]]
    if len(plans) > 1 and pictures:
        path = unused(plans[0].folders.output / "contact_sheet.png")
        draw_sheet(pictures, columns, path)
        sys.stdout.write(f"contact sheet: {path}\n")
    return DONE


def unused(path: Path) -> Path:
    """The path, or the first one with a number that is free."""
    names = (path.with_stem(f"{path.stem}_{n}") for n in itertools.count(2))
    return path if not path.exists() else next(name for name in names if not name.exists())


def carry_out(plan: "Plan", pack: Pack, quiet: bool, trace: bool) -> "tuple[int, Report]":
    """Run a plan: the exit status, and what was shown and saved."""
    from .execution import NodeError, execute
    from .progress import Report

    extra = {"workflow": plan.document.workflow} if plan.document.workflow else None
    failure = ""
    report = Report(pack.host, plan.folders, quiet)
    try:
        with report:
            execute(plan.graph, plan.catalog, report, extra)
    except NodeError as error:
        if trace:
            traceback.print_exception(error.__cause__ or error)
        failure = f"{error}\n"
    finally:  # also of a run that is stopped
        sys.stderr.writelines(f"{sentence}\n" for sentence in plan.folders.lost)
    sys.stderr.write(failure)
    return FAILED if failure or plan.folders.lost else DONE, report


class Plan(NamedTuple):
    """A workflow that can run."""

    document: "Document"
    graph: "Graph"
    catalog: "Catalog"
    folders: "Folders"


def _prepare(options: argparse.Namespace, pack: Pack, settings: Sequence[str]) -> Plan:
    """Read, set and check the workflow.

    Raises:
        WorkflowError: it cannot run, for the reasons given.
    """
    from .folders import Folders
    from .graph import WorkflowError
    from .load import load
    from .saving import save_problems
    from .settings import apply_inputs, apply_settings
    from .validation import validate

    folders = Folders.around(options.workflow, options.output)
    write_to(folders, options.output, options.format)
    catalog = pack.catalog(folders)
    document = load(options.workflow, catalog)
    problems = apply_inputs(document, folders, options.input)
    problems += apply_settings(document, settings)
    graph = document.graph()
    problems += validate(graph, catalog)
    if problems := problems or save_problems(graph, catalog, folders):
        raise WorkflowError(*problems)
    return Plan(document, graph, catalog, folders)


def write_to(folders: "Folders", output: Path, kind: str | None) -> None:
    """Take --output, a folder or a picture file, and --format.

    Raises:
        WorkflowError: a file that is there already, or two formats.
    """
    from .graph import WorkflowError
    from .stock.writing import KINDS

    if kind:
        folders.ending = f".{kind}"
    if output.suffix.lower() not in KINDS or output.is_dir():
        return
    if kind and KINDS[folders.ending] != KINDS[output.suffix.lower()]:
        raise WorkflowError(f"--output {output} and --format {kind} name two formats; leave one "
                            "out.")
    if output.exists():
        raise WorkflowError(f"--output {output}: cannot write there: there is a file of that name; "
                            "choose another name or delete it.")
    folders.output, folders.file, folders.ending = output.parent, output, output.suffix.lower()


def make_folder(output: Path) -> None:
    """Make the output folder now, rather than find out after an hour that it cannot be made."""
    from .graph import WorkflowError

    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise WorkflowError(f"--output {output}: cannot write there: {error.strerror}.") from error


def refuse(error: "WorkflowError") -> int:
    """Print why; returns the exit status."""
    sys.stderr.writelines(f"{problem}\n" for problem in error.problems)
    return REFUSED
