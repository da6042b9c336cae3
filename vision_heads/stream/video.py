"""Annotated video files with the source's own timestamps, by PyAV."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vision_heads.errors import require
from vision_heads.geometry.letterbox import letterbox
from vision_heads.media.frames import Pixels
from vision_heads.media.sinks import check_kept, named_errors
from vision_heads.media.video_av import reason_of, require_av
from vision_heads.stream.guard import OutputBrokenError
from vision_heads.stream.lane import Report
from vision_heads.stream.lines import inserted
from vision_heads.stream.seen import Event, Seen

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
"""Containers that keep every frame's own time."""

CODECS = ("libx264", "libopenh264", "h264_nvenc", "mpeg4")
"""Encoders in the order of preference; all but the last write H.264."""

PRESET = "ultrafast"
"""Of libx264, which shares the cores with the network: 2.2 ms of CPU a picture of 768x432, where
"superfast" takes 3.6 and "veryfast" 5.3, at no less PSNR (44.0, 44.3, 43.2 dB) and the same rate
factor; files are twice those of "veryfast"."""

TICKS = 60_000
"""Times are whole 60,000ths of a second: exact for the usual rates, and MPEG-4 takes no more."""

BT601, LIMITED = 6, 1
"""FFmpeg's numbers of the matrix and the range of colours."""

BACK = 1.0
"""Seconds by which a source's clock must go back to count as another recording."""

LONGEST = 32_400.0
"""Most seconds from one picture to the next: MP4 holds 2^31 ticks, and what comes after a longer
pause (a camera that is off at night, a clock that is set) would be squeezed into an instant."""


class VideoFiles:
    """A video of what was seen, drawn; with several sources, a file each.

    Sizes may change (a camera set up anew): later pictures are fitted into the size of the first.

    Args:
        path: of the file; with several sources, their names are put in.
        sources: their ids.
        live: sources without an end: their files are written in fragments, which keeps memory
            flat and leaves a file that plays even after a power cut.
        report: takes a line when H.264 is not to be had.

    Raises:
        UserError: a file cannot be written, or its suffix is none of `SUFFIXES`.
    """

    def __init__(
        self, path: Path, sources: Sequence[str], live: bool, report: Report = lambda line: None
    ) -> None:
        av = require_av()
        require(
            path.suffix.lower() in SUFFIXES,
            f"{path}: videos are written as {', '.join(SUFFIXES)}",
        )
        self.name = str(path)
        self._live = live
        self._codecs = [name for name in CODECS if name in av.codecs_available]
        self._report = report
        several = len(sources) > 1
        self._paths = {name: inserted(path, name) if several else path for name in sources}
        for file in self._paths.values():
            _require_writable(file)
        self._open: dict[str, _Encoder] = {}

    def frame(self, seen: Seen) -> None:
        """Draw and write a frame; the first one opens the file. Other sources are left out."""
        source = seen.frame.source
        if source not in self._paths:
            return
        picture = seen.drawn()
        if source not in self._open:
            self._open[source] = self._begin(self._paths[source], picture)
        try:
            self._open[source].add(picture, seen.frame.time)
        except OutputBrokenError:
            self._open.pop(source).abandon()
            raise

    def event(self, event: Event, image: Pixels | None) -> None:
        """Leave events out."""

    def end(self, source: str) -> None:
        """Finish the source's file: it plays."""
        if source in self._open:
            self._open.pop(source).close()

    def close(self) -> None:
        """Finish every file, also those behind one that cannot be finished."""
        with contextlib.ExitStack() as stack:
            for source in list(self._open):
                stack.callback(self.end, source)

    def _begin(self, path: Path, picture: Pixels) -> _Encoder:
        av = require_av()
        problem = "no encoder"
        for codec in list(self._codecs):
            try:
                encoder = _Encoder(path, codec, picture.shape[1], picture.shape[0], self._live)
            except (av.FFmpegError, ValueError) as error:
                problem = reason_of(error)
                # An encoder may be compiled in and yet not run: no driver, no such size.
                self._codecs = [name for name in self._codecs if name != codec] or self._codecs
                continue
            if codec == "mpeg4":
                self._report(f"{path}: this PyAV has no H.264 encoder; written as MPEG-4 Part 2")
            return encoder
        raise OutputBrokenError(f"{path}: cannot be written: {problem}")


