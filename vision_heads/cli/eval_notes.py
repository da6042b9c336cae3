"""What `vh eval` says and writes, for one head as for several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_heads.cli.messages import printing
from vision_heads.errors import UserError
from vision_heads.paths import printable, write_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from vision_heads.data.sample import DataSplit
    from vision_heads.evaluation.runner import Run


def note(console: Console, text: str) -> None:
    """Say something in one line."""
    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def note_data(notes: Console, truth: DataSplit, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Say what is wrong with the ground truth, for it is scored against without it."""
    from vision_heads.data.fixes import summary  # noqa: PLC0415
    from vision_heads.evaluation.predictions import other_sizes  # noqa: PLC0415

    if truth.problems:
        note(notes, f"problems in the data: {summary(truth.problems, 1)}; see: vh data check")
    if truth.unlabelled:
        note(notes, f"{truth.unlabelled} pictures have no label file and count as negatives")
    other = other_sizes(truth, sizes)
    if other:
        note(
            notes,
            f"{len(other)} pictures are of another size than --sizes says, and theirs is used: "
            f"first {other[0]}",
        )


def note_run(notes: Console, run: Run, truth: DataSplit, who: str = "") -> None:
    """Say which classes were not compared and which pictures could not be read."""
    from vision_heads.evaluation.runner import describe  # noqa: PLC0415

    differing = describe(run.classes, truth.names)
    if differing:
        note(notes, f"{who}{differing}")
    if run.unread:
        note(
            notes,
            f"{who}{len(run.unread)} pictures cannot be read and count as empty: {run.unread[0]}",
        )


@contextmanager
def pictures_done(console: Console) -> Iterator[Callable[[int, int], None]]:
    """Give a callback (done, all): a bar on a terminal, else a line at every tenth."""
    from rich import progress  # noqa: PLC0415

    if not console.is_terminal:
        yield lambda done, every: _plain_step(console, done, every)
        return
    columns = (progress.BarColumn(), progress.MofNCompleteColumn(), progress.TimeRemainingColumn())
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("pictures", total=None)
        yield lambda done, every: bar.update(task, completed=done, total=every)


def _plain_step(console: Console, done: int, every: int) -> None:
    if done == every or done * 10 // every != (done - 1) * 10 // every:
        note(console, f"{done} of {every} pictures")


def show(console: Console, *tables: Table) -> None:
    """Print tables whole: a figure cut short would be worse than a line that runs over."""
    from vision_heads.evaluation.tables import table_width  # noqa: PLC0415

    with printing():
        for table in tables:
            console.width = max(console.width, table_width(table))
            console.print(table, crop=False)


def write_json(record: Mapping[str, Any], file: Path) -> None:
    """Write a record; `UserError` when the place cannot be written to."""
    import json  # noqa: PLC0415

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(record, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise UserError(f"{file}: cannot be written: {error.strerror}") from error
