"""``undegrade run`` and ``undegrade check``: one workflow."""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .blueprints import counted
from .destination import make_folder, unused, write_to
from .foretold import of_run
from .harm import harm, of_its_own
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
    from .load import load, named

    workflow = named(options.workflow)
    folders = Folders.around(workflow, options.output)
    write_to(folders, options.output, options.format)
    document = load(workflow, pack.catalog(folders))
    return planned(document, folders, options.input, settings)


def planned(document: "Document", folders: "Folders", inputs: Sequence[str],
            settings: Sequence[str]) -> Plan:
    """The document with these inputs and settings, checked.

    Raises:
        WorkflowError: it cannot run, for the reasons given.
    """
    from .graph import WorkflowError
    from .saving import save_problems
    from .settings import apply_inputs, apply_settings
    from .validation import validate

    problems = apply_inputs(document, folders, inputs)
    problems += apply_settings(document, settings)
    graph = document.graph()
    problems += validate(graph, document.catalog)
    if problems := problems or save_problems(graph, document.catalog, folders):
        raise WorkflowError(*problems)
    return Plan(document, graph, document.catalog, folders)


def check(options: argparse.Namespace, pack: Pack) -> int:
    """Say what is wrong with a workflow; returns the exit status."""
    from .graph import WorkflowError
    from .sheet import variants

    try:
        plans = [prepare(options, pack, settings) for settings in variants(options.settings)[0]]
    except WorkflowError as error:
        return refuse(error)
    sys.stdout.write(f"{options.workflow}: {counted(len(plans[0].graph.nodes), 'node')}, "
                     "nothing wrong.\n")
    return DONE


def run(options: argparse.Namespace, pack: Pack) -> int:
    """Run a workflow, once for every combination of --set; returns the exit status."""
    from .graph import WorkflowError
    from .progress import Report
    from .sheet import captions, draw_sheet, variants

    try:
        chosen, columns = variants(options.settings)
        plans = [prepare(options, pack, settings) for settings in chosen]
        make_folder(plans[0].folders.output)
    except WorkflowError as error:
        return refuse(error)
    told = plans[0].graph, plans[0].folders.given
    sys.stderr.write(harm(*told) or of_its_own(*told))
    pictures = []
    for plan, caption in zip(plans, captions(chosen), strict=True):
        if len(plans) > 1:
            sys.stdout.write(f"--set {caption}\n")
        sys.stderr.write("" if options.quiet else of_run(plan, pack.host))
        report = Report(pack.host, plan.folders, options.quiet)
        status = carry_out(plan, report, options.traceback, partial(_whole, plan, report))
        if status != DONE:
            return status
        pictures += [(caption, path) for path in report.saved[:1]]
    if len(plans) > 1 and pictures:
        path = unused(plans[0].folders.output / "contact_sheet.png")
        draw_sheet(pictures, columns, path)
        sys.stdout.write(f"contact sheet: {path}\n")
    return DONE


def _whole(plan: Plan, report: "Report") -> int:
    """Every node of a plan."""
    from .execution import execute

    extra = {"workflow": plan.document.workflow} if plan.document.workflow else None
    execute(plan.graph, plan.catalog, report, extra)
    return DONE


def carry_out(
    plan: Plan, report: "Report", trace: bool, work: Callable[[], int],
    told: Callable[[str], str] = str,
) -> int:
    """Do the work of a plan under its report, and say what failed, as `told` puts it, and what was
    lost; returns the exit status, that of the work where all went well."""
    from .execution import NodeError

    failure, status = "", FAILED
    try:
        with report:
            status = work()
    except NodeError as error:
        if trace:
            traceback.print_exception(error.__cause__ or error)
        failure = f"{told(str(error))}\n"
    finally:  # also of a run that is stopped
        sys.stderr.writelines(f"{sentence}\n" for sentence in plan.folders.lost)
    sys.stderr.write(failure)
    return FAILED if plan.folders.lost else status
