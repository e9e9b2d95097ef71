"""The quality that a JPEG file's own tables tell, and the command that reads it."""

import pytest
from PIL import Image
from skimage.data import coffee

from undegrade.headless.blueprints import JOBS, nodes_of
from undegrade.headless.jpeg_tables import file_quality, nearest


@pytest.fixture
def picture():
    return Image.fromarray(coffee()[60:124, 200:264])


@pytest.mark.parametrize(("quality", "mode"), [(7, "RGB"), (62, "L"), (95, "RGB")])
def test_tables_of_a_quality(quality, mode, picture, tmp_path):
    picture.convert(mode).save(tmp_path / "a.jpg", quality=quality)
    assert file_quality(tmp_path / "a.jpg") == quality


def test_no_tables_and_tables_of_their_own(picture, tmp_path):
    picture.save(tmp_path / "a.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    picture.save(tmp_path / "flat.jpg", qtables=[[9] * 64, [9] * 64])
    for name in ("a.png", "broken.jpg", "flat.jpg", "missing.jpg"):
        assert file_quality(tmp_path / name) == 0
    assert nearest({}) == 0


def test_the_jobs_that_ask():
    asking = {name for name, job in JOBS.items() if nodes_of(job, "UndegradeEstimateJPEGQuality")}
    assert asking == {"enlarge", "repair"}
