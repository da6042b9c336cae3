"""Files as cameras: at their own speed, over and over."""

from __future__ import annotations

import threading
import time

import numpy as np

from vision_heads.media.frames import End, Frame
from vision_heads.serve.replay import Replay


class File:
    """Three pictures, 50 ms apart, and an end."""

    name, live = "file", False

    def __init__(self, end: End, count: int = 3) -> None:
        self.end: End | None = None
        self.damaged = 0
        self._end, self._count = end, count

    def __iter__(self):
        for index in range(self._count):
            image = np.full((2, 2, 3), index, np.uint8)
            yield Frame("file", index, index * 0.05, 0.0, lambda image=image: image)
        self.damaged = 1
        self.end = self._end

    def stop(self) -> None:
        self.end = End("stopped")


def test_it_is_played_again_and_again_at_its_own_speed():
    replay = Replay(lambda: File(End("finished")))
    begin, frames = time.monotonic(), []
    for frame in replay:
        frames.append(frame)
        if len(frames) == 8:
            replay.stop()
    assert replay.live and replay.name == "file"
    assert [frame.index for frame in frames] == list(range(8))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert np.allclose([frame.time for frame in frames], np.arange(8) * 0.05)
    assert time.monotonic() - begin >= 0.35, "faster than the file"
    assert all(frame.received > 1e9 for frame in frames), "when it is shown, not decoded"
    assert replay.damaged == 2 and replay.end == End("stopped")


def test_a_damaged_file_is_played_up_to_the_damage():
    replay = Replay(lambda: File(End("truncated", "at 0.1 s")))
    frames = iter(replay)
    assert [next(frames).index for _ in range(5)] == [0, 1, 2, 3, 4]


def test_what_cannot_be_opened_ends():
    for file in (File(End("failed", "file: no such file"), 0), File(End("finished"), 0)):
        replay = Replay(lambda file=file: file)
        assert list(replay) == []
        assert replay.end.reason == "failed" and "file" in replay.end.message


def test_it_stops_while_it_waits():
    slow = File(End("finished"))
    slow._count = 2
    replay = Replay(lambda: slow)
    iterator = iter(replay)
    next(iterator)
    threading.Timer(0.02, replay.stop).start()
    assert len(list(iterator)) <= 1
    assert replay.end == End("stopped")
