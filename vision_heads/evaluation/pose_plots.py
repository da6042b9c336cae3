"""Errors of head poses as pictures: over yaw and size, found over true, and the worst heads."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.data.sample import DataSplit
from vision_heads.errors import UserError
from vision_heads.evaluation.headpose import BIN, SIDES, Heads, PoseScores
from vision_heads.evaluation.plots import new_figure
from vision_heads.geometry.rotations import from_euler, wrap

_NAMES = ("pitch", "yaw", "roll")
_WORST = 12
_CELL = 240  # pixels of a crop's side


def write_pose_plots(pose: PoseScores, folder: Path, split: DataSplit | None) -> list[Path]:
    """Draw the errors of poses.

    Args:
        pose: of the headpose protocol.
        folder: that exists.
        split: whose pictures show the worst heads; None to leave that sheet out.

    Returns:
        yaw.png, size.png and angles.png, and worst.png if a matched head's picture can be read.
        None at all if not one head of known pose was matched.
    """
    heads = pose.heads
    if not (heads.posed & heads.matched).any():
        return []
    files = []
    figures = {
        "yaw.png": yaw_figure(pose),
        "size.png": size_figure(pose),
        "angles.png": angles_figure(heads),
    }
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=120, bbox_inches="tight")
        files.append(folder / name)
    sheet = None if split is None else worst_sheet(heads, split)
    if sheet is not None:
        done, data = cv2.imencode(".png", sheet)
        if done:
            (folder / "worst.png").write_bytes(data.tobytes())
            files.append(folder / "worst.png")
    return files


def yaw_figure(pose: PoseScores) -> Any:
    """Return a matplotlib figure: error over true yaw, with the recall of each bin below it."""
    heads = pose.heads
    hit = heads.posed & heads.matched
    rows = {name: row for name, row in pose.groups.items() if ".." in name and row["heads"]}
    middles = [float(name.split("..")[0]) + BIN / 2 for name in rows]
    figure, (upper, lower) = _two_axes(wrap(heads.truth[hit, 1]), heads.geodesic[hit])
    upper.set_title("Error over true yaw, of the heads found")
    _draw_bins(upper, lower, middles, BIN * 0.9, list(rows.values()))
    lower.set_xlabel("true yaw, degrees (numbers: heads)")
    lower.set_xticks(range(-180, 181, 2 * BIN))
    return figure


def size_figure(pose: PoseScores) -> Any:
    """Return a matplotlib figure: error over size, with the recall of each bin below it."""
    heads = pose.heads
    hit = heads.posed & heads.matched
    sides = np.log2(heads.truth_box[:, 2:].min(axis=1).clip(1))
    last = max(float(sides[heads.posed].max()), math.log2(SIDES[-1]) + 0.5)
    first = min(float(sides[heads.posed].min()), math.log2(SIDES[0]) - 0.5)
    ends = np.array([first, *np.log2(SIDES), last])
    there = [number for number, row in enumerate(pose.sizes.values()) if row["heads"]]
    rows = [row for row in pose.sizes.values() if row["heads"]]
    figure, (upper, lower) = _two_axes(sides[hit], heads.geodesic[hit])
    upper.set_title("Error over size, of the heads found")
    widths, middles = np.diff(ends)[there], (ends[1:] + ends[:-1])[there] / 2
    _draw_bins(upper, lower, middles.tolist(), (widths * 0.95).tolist(), rows)
    lower.set_xlabel("shorter side of the labelled box, pixels of the picture (numbers: heads)")
    lower.set_xticks(np.log2(SIDES).tolist(), [str(side) for side in SIDES])
    return figure


def _two_axes(values: NDArray[np.float64], turns: NDArray[np.float64]) -> tuple[Any, Any]:
    """Return a figure and its axes: errors of single heads above, room for recall below."""
    figure = new_figure(9, 6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot(values, turns, ".", color="0.6", ms=4, label="one head, geodesic")
    upper.set(ylabel="error, degrees")
    lower.set(ylabel="recall, %", ylim=(0, 100))
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return figure, (upper, lower)


def _draw_bins(
    upper: Any, lower: Any, middles: list[float], width: Any, rows: list[dict[str, float]]
) -> None:
    """Draw the mean errors and the recall of bins."""
    for name, color in (("geodesic_mean", "k"), ("yaw", "C0"), ("pitch", "C1"), ("roll", "C2")):
        values = [row[name] for row in rows]
        upper.plot(middles, values, "o-", color=color, ms=4, label=f"mean: {name.split('_')[0]}")
    upper.set_ylim(bottom=0)
    upper.legend(frameon=False)
    lower.bar(middles, [row["recall"] for row in rows], width=width, color="0.7")
    for middle, row in zip(middles, rows, strict=True):
        lower.text(middle, 3, f"{row['heads']:.0f}", ha="center", fontsize=8)


def angles_figure(heads: Heads) -> Any:
    """Return a matplotlib figure: found over true pitch, yaw and roll."""
    hit = heads.posed & heads.matched
    total = int(heads.posed.sum())
    figure = new_figure(14, 5)
    for place, (axes, name) in enumerate(zip(figure.subplots(1, 3), _NAMES, strict=True)):
        true, found = heads.truth[hit, place], heads.found[hit, place]
        if name == "yaw":
            true = wrap(true)
            found = true + wrap(found - true)  # a head at 179 found at -179 is found at 181
        reach = float(np.ceil(max(np.abs(true).max(), np.abs(found).max(), 10) / 10) * 10)
        axes.plot([-reach, reach], [-reach, reach], color="0.7", lw=1)
        axes.plot(true, found, ".", ms=4)
        axes.set(xlabel=f"true {name}, degrees", ylabel=f"found {name}", title=name)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axes.grid(alpha=0.3)
    recall = 100 * int(hit.sum()) / total
    figure.suptitle(f"{int(hit.sum())} of {total} heads found (recall {recall:.1f} %)")
    return figure


def worst_sheet(heads: Heads, split: DataSplit, count: int = _WORST) -> NDArray[np.uint8] | None:
    """Show the heads with the greatest geodesic errors, each with the true and the found axes.

    Args:
        heads: matched heads.
        split: whose samples `heads.image` counts.
        count: how many heads.

    Returns:
        BGR uint8: a cell a head, true left, found right, worst first; None if no picture of
        theirs can be read.
    """
    from vision_heads.media.draw import contact_sheet  # noqa: PLC0415

    turns = np.where(heads.posed & heads.matched, heads.geodesic, -1.0)
    cells = []
    for row in np.argsort(-turns, kind="stable")[:count]:
        if turns[row] >= 0:
            cell = _cell(heads, int(row), float(turns[row]), split)
            if cell is not None:
                cells.append(cell)
    return contact_sheet(cells, 3, 2 * _CELL) if cells else None


def _cell(heads: Heads, row: int, turn: float, split: DataSplit) -> NDArray[np.uint8] | None:
    from vision_heads.media.draw import draw_axes  # noqa: PLC0415
    from vision_heads.media.images import read_image  # noqa: PLC0415

    sample = split.samples[heads.image[row]]
    try:
        picture = read_image(sample.image)
    except UserError:
        return None  # scoring needs no pictures; the sheet shows those that are there
    crop, box = _crop(picture, heads.truth_box[row])
    halves = []
    for word, angles in (("true", heads.truth[row]), ("found", heads.found[row])):
        half = draw_axes(crop, box, from_euler(angles))
        text = " ".join([word, *(str(round(angle)) for angle in angles.tolist())])
        halves.append(_captioned(half, text))
    cell = np.hstack(halves)
    title = f"{sample.image.name}: {turn:.0f} degrees apart (pitch yaw roll)"
    return _captioned(cell, title)


def _crop(
    picture: NDArray[np.uint8], xywh: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Cut out a square twice the head's size, scaled to `_CELL`; and the head's box in it."""
    x, y, w, h = xywh
    side = max(2 * max(w, h), 8.0)
    left, top = x + w / 2 - side / 2, y + h / 2 - side / 2
    scale = _CELL / side
    matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    crop = cv2.warpAffine(picture, matrix, (_CELL, _CELL), flags=cv2.INTER_AREA)
    corners = np.array([x - left, y - top, x + w - left, y + h - top]) * scale
    return np.asarray(crop, np.uint8), corners


def _captioned(image: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """Add a line of text on a dark bar above an image."""
    bar = np.full((22, image.shape[1], 3), 32, np.uint8)
    cv2.putText(bar, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (240, 240, 240), 1, cv2.LINE_AA)
    return np.vstack([bar, image])
