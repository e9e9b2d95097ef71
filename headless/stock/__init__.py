"""ComfyUI's own nodes that our workflows use, under the same ids, inputs and defaults.

Written anew from their behaviour. They depart from it where ComfyUI loses the picture: files of
every mode are read at their full depth and in sRGB by their colour profile, what is saved keeps the
resolution and EXIF of its file, RGBA is scaled by its alpha, and a picture of one channel can be
saved and scaled.
"""

from collections.abc import Mapping

from ..folders import Folders
from . import files, images, masks, values


def stock_classes(folders: Folders, instead: Mapping[str, type] | None = None) -> dict[str, type]:
    """Every stock node, the loading and saving ones bound to the folders of this run."""
    bound = {name: type(name, (node,), {"folders": folders, "__doc__": node.__doc__})
             for name, node in {**files.NODES, **(instead or {})}.items()}
    return {**bound, **images.NODES, **masks.NODES, **values.NODES}


def stock_titles() -> dict[str, str]:
    """The names users see, where ComfyUI gives one that differs from the id."""
    return {**files.TITLES, **images.TITLES, **masks.TITLES, **values.TITLES}
