"""One stream as its watchers see it: its newest frame, and what readers have still to get.

Frames arrive in a thread of the pipeline; watchers wait in the event loop. Watchers of pictures
take the newest frame when they are ready for it, so a slow one sees fewer; readers of events get
every frame up to a backlog. Neither ever makes the pipeline wait.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from concurrent.futures import Executor
from typing import Any

import anyio

from vision_heads.serve.history import History
from vision_heads.serve.render import Look, render
from vision_heads.stream.seen import Event, Seen


class Shot:
    """A frame that watchers share: what is made of it is made once.

    Args:
        seen: the frame and its results.
        number: of the frame in its channel, from 1.
    """

    def __init__(self, seen: Seen, number: int) -> None:
        self.seen = seen
        self.number = number
        self._pictures: dict[Look, asyncio.Future[bytes]] = {}
        self._record: str | None = None

    @property
    def record(self) -> str:
        """The results as JSON."""
        if self._record is None:
            self._record = json.dumps(self.seen.to_dict(), separators=(",", ":"))
        return self._record

    async def picture(self, look: Look, pool: Executor) -> bytes:
        """Return the frame as JPEG; call it in the event loop."""
        picture = self._pictures.get(look)
        if picture is None:
            loop = asyncio.get_running_loop()
            picture = loop.run_in_executor(pool, render, self.seen, look)
            self._pictures[look] = picture
        # A watcher that leaves must not take the picture from the others.
        return await asyncio.shield(picture)


class Reader:
    """What one reader of events has still to get, bounded: the oldest frames go first.

    Args:
        backlog: records of frames that may wait; events may be sixteen times as many.
    """

    def __init__(self, backlog: int) -> None:
        self.dropped = 0
        self.ended = False
        self._bell = asyncio.Event()
        self._frames: deque[str] = deque(maxlen=backlog)
        self._events: deque[Event] = deque(maxlen=16 * backlog)

    def put(self, item: str | Event) -> None:
        """Add a frame's record or an event."""
        waiting: deque[Any] = self._frames if isinstance(item, str) else self._events
        self.dropped += len(waiting) == waiting.maxlen
        waiting.append(item)
        self._bell.set()

    def end(self) -> None:
        """There will be no more."""
        self.ended = True
        self._bell.set()

    async def wait(self, seconds: float) -> bool:
        """Wait until there is something or the end; False when the time ran out before."""
        with anyio.move_on_after(seconds):
            await self._bell.wait()
            self._bell.clear()
            return True
        return False

    def take(self) -> tuple[list[Event], list[str], int]:
        """Return waiting events, records of frames, and how many of both were dropped before."""
        taken = list(self._events), list(self._frames), self.dropped
        self._events.clear()
        self._frames.clear()
        self.dropped = 0
        return taken


class Channel:
    """One stream's newest frame, statistics and watchers.

    `frame`, `event` and `end` may be called by any thread, everything else by the event loop's.

    Args:
        key: id of the stream.
        loop: where watchers wait.
    """

    def __init__(self, key: str, loop: asyncio.AbstractEventLoop) -> None:
        self.key = key
        self.history = History()
        self.shot: Shot | None = None
        self.size = (0, 0)
        self.ended = False
        self._loop = loop
        self._lock = threading.Lock()
        self._count = 0
        self._bells: set[asyncio.Event] = set()
        self._readers: set[Reader] = set()

    def frame(self, seen: Seen) -> None:
        """Show a frame."""
        self.history.add(seen)
        with self._lock:
            self._count += 1
            self.shot = shot = Shot(seen, self._count)
            self.size = seen.result.width, seen.result.height
        # Readers get records, for pictures that wait would fill the memory.
        self._tell(shot.record if self._readers else None)

    def event(self, event: Event) -> None:
        """Tell readers of an event."""
        self._tell(event)

    def lost(self) -> None:
        """Show no picture any more: an old one would be taken for what is there now."""
        with self._lock:
            self.shot = None
        self._tell(None)

    def end(self) -> None:
        """There is no more to come: let watchers go."""
        self.ended = True
        self._tell(None)

    def watch(self, bell: asyncio.Event) -> None:
        """Ring `bell` whenever there is something new."""
        self._bells.add(bell)

    def unwatch(self, bell: asyncio.Event) -> None:
        """Leave `bell` alone."""
        self._bells.discard(bell)

    def read(self, backlog: int) -> Reader:
        """Return a new reader that gets all frames and events from now on."""
        reader = Reader(backlog)
        self._readers.add(reader)
        if self.ended:
            reader.end()
        return reader

    def unread(self, reader: Reader) -> None:
        """Forget a reader."""
        self._readers.discard(reader)

    def _tell(self, item: str | Event | None) -> None:
        if self._loop.is_closed():  # the service has stopped while a frame was on its way
            return
        self._loop.call_soon_threadsafe(self._deliver, item)

    def _deliver(self, item: str | Event | None) -> None:
        for reader in self._readers:
            if item is not None:
                reader.put(item)
            if self.ended:
                reader.end()
        for bell in self._bells:
            bell.set()
