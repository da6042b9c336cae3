"""Lines of commands that may outlive the terminal they were started from."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

import typer

from vision_heads.paths import printable


def say(line: str) -> None:
    """Print a line on stderr; a terminal that was closed, or a log on a full disk, ends nothing.

    It may repeat what others wrote, such as a webhook's receiver: control characters, by which a
    terminal can be made to show anything, become escapes.
    """
    tell(f"vh: {printable(line)}")


def tell(text: str) -> None:
    """Print a text on stderr as it is, as `say` does."""
    with contextlib.suppress(OSError):
        typer.echo(text, err=True)


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Print on stdout; where that is a terminal that was closed, nobody reads it: no error."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        drop_stdout()


def drop_stdout() -> None:
    """Let nothing of what is still to be printed fail: Python tries once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
