"""One source's way through the pipeline: what waits, what is in the network, in which order.

All lanes of a pipeline share one condition; whoever holds it may look and change.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vision_heads.media.frames import End, Frame
from vision_heads.results import Result
from vision_heads.stream.counters import Counters
from vision_heads.stream.hooks import Hook
from vision_heads.stream.seen import Event


@dataclass(slots=True)
class Job:
    """A frame in the network, or something to do in its place in the order.

    Attributes:
        frame: None for a note.
        connection: number of the connection that the frame came by.
        result: None until the network has looked at the frame.
        event: of a note, what to tell.
        gap: of a note, seconds the source was away; None where it was not.
    """

    frame: Frame | None = None
    connection: int = 0
    result: Result | None = None
    event: Event | None = None
    gap: float | None = None

    @property
    def done(self) -> bool:
        """Whether it may leave the lane."""
        return self.frame is None or self.result is not None

    def settle(self, result: Result | None) -> None:
        """Take what the network found; None leaves the frame out."""
        self.result = result
        if result is None:
            self.frame = None


@dataclass(slots=True)
class Lane:
    """State of one source.

    Attributes:
        name, live: of the source.
        change: the pipeline's condition.
        hooks: the source's own.
        room: frames that may wait; of a live source there is one, the newest.
        depth: frames that may be between the network and the outputs, so that a slow output
            holds back its own source only.
        waiting: (frame, connection) in order.
        flight: jobs in order.
        connection: counts up whenever the source is back after it was lost.
        end: why there are no more frames, once there are none.
        stopping: somebody asked to end it.
        finished: everything of it has come out.
        state: opening, running or lost.
    """

    name: str
    live: bool
    change: threading.Condition
    hooks: Sequence[Hook]
    room: int
    depth: int
    counters: Counters = field(default_factory=Counters)
    waiting: deque[tuple[Frame, int]] = field(default_factory=deque)
    flight: deque[Job] = field(default_factory=deque)
    connection: int = 0
    end: End | None = None
    stopping: bool = False
    finished: bool = False
    state: str = "opening"

    def put(self, frame: Frame) -> None:
        """Let a frame wait for the network. Files wait for room; live sources take its place."""
        with self.change:
            if self.live:
                self._drop_waiting()
            else:
                self.change.wait_for(lambda: len(self.waiting) < self.room or self.stopping)
            if self.stopping:
                self.counters.dropped += 1
                return
            self.waiting.append((frame, self.connection))
            self.change.notify_all()

    def lost(self, event: Event) -> None:
        """The connection is gone, and what waits with it: nobody wants to see the past."""
        with self.change:
            self._drop_waiting()
            self.state = "lost"
            self.flight.append(Job(event=event))
            self.change.notify_all()

    def resumed(self, event: Event, seconds: float) -> None:
        """The next frame is the first after a gap; older ones are not shown any more."""
        with self.change:
            self.connection += 1
            self.flight.append(Job(event=event, gap=seconds))
            self.change.notify_all()

    def close(self, end: End) -> None:
        """No more frames will come; those that wait still go their way, unless stopping."""
        with self.change:
            if self.end is None:
                self.end = end
            self.change.notify_all()

    def stop(self) -> None:
        """End soon: what is in the network still comes out, what waits for it does not."""
        with self.change:
            self.stopping = True
            self._drop_waiting()
            self.change.notify_all()

    @property
    def ready(self) -> int:
        """How many frames runners may take; under the condition."""
        return max(min(len(self.waiting), self.depth - len(self.flight)), 0)

    def take(self) -> Job:
        """Move the next frame into the network; under the condition."""
        frame, connection = self.waiting.popleft()
        job = Job(frame, connection)
        self.flight.append(job)
        return job

    def next_job(self) -> Job | None:
        """Wait for the next thing to do in order; None when there is nothing to come."""
        with self.change:

            def over() -> bool:
                return not self.flight and not self.waiting and self._over()

            self.change.wait_for(lambda: (self.flight and self.flight[0].done) or over())
            if not self.flight:
                return None
            job = self.flight.popleft()
            self.change.notify_all()
            return job

    def _drop_waiting(self) -> None:
        self.counters.dropped += len(self.waiting)
        self.waiting.clear()

    def _over(self) -> bool:
        # A reader that is stuck in a call must not hold up the end.
        return self.end is not None or self.stopping


def fair(lanes: Sequence[Lane], start: int, most: int) -> tuple[list[Job], int]:
    """Take up to `most` frames, one a lane in turn, then again; under the condition.

    Args:
        lanes: of the pipeline.
        start: lane whose turn it is.
        most: frames a call of the network.

    Returns:
        The jobs, and the lane whose turn is next.
    """
    jobs: list[Job] = []
    turn = start
    idle = 0
    while lanes and len(jobs) < most and idle < len(lanes):
        lane = lanes[turn % len(lanes)]
        turn = (turn + 1) % len(lanes)
        if lane.ready:
            jobs.append(lane.take())
            idle = 0
        else:
            idle += 1
    return jobs, turn


Report = Callable[[str], None]
"""Takes a line for the user, without credentials."""
