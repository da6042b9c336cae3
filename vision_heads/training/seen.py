"""How often every picture had its turn: what sampling weights and frozen heads made of the data."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Seen:
    """Turns of one card's pictures in one head's training.

    A turn is a place in a batch; what mosaics and mixtures add to other pictures does not count.

    Attributes:
        head: name.
        card: as the settings name it.
        pictures: of the card's split.
        least, median, most: turns of a picture.
        total: turns of all.
        never: pictures without a turn.
    """

    head: str
    card: str
    pictures: int
    least: int
    median: float
    most: int
    total: int
    never: int

    def __str__(self) -> str:
        never = f", {self.never} never" if self.never else ""
        return (
            f"{self.head}: {self.card}: {self.pictures} pictures, each seen {self.least} to "
            f"{self.most} times (median {self.median:g}, {self.total} in all{never})"
        )


def count_seen(
    turns: Mapping[str, NDArray[np.int64]], cards: Mapping[str, Sequence[tuple[str, int]]]
) -> list[Seen]:
    """Sum up by head and card.

    Args:
        turns: of every picture, by head.
        cards: of every head, with the number of pictures each gave, in the order of the turns.
    """
    rows = []
    for head, counts in turns.items():
        ends = np.cumsum([pictures for _, pictures in cards[head]])
        for (card, _), own in zip(cards[head], np.split(counts, ends[:-1]), strict=True):
            if len(own):
                numbers = int(own.min()), float(np.median(own)), int(own.max()), int(own.sum())
            else:  # --fix drop may have left nothing of it
                numbers = 0, 0.0, 0, 0
            rows.append(Seen(head, card, len(own), *numbers, int((own == 0).sum())))
    return rows


def write_seen(rows: Sequence[Seen], file: Path) -> None:
    """Write a CSV, one row a head and card."""
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, [field.name for field in fields(Seen)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
