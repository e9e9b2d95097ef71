"""Loads packs in ComfyUI's own way and prints as JSON how long each took and what it brought along.

usage: python import_seconds.py COMFYUI_FOLDER PACK_FOLDER ...
"""

# ruff: noqa: E402, TID251
import asyncio
import json
import sys
import time

COMFYUI, *PACKS = sys.argv[1:]
sys.argv = sys.argv[:1]
sys.path.insert(0, COMFYUI)

from comfy.cli_args import args

args.cpu = True  # before comfy.model_management, which otherwise wants a GPU

import nodes


def load(pack: str) -> dict:
    """Seconds of the processor, which other programs do not prolong, and the packages that were not
    there before."""
    before, start = {name.partition(".")[0] for name in sys.modules}, time.process_time()
    done = asyncio.run(nodes.load_custom_node(pack, module_parent="custom_nodes"))
    seconds = time.process_time() - start
    brought = {name.partition(".")[0] for name in sys.modules} - before
    return {"done": done, "seconds": seconds, "brought": sorted(brought)}


sys.stdout.write("\n" + json.dumps([load(pack) for pack in PACKS]) + "\n")
