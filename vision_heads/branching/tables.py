"""A search's matrices and plans as tables for the screen."""

from __future__ import annotations

import math

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from vision_heads.branching.found import Found
from vision_heads.branching.plans import describe
from vision_heads.branching.search import Scored

ROWS = 15
"""Most plans in a table, besides the bounds and the chosen one."""


def matrix_tables(found: Found) -> Table:
    """Return the dissimilarities, a block a stage; '-' where a head's own model lacks it."""
    table = Table(box=box.SIMPLE, title="dissimilarity of the heads' own models, 0 = alike")
    table.add_column("stage", no_wrap=True)
    table.add_column("head", no_wrap=True)
    for name in found.names:
        table.add_column(escape(name), justify="right", no_wrap=True)
    for stage, matrix in found.matrices.items():
        for number, (name, row) in enumerate(zip(found.names, matrix, strict=True)):
            cells = ["-" if math.isnan(value) else f"{value:.3f}" for value in row]
            last = number == len(found.names) - 1
            table.add_row("" if number else stage, escape(name), *cells, end_section=last)
    return table


def plans_table(found: Found) -> Table:
    """Return the plans to choose from with their cost, between sharing all and sharing nothing.

    Within a budget these are the best by score; without one the front, cheapest first, thinned
    evenly where it is long.
    """
    budget = found.settings.budget.limits()
    title = "best plans within the budget" if budget else "plans that none beats, cheapest first"
    table = Table(box=box.SIMPLE, title=title)
    table.add_column("", no_wrap=True)
    table.add_column("plan", overflow="fold", min_width=24)
    timed = found.chosen.cost.ms is not None
    for column in ("score", "price", "parameters", "GFLOPs", *(["ms"] if timed else [])):
        table.add_column(column, justify="right", no_wrap=True)
    shown = found.plans[:ROWS] if budget else _thinned(found.front)
    listed = [found.together, *shown, found.apart]
    if all(plan.plan != found.chosen.plan for plan in listed):
        listed.insert(-1, found.chosen)
    seen = set()
    for plan in listed:
        if plan.plan not in seen:
            seen.add(plan.plan)
            mark = ">" if plan.plan == found.chosen.plan else ""
            table.add_row(mark, *_cells(found, plan), style="bold" if mark else None)
    return table


def _cells(found: Found, plan: Scored) -> list[str]:
    words = "nothing shared" if plan is found.apart else describe(found.branches(plan))
    cost = plan.cost
    cells = [escape(words), f"{plan.score:.4f}", f"{plan.price:.3f}"]
    cells += [f"{cost.parameters:,}", f"{cost.flops / 1e9:.2f}"]
    return cells + ([] if cost.ms is None else [f"{cost.ms:.1f}"])


def _thinned(plans: list[Scored]) -> list[Scored]:
    if len(plans) <= ROWS:
        return plans
    return [plans[i] for i in np.linspace(0, len(plans) - 1, ROWS).round().astype(int)]
