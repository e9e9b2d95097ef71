"""Every format and mode that Pillow writes and reads again."""

import io

import numpy as np
import pytest
from drawn_files import SHALLOW, file_of
from PIL import Image

from undegrade.headless.stock.reading import read_frames


def test_every_format_that_pillow_writes_shows_what_pillow_shows():
    Image.init()
    seen = set()
    for kind in sorted(Image.SAVE.keys() - {"ICNS", "IM", "SPIDER"}):  # which Pillow misreads
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"):
            source = Image.fromarray(SHALLOW[:16, :16])
            picture = (source if "A" in mode else source.convert("RGB")).convert(mode)
            try:
                data = file_of(picture, kind)
                with Image.open(io.BytesIO(data)) as file:
                    file.load()
                    shown = file.convert("RGBA" if file.has_transparency_data else "RGB")
            except (OSError, ValueError, KeyError, SyntaxError):
                continue  # it does not write this, or not read it again
            frame = read_frames(io.BytesIO(data))[0]
            pixels = np.asarray(shown) / np.float32(255)
            assert np.array_equal(frame.colours, pixels[..., :3]), (kind, mode)
            assert (frame.alpha is None) == (shown.mode == "RGB"), (kind, mode)
            assert frame.alpha is None or np.array_equal(frame.alpha, pixels[..., 3]), (kind, mode)
            seen.add((kind, mode))
    assert len(seen) > 60 and {("PNG", "LA"), ("WEBP", "RGBA"), ("TIFF", "CMYK")} <= seen


def test_a_file_in_which_pillow_finds_no_frame_is_refused():
    with pytest.raises(ValueError, match="it holds no picture"):
        read_frames(io.BytesIO(file_of(Image.new("L", (16, 16), 3), "SPIDER")))
