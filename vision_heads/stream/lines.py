"""Text outputs that are whole at every moment: JSON lines, CSV, MOTChallenge."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vision_heads.errors import UserError, require
from vision_heads.geometry.boxes import xyxy_to_xywh
from vision_heads.media.frames import Pixels
from vision_heads.media.images import IMAGE_SUFFIXES
from vision_heads.media.sinks import deleted, named_errors
from vision_heads.media.sources import VIDEO_SUFFIXES
from vision_heads.stream.guard import OutputBrokenError
from vision_heads.stream.seen import Event, Seen

CSV_COLUMNS = (
    *("source", "frame", "time", "received", "head", "class", "category_id", "score"),
    *("x1", "y1", "x2", "y2", "track", "pitch", "yaw", "roll"),
)


class LineFile:
    """A text file that grows by whole lines; any thread may add.

    Each line is handed to the operating system at once, so that it can be watched and survives a
    crash of this program. When the disk fills up in the middle of a line, its beginning is taken
    back. A file that is deleted meanwhile is begun anew: the open one would take lines for ever,
    and nobody would see them.

    Args:
        path: of the file; folders are made.
        append: go on behind what is there, instead of replacing it.
        head: lines that an empty file begins with.

    Raises:
        UserError: it cannot be written, or is a picture's or video's name.
    """

    def __init__(self, path: Path, *, append: bool = False, head: str = "") -> None:
        not_media(path)
        self.path = path
        self._lock = threading.Lock()
        self._head = ""
        with named_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: int | None = _open(path, 0 if append else os.O_TRUNC)
            self._regular = stat.S_ISREG(os.fstat(self._file).st_mode)
        if head and self.empty:
            self.add(head)
        self._head = head

    @property
    def empty(self) -> bool:
        """Whether nothing is in the file; of pipes and devices, True."""
        return self._file is None or os.fstat(self._file).st_size == 0

    def add(self, text: str) -> None:
        """Append lines; `text` ends with a line break.

        Raises:
            UserError: the disk is full, or whatever else the system says.
        """
        with self._lock, named_errors(self.path):
            if self._file is None:
                raise UserError(f"{self.path}: is closed")
            if deleted(self._file, self.path):
                new = _open(self.path)  # fails where the folder is gone too
                os.close(self._file)
                self._file = new
            begin = os.fstat(self._file).st_size if self._regular else 0
            head = self._head if self._regular and not begin else ""
            data = memoryview((head + text).encode("utf-8", "backslashreplace"))
            written = 0
            try:
                while written < len(data):
                    written += os.write(self._file, data[written:])
            except OSError as error:
                if self._regular and written:
                    os.ftruncate(self._file, begin)
                # A pipe with a name may get another reader, that of "| head" never does.
                if isinstance(error, BrokenPipeError) and not self.path.resolve().exists():
                    raise OutputBrokenError(f"{self.path}: its reader has gone") from error
                raise

    def force(self) -> None:
        """Wait until what was added is on the disk itself, and survives a power cut."""
        with self._lock, named_errors(self.path):
            if self._file is not None:
                os.fsync(self._file)

    def close(self) -> None:
        """Close the file; harmless when called twice."""
        with self._lock:
            if self._file is not None:
                file, self._file = self._file, None
                with named_errors(self.path):
                    os.close(file)


class _Lines:
    """What outputs of one text file share; takes no events."""

    def __init__(self, path: Path, *, append: bool = False, head: str = "") -> None:
        self.name = str(path)
        self._file = LineFile(path, append=append, head=head)

    def frame(self, seen: Seen) -> None:
        """Leave frames out."""

    def event(self, event: Event, image: Pixels | None) -> None:
        """Leave events out."""

    def end(self, source: str) -> None:
        """Nothing belongs to one source alone."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class JsonLines(_Lines):
    """One JSON object a frame and line, `Seen.to_dict`, of all sources."""

    def frame(self, seen: Seen) -> None:
        """Append a frame."""
        record = json.dumps(seen.to_dict(), ensure_ascii=False, separators=(",", ":"))
        self._file.add(f"{record}\n")


class EventLines(_Lines):
    """One JSON object an event and line, `Event.to_dict`, of all sources."""

    def event(self, event: Event, image: Pixels | None) -> None:
        """Append an event."""
        self._file.add(f"{json.dumps(event.to_dict(), ensure_ascii=False)}\n")


