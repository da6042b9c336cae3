"""Assembles `vh` from its commands and turns errors into exit codes.

Exit codes: 0 done, 2 the user's mistake (one line on stderr), 1 our fault.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from importlib import import_module
from typing import Annotated

import typer

from vision_heads.cli.messages import drop_stdout, say
from vision_heads.errors import UserError, is_no_room
from vision_heads.version import __version__

HELP = """
Real-time detection and head pose: one light trunk, any number of task heads.

[bold]Examples[/bold]

  vh detect

  vh detect flight/ --save-images --json found.json

  vh data check visdrone

  vh train --head aerial=detect:visdrone --epochs 100 --out runs/aerial

  vh eval runs/aerial/weights/best.safetensors --data visdrone --protocol visdrone

  vh export runs/aerial/weights/best.safetensors

Exit codes: 0 done; 2 a mistake in what was given; 1 a fault of ours, a file that vh export refuses,
or something broken that vh doctor found. VH_DEBUG=1 shows tracebacks.
"""

app = typer.Typer(
    name="vh",
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = (
    "detect",
    "stream",
    "serve",
    "train",
    "eval",
    "export",
    "info",
    "data",
    "heads",
    "branch",
    "doctor",
    "bench",
)
"""Each names a module of `vision_heads.cli` with a function `register(app)`."""


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"vision_heads {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


for _name in COMMANDS:
    import_module(f"vision_heads.cli.{_name}").register(app)


def _run() -> None:
    try:
        app()
    except MemoryError as error:
        text = "not enough memory; smaller pictures, tiles or batches need less"
        raise UserError(text) from error
    except PermissionError as error:
        # Every look at a file may fail so, if only because a folder above it is closed.
        raise UserError(f"{error.filename}: {error.strerror}") from error
    except OSError as error:
        if error.filename is not None and error.errno in (errno.ENAMETOOLONG, errno.EIO):
            raise UserError(f"{error.filename}: {error.strerror}") from error
        if not is_no_room(error):
            raise
        if error.filename is not None:
            raise UserError(f"{error.filename}: cannot be written ({error.strerror})") from error
        drop_stdout()
        raise UserError(f"the output cannot be written: {error.strerror}") from error


def _leave(code: int) -> None:
    """Exit; at once if a thread still hangs in FFmpeg, which crashes a Python that winds down."""
    reader = sys.modules.get("vision_heads.stream.reader")
    if reader is not None and reader.stuck():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main() -> None:
    """Run `vh`; set VH_DEBUG=1 to see the traceback behind a one-line error."""
    try:
        _run()
    except UserError as error:
        if os.environ.get("VH_DEBUG"):
            traceback.print_exc()
        say(str(error))
        _leave(2)
    except KeyboardInterrupt:
        say("interrupted")
        _leave(130)
    except SystemExit as end:  # typer's, with a number
        _leave(int(end.code or 0))
