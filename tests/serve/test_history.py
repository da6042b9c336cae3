"""Rates, delays and counts of a stream."""

from __future__ import annotations

import numpy as np
import pytest

from vision_heads.media.frames import Frame
from vision_heads.results import Detections, Result
from vision_heads.serve import history as module
from vision_heads.serve.history import History
from vision_heads.stream.seen import Seen


def seen(received: float, reds: int, index: int = 0) -> Seen:
    image = np.zeros((8, 8, 3), np.uint8)
    found = Detections(np.zeros((reds, 4)), np.full(reds, 0.5), np.zeros(reds), ("red", "blue"))
    return Seen(Frame("a", index, 0.0, received, image), Result({"head": found}, 8, 8))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_rate_falls_when_frames_stop():
    clock = Clock()
    history = History(clock)
    assert history.fps == 0
    for number in range(20):
        clock.now = 1000 + number / 10
        history.add(seen(clock.now, 1))
    assert history.fps == pytest.approx(10)
    clock.now += 2
    assert 3 < history.fps < 7
    clock.now += 10
    assert history.fps == 0
    assert history.frames == 20


def test_a_clock_that_is_set_back_does_not_stop_the_rate():
    clock = Clock()
    history = History(clock)
    for begin in (5000, 1000):
        for number in range(20):
            clock.now = begin + number / 10
            history.add(seen(clock.now, 1))
        assert history.fps == pytest.approx(10)


def test_delays_are_from_decoding_to_here():
    clock = Clock()
    history = History(clock)
    assert history.delays() is None
    for delay in (0.1, 0.2, 0.3, 0.4, 1.0):
        history.add(seen(clock.now - delay, 0))
    median, high = history.delays()
    assert median == pytest.approx(0.3) and 0.4 < high <= 1.0
    history.add(seen(clock.now + 5, 0))  # a clock that was set back gives no negative delay
    assert min(history.delays()) >= 0


def test_counts_are_means_of_seconds_with_gaps_between():
    clock = Clock()
    history = History(clock)
    for at, reds in ((1000.1, 1), (1000.6, 2), (1001.5, 4), (1004.2, 0), (1005.0, 9)):
        clock.now = at
        history.add(seen(at, reds))
    series = history.series(60)
    assert series == {
        "step": 1.0,
        "end": 1004.0,
        "series": {"head": {"red": [1.5, 4.0, None, None, 0.0]}},
    }
    assert history.series(4)["series"]["head"]["red"] == [4.0, None, None, 0.0]
    assert history.latest == {"head": {"red": 9}}


def test_memory_is_bounded():
    clock = Clock()
    history = History(clock)
    for second in range(2 * module.KEPT):
        clock.now = 1000 + second
        history.add(seen(clock.now, 1))
    assert len(history.series(10**6)["series"]["head"]["red"]) <= module.KEPT
    assert len(history._delays) == module._SAMPLES
