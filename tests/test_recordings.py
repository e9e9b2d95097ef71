"""What holds of recordings whoever owns them: who goes with whom, and what they take."""

from collections import Counter

import torch

from undegrade.pipelines import replay
from undegrade.pipelines.replay import Recordings, State


def test_a_refused_recording_takes_the_others_along():
    known = {"a": object(), "b": State.LAUNCHED, "c": State.REFUSED}
    recordings = Recordings(known=dict(known), pool=(0, 1))
    assert recordings.refused() is State.REFUSED
    assert recordings.known == {"c": State.REFUSED} and recordings.pool is None
    recordings.known = dict(known)
    recordings.rest()
    assert list(recordings.known) == ["a"]


def test_a_pool_is_counted_with_what_lies_idle_in_it(monkeypatch):
    parts = [((0, 1), 20), ((0, 2), 300), ((0, 1), 4)]
    snapshot = [{"segment_pool_id": pool, "total_size": size} for pool, size in parts]
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: snapshot)
    assert Recordings(pool=(0, 1)).held == 24 and Recordings().held == 0


def test_those_that_last_have_a_stream_apart_however_many_others_were_made(monkeypatch):
    """As torch gives them: 32 of a priority, in turn."""
    made = Counter()

    def stream(device, priority=0):
        made[priority] += 1
        return priority, made[priority] % 32

    monkeypatch.setattr(torch.cuda, "Stream", stream)
    replay.stream_of.cache_clear()
    cuda, streams = torch.device("cuda", 0), []
    for lasting in (True, False, True, False):
        streams.append(replay.stream_of(cuda, lasting))
        for _ in range(31):
            torch.cuda.Stream(cuda)
            torch.cuda.Stream(cuda, -1)
    replay.stream_of.cache_clear()
    assert streams[0] == streams[2] != streams[1] == streams[3]
