"""Being told to end: by Ctrl-C, `kill`, `timeout`, a container's stop, a closed terminal.

The last is SIGHUP, which stays ignored where `nohup` made it so. The system and the shell each send
one, so that the second must not end what the first one began: the files would not be finished.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_HANGUP = getattr(signal, "SIGHUP", None)  # not on Windows


@contextlib.contextmanager
def as_interrupts() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does, so that files are finished."""
    with _handled([signal.SIGTERM], signal.default_int_handler):
        yield


@contextlib.contextmanager
def collected() -> Iterator[list[int]]:
    """Collect signals that ask for the end; the second one, of whichever, has its usual effect."""
    received: list[int] = []
    numbers = [signal.SIGINT, signal.SIGTERM]

    def note(number: int, _frame: Any) -> None:
        received.append(number)
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)

    with _handled(numbers, note):
        yield received


@contextlib.contextmanager
def _handled(numbers: Sequence[int], handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Have signals handled, and the first SIGHUP; only in the main thread can that be."""
    wanted = [*numbers]
    if _HANGUP is not None and signal.getsignal(_HANGUP) != signal.SIG_IGN:
        wanted.append(_HANGUP)
    if threading.current_thread() is not threading.main_thread():
        wanted = []

    def first(number: int, frame: Any) -> None:
        if _HANGUP in wanted:
            signal.signal(_HANGUP, signal.SIG_IGN)
        handler(number, frame)

    before = {number: signal.signal(number, first) for number in wanted}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
