"""Standard error that nobody may read any more."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, TextIO, cast


class _Unread:
    """Standard error as it is, but that nothing fails which is written to it.

    A terminal may be closed, the reader of a pipe may end, a log's disk may be full: none of this
    is worth the hours of a run.
    """

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


def unread_stderr() -> TextIO:
    """Return a file for the progress of long work: standard error, if anybody reads it."""
    return cast(TextIO, _Unread())
