"""The ``undegrade`` command.

Exit status: 0 done, 1 a node failed (``batch``: a picture did, or the disk is full), 2 the workflow
or the command line is wrong (nothing ran), 130 stopped by the user.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .console import lasting_console
from .destination import FORMATS
from .outcome import DONE, STOPPED
from .own_process import choose_threads, keep_memory
from .pack import Pack, version


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


class _Once(argparse.Action):
    """Takes an option's value, and no second one, which would replace it without a word."""

    _given: str | None = None

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace,
                 values: object, option: str | None = None) -> None:
        """Take it."""
        if self._given is not None:
            raise argparse.ArgumentError(
                self, f"given twice, {self._given} and {values}; leave one out")
        self._given = str(values)
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    """One whose options that take a value take one."""

    def __init__(self, *given: Any, **named: Any):
        """As any."""
        super().__init__(*given, **named)
        for action in (None, "store"):
            self.register("action", action, _Once)


class _Version(argparse.Action):
    """Says the pack's version."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Look it up only now."""
        sys.stdout.write(f"{parser.prog} {version()}\n")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    from . import running
    from .batch.command import add_command
    from .jobs import add_commands

    parser = _Parser(
        prog="undegrade", description="Run workflows of the Undegrade nodes without ComfyUI.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show it and end")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a workflow and write its pictures")
    run.set_defaults(action=running.run)
    check = commands.add_parser("check", help="say what is wrong with a workflow; run nothing")
    check.set_defaults(action=running.check)
    batch = add_command(commands)
    for command in (run, check, batch):
        command.add_argument(
            "workflow", type=Path,
            help="a workflow saved by ComfyUI, in API format, or a PNG that carries one; or one of "
                 "the pack's by its name, such as 'Denoise a photo'")
        command.add_argument(
            "--set", action="append", default=[], metavar="NODE.WIDGET=VALUE", dest="settings",
            help="change a value; the node by id, title, or type where unique (12.seed=3)"
                 + ("; several values of one widget make a contact sheet" if command is run
                    else ""))
    for command in (run, check):
        command.add_argument("--output", type=Path, default=Path("output"), metavar="DIR|FILE",
                             help="where pictures go (default: output); a file's ending is their "
                                  "format")
        command.add_argument("--format", choices=FORMATS,
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
