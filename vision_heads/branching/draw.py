"""Dissimilarity matrices as a picture. matplotlib is imported only when one is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from vision_heads.branching.search import Matrix
from vision_heads.evaluation.plots import new_figure

COLUMNS = 3


def matrices_figure(matrices: dict[str, Matrix], names: list[str], method: str) -> Any:
    """Return a matplotlib figure with a heads-by-heads heat map for each stage.

    All maps have one scale; a cell is empty where a head's own model lacks the stage.

    Args:
        matrices: by stage, (heads, heads).
        names: the heads'.
        method: named in the title.

    Raises:
        UserError: matplotlib is not installed.
    """
    rows = -(-len(matrices) // COLUMNS)
    columns = min(COLUMNS, len(matrices))
    side = 1.6 + 0.55 * len(names)
    figure = new_figure(columns * (side + 0.8), rows * (side + 0.4) + 0.6)
    plots = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).reshape(-1)
    known = [matrix[np.isfinite(matrix)] for matrix in matrices.values()]
    top = max((float(values.max()) for values in known if values.size), default=0.0) or 1.0
    image = None
    for axes, (stage, matrix) in zip(plots, matrices.items(), strict=False):
        image = axes.imshow(np.clip(matrix, 0, None), cmap="magma", vmin=0, vmax=top)
        ticks = range(len(names))
        axes.set_xticks(ticks, names, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(ticks, names, fontsize=8)
        axes.set_title(stage, fontsize=10)
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                color = "black" if value > 0.6 * top else "white"
                axes.text(
                    column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color
                )
    for axes in plots[len(matrices) :]:
        axes.set_axis_off()
    figure.suptitle(f"Dissimilarity of the heads' own models by stage ({method})", fontsize=11)
    figure.tight_layout()
    if image is not None:
        figure.colorbar(image, ax=list(plots), fraction=0.025, label="0 = alike")
    return figure
