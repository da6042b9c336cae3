"""One WebSocket carries all cameras of a page: browsers allow few other connections to a host.

To the client, as text: `{"type": "streams", "streams": [...]}` each second and at every change,
and `{"type": "event", ...}`. As binary, a frame: the length of a JSON record (4 bytes, big-endian),
the record (as in `events`), and the picture without drawings, as JPEG. The page draws: so toggles
cost the server nothing, and boxes belong to exactly the picture they lie on.

To the server, as text: `{"watch": [ids] or null for all, "width": pixels}`, and `{"got": id}` for
each frame. At most two frames of a stream are under way: what a slow connection cannot carry is
left out rather than queued somewhere in the network, so that what it shows is never old.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any

import anyio
from anyio.abc import TaskGroup
from starlette.websockets import WebSocket, WebSocketDisconnect

from vision_heads.serve.channel import Channel
from vision_heads.serve.render import Look, nearest_width
from vision_heads.serve.streams import Streams

UNDER_WAY = 2
"""Frames of a stream that are sent before the client has said that it got one."""
_STATUS_SECONDS = 1.0


class LivePage:
    """One client's connection.

    Args:
        socket: accepted already.
        streams: what there is to see.
        pool: threads that make pictures.
        patience: seconds the client may take for a message.
        sent: called for each frame that was sent.
    """

    def __init__(
        self,
        socket: WebSocket,
        streams: Streams,
        pool: Executor,
        patience: float,
        sent: Callable[[], None],
    ) -> None:
        self._socket = socket
        self._streams = streams
        self._pool = pool
        self._patience = patience
        self._count = sent
        self._bell = asyncio.Event()
        self._watched: set[str] | None = None
        self._look = Look(nearest_width(960), drawn=False)
        self._last: dict[str, tuple[Channel, int]] = {}
        self._under_way: dict[str, int] = {}
        self._told = -1
        self._heard = -1

    async def run(self) -> None:
        """Serve the client until it goes, is too slow, or the service stops."""
        self._streams.watch(self._bell)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._either, self._listen, group)
                group.start_soon(self._either, self._send, group)
        finally:
            self._streams.unwatch(self._bell)
            for channel in self._streams.channels():
                channel.unwatch(self._bell)
        # RuntimeError: it is closed already.
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await self._socket.close(1001 if self._streams.closed else 1008)

    async def _either(self, work: Callable[[], Awaitable[None]], group: TaskGroup) -> None:
        """Do one of both works; when one is over, so is the other."""
        # A client that is too slow is a TimeoutError, which is an OSError.
        with contextlib.suppress(WebSocketDisconnect, OSError, _NonsenseError):
            await work()
        group.cancel_scope.cancel()

    async def _listen(self) -> None:
        while True:
            try:
                # KeyError: a message of bytes; OverflowError: a width of 1e999.
                self._obey(json.loads(await self._socket.receive_text()))
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
                raise _NonsenseError from error

    def _obey(self, message: Any) -> None:
        if not isinstance(message, dict):
            raise TypeError("a message is an object")
        if "got" in message:
            key = str(message["got"])
            if key in self._under_way:
                self._under_way[key] = max(self._under_way[key] - 1, 0)
        if "watch" in message:
            wanted = message["watch"]
            self._watched = None if wanted is None else {str(key) for key in wanted}
        if "width" in message:
            width = int(message["width"])
            self._look = Look(nearest_width(min(max(width, 1), 10_000)), drawn=False)
        self._bell.set()

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self._streams.closed:
            self._bell.clear()
            channels = self._streams.channels()
            for channel in channels:
                channel.watch(self._bell)
            self._forget_others({channel.key for channel in channels})
            if loop.time() >= due or self._told != self._streams.version:
                due = loop.time() + _STATUS_SECONDS
                self._told = self._streams.version
                await self._text({"type": "streams", "streams": self._streams.infos()})
            for number, event in self._streams.events_after(self._heard):
                self._heard = number
                await self._text({"type": "event"} | event.to_dict())
            for channel in channels:
                await self._frame(channel)
            with anyio.move_on_after(max(due - loop.time(), 0.01)):
                await self._bell.wait()

    def _forget_others(self, keys: set[str]) -> None:
        """Let go of streams that were removed: each would hold its last frame."""
        for gone in self._last.keys() - keys:
            del self._last[gone]
            self._under_way.pop(gone, None)

    async def _text(self, message: dict[str, Any]) -> None:
        text = json.dumps(message, separators=(",", ":"))
        with anyio.fail_after(self._patience):
            await self._socket.send_text(text)

    async def _frame(self, channel: Channel) -> None:
        """Send the channel's newest frame, if it is new to the client and the way is free."""
        key, shot = channel.key, channel.shot
        if shot is None or (self._watched is not None and key not in self._watched):
            return
        known, number = self._last.get(key, (channel, 0))
        if known is not channel:  # removed, and another one added under its name
            number, self._under_way[key] = 0, 0
        if shot.number <= number or self._under_way.get(key, 0) >= UNDER_WAY:
            return
        picture = await shot.picture(self._look, self._pool)
        record = shot.record.encode()
        self._last[key] = channel, shot.number
        self._under_way[key] = self._under_way.get(key, 0) + 1
        message = len(record).to_bytes(4, "big") + record + picture
        with anyio.fail_after(self._patience):
            await self._socket.send_bytes(message)
        self._count()


class _NonsenseError(Exception):
    """The client sent what it should not."""
