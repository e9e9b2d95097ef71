"""Draws the example pictures of the help pages, web/docs/<NodeId>.webp, by running the nodes.

Run: python benchmarks/help_pictures.py [Downscale JPEG ...]. Without names: all of them, in about
three minutes on one thread. Every picture is of the photograph that ships with the pack, with the
built-in networks; nodes whose weights are not shipped have a picture of their graph instead, made
by `help_graphs.mjs`.
"""

from __future__ import annotations

import argparse
import time

import help_degradation
import help_photographs
import help_posterior
import help_regions
import pack
import torch

DOCS = pack.ROOT / "web" / "docs"
PICTURES = {
    **help_degradation.PICTURES,
    **help_photographs.PICTURES,
    **help_posterior.PICTURES,
    **help_regions.PICTURES,
}
LIMIT = 40_000  # bytes


def main() -> None:
    """Draw the named pictures, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help="node ids without Undegrade")
    names = parser.parse_args().names
    if unknown := set(names) - PICTURES.keys():
        parser.error(f"there is no picture for {sorted(unknown)}; there are {list(PICTURES)}")
    torch.set_num_threads(1)
    for name in names or PICTURES:
        start = time.perf_counter()
        file = DOCS / f"Undegrade{name}.webp"
        PICTURES[name]().save(file, quality=80, method=6)
        size = file.stat().st_size
        print(f"{file.name}: {size} bytes, {time.perf_counter() - start:.1f} s")
        if size > LIMIT:
            raise ValueError(f"{file.name} has {size} bytes; at most {LIMIT} are allowed.")


if __name__ == "__main__":
    main()
