"""Runs `undegrade run` again and again in one process: a JSON list of arguments per line of stdin,
the exit status per line of stdout.

usage: python run_headless.py PACK_FOLDER TESTS_FOLDER
"""

import contextlib
import importlib.util
import json
import sys
from pathlib import Path


def package(name: str, folder: str):
    """A folder imported as a package of that name."""
    path = Path(folder) / "__init__.py"
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=[folder])
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def main() -> None:
    package("undegrade", sys.argv[1])
    from undegrade.headless.cli import main as command
    from undegrade.headless.pack import Pack

    pack = Pack.load()
    pack.classes.update(package("probe", sys.argv[2]).NODE_CLASS_MAPPINGS)
    answers = sys.stdout
    for line in sys.stdin:
        with contextlib.redirect_stdout(sys.stderr):
            status = command(json.loads(line), pack)
        answers.write(f"{status}\n")
        answers.flush()


if __name__ == "__main__":
    main()
