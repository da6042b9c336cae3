"""Streams that run: added and removed by requests, shown to watchers."""

from __future__ import annotations

import asyncio
import re
import threading
import time as clock
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from vision_heads.errors import require
from vision_heads.media.frames import FrameSource, Pixels
from vision_heads.media.urls import Secrets, is_url
from vision_heads.media.video import OpenOptions, VideoSpec, find_videos, open_video
from vision_heads.serve.channel import Channel
from vision_heads.serve.limits import Limits
from vision_heads.serve.metrics import Sample, by_stream
from vision_heads.serve.replay import Replay
from vision_heads.serve.replies import ApiError
from vision_heads.serve.urls import StreamRules
from vision_heads.stream.analytics import Analytics
from vision_heads.stream.seen import SOURCE_ENDED, SOURCE_LOST, Event, Seen

EVENTS_KEPT = 200
_FRESH = 0.25
"""Seconds for which figures are used again, however many watchers ask for them."""


class Runner(Protocol):
    """What runs streams: `stream.pipeline.Pipeline`."""

    def start(self) -> None:
        """Begin."""
        ...

    def add(self, name: str, live: bool, opener: Callable[[], FrameSource]) -> None:
        """Run one more source."""
        ...

    def remove(self, name: str) -> None:
        """End a source; returns once its last frame is out."""
        ...

    def stats(self) -> dict[str, dict[str, Any]]:
        """Return each source's state and counters."""
        ...

    def wait(self, timeout: float | None = None) -> bool:
        """Raise what went wrong in a thread; returns whether everything has ended."""
        ...

    def stop(self) -> None:
        """End everything."""
        ...


@dataclass(slots=True)
class _Stream:
    spec: VideoSpec
    title: str
    fixed: bool
    channel: Channel
    clean: Callable[[str], str]
    message: str = ""
    leaving: bool = False


