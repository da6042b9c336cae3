"""What a run writes while it goes: progress, results.csv, TensorBoard."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from vision_heads.errors import UserError
from vision_heads.terminal import unread_stderr
from vision_heads.training.meters import Meters

Advance = Callable[[Meters, int], None]
PLAIN_SECONDS = 30.0
"""Seconds between progress lines when the output is no terminal."""


class Journal:
    """Writes the run's folder; the other processes of a distributed run keep a quiet one.

    Args:
        out: the run's folder.
        heads: names, for the order of the loss columns.
        quiet: write and print nothing.
    """

    def __init__(self, out: Path, heads: list[str], *, quiet: bool = False) -> None:
        self.out, self.heads, self.quiet = out, heads, quiet
        self.console = Console(file=unread_stderr(), quiet=quiet)
        self.rows: list[dict[str, float]] = []
        self._board: Any = None
        if not quiet:
            (out / "weights").mkdir(parents=True, exist_ok=True)

    @property
    def table(self) -> Path:
        """The file of one row an epoch."""
        return self.out / "results.csv"

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def rewind(self, epochs: int) -> None:
        """Forget rows of epochs that a resumed run will do again.

        Raises:
            UserError: the table is no longer as it was written.
        """
        if self.table.is_file():
            try:
                self.rows = [row for row in self._read_table() if int(row["epoch"]) <= epochs]
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(
                    f"{self.table}: is not as this run wrote it ({error}); put it back, or remove "
                    "it to go on without the epochs before"
                ) from error
            self._write_table()

    def record(
        self,
        epoch: int,
        lr: float,
        losses: Mapping[str, float],
        figures: Mapping[str, float],
        more: Mapping[str, float] | None = None,
    ) -> None:
        """Add an epoch's row: to the table, to TensorBoard, to the screen.

        Args:
            epoch: done, from 1.
            lr: learning rate at its end.
            losses: means by `<head>/<part>`.
            figures: of validation, by `<head>/<number>`; empty without one.
            more: further columns, not shown on the screen.
        """
        if self.quiet:
            return
        row = {"epoch": float(epoch), "lr": lr}
        row |= {f"loss/{name}": value for name, value in losses.items()}
        row |= {f"val/{name}": value for name, value in figures.items()} | dict(more or {})
        self.rows.append(row)
        self._write_table()
        board = self._tensorboard()
        for name, value in row.items():
            if name != "epoch":
                board.add_scalar(name, value, epoch)
        parts = [f"{name} {value:.3f}" for name, value in losses.items()]
        parts += [f"{name} {value:.2f}" for name, value in figures.items() if name.endswith("AP50")]
        self.say(f"epoch {epoch}: " + ", ".join(parts))

    def _read_table(self) -> list[dict[str, float]]:
        with self.table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [{k: float(v) for k, v in row.items() if v not in ("", None)} for row in rows]

    def _write_table(self) -> None:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        temporary = self.table.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)
        temporary.replace(self.table)

    def _tensorboard(self) -> Any:
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

            writer: Any = SummaryWriter
            self._board = writer(str(self.out / "tensorboard"))
        return self._board

    @contextmanager
    def progress(self, title: str, total: int, done: int) -> Iterator[Advance]:
        """Show an epoch's progress: loss parts, pictures a second, time left.

        A bar on a terminal, a line every half minute otherwise.
        """
        if self.console.is_terminal and not self.quiet:
            with self._bar(title, total, done) as advance:
                yield advance
        else:
            yield self._lines(title, total, done)

    @contextmanager
    def _bar(self, title: str, total: int, done: int) -> Iterator[Advance]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(title, total=total, completed=done, losses="")
            rate = _Rate()

            def advance(meters: Meters, pictures: int) -> None:
                text = f"{rate.add(pictures):.1f} images/s  {_losses(meters)}"
                bar.update(task, advance=1, losses=text)

            yield advance

    def _lines(self, title: str, total: int, done: int) -> Advance:
        rate, state = _Rate(), {"done": done, "shown": time.monotonic(), "start": done}

        def advance(meters: Meters, pictures: int) -> None:
            state["done"] += 1
            speed = rate.add(pictures)
            if time.monotonic() - state["shown"] < PLAIN_SECONDS:
                return
            state["shown"] = time.monotonic()
            per_step = rate.seconds / max(1, state["done"] - state["start"])
            left = per_step * (total - state["done"])
            self.say(
                f"{title}: {state['done']}/{total} batches, {speed:.1f} images/s, "
                f"{left:.0f} s left, {_losses(meters)}"
            )

        return advance

    def close(self) -> None:
        """Finish the TensorBoard file."""
        if self._board is not None:
            self._board.close()


class _Rate:
    """Pictures a second since it was made."""

    def __init__(self) -> None:
        self.start, self.pictures = time.monotonic(), 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    def add(self, pictures: int) -> float:
        self.pictures += pictures
        return self.pictures / max(self.seconds, 1e-9)


def _losses(meters: Meters) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in meters.means().items())
