"""Starts the command: ``python -m <package>.headless``."""

import sys

from .cli import main

sys.exit(main())
