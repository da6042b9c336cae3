"""What `vh detect` prints: what was left out, what was found, and how fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vision_heads.cli.messages import say

if TYPE_CHECKING:
    from vision_heads.media.attention import AttentionSink
    from vision_heads.media.sources import Pictures
    from vision_heads.results import Failure, Result


@dataclass(slots=True)
class Report:
    """What came of a run: detections by head and class, and how fast."""

    pictures: int = 0
    failures: int = 0
    seconds: float = 0.0
    counts: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, result: Result | Failure) -> None:
        """Count a picture."""
        from vision_heads.results import Failure  # noqa: PLC0415

        self.pictures += 1
        if isinstance(result, Failure):
            self.failures += 1
            return
        for head, found in result.heads.items():
            for name, number in found.counts().items():
                self.counts[head, name] = self.counts.get((head, name), 0) + number


def print_report(report: Report) -> None:
    """Print a table of what was found, most first, and the speed."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    several = len({head for head, _ in report.counts}) > 1
    table = Table("class", "found", box=None, header_style="bold")
    table.columns[1].justify = "right"
    for (head, name), number in sorted(report.counts.items(), key=lambda item: -item[1]):
        # A class may be called "[stop]" or ":car:", which is no markup here.
        table.add_row(Text(f"{head}/{name}" if several else name), str(number))
    console = Console()
    if report.counts:
        console.print(table)
    else:
        console.print("nothing found")
    rate = report.pictures / max(report.seconds, 1e-9)
    console.print(
        f"{report.pictures} pictures, {report.failures} failed, {report.seconds:.1f} s, "
        f"{rate:.1f} pictures/s",
        highlight=False,
    )


def print_attention(watch: AttentionSink, within: float, folder: Path) -> None:
    """Print how many heads are turned to whom, and where the rows are."""
    counts = watch.counts
    unknown = f", {counts['unknown']} of unknown pose" if counts["unknown"] else ""
    typer.echo(
        f"Of {counts['heads']} heads, {counts['camera']} are turned to the camera within "
        f"{within:g} degrees, {counts['others']} to another head ({counts['pairs']} pairs to each "
        f"other), {counts['nobody']} elsewhere{unknown}. This is the direction of heads, not of "
        f"eyes.\nA row a head: {(folder / 'attention.csv').resolve()}"
    )


def say_what_is_left_out(pictures: Pictures) -> None:
    """Name on standard error what sources held besides pictures that can be used."""
    if pictures.skipped:
        say(f"left out {pictures.skipped} files that have no picture's suffix")
    if pictures.repeated:
        say(f"{pictures.repeated} files were named more than once")
    for folder in pictures.drawn:
        say(f"{folder}: left out, it holds results of vh detect")
    for folder in pictures.unreadable:
        say(folder)
