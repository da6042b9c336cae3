"""Sources, engines and outputs whose every step a test decides."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from vision_heads.heads.base import DecodeOptions
from vision_heads.media.frames import End, Frame
from vision_heads.runtime.request import make_request
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec

SIZE = 64


class FakeEngine:
    """Finds one box in every picture; its score is the picture's mean brightness.

    Attributes:
        batches: sizes of the calls so far.
        seconds: each call takes, asleep.
    """

    batch: int | None = None
    any_size = False

    def __init__(self, seconds: float = 0.0) -> None:
        self.spec = ModelSpec(
            input=InputSpec(height=SIZE, width=SIZE),
            heads=(HeadSpec(name="aerial", classes=("thing",)),),
        )
        self.seconds = seconds
        self.batches: list[int] = []

    def run(self, images, heads=None):
        self.batches.append(len(images))
        if self.seconds:
            time.sleep(self.seconds)
        boxes = np.tile(np.array([8, 8, 24, 24], np.float32), (len(images), 1, 1))
        scores = images.mean(axis=(1, 2, 3)).reshape(-1, 1, 1).astype(np.float32)
        return {"aerial/boxes": boxes, "aerial/scores": scores}


def request(engine, **more):
    """Everything counts, however dark."""
    return make_request(engine, DecodeOptions(conf=0.0), **more)


def picture(value: int) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), value % 256, np.uint8)


class FakeSource:
    """Gives numbered pictures at an interval, then ends as told.

    `block` is waited for before the end, deaf to `stop`: a read that hangs.
    """

    damaged = 0

    def __init__(
        self,
        name: str,
        count: int,
        *,
        live: bool = False,
        interval: float = 0.0,
        end: End | None = None,
        block: threading.Event | None = None,
        first: int = 0,
    ) -> None:
        self.name, self.live = name, live
        self.end: End | None = None
        self._count, self._interval, self._first = count, interval, first
        self._last = end or End("finished")
        self._block = block
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        begin = time.monotonic()
        for index in range(self._count):
            if self._interval:
                due = begin + index * self._interval
                self._stopped.wait(max(due - time.monotonic(), 0))
            if self._stopped.is_set():
                self.end = End("stopped")
                return
            seconds = index * (self._interval or 0.04)
            yield Frame(self.name, index, seconds, time.time(), picture(self._first + index))
        if self._block is not None:
            self._block.wait(30)
        self.end = self._last

    def stop(self) -> None:
        self._stopped.set()


class Collect:
    """An output that keeps what it gets; `delay` seconds a frame."""

    name = "collected"

    def __init__(self, delay: float = 0.0, fail: Callable[[], None] | None = None) -> None:
        self.seen: dict[str, list] = {}
        self.events: list = []
        self.ended: list[str] = []
        self.closed = 0
        self._delay, self._fail = delay, fail

    def frame(self, seen) -> None:
        if self._fail:
            self._fail()
        time.sleep(self._delay)
        self.seen.setdefault(seen.frame.source, []).append(seen)

    def event(self, event, image) -> None:
        self.events.append((event, image))

    def end(self, source: str) -> None:
        self.ended.append(source)

    def close(self) -> None:
        self.closed += 1

    def indices(self, source: str) -> list[int]:
        return [seen.frame.index for seen in self.seen.get(source, [])]

    def kinds(self, source: str) -> list[str]:
        return [event.kind for event, _ in self.events if event.source == source]


def openers(sources: Sequence[FakeSource]) -> Callable[[], FakeSource]:
    """One source after another, the last one for ever."""
    waiting: Iterable[FakeSource] = iter(sources)
    last = sources[-1]
    return lambda: next(waiting, last)  # type: ignore[call-overload]


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for a condition, or fail."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
