"""The everyday jobs by name: ``undegrade sharpen photo.jpg``. Each runs a blueprint of ComfyUI's,
`subgraphs/*.json`, on one picture, says what it found, and writes the result beside the picture.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .blueprints import HOST, JOBS, LOAD, MASK, SAVE, SPARED, around, helps, nodes_of, widgets
from .destination import FORMATS, expect_format, make_folder, unused, write_to
from .erased import uncovered
from .folders import Folders
from .foretold import enlarged, of_kind
from .given_masks import check_masks, masks_of, selections
from .job_words import findings, in_options, told
from .jpeg_tables import file_quality
from .outcome import DONE, refuse
from .pack import Pack
from .running import Plan, carry_out, planned

if TYPE_CHECKING:
    from torch import Tensor

    from .progress import Report

JPEG = "UndegradeEstimateJPEGQuality"
WHITE = ("a picture of its size, white or nearer to white than to black (on transparent ground, "
         "too; or the picture itself, erased there, as ComfyUI's mask editor saves it)")
LEAST = 0.5 / 255  # what a picture of 8 bits can show


def add_commands(commands: "argparse._SubParsersAction") -> None:
    """Add every job to the command's menu, with its blueprint's widgets as options."""
    for name, job in JOBS.items():
        parser = commands.add_parser(name, help=job.about, description=job.about)
        parser.set_defaults(action=_run, job=job, mask=None, mask_out=None,
                            do_not_copy=None)
        add = parser.add_argument
        add("picture", type=Path, help="a picture file")
        if job.mask:
            add("--mask", type=Path, required=True, metavar="FILE",
                help=f"{WHITE} where it is to be filled in")
            add("--do-not-copy", type=Path, metavar="FILE",
                help=f"{WHITE} where nothing may be copied from: faces or like objects near by")
        if job.marks:
            add("--mask", type=Path, metavar="FILE",
                help=f"{WHITE} where it is to be filled in, in place of what is found")
            add("--mask-out", type=Path, metavar="FILE.png",
                help="write what was found, too, to correct it and give it back by --mask")
        helped = helps(job)
        for option, (_, widget) in widgets(job).items():
            add(f"--{option}", dest=f"at {option}", metavar=widget.upper(),
                help=helped[option].replace("%", "%%"))
        add("--set", action="append", default=[], metavar="NODE.WIDGET=VALUE", dest="settings",
            help="change any other value of the blueprint")
        add("--output", type=Path, metavar="DIR|FILE",
            help=f"where the result goes (default: NAME_{job.word} beside the picture, in its "
                 "format)")
        add("--format", choices=FORMATS, help="of the result")
        add("--compare", action="store_true",
            help="write before and after side by side, too"
                 + (", and what was taken for a scratch" if job.marks else ""))
        add("--force", action="store_true",
            help="write a result even where nothing is gained, the picture as it was"
                 + ("; take a mask that hides most of the picture, or has many greys"
                    if job.mask or job.marks else ""))
        add("--quiet", action="store_true", help="draw no progress bars")
        add("--traceback", action="store_true", help="when a node fails, show where in its code")


def _plan(options: argparse.Namespace, pack: Pack) -> Plan:
    """The job as a workflow that can run.

    Raises:
        WorkflowError: it cannot, for the reasons given.
    """
    from .graph import WorkflowError
    from .load import document
    from .settings import apply_settings
    from .stock.writing import KINDS

    job, picture = options.job, options.picture
    masks = masks_of(options)
    given = [picture, *masks.values()]
    # `planned` would name --input, and only after the picture's folder was looked into.
    if absent := [path for path in given if not path.is_file()]:
        raise WorkflowError(*(
            f"{path} is a folder; name a picture in it, or use 'undegrade batch'."
            if path.is_dir() else f"There is no file {path}." for path in absent))
    check_masks(options)
    beside = picture.suffix.lower() if picture.suffix.lower() in KINDS else ".png"
    ending = f".{options.format}" if options.format else beside
    output = options.output or picture.parent
    expect_format(output)
    if output.suffix.lower() not in KINDS or output.is_dir():
        output = unused(output / f"{picture.stem}_{job.word}{ending}")
    if options.mask_out and options.mask_out.resolve() == output.resolve():
        raise WorkflowError(f"--mask-out {options.mask_out}: the restored picture is written "
                            "there; choose another name.")
    folders = Folders(output.parent)
    write_to(folders, output, options.format)
    it = document(around(job, MASK in masks, SPARED in masks), pack.catalog(folders))
    inputs = [f"{key}={path}" for key, path in {LOAD: picture, **masks}.items()]
    if (estimates := nodes_of(job, JPEG)) and (quality := file_quality(picture)):
        apply_settings(it, [f"{HOST}:{key}.known_quality={quality}" for key in estimates])
    chosen = [setting for _, setting, _ in _chosen(options)]
    return planned(it, folders, inputs, [*chosen, *options.settings])


def _run(options: argparse.Namespace, pack: Pack) -> int:
    from .graph import WorkflowError
    from .progress import Report

    try:
        plan = _plan(options, pack)
        make_folder(plan.folders.output)
    except WorkflowError as error:
        problems = [told(options.job, said) for said in error.problems]
        for option, setting, value in _chosen(options):
            problems = [said.replace(f"--set {setting}", f"--{option} {value}")
                        for said in problems]
        return refuse(WorkflowError(*problems))
    report = Report(pack.host, plan.folders, options.quiet, words=False)
    run = partial(_work, options, plan, report, pack.host)
    return carry_out(plan, report, options.traceback, run, partial(told, options.job))


def _chosen(options: argparse.Namespace) -> list[tuple[str, str, str]]:
    """The options of the job's own that were given: name, setting of the blueprint, and value."""
    return [(option, f"{HOST}:{key}.{widget}={value}", value)
            for option, (key, widget) in widgets(options.job).items()
            if (value := getattr(options, f"at {option}")) is not None]


