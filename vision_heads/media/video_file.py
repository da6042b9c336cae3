"""Video files and GIFs, by PyAV: every frame, with the container's timestamps."""

from __future__ import annotations

import os
import time as clock
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_heads.media.frames import End, Frame
from vision_heads.media.urls import Secrets, is_url, redact_url
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

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

SLACK = 0.5
"""Seconds that a file may end before its stated duration without being called truncated."""


class FileSource:
    """A video file, or one over HTTP; see `FrameSource`.

    Variable frame rates come out right, since times are the container's. A damaged or cut-off
    file gives its frames up to the damage. Damage that the decoder neither reports nor marks
    cannot be told from a strange picture.

    Attributes:
        damaged: frames that could not be decoded: the one at which the file ends, and those
            before the first whole one (recordings cut in the middle of a group of pictures).
    """

    live = False

    def __init__(self, spec: VideoSpec, options: OpenOptions) -> None:
        require_av()
        self.name = spec.name
        self.end: End | None = None
        self.damaged = 0
        self._where = spec.where
        self._timeout = options.timeout
        self._clean = Secrets(spec.where).clean
        self._stopped = False
        self._last = self._step = 0.0
        self._packets = 0
        self._broken = ""

    def stop(self) -> None:
        """End the iterator before its next frame."""
        self._stopped = True

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame; `end` says afterwards how it ended."""
        av = require_av()
        try:
            timeout = (self._timeout * 2, self._timeout * 2) if is_url(self._where) else None
            with av.open(self._where, timeout=timeout, metadata_errors="replace") as container:
                stream = video_stream(container)
                stream.thread_type = "AUTO"
                # Each thread holds a picture; more than a few only cost memory.
                stream.codec_context.thread_count = min(os.cpu_count() or 1, 4)
                yield from self._frames(container, stream)
        except SourceError as error:
            self._finish("failed", str(error))
        except (av.FFmpegError, ValueError, OSError) as error:
            self._finish("failed", f"cannot be opened: {opening_reason(error, self._where)}")

    def _finish(self, reason: Any, message: str = "") -> None:
        if self.end is None:
            # Apart: in one text, the colon would be taken for a part of a URL.
            text = f"{redact_url(self._where)}: {self._clean(message)}" if message else ""
            self.end = End(reason, " ".join(text.split()))

    def _frames(self, container: InputContainer, stream: VideoStream) -> Iterator[Frame]:
        convert, interval = Converter(), interval_of(stream)
        base = float(stream.time_base or 0)
        start = None if stream.start_time is None else stream.start_time * base
        index = 0
        for frame in self._decoded(container, stream):
            if self._stopped:
                self._finish("stopped")
                return
            if frame.is_corrupt:
                self.damaged += 1
                if index == 0:
                    continue
                self._broken = "a picture with holes"
                break
            if frame.time is None:
                seconds = self._last + interval if index else 0.0
            else:
                start = frame.time if start is None else start
                seconds = frame.time - start
            self._step = max(seconds - self._last, interval)
            self._last = seconds
            yield Frame(self.name, index, seconds, clock.time(), partial(convert, frame))
            index += 1
        self._judge(container, stream, index)

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        """Yield pictures up to the first that cannot be decoded; `_broken` says what it was."""
        av = require_av()
        started = False
        try:
            for packet in container.demux(stream):
                self._packets += packet.dts is not None or packet.size > 0
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    self.damaged += 1
                    if not started:
                        continue
                    self._broken = reason_of(error)
                    return
                for frame in frames:
                    started = started or not frame.is_corrupt
                    yield frame
        except av.FFmpegError as error:
            self._broken = reason_of(error)
            yield from self._rest(stream)  # what was read before is still in the decoder

    def _rest(self, stream: VideoStream) -> list[VideoFrame]:
        av = require_av()
        try:
            return list(stream.codec_context.decode(None))
        except av.FFmpegError:
            return []  # the damage is reported by the caller

    def _judge(self, container: InputContainer, stream: VideoStream, frames: int) -> None:
        """Tell a whole file from one that is cut off, as far as its header says."""
        counted = "mp4" in container.format.name and stream.frames > 0
        at = f"{self._last + self._step:.2f} s"
        if self._broken and frames:
            self._finish("truncated", f"damaged at {at}: {self._broken}")
        elif not frames:
            self._finish("failed", "no picture in it can be decoded")
        elif counted and self._packets < stream.frames:
            there = f"{self._packets} of {stream.frames} pictures are there"
            self._finish("truncated", f"cut off at {at}: {there}")
        elif not counted and self._last + self._step < (stated := _stated(stream)) - SLACK:
            self._finish("truncated", f"cut off at {at}: the file says {stated:.2f} s")
        elif stream.codec_context.name == "gif" and not _gif_is_whole(self._where):
            self._finish("truncated", f"cut off at {at}")
        else:
            self._finish("finished")


def _stated(stream: VideoStream) -> float:
    """Return the video's length in seconds as the file says, 0 where it does not.

    Some containers count it from the first picture and some from the time 0; this takes the
    shorter, as whole files must not be called truncated.
    """
    start = max(float((stream.start_time or 0) * (stream.time_base or 0)), 0)
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base) - start
    text = next((v for k, v in stream.metadata.items() if k.startswith("DURATION")), "")
    if text.count(":") == 2:
        with suppress(ValueError):  # it may be any text
            hours, minutes, seconds = (float(part) for part in text.split(":"))
            return hours * 3600 + minutes * 60 + seconds - start
    container: Any = stream.container
    # Of a file with sound, the length may be that of the sound.
    alone = len(container.streams) == 1 and container.duration is not None
    return container.duration / 1e6 - start if alone else 0.0


def _gif_is_whole(where: str) -> bool:
    """Tell whether a GIF ends with its trailer; its format states no length."""
    path = Path(where)
    if is_url(where) or not path.is_file():
        return True
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 16, 0))
        return b"\x3b" in file.read()
