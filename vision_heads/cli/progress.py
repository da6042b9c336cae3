"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vision_heads.terminal import unread_stderr

SECONDS_A_LINE = 10.0


@contextmanager
def progress(total: int, unit: str) -> Iterator[Callable[[], None]]:
    """Show progress on standard error while the body runs.

    Args:
        total: how many steps there are.
        unit: what a step is, in the plural.

    Yields:
        A function to call after each step.
    """
    from rich.console import Console  # noqa: PLC0415

    console = Console(file=unread_stderr())
    if not console.is_terminal:
        yield _lines(console.print, total, unit)
        return
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    begin, done = time.perf_counter(), 0
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total, rate="")

        def step() -> None:
            nonlocal done
            done += 1
            rate = done / max(time.perf_counter() - begin, 1e-9)
            bar.update(task, advance=1, rate=f"{rate:.1f}/s")

        yield step


def _lines(show: Callable[[str], None], total: int, unit: str) -> Callable[[], None]:
    begin = last = time.perf_counter()
    done = 0

    def step() -> None:
        nonlocal done, last
        done += 1
        now = time.perf_counter()
        if now - last >= SECONDS_A_LINE:
            last = now
            show(f"{done}/{total} {unit}, {done / (now - begin):.1f}/s")

    return step
