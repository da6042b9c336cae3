"""Scores as PNG files. matplotlib is imported only when a plot is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_heads.data.sample import DataSplit
from vision_heads.errors import UserError
from vision_heads.evaluation.scores import Confusion, Curves, Scores

_LEGEND_CLASSES = 20
_CELL_TEXT_CLASSES = 25


def write_plots(scores: Scores, folder: str | Path, split: DataSplit | None = None) -> list[Path]:
    """Draw precision over recall, F1 over confidence and the confusion matrix.

    Args:
        scores: of any protocol.
        folder: made if need be; files of the same names are replaced.
        split: what was scored, for the pictures of the heads with the worst poses.

    Returns:
        pr.png, f1.png and confusion.png in `folder`; for head poses also what
        `pose_plots.write_pose_plots` draws.

    Raises:
        UserError: matplotlib is not installed, or the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from error
    figures = {
        "pr.png": pr_figure(scores.curves),
        "f1.png": f1_figure(scores.curves),
        "confusion.png": confusion_figure(scores.confusion),
    }
    for name, figure in figures.items():
        try:
            figure.savefig(folder / name, dpi=120, bbox_inches="tight")
        except OSError as error:
            raise UserError(f"{folder / name}: cannot be written: {error.strerror}") from error
    files = [folder / name for name in figures]
    if scores.pose is not None:
        from vision_heads.evaluation.pose_plots import write_pose_plots  # noqa: PLC0415

        try:
            files += write_pose_plots(scores.pose, folder, split)
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be written: {error.strerror}") from error
    return files


def _plain(name: str) -> str:
    """Return a class name as matplotlib shows it unchanged: a pair of $ would be a formula."""
    return name.replace("$", r"\$")


def _figure(width: float, height: float) -> tuple[Any, Any]:
    figure = new_figure(width, height)
    return figure, figure.add_subplot()


def new_figure(width: float, height: float) -> Any:
    """Return an empty Agg figure, inches, without touching pyplot's global state.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise UserError('plots need matplotlib: pip install "vision-heads[train]"') from error
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def pr_figure(curves: Curves) -> Any:
    """Return a matplotlib figure of precision over recall at IoU 0.5."""
    figure, axes = _figure(8, 6)
    area = 100 * curves.precision.mean(axis=1)
    order = [i for i in np.argsort(-area, kind="stable") if curves.objects[i]]
    for i in order:
        label = f"{_plain(curves.names[i])} {area[i]:.1f}"
        _line(axes, curves.recall, curves.precision[i], label, len(order))
    mean = curves.mean_precision
    axes.plot(
        curves.recall, mean, "k", lw=2.5, label=f"plain mean of classes {100 * mean.mean():.1f}"
    )
    _finish(axes, "recall", "precision", "Precision over recall at IoU 0.5 (area in percent)")
    return figure


def f1_figure(curves: Curves) -> Any:
    """Return a matplotlib figure of F1 over the confidence threshold at IoU 0.5."""
    figure, axes = _figure(8, 6)
    best = curves.f1.max(axis=1)
    order = [i for i in np.argsort(-best, kind="stable") if curves.objects[i]]
    for i in order:
        label = f"{_plain(curves.names[i])} {best[i]:.2f}"
        _line(axes, curves.confidence, curves.f1[i], label, len(order))
    mean, at = curves.mean_f1, curves.best_confidence
    label = f"mean {mean.max():.2f} at confidence {at:.2f}"
    axes.plot(curves.confidence, mean, "k", lw=2.5, label=label)
    axes.axvline(at, color="k", lw=0.8, ls=":")
    _finish(axes, "confidence", "F1", "F1 over confidence at IoU 0.5 (best value)")
    return figure


def _line(
    axes: Any,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    label: str,
    lines: int,
) -> None:
    """Draw one class; many classes are thin and grey, for no legend could name them."""
    if lines > _LEGEND_CLASSES:
        axes.plot(x, y, lw=0.6, color="0.7")
    else:
        # matplotlib leaves a label out that begins with "_".
        axes.plot(x, y, lw=1.2, label=f" {label}" if label.startswith("_") else label)


def _finish(axes: Any, x: str, y: str, title: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=x, ylabel=y, title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def confusion_figure(confusion: Confusion) -> Any:
    """Return a matplotlib figure: rows are the truth, shaded by their share of the row."""
    names = [*map(_plain, confusion.names), "background"]
    side = min(16.0, 3.5 + 0.55 * len(names))
    figure, axes = _figure(side + 1, side)
    total = np.maximum(1, confusion.counts.sum(axis=1, keepdims=True))
    share = confusion.counts / total
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, fraction=0.046, label="share of the row")
    ticks = range(len(names))
    small = 9 if len(names) <= _CELL_TEXT_CLASSES else 5
    axes.set_xticks(ticks, names, rotation=60, ha="right", fontsize=small)
    axes.set_yticks(ticks, names, fontsize=small)
    axes.set(
        xlabel="found",
        ylabel="truth",
        title=f"Confusion at confidence {confusion.confidence:g}, IoU {confusion.iou:g} (counts)",
    )
    if len(names) <= _CELL_TEXT_CLASSES:
        _write_counts(axes, confusion.counts, share)
    return figure


def _write_counts(axes: Any, counts: NDArray[np.int64], share: NDArray[np.float64]) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count}", ha="center", va="center", color=color, fontsize=7)
