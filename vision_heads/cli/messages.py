"""Lines on stderr of commands that run for days."""

from __future__ import annotations

import contextlib

import typer


def say(line: str) -> None:
    """Print a line; a terminal that was closed, or a log on a full disk, ends nothing."""
    with contextlib.suppress(OSError):
        typer.echo(f"vh: {line}", err=True)
