"""Routes of a stream's pictures and events, as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import aclosing, contextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, Query, WebSocket
from starlette.responses import Response

from vision_heads.serve.channel import Channel
from vision_heads.serve.limits import Limits
from vision_heads.serve.live import LivePage
from vision_heads.serve.metrics import Metrics
from vision_heads.serve.render import Look, nearest_width
from vision_heads.serve.replies import ApiError, Endless, Parts, busy
from vision_heads.serve.schemas import Key, errors
from vision_heads.serve.streams import Streams

BEAT = 10.0
"""Seconds after which a silent connection gets a sign of life: a client that has gone shows."""
_EDGE = b"vh-frame"

_Width = Annotated[
    int | None, Query(ge=1, le=10_000, description="Pixels across are enough; all by default.")
]
_Heads = Annotated[
    str | None, Query(max_length=500, description="Heads to draw, comma-separated; all by default.")
]
_Boxes = Annotated[bool, Query(description="Draw boxes and labels.")]
_Tracks = Annotated[bool, Query(description="Write track ids into labels.")]
_Axes = Annotated[bool, Query(description="Draw how heads are turned.")]


def _look(
    width: _Width = None,
    heads: _Heads = None,
    boxes: _Boxes = True,
    tracks: _Tracks = True,
    axes: _Axes = True,
) -> Look:
    chosen = None if heads is None else frozenset(name.strip() for name in heads.split(","))
    wide = None if width is None else nearest_width(width)
    return Look(wide, heads=chosen, boxes=boxes, tracks=tracks, axes=axes)


_Wanted = Annotated[Look, Depends(_look)]


def watch_routes(streams: Streams, limits: Limits, metrics: Metrics, pool: Executor) -> APIRouter:
    """Return the routes that watchers use."""
    router = APIRouter(prefix="/v1", tags=["streams"])
    seats = _Seats(streams, limits.watchers)
    _route_snapshot(router, streams, pool)
    _route_mjpeg(router, streams, seats, limits.seconds, metrics, pool)
    _route_events(router, streams, seats, limits)
    _route_live(router, streams, seats, limits.seconds, metrics, pool)
    return router


class _Seats:
    """Places of watchers, whose connections never end.

    Args:
        streams: counts who sits.
        most: watchers at once.
    """

    def __init__(self, streams: Streams, most: int) -> None:
        self._streams, self._most = streams, most

    @property
    def full(self) -> bool:
        return self._streams.watchers >= self._most

    def require_one(self) -> None:
        """Raise `ApiError` 503 where none is free: it must be told before an answer begins."""
        if self.full:
            raise busy(f"{self._streams.watchers} watchers are connected already")

    @contextmanager
    def taken(self) -> Iterator[None]:
        self.require_one()
        self._streams.watchers += 1
        try:
            yield
        finally:
            self._streams.watchers -= 1

    async def during(self, parts: Parts) -> Parts:
        """Yield the parts of an answer, with a seat as long as there are any."""
        with self.taken():
            async with aclosing(parts):
                async for part in parts:
                    yield part


def _route_snapshot(router: APIRouter, streams: Streams, pool: Executor) -> None:
    @router.get(
        "/streams/{key}/snapshot",
        summary="The newest frame, drawn",
        response_class=Response,
        responses={
            200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
            **errors(404, 409, 422),
        },
    )
    async def snapshot(key: Key, look: _Wanted) -> Response:
        """One JPEG."""
        shot = streams.channel(key).shot
        if shot is None:
            raise ApiError(409, "the stream has no picture now")
        headers = {"Cache-Control": "no-store"}
        return Response(await shot.picture(look, pool), 200, headers, "image/jpeg")


def _route_mjpeg(
    router: APIRouter,
    streams: Streams,
    seats: _Seats,
    patience: float,
    metrics: Metrics,
    pool: Executor,
) -> None:
    @router.get(
        "/streams/{key}/mjpeg",
        summary="Moving pictures, drawn",
        response_class=Response,
        responses={
            200: {
                "description": "JPEG after JPEG, as browsers show in an img element. The newest "
                "frame whenever the client is ready for one.",
                "content": {"multipart/x-mixed-replace": {"schema": {"type": "string"}}},
            },
            **errors(404, 422, 503),
        },
    )
    async def mjpeg(key: Key, look: _Wanted) -> Response:
        """The stream as MJPEG, until either side has enough."""
        channel = streams.channel(key)
        seats.require_one()
        parts = _pictures(channel, look, pool, metrics)
        kind = f"multipart/x-mixed-replace; boundary={_EDGE.decode()}"
        return Endless(seats.during(parts), kind, patience)


_EVENTS = {
    "description": "Server-sent events. `frame`: what was found in a frame; `dropped`: how many "
    "were left out, because the client was too slow; and whatever happens: `source_lost`, "
    "`source_resumed`, `line_crossed` ...",
    "content": {
        "text/event-stream": {
            "schema": {"type": "string"},
            "example": 'event: frame\ndata: {"source":"gate","frame":7,"time":0.28,'
            '"received":1767225600.2,"heads":{"aerial":[{"class":"car","score":0.87,'
            '"box":[512.25,101.5,540.75,130.0],"track":3}]}}\n\n',
        }
    },
}


def _route_events(router: APIRouter, streams: Streams, seats: _Seats, limits: Limits) -> None:
    @router.get(
        "/streams/{key}/events",
        summary="Results and events as they come",
        response_class=Response,
        responses={200: _EVENTS, **errors(404, 422, 503)},
    )
    async def events(key: Key) -> Response:
        """Every frame's results, until either side has enough."""
        channel = streams.channel(key)
        seats.require_one()
        parts = _records(channel, limits.backlog)
        return Endless(seats.during(parts), "text/event-stream", limits.seconds)


def _route_live(
    router: APIRouter,
    streams: Streams,
    seats: _Seats,
    patience: float,
    metrics: Metrics,
    pool: Executor,
) -> None:
    @router.websocket("/live")
    async def live(socket: WebSocket) -> None:
        if seats.full or streams.closed:
            await socket.close(1013)
            return
        with seats.taken():
            await socket.accept()
            await LivePage(
                socket, streams, pool, patience, lambda: metrics.frames_sent.add(way="live")
            ).run()


async def _pictures(channel: Channel, look: Look, pool: Executor, metrics: Metrics) -> Parts:
    bell = asyncio.Event()
    channel.watch(bell)
    number = 0
    try:
        while not channel.ended:
            bell.clear()
            shot = channel.shot
            if shot is not None and shot.number > number:
                number = shot.number
                picture = await shot.picture(look, pool)
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                yield b"--" + _EDGE + b"\r\n" + head.encode() + picture + b"\r\n"
                metrics.frames_sent.add(way="mjpeg")
            else:
                await bell.wait()
        yield b"--" + _EDGE + b"--\r\n"
    finally:
        channel.unwatch(bell)


async def _records(channel: Channel, backlog: int) -> Parts:
    reader = channel.read(backlog)
    try:
        yield b"retry: 2000\n\n"
        while True:
            if not await reader.wait(BEAT):
                yield b": still here\n\n"
                continue
            happened, frames, dropped = reader.take()
            if dropped:
                yield _event("dropped", json.dumps({"dropped": dropped}))
            for text in frames:
                yield _event("frame", text)
            for event in happened:
                yield _event(event.kind, json.dumps(event.to_dict(), separators=(",", ":")))
            if reader.ended:
                return
    finally:
        channel.unread(reader)


def _event(kind: str, data: str) -> bytes:
    """One server-sent event; JSON has no line breaks."""
    return f"event: {kind}\ndata: {data}\n\n".encode()