class CsvLines(_Lines):
    """One line a detection, `CSV_COLUMNS`; frames without any have none.

    track is empty without a tracker; pitch, yaw, roll (degrees, DirectMHP's convention) are empty
    for heads without poses.
    """

    def __init__(self, path: Path, *, append: bool = False) -> None:
        super().__init__(path, append=append, head=",".join(CSV_COLUMNS) + "\n")

    def frame(self, seen: Seen) -> None:
        """Append a frame's detections, all or none."""
        text = io.StringIO(newline="")
        rows = csv.writer(text, lineterminator="\n")
        frame = seen.frame
        place = {
            "source": frame.source,
            "frame": frame.index,
            "time": f"{frame.time:.6f}",
            "received": f"{frame.received:.6f}",
        }
        for head, found in seen.result.heads.items():
            for record in found.to_dicts():
                corners = dict(zip(("x1", "y1", "x2", "y2"), record["box"], strict=True))
                row = place | {"head": head} | record | corners
                cells = (row.get(column) for column in CSV_COLUMNS)
                rows.writerow(["" if cell is None else cell for cell in cells])
        if text.tell():
            self._file.add(text.getvalue())


class MotLines:
    """MOTChallenge text, a file a source and head: frame,id,x,y,w,h,score,-1,-1,-1.

    Frames count from 1, boxes are left, top, width, height in pixels. Objects whose track is not
    yet known are left out; where nothing is tracked, all have the id -1, as MOTChallenge's own
    files of detections.

    Args:
        path: of the file, when there is one source and one head; else their names are put in.
        sources: their ids.
        heads: names of the heads that are run.
        append: go on behind what is there.
    """

    def __init__(
        self, path: Path, sources: Sequence[str], heads: Sequence[str], *, append: bool = False
    ) -> None:
        self.name = str(path)
        self._path, self._append = path, append
        self._several = len(sources) > 1
        self._files: dict[tuple[str, str], LineFile] = {}
        for source in sources:
            for head in heads:
                self._open(source, head, len(heads) > 1)

    def frame(self, seen: Seen) -> None:
        """Append a frame's objects."""
        first = seen.frame.index + 1
        for head, found in seen.result.heads.items():
            boxes = xyxy_to_xywh(found.xyxy.astype(np.float64)).tolist()
            ids = [-1] * len(found) if found.track is None else found.track.tolist()
            text = "".join(
                f"{first},{number},{x:.2f},{y:.2f},{w:.2f},{h:.2f},{score:.5f},-1,-1,-1\n"
                for (x, y, w, h), score, number in zip(boxes, found.score, ids, strict=True)
                if found.track is None or number >= 0
            )
            if text:
                source = seen.frame.source
                # Classes that are merged come as a head that the model does not have.
                (self._files.get((source, head)) or self._open(source, head, True)).add(text)

    def _open(self, source: str, head: str, named: bool) -> LineFile:
        parts = [source] * self._several + [head] * named
        file = LineFile(inserted(self._path, *parts), append=self._append)
        self._files[source, head] = file
        return file

    def event(self, event: Event, image: Pixels | None) -> None:
        """Leave events out."""

    def end(self, source: str) -> None:
        """Close the source's files."""
        for (name, _), file in list(self._files.items()):
            if name == source:
                file.close()

    def close(self) -> None:
        """Close every file."""
        for file in list(self._files.values()):
            file.close()


def _open(path: Path, flags: int = 0) -> int:
    usual = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
    return os.open(path, usual | flags, 0o666)


def not_media(path: Path) -> None:
    """Raise `UserError` where a text file has the name of a picture or video."""
    require(
        path.suffix.lower() not in IMAGE_SUFFIXES | VIDEO_SUFFIXES,
        f"{path}: is a picture's or video's name; results would replace it",
    )


def inserted(path: Path, *parts: str) -> Path:
    """Return a file's name with parts put before its suffix: out.mp4, gate: out-gate.mp4.

    Raises:
        UserError: it is no file's name.
    """
    require(path.name, f"{path}: is no name of a file")
    return path.with_name("-".join((path.stem, *parts)) + path.suffix)