def _require_writable(path: Path) -> None:
    """Find out now, not at the first picture, that nothing can be written here.

    A source may never give a picture: no empty file is left, and one of an earlier run stays.
    """
    with named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.resolve()  # of a link to nothing, that is what opening it makes
        there = file.exists()
        file.open("ab").close()
        if not there:
            file.unlink()


class _Drain:
    """A file for FFmpeg that never fails: it crashes when asked to finish a file that did.

    The first error of the system is kept in `error`; what comes after it goes nowhere.
    """

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        self.name = str(path)
        self._path = path
        self._file = path.open("wb", buffering=0)

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        try:
            if self.error is None:
                check_kept(self._file.fileno(), self._path)
            while left and self.error is None:
                left = left[self._file.write(left) :]
        except OSError as error:
            self.error = error
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError as error:
            self.error = self.error or error
            return offset

    def tell(self) -> int:
        return self.seek(0, 1)

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self.error = self.error or error


class _Encoder:
    """One file being written."""

    def __init__(self, path: Path, codec: str, width: int, height: int, live: bool) -> None:
        av = require_av()
        self._path = path
        # Encoders want even sides.
        self._size = (height + height % 2, width + width % 2)
        kind = {".mkv": "matroska", ".mov": "mov"}.get(path.suffix.lower(), "mp4")
        fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
        options = fragments if live and kind != "matroska" else {}
        with named_errors(path):
            self._drain = _Drain(path)
        self._file = av.open(self._drain, "w", format=kind, options=options)
        self._base = Fraction(1, TICKS)
        self._last = -1
        self._shift, self._before, self._step = 0.0, 0.0, 0.0
        try:
            self._stream = self._start(codec)
        except BaseException:
            self.abandon()
            if path.is_file() and not path.stat().st_size:
                path.unlink()
            raise

    def _start(self, codec: str) -> Any:
        stream: Any = self._file.add_stream(codec, rate=25)
        stream.height, stream.width = height, width = self._size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = self._base
        stream.codec_context.gop_size = 50
        # What OpenCV's conversion makes. Left unsaid, players take HD for BT.709: other colours.
        stream.codec_context.colorspace, stream.codec_context.color_range = BT601, LIMITED
        if codec == "libx264":
            stream.options = {"preset": PRESET, "crf": "23"}
        else:
            stream.bit_rate = max(width * height * 6, 400_000)
        stream.codec_context.open()
        return stream

    def add(self, picture: Pixels, seconds: float) -> None:
        av = require_av()
        # OpenCV's conversion takes a third of the time of FFmpeg's.
        planes = cv2.cvtColor(self._fitted(picture), cv2.COLOR_BGR2YUV_I420)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        self._last = max(round(self._onward(seconds) * TICKS), self._last + 1)
        frame.pts, frame.time_base = self._last, self._base
        with self._named_errors():
            self._file.mux(self._stream.encode(frame))

    def _onward(self, seconds: float) -> float:
        """Return a time that goes on where the source's clock went back: recordings put together.

        Without it everything after that would be squeezed into an instant.
        """
        step = seconds - self._before
        if step < -BACK:
            self._shift = self._last / TICKS + self._step - seconds
        elif 0 < step < BACK:
            self._step = step
        elif step > LONGEST and self._last >= 0:
            self._shift -= step - LONGEST
        self._before = seconds
        return seconds + self._shift

    def close(self) -> None:
        try:
            with self._named_errors():
                self._file.mux(self._stream.encode())
                self._file.close()
        finally:
            self.abandon()
        self._check()

    def abandon(self) -> None:
        """Close what is open; PyAV must not be left to do so whenever memory is tidied up."""
        with contextlib.suppress(require_av().FFmpegError):
            self._file.close()
        self._drain.close()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (require_av().FFmpegError, OSError) as error:
            raise self._broken(error) from error
        self._check()

    def _check(self) -> None:
        if self._drain.error is not None:
            raise self._broken(self._drain.error)

    def _broken(self, error: Exception) -> OutputBrokenError:
        return OutputBrokenError(f"{self._path}: cannot be written: {reason_of(error)}")

    def _fitted(self, picture: Pixels) -> Pixels:
        height, width = self._size
        shape = picture.shape[:2]
        if shape == self._size:
            return picture
        if height - shape[0] in (0, 1) and width - shape[1] in (0, 1):
            more = (height - shape[0], width - shape[1])
            padded = cv2.copyMakeBorder(picture, 0, more[0], 0, more[1], cv2.BORDER_REPLICATE)
            return np.asarray(padded, np.uint8)
        return letterbox(picture, height, width, 0)[0]
