"""Keeps an output that fails from taking the others, and the stream, with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from vision_heads.errors import UserError, is_no_memory
from vision_heads.stream.lane import Report
from vision_heads.stream.outputs import Output

PAUSE = 10.0
"""Seconds between attempts at an output that failed."""


class OutputBrokenError(UserError):
    """An output that cannot be written on, not even later: a video without its middle, `| head`."""


class Guard:
    """Calls one output and reports what goes wrong: once, not for every frame.

    An output that failed is tried again after a pause (a full disk may have been cleared), unless
    it is broken for good. What it missed meanwhile is counted and told.

    Args:
        output: guarded.
        report: takes lines for the user.
        pause: seconds between attempts.
    """

    def __init__(self, output: Output, report: Report, pause: float = PAUSE) -> None:
        self.output = output
        self.failed = False
        self.broken = False
        self.missed = 0
        self._report, self._pause = report, pause
        self._until = 0.0
        self._failing = False
        self._lock = threading.Lock()

    def call(self, action: Callable[[], None]) -> None:
        """Run one call of the output, or leave it out while the output rests."""
        if self._failing and (self.broken or time.monotonic() < self._until):
            with self._lock:
                self.missed += 1
            return
        try:
            action()
        except Exception as error:
            no_memory = is_no_memory(error)
            if not (no_memory or isinstance(error, UserError)):
                raise
            with self._lock:
                self.missed += 1
            name = self.output.name
            self._note(UserError(f"{name}: not enough memory") if no_memory else error)
        else:
            self._recover()

    def end(self, source: str) -> None:
        """Let the output finish a source's part, whatever happened before."""
        try:
            self.output.end(source)
        except UserError as error:
            self._note(error)

    def close(self) -> None:
        """Close the output and tell what is missing in it."""
        try:
            self.output.close()
        except UserError as error:
            with self._lock:
                self.failed = True
            self._report(str(error))
        if self.missed:
            self._report(f"{self.output.name}: {self.missed} frames or events are missing in it")

    def _note(self, error: Exception) -> None:
        with self._lock:
            known, self.failed, self._failing = self._failing, True, True
            self.broken = isinstance(error, OutputBrokenError)
            self._until = time.monotonic() + self._pause
        if not known:
            what = "it is given up" if self.broken else "it is tried again from time to time"
            self._report(f"{error}; the stream goes on, {what}")

    def _recover(self) -> None:
        if not self._failing:
            return
        with self._lock:
            self._failing = False
        self._report(f"{self.output.name}: written again; {self.missed} are missing so far")