class Streams:
    """All streams of the service: an `Output` of the pipeline that watchers look at.

    Output methods may be called by any thread, everything else by the event loop's.

    Args:
        limits: how many streams there may be.
        rules: which URLs requests may add.
        options: how sources are opened.
        analytics: keeps counts of each stream, if anything does.
    """

    name = "page"

    def __init__(
        self,
        limits: Limits | None = None,
        rules: StreamRules | None = None,
        options: OpenOptions | None = None,
        analytics: Analytics | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.rules = rules or StreamRules()
        self.version = 0
        self.closed = False
        self.watchers = 0
        self._options = options or OpenOptions()
        self._analytics = analytics
        self._streams: dict[str, _Stream] = {}
        self._runner: Runner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._bells: set[asyncio.Event] = set()
        self._events: deque[tuple[int, Event]] = deque(maxlen=EVENTS_KEPT)
        self._event_count = 0
        self._infos: tuple[float, int, list[dict[str, Any]]] = (0.0, -1, [])

    def start(self, runner: Runner, fixed: Sequence[VideoSpec] = ()) -> None:
        """Begin, with the sources that whoever runs the service has named."""
        self._loop = asyncio.get_running_loop()
        self._runner = runner
        runner.start()
        for spec in fixed:
            self._begin(spec, spec.name, fixed=True)

    async def add(self, url: str, title: str = "") -> str:
        """Add a stream that a request names; returns its id.

        Raises:
            UserError: the URL may not be added.
            ApiError: 409 when there are as many streams as may be.
        """
        loop = asyncio.get_running_loop()
        self._require_room()
        await loop.run_in_executor(None, self.rules.check, url)
        # Only the URL decides what this is: no "name=", no file, no camera of this machine.
        require(is_url(url), "url: must be a URL")
        (spec,) = find_videos([url])
        title = " ".join(title.split())
        require(title.isprintable(), "name: has unprintable characters")
        self._require_room()
        key = self._free_key(title or spec.name)
        self._begin(replace(spec, name=key), title or spec.name, fixed=False)
        return key

    async def remove(self, key: str) -> None:
        """End a stream and forget it; `ApiError` 404 or 409 when that cannot be."""
        stream = self._streams.get(key)
        if stream is None or stream.leaving:
            raise _unknown()
        if stream.fixed:
            raise ApiError(409, "this stream was named when the service started; it stays")
        stream.leaving = True
        self._changed()
        stream.channel.end()
        await asyncio.get_running_loop().run_in_executor(None, self._pipeline.remove, key)
        del self._streams[key]
        if self._analytics is not None:
            self._analytics.forget(key)

    def channel(self, key: str) -> Channel:
        """Return a stream's channel; `ApiError` 404 when there is none."""
        stream = self._streams.get(key)
        if stream is None or stream.leaving:
            raise _unknown()
        return stream.channel

    def channels(self) -> list[Channel]:
        """Return the channels of all streams."""
        return [stream.channel for stream in self._streams.values() if not stream.leaving]

    def infos(self) -> list[dict[str, Any]]:
        """Return `schemas.StreamInfo` of every stream."""
        now = clock.monotonic()
        made, version, infos = self._infos
        if version != self.version or now - made > _FRESH:
            stats = self._pipeline.stats()
            infos = [
                self._info(key, stream, stats.get(key, {}))
                for key, stream in self._streams.items()
                if not stream.leaving
            ]
            self._infos = now, self.version, infos
        return infos

    def info(self, key: str) -> dict[str, Any]:
        """Return `schemas.StreamInfo` of one stream; `ApiError` 404 when there is none."""
        self.channel(key)
        return next(info for info in self.infos() if info["id"] == key)

    def analysed(self, key: str) -> dict[str, Any]:
        """Return `schemas.Analysed` of a stream; `ApiError` 404 or 409 when there is none."""
        self.channel(key)
        found = None if self._analytics is None else self._analytics.counts(key)
        if found is None:
            raise ApiError(409, "streams are not analysed here; start the service with --track")
        return found

    def events_after(self, number: int) -> list[tuple[int, Event]]:
        """Return the kept events after the one of that number, each with its own."""
        with self._lock:
            return [(own, event) for own, event in self._events if own > number]

    def watch(self, bell: asyncio.Event) -> None:
        """Ring `bell` whenever streams come or go, or something happens."""
        self._bells.add(bell)

    def unwatch(self, bell: asyncio.Event) -> None:
        """Leave `bell` alone."""
        self._bells.discard(bell)

    def check(self) -> None:
        """Raise what went wrong in the pipeline, if anything did."""
        self._pipeline.wait(0)

    def let_go(self) -> None:
        """Let every watcher go: the service is about to stop."""
        self.closed = True
        for channel in self.channels():
            channel.end()
        self._ring()

    def stop(self) -> None:
        """End all streams; takes a few seconds at most."""
        if self._runner is not None:
            self._runner.stop()

    # What the pipeline calls, from its threads.

    def frame(self, seen: Seen) -> None:
        """Show a frame to the watchers."""
        stream = self._streams.get(seen.frame.source)
        if stream is not None:
            stream.message = ""
            stream.channel.frame(seen)

    def event(self, event: Event, image: Pixels | None) -> None:
        """Tell the watchers of an event."""
        stream = self._streams.get(event.source)
        if stream is None:
            return
        if event.kind in (SOURCE_LOST, SOURCE_ENDED):
            text = event.data.get("message") or event.data.get("reason") or ""
            stream.message = stream.clean(str(text))
            stream.channel.lost()
        with self._lock:
            self._events.append((self._event_count, event))
            self._event_count += 1
        stream.channel.event(event)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ring)

    def end(self, source: str) -> None:
        """A stream has ended; it is shown as such until somebody removes it."""

    def close(self) -> None:
        """Nothing is held open for the pipeline."""

    @property
    def _pipeline(self) -> Runner:
        assert self._runner is not None, "not started"
        return self._runner

    def _begin(self, spec: VideoSpec, title: str, *, fixed: bool) -> None:
        assert self._loop is not None, "not started"
        channel = Channel(spec.name, self._loop)
        clean = Secrets(spec.where).clean
        self._streams[spec.name] = _Stream(spec, title, fixed, channel, clean)

        def opener() -> FrameSource:
            if spec.live:
                return open_video(spec, self._options)
            return Replay(lambda: open_video(spec, self._options))

        try:
            self._pipeline.add(spec.name, True, opener)
        except BaseException:
            del self._streams[spec.name]
            raise
        self._changed()

    def _require_room(self) -> None:
        if len(self._streams) >= self.limits.streams:
            raise ApiError(409, f"there are {len(self._streams)} streams already, the most allowed")

    def _free_key(self, title: str) -> str:
        """Make an id that can stand in a path."""
        plain = re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-").lower()[:40] or "camera"
        key, number = plain, 1
        while key in self._streams:
            number += 1
            key = f"{plain}-{number}"
        return key

    def _info(self, key: str, stream: _Stream, stats: dict[str, Any]) -> dict[str, Any]:
        history, delays = stream.channel.history, stream.channel.history.delays()
        state = _state(stats, stream.channel.shot is not None)
        width, height = stream.channel.size
        return {
            "id": key,
            "name": stream.title,
            "url": stream.spec.shown if is_url(stream.spec.where) else "",
            "fixed": stream.fixed,
            "state": state,
            "message": "" if state == "live" else stream.message,
            "width": width,
            "height": height,
            "fps": round(history.fps, 2),
            "frames": history.frames,
            "dropped": stats.get("dropped", 0) + stats.get("skipped", 0),
            "reconnects": stats.get("reconnects", 0),
            "latency": {
                name: None if delays is None else round(delays[index], 4)
                for index, name in enumerate(("median", "p95"))
            },
            "counts": history.latest if state == "live" else {},
        }

    def _changed(self) -> None:
        self.version += 1
        self._ring()

    def _ring(self) -> None:
        for bell in self._bells:
            bell.set()


