"""Whatever GStreamer reads: CSI cameras of a Jetson, decoders in hardware, other cameras.

The pipeline runs in a process of its own, `gst-launch-1.0`, which hands its pictures over as
YUV4MPEG2: a line with the size, then each picture after a line "FRAME". So OpenCV's and Python's
own GStreamer support, which few installations have, are not needed, and a driver that crashes
takes nothing else down.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import subprocess
import tempfile
import time as clock
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO

import cv2
import numpy as np

from vision_heads.errors import UserError, require
from vision_heads.media.frames import End, Frame, Pixels
from vision_heads.media.images import MAX_PIXELS
from vision_heads.media.urls import redact
from vision_heads.media.video import OpenOptions, VideoSpec

PROGRAM = "gst-launch-1.0"
# OpenCV turns YUV into BGR by BT.601, so that is what the pictures must be in.
_TAIL = (
    "! videoconvert ! video/x-raw,format=I420,colorimetry=bt601 ! y4menc ! fdsink fd={} sync=false"
)
_GLANCE = 0.2
"""Seconds after which a source that waits for data looks whether it shall stop."""
_LONGEST_LINE = 1024
_FRAME = b"FRAME"


class _LostError(Exception):
    """The pipeline gives no more pictures; its text says why, "" when it simply ended."""


class GstreamerSource:
    """A GStreamer pipeline; see `FrameSource`. One object is one process.

    Times are those of arrival.

    Args:
        spec: its `where` is a pipeline as `gst-launch-1.0` takes it, up to raw pictures in
            ordinary memory; an `appsink` at its end, as OpenCV wants it, is left out.
        options: `timeout` is for the first picture as for every other.

    Raises:
        UserError: `gst-launch-1.0` is not installed, or the pipeline has no end of a quotation.
    """

    live = True
    damaged = 0

    def __init__(self, spec: VideoSpec, options: OpenOptions) -> None:
        self.name = spec.name
        self.end: End | None = None
        self._shown, self._timeout = spec.shown, options.timeout
        self._elements = pipeline_of(spec.where)
        self._stopped = False
        found = shutil.which(PROGRAM)
        require(
            found, f"{self._shown}: needs {PROGRAM}: apt install gstreamer1.0-tools "
            "gstreamer1.0-plugins-good"
        )  # fmt: skip
        self._program = str(found)

    def stop(self) -> None:
        """End the iterator within a moment."""
        self._stopped = True

    def __iter__(self) -> Iterator[Frame]:
        """Start the pipeline and yield its pictures."""
        with tempfile.TemporaryFile() as log:
            pipe, process = self._start(log)
            try:
                yield from self._frames(_Pipe(pipe, self._wait))
            except _LostError as lost:
                _finish(process)
                self.end = self._reason(str(lost), log)
            finally:
                os.close(pipe)
                _finish(process)

    def _start(self, log: IO[bytes]) -> tuple[int, subprocess.Popen[bytes]]:
        """Start the process; return where its pictures come out, and the process."""
        out, into = os.pipe()
        try:
            # Its own session: Ctrl-C at the terminal is for us, who then end it in good order.
            process = subprocess.Popen(
                [self._program, "-q", *self._elements, *shlex.split(_TAIL.format(into))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[into],
                start_new_session=True,
            )
        except OSError as error:
            os.close(out)
            raise UserError(f"{PROGRAM}: cannot be started: {error.strerror}") from error
        finally:
            os.close(into)
        return out, process

    def _frames(self, pipe: _Pipe) -> Iterator[Frame]:
        width, height = _size(pipe.line())
        begin, index = 0.0, 0
        rows = (width, width // 2)
        while True:
            if not pipe.line().startswith(_FRAME):
                raise _LostError("sends no pictures")
            data = pipe.read(sum(rows) * height)
            now = clock.monotonic()
            begin = begin if index else now
            if not index and (padded := _padded(width)) != rows and not pipe.follows(_FRAME):
                data += pipe.read((sum(padded) - sum(rows)) * height)
                rows = padded
            pixels = partial(_bgr, data, width, height, rows)
            yield Frame(self.name, index, now - begin, clock.time(), pixels)
            index += 1

    def _wait(self, pipe: int) -> None:
        """Return when there is something to read.

        Raises:
            _LostError: somebody asked to stop, or nothing came in time.
        """
        last = clock.monotonic() + self._timeout
        while not self._stopped:
            left = last - clock.monotonic()
            if left <= 0:
                raise _LostError(f"no picture for {self._timeout:g} s")
            if select.select([pipe], [], [], min(left, _GLANCE))[0]:
                return
        raise _LostError

    def _reason(self, lost: str, log: IO[bytes]) -> End:
        if self._stopped:
            return End("stopped")
        log.seek(0)
        lines = log.read().decode(errors="replace").splitlines()
        # GStreamer says what is wrong behind the first of these words.
        told = [line.strip() for line in lines if "ERROR" in line or "erroneous" in line]
        reason = redact(told[0]) if told else lost
        if not reason:
            return End("finished")
        return End("failed", f"{self._shown}: {' '.join(reason.split())}")


def pipeline_of(text: str) -> list[str]:
    """Return a pipeline's words, without an `appsink` at its end.

    Raises:
        UserError: a quotation is not closed, or the pipeline is empty or begins or ends with "!".
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"GStreamer pipeline: {str(error).lower()}") from error
    ends = [place for place, word in enumerate(words) if word == "!"]
    if ends and words[ends[-1] + 1 : ends[-1] + 2] == ["appsink"]:
        words = words[: ends[-1]]
    require(
        words and words[0] != "!" and words[-1] != "!",
        "GStreamer pipeline: begins or ends with '!'; write element ! element ! ...",
    )
    return words


