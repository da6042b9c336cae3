"""A bar chart of stages, drawn with OpenCV: the core has no plotting package."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.benchmark.report import TITLES, Report
from vision_heads.errors import UserError

WIDTH, LEFT, RIGHT, TOP, ROW, BAR = 1000, 260, 130, 70, 44, 26
"""Pixels: of the chart, of its margins, of a model and of its bar."""

COLORS = {
    "decode": (184, 126, 55),
    "preprocess": (74, 175, 77),
    "network": (28, 26, 200),
    "heads": (0, 127, 255),
    "nms": (163, 78, 152),
}
"""BGR of each stage; they differ in lightness too."""

_INK, _GREY = (40, 40, 40), (215, 215, 215)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def save(report: Report, file: Path) -> None:
    """Draw medians by stage, one bar a model and batch size, to a picture file.

    Raises:
        UserError: the file cannot be written, or its suffix is none of a picture.
    """
    data = encoded(draw(report), file)
    try:
        file.write_bytes(data)
    except OSError as error:
        raise UserError(f"--plot {file}: {error.strerror}") from error


def encoded(image: NDArray[np.uint8], file: Path) -> bytes:
    """Return a picture in the format that a file's suffix names, PNG without one.

    Raises:
        UserError: the suffix is none of a picture that OpenCV writes.
    """
    suffix = file.suffix.lower() or ".png"
    try:
        good, data = cv2.imencode(suffix, image)
    except cv2.error:
        good = False
    if not good:
        raise UserError(f"--plot {file}: cannot write {suffix} pictures")
    return data.tobytes()


def draw(report: Report) -> NDArray[np.uint8]:
    """Return the chart, BGR uint8; bars are to scale with each other, in ms a picture."""
    entries = report.entries
    image = np.full((TOP + ROW * len(entries) + 50, WIDTH, 3), 255, np.uint8)
    sums = [sum(spread.median for spread in entry.stages.values()) for entry in entries]
    scale = (WIDTH - LEFT - RIGHT) / max(*sums, 1e-9)
    _legend(image)
    _grid(image, scale, TOP + ROW * len(entries))
    for number, (entry, whole) in enumerate(zip(entries, sums, strict=True)):
        y = TOP + number * ROW
        batch = f", batch {entry.batch}"
        _text(image, _short(entry.name, 28 - len(batch)) + batch, 10, y + 19)
        x = float(LEFT)
        for stage, spread in entry.stages.items():
            end = x + spread.median * scale
            cv2.rectangle(image, (round(x), y), (round(end), y + BAR), COLORS[stage], cv2.FILLED)
            label = f"{1000 * spread.median:.1f}"
            if end - x > 11 * len(label):
                _text(image, label, round((x + end) / 2) - 5 * len(label), y + 18, (255, 255, 255))
            x = end
        _text(image, f"{1000 * whole:.1f} ms", round(x) + 8, y + 19)
    return image


def _legend(image: NDArray[np.uint8]) -> None:
    x = 10
    for stage, title in TITLES.items():
        cv2.rectangle(image, (x, 14), (x + 16, 30), COLORS[stage], cv2.FILLED)
        _text(image, title, x + 22, 28)
        (width, _), _ = cv2.getTextSize(title, _FONT, 0.5, 1)
        x += 50 + width
    _text(image, "median milliseconds a picture, by stage", 10, 54)


def _grid(image: NDArray[np.uint8], scale: float, bottom: int) -> None:
    """Draw a line at each round number of milliseconds."""
    most = (WIDTH - LEFT - RIGHT) / scale * 1000
    step = next(
        size * 10.0**power
        for power in range(-4, 7)
        for size in (1, 2, 5)
        if most / (size * 10.0**power) <= 8
    )
    for number in range(int(most / step) + 1):
        x = round(LEFT + number * step / 1000 * scale)
        cv2.line(image, (x, TOP - 8), (x, bottom), _GREY, 1)
        _text(image, f"{number * step:g}", x - 8, bottom + 20)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 2]}.."


def _text(
    image: NDArray[np.uint8], text: str, x: int, y: int, color: tuple[int, int, int] = _INK
) -> None:
    cv2.putText(image, text, (x, y), _FONT, 0.5, color, 1, cv2.LINE_AA)
