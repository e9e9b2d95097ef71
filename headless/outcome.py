"""How a command ends: its exit status, and why it did not start."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .graph import WorkflowError

DONE, FAILED, REFUSED, STOPPED = 0, 1, 2, 130


def refuse(error: "WorkflowError") -> int:
    """Print why; returns the exit status."""
    sys.stderr.writelines(f"{problem}\n" for problem in error.problems)
    return REFUSED
