"""The everyday jobs by name: ``undegrade sharpen photo.jpg``. Each runs a blueprint of ComfyUI's,
`subgraphs/*.json`, on one picture, says what it found, and writes the result beside the picture.
"""

import argparse
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .blueprints import HOST, JOBS, LOAD, MASK, SAVE, SPARED, Job, around, helps, nodes_of, widgets
from .destination import expect_format, make_folder, unused, write_to
from .execution import NodeError
from .folders import Folders
from .foretold import enlarged, of_kind
from .given_masks import check_masks, masks_of, selections
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
MASKED = "Inpainting Mask|GrowMask|Match Grain|Fill From Surroundings|Measurement From Image"
LEAST = 0.5 / 255  # what a picture of 8 bits can show
MOST = 0.5  # of a picture, that a mask hides without --force


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
        add("--format", choices=("png", "jpg", "tif", "webp"), help="of the result")
        add("--compare", action="store_true",
            help="write before and after side by side, too"
                 + (", and what was taken for a scratch" if job.marks else ""))
        add("--force", action="store_true", help="write a result even where nothing is gained")
        add("--quiet", action="store_true", help="draw no progress bars")
        add("--traceback", action="store_true", help="when a node fails, show where in its code")


def _plan(options: argparse.Namespace, pack: Pack) -> Plan:
    """The job as a workflow that can run.

    Raises:
        WorkflowError: it cannot, for the reasons given.
    """
    from .graph import WorkflowError
    from .load import document
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
    settings = [f"{HOST}:{key}.{widget}={value}" for option, (key, widget) in widgets(job).items()
                if (value := getattr(options, f"at {option}")) is not None]
    if (estimates := nodes_of(job, JPEG)) and (quality := file_quality(picture)):
        settings += [f"{HOST}:{key}.known_quality={quality}" for key in estimates]
    return planned(it, folders, inputs, [*settings, *options.settings])


def _run(options: argparse.Namespace, pack: Pack) -> int:
    from .graph import WorkflowError
    from .progress import Report

    try:
        plan = _plan(options, pack)
        make_folder(plan.folders.output)
    except WorkflowError as error:
        own = tuple(f"--set {given}: " for given in options.settings)
        return refuse(WorkflowError(*(
            said if said.startswith(own) else _in_options(options.job, said)
            for said in error.problems)))
    report = Report(pack.host, plan.folders, options.quiet, words=False)
    run = partial(_work, options, plan, report, pack.host)
    return carry_out(plan, report, options.traceback, run, partial(_in_options, options.job))


def _work(options: argparse.Namespace, plan: Plan, report: "Report", host: Any) -> int:
    """Say what it takes, compute, say what was found, and save what is worth it."""
    from .execution import execute
    from .sheet import compare, picture_of

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
        made |= selections(masks, target, made[LOAD][0][0])
        if target == loaded and not options.quiet and host.device().type == "cpu":
            hidden = int((made[MASK][0][0] > 0).sum()) if job.mask else 0
            said = of_kind(job.cost, plan.graph).said(_pixels(plan, made), hidden)
            sys.stderr.write(f"{options.picture}: {said}.\n")
        against = _against(options, target, kinds[target], made[target])
        if against and not options.force:
            return _nothing(options.picture, _in_options(job, against))
    mask = made[MASK][0][0] if options.mask else None
    made[last][image.slot] = [_uncovered(made[last][image.slot][0], mask)]
    if _same(made[LOAD][0][0], made[last][image.slot][0]):
        said = _found(job, report) or "nothing to gain, it comes back as it was"
        return _nothing(options.picture, _in_options(job, said))
    execute(plan.graph, plan.catalog, report, extra, [SAVE], made)
    found = job.finds(made[asked[-1]]) if job.finds else _found(job, report)
    if by_hand:
        found = found.replace("scratches", "your mask")
    for path in report.saved:
        sys.stdout.write(f"{options.picture}: {found or job.word} -> {path}\n")
    if options.mask_out:
        picture_of(made[asked[-1]][0][0]).save(options.mask_out)
        sys.stdout.write(f"what was filled in: {options.mask_out}\n")
    if options.compare and report.saved:
        path = unused(report.saved[0].with_name(f"{report.saved[0].stem}_compared.png"))
        marked = made[asked[-1]][0][0] if job.marks else None
        compare(options.picture, report.saved[0], path, marked)
        sys.stdout.write(f"before and after: {path}\n")
    return DONE


def _against(options: argparse.Namespace, node: str, kind: str, outputs: list[list]) -> str:
    """What a node's outputs say against going on, or nothing.

    Raises:
        NodeError: a mask hides nothing, or most of the picture.
    """
    if path := masks_of(options).get(node):
        share, what = float(outputs[0][0].mean()), "filled in" if node == MASK else "not copied"
        if not share:
            raise NodeError(f"nothing in {path} is white, and white is what is {what}.")
        if node == MASK and share > MOST and not options.force:
            raise NodeError(f"--mask: {100 * share:.0f} % of {path} is white, and white is what is "
                            f"{what}; is it inverted? To fill in as much as that, add --force.")
    said = options.job.nothing.get(kind)
    return said(outputs) if said else ""


def _pixels(plan: Plan, made: dict[str, list[list]]) -> int:
    """How many the result has."""
    height, width = made[LOAD][0][0].shape[1:3]
    return int(height * width * enlarged(plan.graph))


def _found(job: Job, report: "Report") -> str:
    """What the nodes said, in one line."""
    said = "\n".join(report.said[kind] for kind in job.tells if kind in report.said)
    return ". ".join(line.strip().rstrip(".") for line in said.splitlines() if line.strip())


def _same(before: "Tensor", after: "Tensor") -> bool:
    """Whether nobody could see a difference."""
    return before.shape == after.shape and bool((before - after).abs().max() < LEAST)


def _uncovered(picture: "Tensor", mask: "Tensor | None") -> "Tensor":
    """IMAGE with what a mask file had filled in opaque: parts of the picture that were erased."""
    if mask is None or picture.shape[-1] < 4:
        return picture
    seen = picture.clone()
    seen[..., 3] = seen[..., 3].maximum((mask > 0).to(seen))
    return seen


def _nothing(picture: Path, why: str) -> int:
    sys.stdout.write(f"{picture}: {why}; nothing was written.\n")
    return DONE


def _in_options(job: Job, said: str) -> str:
    """What a node said, with the command's options where it named its widgets and no file, or
    where it could do nothing with the mask, and without the nodes that load."""
    said = re.sub(r"^node \d+ \(Load Image(?: \(as Mask\))?\) failed: ", "", said)
    if job.mask or job.marks:
        said = re.sub(rf"^node {HOST}:\d+ \((?:{MASKED})\) failed: (?=The mask|.* and mask )",
                      "--mask: ", said)
        said = re.sub(rf"^node {HOST}:\d+ \([^)]*\) failed: (?=.* and do_not_copy )",
                      "--do-not-copy: ", said).replace("do_not_copy", "the mask")
    for option, (_, widget) in widgets(job).items():
        if option != widget:
            said = re.sub(rf"(?<![\w./-]){widget}(?![\w/-]|\.\w)", f"--{option}", said)
    return said