class _Pipe:
    """Reads lines and blocks; `wait` returns when there is something to read, or raises."""

    def __init__(self, number: int, wait: Callable[[int], None]) -> None:
        self._number, self._wait = number, wait
        self._buffer = bytearray()

    def read(self, count: int) -> bytes:
        """Return exactly so many bytes; `_LostError` when there are no more."""
        while len(self._buffer) < count:
            self._fill(count - len(self._buffer))
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def line(self) -> bytes:
        """Return a line without its end."""
        while b"\n" not in self._buffer:
            if len(self._buffer) > _LONGEST_LINE:
                raise _LostError("sends no pictures")
            self._fill(_LONGEST_LINE)
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = bytearray(rest)
        return bytes(line)

    def follows(self, text: bytes) -> bool:
        """Tell whether this comes next, or nothing at all; nothing is taken."""
        try:
            while len(self._buffer) < len(text):
                self._fill(len(text))
        except _LostError:  # which the next read will find out too
            return not self._buffer
        return self._buffer.startswith(text)

    def _fill(self, count: int) -> None:
        self._wait(self._number)
        data = os.read(self._number, max(count, 1 << 16))
        if not data:
            raise _LostError
        self._buffer += data


def _size(header: bytes) -> tuple[int, int]:
    """Return width and height by a YUV4MPEG2 header: b"YUV4MPEG2 W1280 H720 F30:1 C420"."""
    words = header.decode("ascii", "replace").split()
    sides = {word[:1]: word[1:] for word in words[1:]}
    known = words[:1] == ["YUV4MPEG2"] and sides.get("C", "420").startswith("420")
    if not (known and all(sides.get(side, "").isdecimal() for side in "WH")):
        raise _LostError("sends no pictures")
    width, height = int(sides["W"]), int(sides["H"])
    if width % 2 or height % 2:
        raise _LostError(f"{width} x {height} pixels: both must be even; scale or crop them")
    if not 0 < width * height <= MAX_PIXELS:
        raise _LostError(f"{width} x {height} pixels are more than the limit of {MAX_PIXELS}")
    return width, height


def _padded(width: int) -> tuple[int, int]:
    """Return the bytes of a row of brightness and of colour as they lie in GStreamer's memory.

    Some versions of y4menc, such as that of 1.22, write pictures with the padding.
    """
    return -(-width // 4) * 4, -(-width // 8) * 4


def _bgr(data: bytes, width: int, height: int, rows: tuple[int, int]) -> Pixels:
    """Turn I420 with rows of so many bytes into BGR."""
    planes = np.frombuffer(data, np.uint8)
    if rows[0] + rows[1] > width * 3 // 2:
        bright, colour = np.split(planes, [rows[0] * height])
        # U above V, each half as high as the picture.
        parts = bright.reshape(height, -1)[:, :width], colour.reshape(height, -1)[:, : width // 2]
        planes = np.concatenate([part.ravel() for part in parts])
    planes = planes.reshape(height * 3 // 2, width)
    return np.asarray(cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420), np.uint8)


def _finish(process: subprocess.Popen[bytes]) -> None:
    """End the process, first gently: a camera that is not closed stays busy."""
    if process.poll() is None:
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(2.0)
        return
    process.kill()
    process.wait()
