"""Starts a training script: ``python training <script> --option value``.

A checkout may lie in a folder whose name Python cannot import (a hyphen, a dot), so the package is
loaded by its path, under a fixed name. Installed, it is ``python -m undegrade.training``.
"""

import importlib
import importlib.util
import sys
from pathlib import Path

NAME = "undegrade_pack"
SCRIPTS = (
    "feature_injection", "noise_predictor", "pack", "photographs", "prior", "regions", "scratches"
)


def package() -> str:
    """The name of this package, `<pack>.training`, importable."""
    if __package__ and "." in __package__:
        return __package__
    root = Path(__file__).resolve().parent.parent
    # Python puts a script's folder first; the pack's modules must only be found inside the pack.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != root / "training"]
    spec = importlib.util.spec_from_file_location(
        NAME, root / "__init__.py", submodule_search_locations=[str(root)]
    )
    assert spec
    sys.modules[NAME] = importlib.util.module_from_spec(spec)  # the menu of nodes is not needed
    return f"{NAME}.training"


def main() -> int:
    """Run a script; returns the exit status, 2 for a wrong command, 130 where it was stopped."""
    known = ", ".join(SCRIPTS)
    if len(sys.argv) < 2 or sys.argv[1] not in SCRIPTS:
        given = sys.argv[1] if len(sys.argv) > 1 else "nothing"
        print(f"{given} is no training script; name one of {known}.", file=sys.stderr)  # noqa: T201
        return 2
    if importlib.util.find_spec("accelerate") is None:
        print("Training needs accelerate: pip install accelerate.", file=sys.stderr)  # noqa: T201
        return 2
    try:
        return importlib.import_module(f"{package()}.{sys.argv[1]}").main(sys.argv[2:])
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from the checkpoint.", file=sys.stderr)  # noqa: T201
        return 130


if __name__ == "__main__":
    sys.exit(main())
