"""Boxes, labels and legends on pictures; contact sheets. numpy and OpenCV only.

Drawing never touches the picture it is given: every function returns a new BGR uint8 array.
Boxes are xyxy in pixels of that picture, the right and lower edge excluded, and their lines lie
on whole pixels, so that a box of 5 pixels still shows the object inside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.media.colors import Color, class_color
from vision_heads.media.pose import AXES, draw_axes
from vision_heads.results import Result

__all__ = [
    "Color",
    "class_color",
    "contact_sheet",
    "draw_axes",
    "draw_boxes",
    "draw_legend",
    "draw_result",
]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_INK: Color = (24, 24, 24)
_PAPER: Color = (250, 250, 250)
_SHEET: Color = (40, 40, 40)


def draw_boxes(
    image: NDArray[np.uint8],
    xyxy: NDArray[np.floating],
    labels: Sequence[str],
    colors: Sequence[Color] | None = None,
) -> NDArray[np.uint8]:
    """Return a copy of `image` with boxes and, where there is room, their labels.

    A label is left out when its box is small, when it would lie on another label, or when it
    would hide a smaller box; `draw_legend` then says what the colours mean. Boxes that are not
    finite are left out as well.

    Args:
        image: (H, W, 3) BGR uint8.
        xyxy: (N, 4) pixels; boxes may reach outside the picture. Best first: earlier boxes
            get their label first and are drawn on top.
        labels: N texts, "" for none.
        colors: N BGR colours; by the label's place in the sorted set of labels when None.

    Returns:
        (H, W, 3) BGR uint8.

    Raises:
        ValueError: the lengths differ.
    """
    boxes = np.asarray(xyxy, np.float64).reshape(-1, 4)
    if colors is None:
        order = {text: index for index, text in enumerate(sorted(set(labels)))}
        colors = [class_color(order[text]) for text in labels]
    if not len(boxes) == len(labels) == len(colors):
        raise ValueError(f"{len(boxes)} boxes, {len(labels)} labels, {len(colors)} colors")
    picture = np.array(image, np.uint8, order="C")
    finite = [int(index) for index in np.flatnonzero(np.isfinite(boxes).all(axis=1))]
    pixels = _whole_pixels(boxes[finite], picture.shape[1], picture.shape[0])
    for index, box in zip(reversed(finite), pixels[::-1], strict=True):
        _outline(picture, box, colors[index])
    _write_labels(
        picture, pixels, [labels[index] for index in finite], [colors[index] for index in finite]
    )
    return picture


def draw_result(image: NDArray[np.uint8], result: Result) -> NDArray[np.uint8]:
    """Return a copy of `image` with the detections of every head and a legend.

    Head poses are drawn as axes; see `vision_heads.media.pose.draw_axes`.

    Colours go by class; classes of a second head follow those of the first, so no two classes
    of a model share one. With several heads the legend says whose each class is.

    Args:
        image: (H, W, 3) BGR uint8, the picture `result` was found in.
        result: boxes in pixels of `image`.
    """
    boxes: list[NDArray[np.float32]] = []
    texts: list[str] = []
    colors: list[Color] = []
    scores: list[float] = []
    legend: dict[str, tuple[Color, int | None]] = {}
    first = 0
    several = len(result.heads) > 1
    for head, found in result.heads.items():
        counts = np.bincount(found.class_id, minlength=len(found.names))
        for index, name in enumerate(found.names):
            if counts[index]:
                entry = f"{head}: {name}" if several else name
                legend[entry] = (class_color(first + index), int(counts[index]))
        for row, (box, score, label) in enumerate(
            zip(found.xyxy, found.score, found.class_id, strict=True)
        ):
            boxes.append(box)
            scores.append(float(score))
            number = -1 if found.track is None else int(found.track[row])
            track = f"#{number} " if number >= 0 else ""
            texts.append(f"{track}{found.names[label]} {100 * float(score):.0f}")
            colors.append(class_color(first + int(label)))
        first += len(found.names)
    best = np.argsort(-np.asarray(scores), kind="stable")
    xyxy = np.asarray(boxes, np.float32).reshape(-1, 4)[best]
    picture = draw_boxes(
        image,
        xyxy,
        [texts[index] for index in best],
        [colors[index] for index in best],
    )
    for found in result.heads.values():
        if found.rotation is not None and len(found):
            picture = draw_axes(picture, found.xyxy, found.rotation)
            legend |= {name: (color, None) for name, color in AXES}
    return draw_legend(picture, legend, avoid=xyxy)


def draw_legend(
    image: NDArray[np.uint8],
    entries: Mapping[str, tuple[Color, int | None]],
    avoid: NDArray[np.floating] | None = None,
) -> NDArray[np.uint8]:
    """Return a copy of `image` with names, colours and counts in a corner.

    Args:
        image: (H, W, 3) BGR uint8.
        entries: name -> (BGR colour, count), drawn from the highest count down, those without
            a count (None) last and as given; those for which the picture is too low are summed
            up in a last line. No entries: no legend.
        avoid: (N, 4) xyxy boxes; the legend goes to the corner where it covers the fewest
            of their centres. The upper left one when None.
    """
    picture = np.array(image, np.uint8, order="C")
    if not entries:
        return picture
    height, width = picture.shape[:2]
    scale = _text_scale(picture)
    line = max(10, round(30 * scale))
    pad = max(3, line // 4)
    counted = [item for item in entries.items() if item[1][1] is not None]
    rows = sorted(counted, key=lambda item: (-(item[1][1] or 0), item[0]))
    rows += [item for item in entries.items() if item[1][1] is None]
    room = max(1, (height - 4 * pad) // line)
    if len(rows) > room:
        rest = sum(count or 0 for _, (_, count) in rows[room - 1 :])
        rows = [*rows[: room - 1], (f"{len(rows) - room + 1} more", (_SHEET, rest))]
    texts = [name if count is None else f"{name}  {count}" for name, (_, count) in rows]
    wide = max(_text_size(text, scale)[0] for text in texts) + line + 2 * pad
    high = line * len(rows) + 2 * pad
    far = (max(pad, width - wide - pad), max(pad, height - high - pad))
    left, top = _corner((pad, pad), far, (wide, high), avoid)
    panel = picture[top : top + high, left : left + wide]
    panel[:] = np.round(panel * 0.3).astype(np.uint8)
    half = max(2, round(line * 0.28))
    for row, (text, (_, (color, _))) in enumerate(zip(texts, rows, strict=True)):
        middle = top + pad + row * line + line // 2
        first = (left + pad, middle - half)
        cv2.rectangle(picture, first, (first[0] + 2 * half, middle + half), color, -1)
        _text(picture, text, (left + pad + line, middle), scale, _PAPER)
    return picture


def _corner(
    near: tuple[int, int],
    far: tuple[int, int],
    size: tuple[int, int],
    avoid: NDArray[np.floating] | None,
) -> tuple[int, int]:
    """Left and top of a panel in the corner that holds the fewest centres of `avoid`."""
    corners = [near, (far[0], near[1]), (near[0], far[1]), far]
    if avoid is None:
        return corners[0]
    centres = (avoid[:, :2] + avoid[:, 2:]) / 2

    def hidden(corner: tuple[int, int]) -> int:
        away = centres - corner
        return int(((away >= 0) & (away < size)).all(axis=1).sum())

    return min(corners, key=hidden)


def contact_sheet(
    images: Sequence[NDArray[np.uint8]], columns: int, cell_width: int
) -> NDArray[np.uint8]:
    """Return one picture that shows all of `images` in rows, each scaled to a cell's width.

    Args:
        images: BGR uint8 pictures of any sizes, (H, W, 3).
        columns: pictures a row, at least 1.
        cell_width: width of a cell in pixels; rows are as high as their highest picture.

    Returns:
        BGR uint8, (H, columns * (cell_width + gap) + gap, 3) on dark grey.

    Raises:
        ValueError: there are no images, or `columns` or `cell_width` is below 1.
    """
    if not len(images) or columns < 1 or cell_width < 1:
        raise ValueError("a contact sheet needs images, columns >= 1 and cell_width >= 1")
    gap = max(2, cell_width // 80)
    cells = [_fit_width(image, cell_width) for image in images]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.shape[0] for cell in row) for row in rows]
    shape = (sum(heights) + gap * (len(rows) + 1), columns * (cell_width + gap) + gap, 3)
    sheet = np.full(shape, _SHEET, np.uint8)
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            left = gap + column * (cell_width + gap)
            sheet[top : top + cell.shape[0], left : left + cell_width] = cell
        top += height + gap
    return sheet


def _fit_width(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    way = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=way), np.uint8)


def _whole_pixels(boxes: NDArray[np.float64], width: int, height: int) -> NDArray[np.int64]:
    """First and last pixel of each box, so that a box [2, 5) covers the pixels 2, 3, 4.

    Far-out coordinates are pulled to just outside the picture: OpenCV's integers are 32 bits.
    """
    limit = np.array([width, height, width, height]) + 8
    near = np.clip(np.round(boxes), -8, limit).astype(np.int64)
    near[:, 2:] = np.maximum(near[:, 2:] - 1, near[:, :2])
    return near


def _text_scale(picture: NDArray[np.uint8]) -> float:
    """OpenCV's font scale for a picture: letters of 11 px at 640 px, 22 px at 1920 px."""
    side = float(np.sqrt(picture.shape[0] * picture.shape[1]))
    return float(np.clip(0.28 + side / 3000, 0.35, 1.6))


