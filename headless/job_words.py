"""What a job says: what its nodes found or refused, in the words of the command line."""

import re
from collections.abc import Mapping, Sequence

from .blueprints import HOST, Job, widgets

MASKED = "Inpainting Mask|GrowMask|Match Grain|Fill From Surroundings|Measurement From Image"


def findings(job: Job, said: Mapping[str, Sequence[str]], pictures: int) -> list[str]:
    """What the nodes found, a line for each picture; what a node says once, it says of all."""
    told = [said[kind] for kind in job.tells if kind in said]
    return [_one_line([texts[number] for texts in told if len(texts) == pictures]
                      or [text for texts in told for text in texts])
            for number in range(pictures)]


def _one_line(texts: Sequence[str]) -> str:
    lines = (line.strip().rstrip(".") for text in texts for line in text.splitlines())
    return ". ".join(line for line in lines if line)


def told(job: Job, said: str) -> str:
    """An error of a node, with `in_options` if the job's blueprint has that node, so that names of
    files stay; or with the option where it could do nothing with a mask, and without the nodes that
    load."""
    said = re.sub(r"^node \d+ \(Load Image(?: \(as Mask\))?\) failed: ", "", said)
    if inside := re.match(rf"node {HOST}:(\d+) ", said):
        said = in_options(job, said, inside[1])
    if job.mask or job.marks:
        said = re.sub(rf"^node {HOST}:\d+ \((?:{MASKED})\) failed: (?=The mask|.* and mask )",
                      "--mask: ", said)
        said = re.sub(rf"^node {HOST}:\d+ \([^)]*\) failed: (?=.* and do_not_copy )",
                      "--do-not-copy: ", said)
        if inside:
            said = said.replace("do_not_copy", "the mask")
    return said


def in_options(job: Job, said: str, node: str = "") -> str:
    """What a node inside said, with the command's options where it names its widgets; those that
    are called as the option only in quotes, as words of the language are called so, too."""
    for option, (key, widget) in widgets(job).items():
        if option != widget:
            said = re.sub(rf"(?<![\w./-]){widget}(?![\w/-]|\.\w)", f"--{option}", said)
        elif key == node:
            said = said.replace(f"'{widget}'", f"'--{option}'")
    return said
