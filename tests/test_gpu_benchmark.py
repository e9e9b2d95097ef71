"""`benchmarks/gpu.py` is ready for the next card: every part of it begins, on the CPU."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
PARTS = ("small", "again", "official", "together", "step", "updates", "levels", "photographs",
         "large", "starts", "regions", "peaks", "largest")  # fmt: skip


@pytest.fixture(scope="module")
def gpu():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("gpu")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def asked(gpu):
    return gpu.Asked(torch.device("cpu"), True, 6, 1, ["32x32", "32x64"], 32)


def test_these_are_its_parts(gpu):
    assert (*gpu.PARTS,) == PARTS


@pytest.mark.parametrize("name", PARTS)
def test_a_part_gives_rows(name, gpu, asked):
    with gpu.left():
        title, seconds, *rest = next(gpu.PARTS[name](asked))
    assert title and seconds > 0 and len(rest) == len(gpu.HEADER) - 2


def test_a_row_is_written_at_once_in_place_of_an_older_one(gpu, asked, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu.pack, "RESULTS", tmp_path)

    def rows(asked):
        yield "a", 1.0, None, None, None, None
        assert written() == [["b", 5.0], ["a", 1.0]]
        yield "b", 2.0, None, None, None, None
        raise RuntimeError("the card is gone")

    def written():
        return [row[:2] for row in json.loads((tmp_path / "gpu.json").read_text())["rows"]]

    monkeypatch.setitem(gpu.PARTS, "small", rows)
    gpu.pack.write_results("gpu", {"device": "H", "rows": [["b", 5.0, 0, 0, 0, 0]]})
    report = gpu.Report("H", float("inf"), True, gpu.kept("H"))
    gpu.measure(asked, report, ["small"])
    assert written()[:2] == [["a", 1.0], ["b", 2.0]]
    assert gpu.kept("another card") == []
