"""Nodes that cut pictures into tiles, put them together, and let a prior work on tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..models.prior import Prior
from ..pipelines.tiled_prior import TiledPrior, TileOptions
from ..pipelines.tiling import TileGrid
from .comfyui.model_patches import refuse_bound_prior
from .images import to_latent
from .latents import PICTURE, Picture, encode, read_latent
from .watched import InterruptiblePrior
from .widgets import expect, socket, widgets_of


@dataclass(frozen=True, eq=False)
class PictureTiles:
    """What TILE_GRID is: where the tiles of a batch of pictures lie, and how the pictures came.

    grid: in pixels of the prior's states. batch: pictures that were split; their tiles follow one
    another. picture: None for what came as a LATENT without one.
    """

    grid: TileGrid
    batch: int
    picture: Picture | None = None


class TiledPriorNode:
    """DIFFUSION_PRIOR -> the same for pictures of any size."""

    DESCRIPTION = (
        "Makes a prior work on overlapping tiles, so that a picture of any size fits in memory. At "
        "every step the tiles' predictions are averaged with a Gaussian weight, and the "
        "measurement is applied to the whole picture, so no seams show."
    )
    SEARCH_ALIASES = ("tiled diffusion", "MultiDiffusion", "Mixture of Diffusers", "large image")
    CATEGORY = "Undegrade/priors"
    FUNCTION = "wrap"
    RETURN_TYPES = ("DIFFUSION_PRIOR",)
    RETURN_NAMES = ("prior",)
    OUTPUT_TOOLTIPS = ("The prior, for pictures of any size.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        tiles = {
            "default": 0,
            "min": 0,
            "max": 256,
            "tooltip": "Most tiles in one network call. 0 is automatic: as many as fit in the free "
            "memory of the GPU, and one on the CPU. The picture does not depend on it.",
        }
        return {
            "required": {
                "prior": socket("DIFFUSION_PRIOR", "The prior to use on tiles."),
                **widgets_of(TileOptions),
                "tiles_per_call": ("INT", tiles),
            }
        }

    def wrap(self, prior: Prior, tiles_per_call: int, **options: Any) -> tuple[Prior]:
        """The tiled prior; Cancel is heard between its network calls."""
        expect(prior, Prior, "prior", "a prior such as Load Pixel Prior")
        refuse_bound_prior(prior, "tiles of it")
        inner = InterruptiblePrior(prior)
        return (TiledPrior(inner, TileOptions(**options), tiles_per_call),)


class TileSplitter:
    """IMAGE or LATENT, DIFFUSION_PRIOR -> LATENT tiles, TILE_GRID."""

    DESCRIPTION = (
        "Cuts pictures into overlapping tiles of the size a prior was trained on. The last tile "
        "of a row is shifted back to the edge; a picture smaller than a tile is reflected."
    )
    SEARCH_ALIASES = ("AdaDiffSR", "split image", "tile image", "grid", "regions")
    CATEGORY = "Undegrade/regions"
    FUNCTION = "split"
    RETURN_TYPES = ("LATENT", "TILE_GRID")
    RETURN_NAMES = ("tiles", "grid")
    OUTPUT_TOOLTIPS = (
        "The tiles as a batch, those of the first picture first, row by row. For a pixel prior "
        "their samples are pixels from -1 to 1.",
        "Where the tiles lie, for Tile Stitcher.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        return {
            "required": {
                "prior": socket("DIFFUSION_PRIOR", "The prior that the tiles are for."),
                **widgets_of(TileOptions),
            },
            "optional": {
                "image": socket("IMAGE", "Pictures to split; the prior encodes them."),
                "latent": socket("LATENT", "Latents of the prior's kind, instead of an image."),
            },
        }

    def split(
        self,
        prior: Prior,
        image: Tensor | None = None,
        latent: dict[str, Any] | None = None,
        **options: Any,
    ) -> tuple[dict[str, Any], PictureTiles]:
        """Encode where needed, then cut."""
        expect(prior, Prior, "prior", "a prior such as Load Pixel Prior")
        tile, overlap = TileOptions(**options).sides(prior)
        if (image is None) == (latent is None):
            came = "neither" if image is None else "both"
            raise ValueError(f"{came} of image and latent came; connect exactly one of them.")
        if image is not None:
            samples, picture = encode(image, prior)
        else:
            samples, picture = read_latent(latent, prior), (latent or {}).get(PICTURE)
        grid = TileGrid(samples.shape[-2], samples.shape[-1], tile, overlap)
        return to_latent(grid.cut(samples)), PictureTiles(grid, len(samples), picture)


class TileStitcher:
    """LATENT tiles, TILE_GRID -> LATENT."""

    DESCRIPTION = (
        "Puts tiles together again: where they overlap, their mean with a Gaussian weight that "
        "falls from the middle of a tile to its edge. Tiles that nothing changed give the picture "
        "back exactly."
    )
    SEARCH_ALIASES = ("AdaDiffSR", "StableSR", "merge tiles", "untile", "blend tiles")
    CATEGORY = "Undegrade/regions"
    FUNCTION = "stitch"
    RETURN_TYPES = ("LATENT",)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("The whole pictures, for Decode With Prior.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        return {
            "required": {
                "tiles": socket("LATENT", "Tiles of Tile Splitter, in its order."),
                "grid": socket("TILE_GRID", "The grid that Tile Splitter gave with them."),
            }
        }

    def stitch(self, tiles: dict[str, Any], grid: PictureTiles) -> tuple[dict[str, Any]]:
        """The weighted mean."""
        expect(grid, PictureTiles, "grid", "Tile Splitter's grid")
        if not (isinstance(tiles, dict) and isinstance(tiles.get("samples"), Tensor)):
            raise TypeError(f"tiles is a {type(tiles).__name__}; connect a LATENT of tiles.")
        samples, expected = tiles["samples"], grid.batch * grid.grid.count
        if len(samples) % expected:
            raise ValueError(
                f"The number of tiles is {len(samples)}; the grid's is {expected} (pictures: "
                f"{grid.batch}, tiles of each: {grid.grid.count}), so give that or a multiple of "
                "it."
            )
        latent = to_latent(grid.grid.stitch(samples.float()))
        return ({**latent, PICTURE: grid.picture} if grid.picture else latent,)