def stream_samples(infos: Iterable[dict[str, Any]]) -> list[Sample]:
    """Return the streams' figures for Prometheus."""
    infos = list(infos)

    def values(read: Callable[[dict[str, Any]], float]) -> dict[str, float]:
        return {info["id"]: read(info) for info in infos}

    latency = {
        (("stream", info["id"]), ("quantile", share)): info["latency"][name]
        for info in infos
        for name, share in (("median", "0.5"), ("p95", "0.95"))
        if info["latency"][name] is not None
    }
    return [
        by_stream(
            "vh_stream_up",
            "gauge",
            "1 while pictures come.",
            values(lambda i: i["state"] == "live"),
        ),
        by_stream(
            "vh_stream_frames_total", "counter", "Frames looked at.", values(lambda i: i["frames"])
        ),
        by_stream(
            "vh_stream_dropped_total",
            "counter",
            "Frames left out, because newer ones were there.",
            values(lambda i: i["dropped"]),
        ),
        by_stream(
            "vh_stream_reconnects_total",
            "counter",
            "How often it was lost and came back.",
            values(lambda i: i["reconnects"]),
        ),
        by_stream("vh_stream_fps", "gauge", "Frames a second.", values(lambda i: i["fps"])),
        Sample(
            "vh_stream_latency_seconds",
            "gauge",
            "From decoding a frame to its results, over the last frames.",
            list(latency.items()),
        ),
    ]


def _state(stats: dict[str, Any], shown: bool) -> str:
    state = stats.get("state", "opening")
    if state == "ended":
        return "failed" if stats.get("end") == "failed" else "ended"
    if state == "lost":
        return "lost" if stats.get("shown") else "connecting"
    return "live" if state == "running" and shown else "connecting"


def _unknown() -> ApiError:
    return ApiError(404, "there is no such stream")
