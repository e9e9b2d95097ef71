"""Training samples: they depend on their number alone, and look like photographs."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from undegrade.training import data, pack, photographs, prior
from undegrade.training.synthetic import canvas


@pytest.fixture(scope="module")
def canvases(tmp_path_factory):
    """Three small canvases on disk."""
    return data.render(tmp_path_factory.mktemp("canvases"), 3, seed=5, side=160)


def test_a_canvas_is_its_seed(canvases):
    a = canvas(11, 96)
    assert a.shape == (96, 96, 3) and a.dtype == np.uint8
    assert np.array_equal(a, canvas(11, 96)) and not np.array_equal(a, canvas(12, 96))
    again = data.render(canvases.parent, 3, seed=5, side=160)
    assert again == canvases and not list(canvases.parent.glob("*.part*"))


def test_canvases_are_like_photographs_in_their_spectrum():
    """Amplitude falls about as 1 / f: the exponent of photographs lies within 0.7 and 1.6."""
    slopes = []
    for seed in range(6):
        x = canvas(seed, 256).mean(-1)
        window = np.hanning(256)
        spectrum = np.abs(np.fft.rfft2((x - x.mean()) * window[:, None] * window))
        f = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
        bands = np.geomspace(0.02, 0.4, 8)
        means = [spectrum[(f >= a) & (f < b)].mean() for a, b in pairwise(bands)]
        slopes.append(-np.polyfit(np.log(bands[:-1]), np.log(means), 1)[0])
    assert 0.7 < np.mean(slopes) < 1.6, slopes


def test_samples_depend_on_their_number_alone(canvases):
    crops = data.Canvases(canvases, 32, seed=1, length=100)
    pairs = data.DegradedPairs(crops, seed=1)
    first = [crops[i] for i in range(5)]
    assert all(x.shape == (3, 32, 32) and x.abs().max() <= 1 for x in first)
    torch.rand(7), np.random.default_rng().random()
    assert all(torch.equal(crops[i], first[i]) for i in (4, 2, 0))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(data.Canvases(canvases, 32, 2, 100)[0], first[0])
    low, high = pairs[3]
    assert low.shape == (3, 8, 8) and torch.equal(high, first[3])
    assert torch.equal(low, pairs[3][0])


def test_a_hundred_patches_a_second_on_one_core(canvases):
    from time import process_time

    crops = data.Canvases(canvases, 64, seed=1, length=1000)
    crops[0]
    start = process_time()
    for i in range(1, 51):
        crops[i]
    assert 50 / (process_time() - start) > 100


def test_a_folder_of_pictures(tmp_path):
    from PIL import Image

    (tmp_path / "in").mkdir()
    Image.fromarray(canvas(1, 80)).save(tmp_path / "in" / "a.png")
    crops = data.Folder(tmp_path, 32, seed=0, length=4)
    assert crops[1].shape == (3, 32, 32) and torch.equal(crops[1], crops[1])
    with pytest.raises(ValueError, match=r"a\.png has 80x80 pixels, fewer than a crop of 96"):
        data.Folder(tmp_path, 96, seed=0, length=4)[0]
    with pytest.raises(ValueError, match="has no pictures"):
        data.Folder(tmp_path / "in" / "none", 32, seed=0, length=4)


def test_reduced_pictures_are_averages(canvases):
    crops = [data.Canvases(canvases, 16 * f, seed=1, length=60) for f in (1, 2, 4)]
    resolutions = prior.Resolutions(crops, seed=1)
    seen = [resolutions[i] for i in range(60)]
    assert all(x.shape == (3, 16, 16) for x, _ in seen)
    assert {factor for _, factor in seen} == {1, 2, 4}
    i, (x, _) = next((i, s) for i, s in enumerate(seen) if s[1] == 4)
    blocks = crops[2][i].reshape(3, 16, 4, 16, 4).mean((2, 4))
    assert torch.allclose(x, blocks, atol=1e-6)


def test_photographs_are_found_by_content_and_averaged(tmp_path, monkeypatch, capsys):
    from hashlib import sha256

    from PIL import Image

    given = canvas(2, 50)[:, :38]
    (tmp_path / "in" / "deep").mkdir(parents=True)
    file, exif = tmp_path / "in" / "deep" / "renamed.png", Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(np.rot90(given, 2)).save(file, exif=exif)
    row = {"name": "a", "reduction": "4", "source": "somewhere", "licence": "CC0-1.0"}
    rows = [{**row, "sha256": sha256(file.read_bytes()).hexdigest()}]
    rows += [{**row, "name": "b", "source": "elsewhere", "sha256": "0" * 64}]
    monkeypatch.setattr(photographs, "listed", lambda: rows)
    rows += [{**rows[0], "name": "c"}]
    monkeypatch.setattr(photographs, "held_out", lambda: ["c"])
    options = ["--originals", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert photographs.main([*options, "--held-out", str(tmp_path / "apart")]) == 1
    said = capsys.readouterr().out
    assert "2 of 3 photographs" in said and "missing: b, from elsewhere" in said
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["a.png"]
    assert [f.name for f in (tmp_path / "apart").iterdir()] == ["c.png"]
    with Image.open(tmp_path / "out" / "a.png") as picture:
        made = np.asarray(picture)
    wanted = given[:48, :36].reshape(12, 4, 9, 4, 3).mean((1, 3))
    assert made.shape == (12, 9, 3) and np.abs(made - wanted).max() <= 0.51
    with pytest.raises(ValueError, match="'' is no folder; name one with --originals"):
        photographs.main([])


def test_the_list_of_photographs_says_all_of_each():
    rows = photographs.listed()
    free = ("CC0", "CC-BY-", "public domain")
    for row in rows:
        assert len(row["sha256"]) == 64 and int(row["reduction"]) >= 1 and row["source"]
        assert row["licence"].startswith(free) and "-SA" not in row["licence"], row["name"]
        assert row["author"] or not row["licence"].startswith("CC-BY"), row["name"]
    names = {row["name"] for row in rows}
    assert len(names) == len({row["sha256"] for row in rows}) == len(rows) == 412
    assert len(photographs.held_out()) == 12 and names > set(photographs.held_out())


def test_packed_pictures_are_middles_within_the_error_and_the_bytes(tmp_path, monkeypatch, capsys):
    from PIL import Image

    (tmp_path / "in").mkdir()
    given = {name: canvas(seed, 200)[:, :150] for name, seed in (("a", 1), ("b", 2))}
    for name, pixels in given.items():
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    monkeypatch.setattr(pack, "QUALITIES", range(10, 101))
    options = ["--pictures", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert pack.main([*options, "--side", "160", "--psnr", "36"]) == 0
    assert "2 pictures" in capsys.readouterr().out
    for name, pixels in given.items():
        with Image.open(tmp_path / "out" / f"{name}.jpg") as picture:
            made = np.asarray(picture, np.float32)
        error = made - pixels[20:180]  # the middle 160 of 200 rows, all of the 150 columns
        assert made.shape == (160, 150, 3)
        assert 36 <= 10 * np.log10(255**2 / np.square(error).mean()) < 40
    with pytest.raises(ValueError, match="MiB; --side"):
        pack.main([*options, "--megabytes", "0.01"])
    monkeypatch.setattr(pack, "held_out", lambda: ["b"])
    with pytest.raises(ValueError, match="b: held back"):
        pack.main(options)
