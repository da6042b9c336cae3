"""Live streams by PyAV: RTSP, HTTP and MJPEG, UDP, RTP by an SDP file."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from vision_heads.media.frames import End, Frame
from vision_heads.media.urls import Secrets, scheme_of
from vision_heads.media.video import OpenOptions, VideoSpec
from vision_heads.media.video_av import (
    Converter,
    SourceError,
    interval_of,
    opening_reason,
    reason_of,
    require_av,
    video_stream,
)

_UNTIMED = frozenset({"mpjpeg", "mjpeg", "jpeg_pipe", "image2pipe", "h264", "hevc"})
"""Containers without timestamps: PyAV's would count frames at an assumed rate."""

BACK = 1.0
"""Seconds by which a clock must go back to have been set back; less is jitter."""

AHEAD = 600.0
"""Seconds by which a clock must be ahead of ours at once to have been set; less is a gap, or
pictures that come in bursts."""

# A playlist or a redirect must not lead to this machine's files.
_NETWORK = "http,https,tcp,tls,crypto,httpproxy,udp,rtp,srtp"
_PROTOCOLS = {"rtsp": f"rtsp,{_NETWORK}", "rtsps": f"rtsps,rtsp,{_NETWORK}"}


class NetworkSource:
    """One connection to a live stream; see `FrameSource`. Reconnecting is `stream/reader.py`'s.

    Frames are decoded in the order of arrival with as little buffering as FFmpeg allows. Opening
    and every read are cut off after the timeout, also when only sound arrives, or packets from
    which no picture can be decoded.

    Attributes:
        damaged: pictures that arrived damaged and were left out.
    """

    live = True

    def __init__(self, spec: VideoSpec, options: OpenOptions) -> None:
        require_av()
        self.name = spec.name
        self.end: End | None = None
        self.damaged = 0
        self._where = spec.where
        self._options = options
        self._shown = spec.shown
        self._clean = Secrets(spec.where).clean
        self._stopped = False

    def stop(self) -> None:
        """End the iterator after the packet, or the timeout, that it is waiting for."""
        self._stopped = True

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until the connection is lost; `end` says why."""
        av = require_av()
        try:
            with self._open() as container:
                stream = video_stream(container)
                stream.codec_context.thread_type = "SLICE"  # frame threads hold frames back
                yield from self._frames(container, stream)
            self._finish("finished", "the sender ended the stream")
        except SourceError as error:
            self._finish("failed", str(error))
        except (av.FFmpegError, ValueError, OSError) as error:
            exact = isinstance(error, av.error.ExitError)
            waited = f"no data for {self._options.timeout:g} s"
            self._finish("failed", waited if exact else reason_of(error))

    def _open(self) -> Any:
        options = _ffmpeg_options(self._where, self._options)
        try:
            return require_av().open(
                self._where,
                options=options,
                timeout=self._options.timeout,
                metadata_errors="replace",  # a camera's name in Latin-1 is none of our business
            )
        except OSError as error:
            raise SourceError(opening_reason(error, self._where)) from error

    def _finish(self, reason: Any, message: str) -> None:
        if self.end is None:
            stopped = End("stopped")
            # Apart: in one text, the colon would be taken for a part of the URL.
            text = f"{self._shown}: {self._clean(message)}"
            self.end = stopped if self._stopped else End(reason, " ".join(text.split()))

    def _frames(self, container: Any, stream: Any) -> Iterator[Frame]:
        av = require_av()
        convert, times = Converter(), Times(interval_of(stream))
        untimed = container.format.name in _UNTIMED
        index = 0
        seen = clock.monotonic()
        # All streams, not only the video: sound alone must not keep a dead picture alive.
        for packet in container.demux():
            now = clock.monotonic()
            if self._stopped:
                return
            if now - seen > self._options.timeout:
                raise SourceError(f"no picture for {self._options.timeout:g} s")
            if packet.stream.index != stream.index:
                continue
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self.damaged += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self.damaged += 1
                    continue
                seen = now
                seconds = times.at(now if untimed else frame.time)
                yield Frame(self.name, index, seconds, clock.time(), partial(convert, frame))
                index += 1


class Times:
    """Seconds since a stream's first frame, by its own clock, which may lack, stand or be set.

    Args:
        interval: seconds between frames, where the clock does not say.
        now: seconds by this machine's clock; for tests.
    """

    def __init__(self, interval: float, now: Callable[[], float] = clock.monotonic) -> None:
        self._interval, self._now = interval, now
        self._start: float | None = None
        self._last: float | None = None
        self._seen = 0.0

    def at(self, moment: float | None) -> float:
        """Return the next frame's time, later than the one before; `moment` is its clock's."""
        before, self._seen = self._seen, self._now()
        if self._last is None:
            expected = earliest = 0.0
        else:
            expected = self._last + self._interval
            earliest = self._last + self._interval / 100
        seconds = expected
        if moment is not None:
            latest = expected + (self._seen - before) + AHEAD
            if self._start is None or not expected - BACK <= moment - self._start <= latest:
                # Set back, time would stand until it has caught up; set ahead, years would pass.
                self._start = moment - expected
            seconds = moment - self._start
        self._last = max(seconds, earliest)
        return self._last


def _ffmpeg_options(where: str, options: OpenOptions) -> dict[str, str]:
    """Return FFmpeg's settings for little delay; unknown ones are ignored by each protocol."""
    scheme = scheme_of(where)
    # FFmpeg looks this long at a stream before it gives the first picture. Not "nobuffer": that
    # throws away what it has looked at, often the only key picture for seconds.
    chosen = {"flags": "low_delay", "analyzeduration": "1000000"}
    if scheme in ("rtsp", "rtsps"):
        chosen |= {
            "rtsp_transport": options.transport,
            "timeout": str(int(options.timeout * 1e6)),
            "max_delay": "200000",  # wait for UDP packets that come in the wrong order
        }
    elif scheme in ("http", "https"):
        chosen |= {"rw_timeout": str(int(options.timeout * 1e6))}
    elif scheme == "udp":
        chosen |= {"overrun_nonfatal": "1", "timeout": str(int(options.timeout * 1e6))}
    local = "" if scheme else "file,"  # an SDP file
    chosen["protocol_whitelist"] = local + _PROTOCOLS.get(scheme, f"{scheme or 'rtp'},{_NETWORK}")
    return chosen
