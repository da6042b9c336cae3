from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vision_heads.data.sample import DataSplit, Sample
from vision_heads.training.validate import fitness


def _split(posed: bool) -> DataSplit:
    rotations = np.eye(3, dtype=np.float32)[None] if posed else None
    sample = Sample(Path("a.jpg"), 1, 9, 9, np.ones((1, 4), np.float32), rotations=rotations)
    return DataSplit("d", "val", ("head",), (0,), [sample])


def test_heads_without_poses_count_by_ap50() -> None:
    splits = {"a": _split(False), "b": _split(False)}
    assert fitness({"a/AP50": 40.0, "b/AP50": 60.0, "a/AP": 90.0}, splits) == pytest.approx(50)
    # A headpose head that is validated on boxes alone has no error to show.
    assert fitness({"a/AP50": 40.0, "a/matched": 3, "b/AP50": 60.0}, splits) == pytest.approx(50)


def test_worse_poses_are_worse_weights() -> None:
    splits = {"a": _split(True)}
    good = fitness({"a/AP50": 80.0, "a/matched": 9, "a/mae": 6.0}, splits)
    bad = fitness({"a/AP50": 81.0, "a/matched": 9, "a/mae": 40.0}, splits)
    none = fitness({"a/AP50": 81.0, "a/matched": 0}, splits)
    assert good > bad > none == 0
    # The same data, of which a detect head learns boxes.
    assert fitness({"a/AP50": 81.0}, splits) == pytest.approx(81)