def _text_size(text: str, scale: float) -> tuple[int, int]:
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, _stroke(scale))
    return int(width), int(height)


def _stroke(scale: float) -> int:
    return 1 if scale < 0.75 else 2


def _text(
    picture: NDArray[np.uint8], text: str, start: tuple[int, int], scale: float, color: Color
) -> None:
    """Write `text` from `start`: its left end, and the middle of its height."""
    base = (start[0], start[1] + _text_size("H", scale)[1] // 2)
    cv2.putText(picture, text, base, _FONT, scale, color, _stroke(scale), cv2.LINE_AA)


def _outline(picture: NDArray[np.uint8], box: NDArray[np.int64], color: Color) -> None:
    """Draw one box: its line grows with the picture, and never eats a small object."""
    short = int(min(box[2] - box[0], box[3] - box[1]))
    wanted = max(1, round((picture.shape[0] + picture.shape[1]) / 1400))
    thick = max(1, min(wanted, short // 16))
    first, last = (int(box[0]), int(box[1])), (int(box[2]), int(box[3]))
    if short >= 32:
        # A dark line around the bright one keeps it visible on white roofs and pale concrete.
        cv2.rectangle(picture, first, last, _INK, thick + 2)
    cv2.rectangle(picture, first, last, color, thick)


def _write_labels(
    picture: NDArray[np.uint8],
    boxes: NDArray[np.int64],
    labels: Sequence[str],
    colors: Sequence[Color],
) -> None:
    height, width = picture.shape[:2]
    scale = _text_scale(picture)
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = np.maximum(sides[:, 0] * sides[:, 1], 1)
    taken = np.zeros((0, 4), np.int64)
    for index, text in enumerate(labels):
        if not text or sides[index].min() < 28 * scale or sides[index].max() < 60 * scale:
            continue
        own = float(np.clip(sides[index].max() / 220, 0.75, 1.0)) * scale
        text_width, text_height = _text_size(text, own)
        wide, high = text_width + 6, text_height + 7
        smaller = (areas < areas[index]) | (areas <= 4 * wide * high)
        smaller[index] = False
        x1, y1, _, y2 = boxes[index]
        left = int(np.clip(x1, 0, max(0, width - wide)))
        for top in (y1 - high, y2 + 1, y1 + 1):
            place = np.array([left, top, left + wide, top + high])
            inside = top >= 0 and top + high <= height and left + wide <= width
            # Inside its own box a label may cover a fifth of the object at most.
            if top == y1 + 1 and wide * high > areas[index] / 5:
                continue
            hidden = _shared(place, boxes) / areas > 0.25
            if inside and not (hidden & smaller).any() and not _shared(place, taken).any():
                taken = np.vstack([taken, place])
                _write_label(picture, text, place, own, colors[index])
                break


def _write_label(
    picture: NDArray[np.uint8], text: str, place: NDArray[np.int64], scale: float, color: Color
) -> None:
    left, top, right, bottom = (int(value) for value in place)
    cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), color, -1)
    blue, green, red = color
    bright = 0.114 * blue + 0.587 * green + 0.299 * red > 110
    _text(picture, text, (left + 3, (top + bottom) // 2), scale, _INK if bright else _PAPER)


def _shared(place: NDArray[np.int64], boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels that `place` shares with each of `boxes`."""
    low = np.maximum(place[:2], boxes[:, :2])
    high = np.minimum(place[2:], boxes[:, 2:])
    shared: NDArray[np.int64] = np.prod(np.maximum(high - low, 0), axis=1)
    return shared
