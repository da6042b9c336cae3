"""`vh eval --protocol mot`: score tracks against ground truth in MOTChallenge's format."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_heads.cli.eval_notes import note, show, write_json
from vision_heads.errors import UserError, require

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from vision_heads.evaluation.mot import MotScores

MOT = "mot"
"""Name of the protocol."""
OWN_OPTIONS = ("--protocol", "--predictions", "--truth", "--classes", "--json")

_SHOWN = ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW", "Frag", "MT", "ML", "FP", "FN")


def check_options(given: Mapping[str, Any]) -> bool:
    """Say whether tracks are to be scored.

    Args:
        given: values of all options of `vh eval`, by option; None where one was not given.

    Raises:
        UserError: options are mixed that do not go together.
    """
    protocol = given["--protocol"] or ()
    if MOT not in protocol:
        return False
    require(len(protocol) == 1, "--protocol mot: scores tracks only, give no other protocol")
    for option, value in given.items():
        require(
            value is None or option in OWN_OPTIONS,
            f"{option} does not go with --protocol mot: it takes --predictions and --truth",
        )
    return True


def evaluate_mot(
    predictions: Path | None,
    truth: Path | None,
    classes: str | None,
    json_file: Path | None,
    notes: Console,
) -> None:
    """Score tracks, show a row a sequence, and write every number."""
    from rich.console import Console  # noqa: PLC0415

    from vision_heads.evaluation.mot import score_mot  # noqa: PLC0415

    if predictions is None or truth is None:
        raise UserError("--protocol mot: give --predictions PATH and --truth PATH")
    scores = score_mot(predictions, truth, _numbers(classes))
    _note(scores, predictions, notes)
    if json_file is not None:
        write_json({**scores.to_dict(), "source": str(predictions)}, json_file)
        note(notes, f"numbers are in {json_file}")
    show(Console(), _table(scores))


def _numbers(classes: str | None) -> list[int]:
    words = [word.strip() for word in classes.split(",")] if classes else []
    for word in words:
        require(word.isdecimal(), f"--classes: {word!r} is not a class number of the truth's")
    return [int(word) for word in words]


def _note(scores: MotScores, predictions: Path, notes: Console) -> None:
    if scores.untracked:
        note(notes, f"{scores.untracked} results have no track (id below 0) and are left out")
    if scores.flat:
        note(notes, f"{scores.flat} results have no area (width or height not above 0): false ones")
    if scores.other_files:
        note(
            notes,
            f"{predictions}: {len(scores.other_files)} files are not read, as they are of no "
            f"sequence, first {scores.other_files[0].name}",
        )


def _table(scores: MotScores) -> Table:
    from rich import box  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from vision_heads.evaluation.mot import PERCENT  # noqa: PLC0415

    title = f"mot, {scores.frames:,} frames; percent and counts"
    table = Table(box=box.SIMPLE, title=title)
    table.add_column("sequence", no_wrap=True)
    for name in _SHOWN:
        table.add_column(name, justify="right", no_wrap=True)
    rows = {**scores.sequences, "all": scores.numbers} if len(scores.sequences) > 1 else None
    for label, row in (rows or scores.sequences).items():
        cells = [_cell(row[name], name in PERCENT) for name in _SHOWN]
        table.add_row(escape(label), *cells)
    return table


def _cell(value: float, percent: bool) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if percent else f"{value:,.0f}"
