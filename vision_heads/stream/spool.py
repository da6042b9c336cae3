"""Events on disk until somebody has taken them: append-only, whole after any crash."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path
from typing import Any

from vision_heads.errors import UserError, require
from vision_heads.media.sinks import named_errors
from vision_heads.stream.lines import LineFile

SEGMENT = 1_000_000
"""Bytes after which a new file is begun; those that are delivered are deleted."""

DAMAGED = "damaged.jsonl"
"""File in the folder for lines that are no records."""


class Spool:
    """A queue of JSON records in a folder, which outlives this program.

    Records are appended to `events-<number>.jsonl` and forced onto the disk; `position.json`
    says up to where they were taken, and is replaced in one step. After a crash a record may
    therefore be given out again, but none is lost. A last line without its end was never
    completely there and is left out. Lines that somebody damaged go to `damaged.jsonl`.

    Args:
        folder: made when missing. One program at a time.

    Attributes:
        torn: records that a crash had cut off.
        damaged: lines since the start that are no records.

    Raises:
        UserError: the folder cannot be used, or another program uses it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.torn = self.damaged = 0
        self._given = b""
        self._change = threading.Condition()
        with named_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock_file = (folder / "lock").open("a")
        _lock(self._lock_file, folder)
        with named_errors(folder):
            self._segment, self._offset = self._read_position()
            self._last = max((number for number, _ in self._segments()), default=self._segment)
            self._mend()
        self._count = self._count_waiting()

    def __len__(self) -> int:
        """Return how many records wait."""
        return self._count

    def append(self, record: dict[str, Any]) -> None:
        """Add a record; it is on the disk when this returns.

        Raises:
            UserError: the disk is full, or whatever else the system says.
        """
        with self._change:
            path = self._path(self._last)
            if path.exists() and path.stat().st_size >= SEGMENT:
                self._last += 1
                path = self._path(self._last)
            emptied = self._segment == self._last and self._offset > _size(path)
            file = LineFile(path, append=True)
            try:
                file.add(f"{json.dumps(record)}\n")
                file.force()
            finally:
                file.close()
            if emptied:  # by somebody, while this ran: the file is read from its beginning
                self._offset = 0
                with named_errors(self.folder):
                    self._write_position()
            self._count += 1
            self._change.notify_all()

    def first(self) -> dict[str, Any] | None:
        """Return the record that waits longest, None when there is none; it stays.

        Raises:
            UserError: the disk cannot be read, or does not take what is set aside.
        """
        with self._change, named_errors(self.folder):
            while True:
                line = self._line()
                record = _record(line)
                if record is not None:
                    self._given = line
                    return record
                if line:
                    self._set_aside(line)
                elif self._segment >= self._last:
                    self._count = 0  # whatever was counted, if somebody deleted it
                    return None
                else:
                    self._next_segment()

    def taken(self) -> None:
        """Forget the record that `first` gave."""
        with self._change, named_errors(self.folder):
            if self._line() == self._given:  # else somebody has deleted or changed it meanwhile
                self._pass(self._given)

    def wait(self, seconds: float) -> None:
        """Wait until there is a record, at most so long."""
        with self._change:
            self._change.wait_for(lambda: self._count > 0, seconds)

    def close(self) -> None:
        """Let other programs use the folder."""
        self._lock_file.close()

    def _path(self, number: int) -> Path:
        return self.folder / f"events-{number:08}.jsonl"

    def _segments(self) -> list[tuple[int, Path]]:
        files = self.folder.glob("events-*.jsonl")
        # What else is called so is somebody's copy.
        own = [file for file in files if re.fullmatch("events-[0-9]{8,}", file.stem)]
        return sorted((int(file.stem.removeprefix("events-")), file) for file in own)

    def _line(self) -> bytes:
        path = self._path(self._segment)
        if not path.exists():
            return b""
        with path.open("rb") as file:
            file.seek(self._offset)
            return file.readline()

    def _set_aside(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace").strip()
        if text:
            file = LineFile(self.folder / DAMAGED, append=True)
            try:
                file.add(f"{text}\n")
            finally:
                file.close()
            self.damaged += 1
        self._pass(line)

    def _pass(self, line: bytes) -> None:
        self._offset += len(line)
        self._count = max(self._count - 1, 0)  # somebody may have added lines
        if self._segment < self._last and not self._line():
            self._next_segment()
        else:
            self._write_position()

    def _next_segment(self) -> None:
        old = self._path(self._segment)
        self._segment, self._offset = self._segment + 1, 0
        self._write_position()
        old.unlink(missing_ok=True)

    def _read_position(self) -> tuple[int, int]:
        path = self.folder / "position.json"
        first = min((number for number, _ in self._segments()), default=1)
        if not path.exists():
            return first, 0
        try:
            record = json.loads(path.read_text())
            segment, offset = int(record["segment"]), int(record["offset"])
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise UserError(f"{path}: is damaged; delete it to send every event again") from error
        require(segment >= 0 <= offset, f"{path}: is damaged; delete it to send every event again")
        if offset > _size(self._path(segment)):
            offset = 0  # somebody deleted the file: the next events begin it anew
        return (segment, offset) if segment >= first else (first, 0)

    def _write_position(self) -> None:
        path = self.folder / "position.json"
        new = path.with_suffix(".new")
        new.write_text(json.dumps({"segment": self._segment, "offset": self._offset}))
        new.replace(path)

    def _mend(self) -> None:
        """Cut off a last line that a crash left without its end."""
        path = self._path(self._last)
        if not path.exists():
            return
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            self.torn += 1
            os.truncate(path, whole)

    def _count_waiting(self) -> int:
        count = 0
        with named_errors(self.folder):
            for number, path in self._segments():
                if number >= self._segment:
                    data = path.read_bytes()
                    count += data[self._offset if number == self._segment else 0 :].count(b"\n")
        return count


def _record(line: bytes) -> dict[str, Any] | None:
    """Return the record that a line holds, None where it holds none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _lock(file: Any, folder: Path) -> None:
    try:
        import fcntl  # noqa: PLC0415  (not on Windows, where the folder is trusted to be ours)
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        require(False, f"{folder}: another program uses this spool")
