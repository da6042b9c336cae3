"""`vh doctor`: is everything here as it should be, and if not, what mends it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_heads.cli.places import stdout_is_for
from vision_heads.errors import UserError
from vision_heads.paths import write_text

if TYPE_CHECKING:
    from rich.console import Console

    from vision_heads.doctor import Line

HELP = """
Look at this machine and this install, and say what is amiss and what mends it.

Python, packages and whether they go together, OpenCV, which pictures and videos can really be
read and written, ONNX Runtime and what it runs on, driver, CUDA, cuDNN and TensorRT, power mode and
clocks of a Jetson, free memory and disk, the shipped weights, and a detection on a demo picture.
Each line is ok, a warning (it works, but not as well as it could) or broken, with the command that
mends it. Nothing is changed and nothing is sent. docs/doctor.md explains the lines.

Exit code: 0 when nothing is broken, 1 when something is.

[bold]Examples[/bold]

  vh doctor

  vh doctor --json report.json

  vh doctor --json - | jq '.lines[] | select(.status != "ok")'
"""

_STYLES = {"ok": "green", "warning": "yellow", "broken": "bold red"}


@stdout_is_for("json_file")
def doctor(
    json_file: Annotated[
        str | None,
        typer.Option(
            "--json", metavar="FILE", help="Write the report to this JSON file; - prints only it."
        ),
    ] = None,
) -> None:
    """See HELP."""
    from rich.console import Console  # noqa: PLC0415

    from vision_heads.doctor import Report, diagnose  # noqa: PLC0415

    if json_file not in (None, "-"):
        _check_place(Path(str(json_file)))
    lines: Iterable[Line] = diagnose()
    if json_file != "-":
        lines = _shown(Console(highlight=False, soft_wrap=True), lines)
    report = Report(tuple(lines))
    if json_file is not None:
        from vision_heads.version import __version__  # noqa: PLC0415

        text = json.dumps({"vision_heads": __version__} | report.to_dict(), indent=1) + "\n"
        if json_file == "-":
            sys.stdout.write(text)
        else:
            write_text(Path(json_file), text)
    if json_file != "-":
        counts = report.counts
        typer.echo(f"\n{counts['ok']} ok, {counts['warning']} warnings, {counts['broken']} broken")
    if not report.sound:
        raise typer.Exit(1)


def _shown(console: Console, lines: Iterable[Line]) -> Iterable[Line]:
    """Print each line as soon as it is known, and pass it on."""
    from rich.text import Text  # noqa: PLC0415

    group = ""
    for line in lines:
        if line.group != group:
            console.print(Text(f"{line.group}" if not group else f"\n{line.group}", "bold"))
            group = line.group
        console.print(
            Text.assemble(
                (f"  {line.status:8}", _STYLES[line.status]), f"{line.check}: {line.found}"
            )
        )
        if line.mend:
            console.print(Text(f"          mend: {line.mend}", "cyan"))
        yield line


def _check_place(file: Path) -> None:
    """Find out before the work whether the file can be written."""
    try:
        with file.open("a", encoding="utf-8"):
            return
    except OSError as error:
        raise UserError(f"--json {file}: {error.strerror}") from error


def register(app: typer.Typer) -> None:
    """Add the command to `vh`."""
    app.command("doctor", help=HELP)(doctor)
