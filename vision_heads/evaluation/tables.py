"""Scores as tables for the screen."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vision_heads.evaluation.headpose import PoseScores
from vision_heads.evaluation.heads import Marked, mean_ap50
from vision_heads.evaluation.scores import COUNTS, Scores

_ALWAYS = ("all", "frontal", "backward")
_SHORT = {"heads": "number", "recall": "recall %", "geodesic_mean": "geodesic mean"}
_SHORT["geodesic_median"] = "median"


def tables_of(scores: Scores) -> list[Table]:
    """Return everything there is to show of one head."""
    poses = [] if scores.pose is None else pose_tables(scores.pose)
    return [numbers_table(scores), *poses, classes_table(scores)]


def numbers_table(scores: Scores) -> Table:
    """Return the protocol's numbers with their units; '-' where there was nothing to measure."""
    title = f"{scores.protocol}, {scores.images:,} pictures"
    table = Table(box=box.SIMPLE, title=title, min_width=len(title))
    table.add_column("number", no_wrap=True)
    table.add_column("value" if scores.units else "percent", justify="right", no_wrap=True)
    if scores.units:
        table.add_column("unit", no_wrap=True)
    for name, value in scores.numbers.items():
        unit = scores.units.get(name, "percent")
        table.add_row(name, _text(name, value), *([unit] if scores.units else []))
    return table


def pose_tables(pose: PoseScores) -> list[Table]:
    """Return errors by how far heads are turned and by size, each beside its recall.

    Bins without a head are left out.
    """
    columns = list(pose.groups["all"])
    tables = []
    for by, groups in (("true yaw", pose.groups), ("shorter side in pixels", pose.sizes)):
        table = Table(box=box.SIMPLE, title=f"by {by}; errors in degrees, of the heads found")
        table.add_column("heads", no_wrap=True)
        for name in columns:
            table.add_column(_SHORT.get(name, name), justify="right", no_wrap=True)
        for label, row in groups.items():
            if not row["heads"] and label not in _ALWAYS:
                continue
            cells = [_text(column, row[column]) for column in columns]
            table.add_row(label, *cells, end_section=label == _ALWAYS[-1])
        tables.append(table)
    return tables


def classes_table(scores: Scores) -> Table:
    """Return the same by class, with the number of pictures and objects of each."""
    table = Table(box=box.SIMPLE, title="by class, percent")
    table.add_column("class", no_wrap=True)
    columns = list(next(iter(scores.classes.values()), {}))
    for name in columns:
        table.add_column(name.replace("AP_", ""), justify="right", no_wrap=True)
    for label, row in scores.classes.items():
        cells = [_text(column, row[column]) for column in columns]
        table.add_row(escape(label), *cells)
    return table


def heads_table(marked: Mapping[str, Marked]) -> Table:
    """Return a row a head: what it was scored on and the figures that all heads have.

    The column of errors is there only where a head has poses.
    """
    posed = any("mae" in one.scores.numbers for one in marked.values())
    table = Table(box=box.SIMPLE, title="by head, percent")
    for name in ("head", "protocol", "data"):
        table.add_column(name, no_wrap=True)
    for name in ("pictures", "AP", "AP50", "recall"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("recall is", no_wrap=True)
    if posed:
        table.add_column("MAE degrees", justify="right", no_wrap=True)
    for number, (name, one) in enumerate(marked.items(), 1):
        figures = one.figures()
        pictures = f"{one.scores.images:,}"
        cells = [_percent(figures[key]) for key in ("AP", "AP50", "recall")]
        error = [_percent(figures["mae"])] if posed else []
        rules, truth = one.exam.rules, one.exam.truth
        data = f"{truth.name} {truth.split}"
        row = (name, rules.name, escape(data), pictures, *cells, rules.recall, *error)
        table.add_row(*row, end_section=number == len(marked))
    table.add_row("mean", "", "", "", "", _percent(mean_ap50(marked)))
    return table


def table_width(table: Table) -> int:
    """Return the columns of the screen that `table` needs to be shown whole."""
    wide = Console(width=10_000)
    return wide.measure(table).maximum


def _text(name: str, value: float) -> str:
    return f"{value:,.0f}" if name in COUNTS else _percent(value)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
