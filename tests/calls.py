"""How often something is called: work is counted where time would be a matter of luck."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def counted(name: str) -> Iterator[list[int]]:
    """Count calls of built-in functions and methods of this name, in the list's only entry."""
    calls = [0]

    def look(_frame, event, called):
        calls[0] += event == "c_call" and called.__name__ == name

    sys.setprofile(look)
    try:
        yield calls
    finally:
        sys.setprofile(None)
