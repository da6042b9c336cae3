"""The thread that decodes one source, and opens a live one again when it is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from vision_heads.errors import UserError
from vision_heads.media.frames import End, Frame, FrameSource
from vision_heads.stream.lane import Lane, Report
from vision_heads.stream.seen import SOURCE_LOST, SOURCE_RESUMED, Event
from vision_heads.stream.settings import Backoff, Pace, Settings

Opener = Callable[[], FrameSource]
"""Makes a source that was not opened before; each is one connection."""

STEADY = 5.0
"""Seconds after which a connection counts as good: attempts start quickly again when it is lost."""


def stuck() -> list[str]:
    """Return the sources of this process whose thread is still in a read or a connection.

    FFmpeg asks Python from such a thread whether to go on, and a process whose interpreter has
    ended by then crashes: after `Pipeline.stop`, programs leave by `os._exit` while there are any.
    """
    readers = [thread for thread in threading.enumerate() if isinstance(thread, Reader)]
    return [reader.source for reader in readers]


class Reader(threading.Thread):
    """Puts a source's frames into its lane.

    Times of a live source go on over reconnects by this machine's clock, and its frame numbers
    by one. It is a daemon: a read that no timeout cuts off must not hold up the end of the
    program.

    Args:
        lane: of the source.
        opener: makes a fresh source for each connection.
        settings: pace and patience.
        report: takes lines for the user.
        fail: takes what went wrong without being the user's mistake.
    """

    def __init__(
        self,
        lane: Lane,
        opener: Opener,
        settings: Settings,
        report: Report,
        fail: Callable[[BaseException], None],
    ) -> None:
        super().__init__(name=f"vh-read-{lane.name}", daemon=True)
        self.source = lane.name
        self._lane, self._opener, self._settings, self._report = lane, opener, settings, report
        self._fail = fail
        self._stopping = threading.Event()
        self._source: FrameSource | None = None
        self._pace = Pace(settings)
        self._count = 0
        self._first: float | None = None
        self._last_time = 0.0
        self._lost_at: float | None = None

    def stop(self) -> None:
        """Ask it to end; returns at once."""
        self._stopping.set()
        if self._source is not None:
            self._source.stop()

    def run(self) -> None:
        """Read until the end, or for ever."""
        backoff = Backoff(self._settings.retry_first, self._settings.retry_most)
        try:
            while True:
                end, steady = self._connection()
                if not self._again(end):
                    self._lane.close(end)
                    return
                if steady:
                    backoff.reset()
                self._mark_lost(end)
                if self._stopping.wait(backoff.wait()):
                    self._lane.close(End("stopped"))
                    return
        except UserError as error:
            self._lane.close(End("failed", str(error)))
        except BaseException as error:
            self._lane.close(End("failed", f"{self._lane.name}: {type(error).__name__}"))
            self._fail(error)

    def _again(self, end: End) -> bool:
        wanted = self._lane.live and self._settings.reconnect
        return wanted and end.reason != "stopped" and not self._stopping.is_set()

    def _connection(self) -> tuple[End, bool]:
        """Read one connection to its end; also tell whether it was a good one."""
        source = self._source = self._opener()
        if self._stopping.is_set():  # stop() may have come before there was a source
            source.stop()
        damaged, begin = self._lane.counters.damaged, 0.0
        index0 = self._count
        shift: float | None = None
        try:
            for frame in source:
                self._lane.counters.damaged = damaged + source.damaged
                if shift is None:
                    begin = time.monotonic()
                    shift = self._begin(frame)
                self._forward(frame, index0, shift)
        except MemoryError:
            return End("failed", "not enough memory to decode it"), False
        self._lane.counters.damaged = damaged + source.damaged
        steady = shift is not None and time.monotonic() - begin > STEADY
        return source.end or End("finished"), steady

    def _begin(self, frame: Frame) -> float:
        """Take a connection's first frame; return what to add to its times."""
        lane, now = self._lane, time.monotonic()
        lane.counters.connections += 1
        lane.state = "running"
        if not lane.live:
            return 0.0
        if self._first is None:
            self._first = now
        if self._lost_at is not None:
            away, self._lost_at = now - self._lost_at, None
            again = lane.counters.connections > 1
            self._report(f"{lane.name}: {'back' if again else 'there'} after {away:.1f} s")
            if again:
                data = {"away": round(away, 3)}
                lane.resumed(Event(SOURCE_RESUMED, lane.name, frame.received, data=data), away)
        # A camera's clock that is fast, or jumped, has put its times ahead of ours. They go on from
        # there: were ours waited for, all frames until then would be of one moment.
        return max(now - self._first, self._last_time) - frame.time

    def _forward(self, frame: Frame, index0: int, shift: float) -> None:
        lane = self._lane
        frame.index += index0
        frame.time += shift
        if lane.live:
            frame.time = max(frame.time, self._last_time)
        self._last_time = frame.time
        self._count = frame.index + 1
        lane.counters.received += 1
        if self._pace.takes(frame.index, frame.time):
            lane.put(frame)
        else:
            lane.counters.skipped += 1

    def _mark_lost(self, end: End) -> None:
        """Tell once; further attempts that fail are silent."""
        if self._lost_at is not None:
            return
        self._lost_at = time.monotonic()
        message = end.message or "the stream ended"
        what = "lost" if self._lane.counters.connections else "cannot be opened"
        self._report(f"{self._lane.name}: {what}: {message}; trying again")
        self._lane.lost(Event(SOURCE_LOST, self._lane.name, data={"reason": message}))
