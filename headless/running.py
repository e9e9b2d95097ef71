"""``undegrade run`` and ``undegrade check``: one workflow."""

import argparse
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .destination import make_folder, unused, write_to
from .harm import harm
from .outcome import DONE, FAILED, refuse
from .pack import Pack

if TYPE_CHECKING:
    from .document import Document
    from .folders import Folders
    from .graph import Graph
    from .progress import Report
    from .signature import Catalog


class Plan(NamedTuple):
    """A workflow that can run."""

    document: "Document"
    graph: "Graph"
    catalog: "Catalog"
    folders: "Folders"


def prepare(options: argparse.Namespace, pack: Pack, settings: Sequence[str]) -> Plan:
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


def check(options: argparse.Namespace, pack: Pack) -> int:
    """Say what is wrong with a workflow; returns the exit status."""
    from .graph import WorkflowError

    try:
        plan = prepare(options, pack, options.settings)
    except WorkflowError as error:
        return refuse(error)
    sys.stdout.write(f"{options.workflow}: {len(plan.graph.nodes)} nodes, nothing wrong.\n")
    return DONE


def run(options: argparse.Namespace, pack: Pack) -> int:
    """Run a workflow, once for every combination of --set; returns the exit status."""
    from .graph import WorkflowError
    from .sheet import captions, draw_sheet, variants

    try:
        chosen, columns = variants(options.settings)
        plans = [prepare(options, pack, settings) for settings in chosen]
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
