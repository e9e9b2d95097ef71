"""Threads and memory of the command's own process."""

import pytest

from undegrade.headless import cli
from undegrade.headless.own_process import choose_threads, keep_memory, threads


@pytest.mark.parametrize(
    ("cores", "load", "chosen"), [(2, 0.1, 2), (2, 0.9, 1), (2, 5.0, 1), (16, 4.2, 12), (1, 0.0, 1)]
)
def test_as_many_threads_as_cores_are_free(cores, load, chosen):
    assert threads(cores, load) == chosen


def test_the_users_choice_stands(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr("os.getloadavg", lambda: pytest.fail("asked"))
    choose_threads()
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not keep_memory()


def test_only_a_process_of_its_own_is_touched(monkeypatch):
    for name in ("keep_memory", "choose_threads"):
        monkeypatch.setattr(cli, name, lambda: pytest.fail("called within another program"))
    assert cli.main(["nodes"]) == 0
