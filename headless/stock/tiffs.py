"""TIFFs that Pillow opens wrong or not at all: floats, 32 bits, signed, two channels of 16 bits."""

from io import BytesIO

import numpy as np
from PIL import Image

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2  # values of PhotometricInterpretation
REDUCED = 1  # bit of NewSubfileType: a smaller version of another page
BITS, COLOURS, EXTRA, FORMAT, PLANES = 258, 262, 338, 339, 284  # tags
DEEP = ("I;16", "RGB;16", "RGBA;16", "CMYK;16")  # beginnings of raw modes that Pillow reads right


def beyond_pillow(file: Image.Image, raw: str) -> bool:
    """Whether Pillow opened a TIFF that it would misread."""
    tags = getattr(file, "tag_v2", {})
    bits, kinds = tags.get(BITS, (1,)), tags.get(FORMAT, (1,))
    if max(bits) <= 8 and set(kinds) == {1}:
        return False
    plain = set(kinds) == {1} and tags.get(PLANES, 1) == 1
    return not (plain and raw.startswith(DEEP))


def read(data: bytes) -> list[tuple[np.ndarray, np.ndarray | None, int, bytes | None, bool]]:
    """Every page: grey or RGB (H, W, 1 or 3) in [0, 1], its opacity, orientation and profile, and
    whether it has more than 8 bits.

    Raises:
        ValueError: tifffile is missing, the pixels are of a kind that it does not unpack, or their
            range cannot be told.
    """
    try:
        import tifffile
    except ImportError as error:
        raise ValueError("a TIFF of floats, 32 bits or separate planes needs the package tifffile; "
                         "install it with: pip install tifffile") from error
    made = []
    with tifffile.TiffFile(BytesIO(data)) as file:
        for page in file.pages:
            if made and page.aspage().subfiletype & REDUCED:
                continue
            made.append(_page(page.aspage()))
    return made


def _page(page) -> tuple[np.ndarray, np.ndarray | None, int, bytes | None, bool]:
    pixels = page.asarray()
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    if page.axes not in ("YX", "YXS", "SYX") or page.photometric not in (
            WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        raise ValueError(f"its pixels are {page.photometric.name} with axes {page.axes} and "
                         f"{page.dtype}, which is not read")
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    colours = 3 if page.photometric == RGB else 1
    values = in_range(pixels[..., :colours], page.bitspersample)
    if page.photometric == WHITE_IS_ZERO:
        values = 1 - values
    alpha, extra = None, page.extrasamples[0] if page.extrasamples else 0
    if extra in (1, 2) and pixels.shape[-1] > colours:
        alpha = in_range(pixels[..., colours], page.bitspersample)
        if extra == 1:  # colours came multiplied by it
            values = np.where(alpha[..., None] > 0, values / alpha.clip(1e-6)[..., None], values)
            values = values.clip(0, 1)
    tag = page.tags.get("Orientation")
    icc = page.tags.get("InterColorProfile")
    return (values, alpha, int(tag.value) if tag else 1, bytes(icc.value) if icc else None,
            page.bitspersample > 8)


def in_range(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Pixels of any number format as float64 in [0, 1].

    Unsigned integers count to the most their bits can hold, signed ones from the least to the most
    (those of 32 bits with 0 to 65535 count to that), floats are in [0, 1], or whole levels of 8 or
    16 bits.

    Raises:
        ValueError: none of these, so that black and white cannot be told.
    """
    values = pixels.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it has NaN or infinite pixels; repair it in the program it comes from")
    low, high = values.min(), values.max()
    if pixels.dtype.kind == "u" and bits < 32:
        return values / (2**bits - 1)
    if pixels.dtype.kind == "i" and bits < 32:
        return (values + 2 ** (bits - 1)) / (2**bits - 1)
    whole = bool((values == values.round()).all())
    if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        return values
    if pixels.dtype.kind == "f" and whole and low >= 0 and high <= 255:
        return values / 255
    if whole and low >= 0 and high <= 65535:
        return values / 65535
    if pixels.dtype.kind == "u" and bits == 32 and high >= 2**24:
        return values / (2**32 - 1)
    raise ValueError(f"its {pixels.dtype} pixels go from {low:g} to {high:g}, and which of them is "
                     "black and which white cannot be told; scale them to 0 to 1 (float) or to 0 "
                     "to 65535 (16 bits)")