def _work(options: argparse.Namespace, plan: Plan, report: "Report", host: Any) -> int:
    """Say what it takes, compute, say what was found, and save what is worth it."""
    from .execution import execute

    job = options.job
    image = plan.graph.nodes[SAVE].links["images"]
    last = image.source
    kinds = {i: node.type for i, node in plan.graph.nodes.items()}
    asked = [i for i, kind in kinds.items() if kind in job.nothing]
    made: dict[str, list[list]] = {}
    extra = {"workflow": plan.document.workflow}
    by_hand = bool(job.marks and options.mask)
    masks = masks_of(options)
    loaded = MASK if options.mask else LOAD
    for target in [LOAD, *masks, *asked, last]:
        if by_hand and target in asked:
            made[target] = made[MASK]
        made |= execute(plan.graph, plan.catalog, report, extra, [target], made)
        made |= selections(options, target, made[LOAD][0][0])
        if target == loaded and not options.quiet and host.device().type == "cpu":
            sys.stderr.write(f"{options.picture}: {_cost(options, plan, made)}.\n")
        against = job.nothing.get(kinds[target], lambda _: "")(made[target])
        if against and not options.force:
            return _nothing(options.picture, in_options(job, against))
    before, after = made[LOAD][0][0], made[last][image.slot][0]
    after = uncovered(after, made[MASK][0][0] if options.mask else None)
    if _same(before, after) and not options.force:
        return _nothing(options.picture, _unchanged(options, report, len(before)))
    made[last][image.slot] = [after]
    execute(plan.graph, plan.catalog, report, extra, [SAVE], made)
    _tell(options, report, made[asked[-1]][0][0] if job.marks else None)
    return DONE


def _tell(options: argparse.Namespace, report: "Report", marked: "Tensor | None") -> None:
    """Say of every picture what was found and where it is, and write what else was asked for."""
    from .sheet import compare, picture_of

    job = options.job
    found = findings(job, report.said, len(report.saved))
    if job.finds and marked is not None:
        found = [job.finds(marked[number % len(marked)]) for number in range(len(found))]
    for said, path in zip(found, report.saved, strict=True):
        said = said.replace("scratches", "your mask") if job.marks and options.mask else said
        sys.stdout.write(f"{options.picture}: {said or job.word} -> {path}\n")
    if options.mask_out:
        picture_of(marked).save(options.mask_out)
        sys.stdout.write(f"what was filled in: {options.mask_out}\n")
    if options.compare and report.saved:
        path = unused(report.saved[0].with_name(f"{report.saved[0].stem}_compared.png"))
        compare(options.picture, report.saved[0], path, marked)
        sys.stdout.write(f"before and after: {path}\n")


def _cost(options: argparse.Namespace, plan: Plan, made: dict[str, list[list]]) -> str:
    """What it takes, told before it is done."""
    pictures, height, width = made[LOAD][0][0].shape[:3]
    hidden = int((made[MASK][0][0] > 0).sum()) if options.job.mask else 0
    pixels = int(height * width * enlarged(plan.graph))
    return of_kind(options.job.cost, plan.graph).said(pixels, hidden, pictures)


def _unchanged(options: argparse.Namespace, report: "Report", pictures: int) -> str:
    """What was found, and why nothing comes of it."""
    found = ". ".join(dict.fromkeys(findings(options.job, report.said, pictures)))
    if "nothing to gain" in found or "left as it is" in found:
        return found
    chosen = " ".join(f"--{option} {value}" for option, _, value in _chosen(options))
    why = f"with {chosen}" if chosen else "nothing to gain,"
    return "; ".join(filter(None, [found, f"{why} it comes back as it was"]))


def _same(before: "Tensor", after: "Tensor") -> bool:
    """Whether nobody could see a difference."""
    return before.shape == after.shape and bool((before - after).abs().max() < LEAST)


def _nothing(picture: Path, why: str) -> int:
    sys.stdout.write(f"{picture}: {why}; nothing was written.\n")
    return DONE
