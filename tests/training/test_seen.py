"""How often each picture was seen, by head and card, in files and report."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.training.test_run import coco_card  # noqa: E402
from vision_heads.training.run import Flags, start_run  # noqa: E402
from vision_heads.training.seen import count_seen  # noqa: E402


def test_counts_are_split_by_card() -> None:
    turns = {"a": np.array([1, 1, 2, 0, 4]), "b": np.array([3])}
    cards = {"a": [("one", 2), ("none", 0), ("two", 3)], "b": [("three", 1)]}
    rows = count_seen(turns, cards)
    assert [(r.head, r.card, r.pictures) for r in rows] == [
        ("a", "one", 2), ("a", "none", 0), ("a", "two", 3), ("b", "three", 1),
    ]  # fmt: skip
    two = rows[2]
    assert (two.least, two.median, two.most, two.total, two.never) == (0, 2.0, 4, 6, 1)
    assert str(two) == "a: two: 3 pictures, each seen 0 to 4 times (median 2, 6 in all, 1 never)"
    assert "never" not in str(rows[0])


@pytest.mark.slow
def test_a_weighted_run_of_several_cards_tells_how_often(tmp_path: Path, capfd) -> None:
    small, large, other = (
        coco_card(tmp_path / name, count) for name, count in (("s", 3), ("l", 7), ("o", 4))
    )
    settings = {
        "heads": {
            "squares": {"data": [str(small), str(large)], "levels": [2, 3], "sampling": 1},
            "boxes": {"data": str(other), "levels": [2, 3], "sampling": 1},
        },
        "imgsz": 64, "epochs": 2, "batch": 4, "workers": 0, "amp": "off",
        "augment": {"mosaic": 0.5, "close_mosaic": 1},
    }  # fmt: skip
    out = tmp_path / "run"
    start_run(Flags(None, settings, out, "test"))
    rows = list(csv.DictReader((out / "seen.csv").open(newline="")))
    assert [(row["head"], row["card"], row["pictures"]) for row in rows] == [
        ("squares", str(small), "3"), ("squares", str(large), "7"), ("boxes", str(other), "4"),
    ]  # fmt: skip
    # 14 turns an epoch, half of them each head's.
    assert sum(int(row["total"]) for row in rows[:2]) == int(rows[2]["total"]) == 14
    # 7 turns an epoch of 4 pictures: each once or twice.
    least, most = int(rows[2]["least"]), int(rows[2]["most"])
    assert 2 <= least <= most <= 4 and most > 2
    page = (out / "report.html").read_text()
    assert "How often each picture was seen" in page
    for row in rows:
        assert f"<td style='text-align:left'>{row['card']}<td>{row['pictures']}" in page
    said = f"boxes: {other}: 4 pictures, each seen {least} to {most} times"
    assert said in capfd.readouterr().err
