"""Other ways than Ctrl-C to be told to end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def as_interrupts() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does, so that files are finished.

    `kill`, `timeout`, a container's stop send the first, a closed terminal the second (which
    stays ignored where nohup made it so).
    """
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    wanted = [n for n in (signal.SIGTERM, hangup) if n and signal.getsignal(n) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        wanted = []
    for number in wanted:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in wanted:
            signal.signal(number, signal.SIG_DFL)
