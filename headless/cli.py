"""The ``undegrade`` command.

Exit status: 0 done, 1 a node failed (``batch``: a picture did, or the disk is full), 2 the workflow
or the command line is wrong (nothing ran), 130 stopped by the user.
"""

import argparse
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .console import lasting_console
from .pack import Pack

if TYPE_CHECKING:
    from .document import Document
    from .folders import Folders
    from .graph import Graph, WorkflowError
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
        try:
            return options.action(options, pack or Pack.load())
        except KeyboardInterrupt:
            sys.stderr.write("\nstopped\n")
            return STOPPED


def _parser() -> argparse.ArgumentParser:
    from .batch.command import add_command

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
            help="change a value; the node by id, title, or type where unique (12.seed=3)")
        command.add_argument("--output", type=Path, default=Path("output"), metavar="DIR",
                             help="where pictures go (default: output)")
    for command in (run, check):
        command.add_argument(
            "--input", action="append", default=[], metavar="[NODE=]FILE",
            help="the picture to load; name the LoadImage node if there are several")
    run.add_argument("--quiet", action="store_true", help="draw no progress bars")
    run.add_argument("--traceback", action="store_true",
                     help="when a node fails, show where in its code")
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
        plan = _prepare(options, pack)
    except WorkflowError as error:
        return refuse(error)
    sys.stdout.write(f"{options.workflow}: {len(plan.graph.nodes)} nodes, nothing wrong.\n")
    return DONE


def _run(options: argparse.Namespace, pack: Pack) -> int:
    from .execution import NodeError, execute
    from .graph import WorkflowError
    from .progress import Report

    try:
        plan = _prepare(options, pack)
        make_folder(options.output)
    except WorkflowError as error:
        return refuse(error)
    extra = {"workflow": plan.document.workflow} if plan.document.workflow else None
    failure = ""
    try:
        with Report(pack.host, plan.folders, options.quiet) as report:
            execute(plan.graph, plan.catalog, report, extra)
    except NodeError as error:
        if options.traceback:
            traceback.print_exception(error.__cause__ or error)
        failure = f"{error}\n"
    finally:  # also of a run that is stopped
        sys.stderr.writelines(f"{sentence}\n" for sentence in plan.folders.lost)
    sys.stderr.write(failure)
    return FAILED if failure or plan.folders.lost else DONE


class _Plan(NamedTuple):
    """A workflow that can run."""

    document: "Document"
    graph: "Graph"
    catalog: "Catalog"
    folders: "Folders"


def _prepare(options: argparse.Namespace, pack: Pack) -> _Plan:
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
    catalog = pack.catalog(folders)
    document = load(options.workflow, catalog)
    problems = apply_inputs(document, folders, options.input)
    problems += apply_settings(document, options.settings)
    graph = document.graph()
    problems += validate(graph, catalog)
    if problems := problems or save_problems(graph, catalog, folders):
        raise WorkflowError(*problems)
    return _Plan(document, graph, catalog, folders)


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
