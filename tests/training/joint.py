"""A joint run of three small heads of two kinds, with and without the options of joint training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.training.scenes import only, posed, square_split
from tests.training.test_trainer import settings
from vision_heads.data.sample import DataSplit
from vision_heads.training.config import TrainConfig

BRANCHES = {"down_p3": [["yellow", "face"], ["blue"]], "up_p3": [["yellow"], ["blue"], ["face"]]}


def data(root: Path, split: str = "train", count: int = 8, seed: int = 0) -> dict[str, DataSplit]:
    """Write the pictures of three heads."""
    colours = square_split(root / split / "a", count, seed=seed)
    return {
        "yellow": only(colours, 0),
        "blue": only(square_split(root / split / "b", count - 2, seed=seed + 10), 1),
        "face": posed(square_split(root / split / "c", count - 1, seed=seed + 20)),
    }


def joint(heads: dict[str, dict[str, Any]] | None = None, **over: Any) -> TrainConfig:
    """Return settings; `heads` changes those of single heads."""
    base: dict[str, dict[str, Any]] = {
        "yellow": {"data": "-", "levels": [2, 3], "weight": 2.0},
        "blue": {"data": "-", "levels": [2, 3, 4], "weight": 0.5},
        "face": {"data": "-", "levels": [2, 3], "kind": "headpose"},
    }
    for name, changes in (heads or {}).items():
        base[name] |= changes
    fixed = {"heads": base, "batch": 6, "augment": {"mosaic": 0.0, "scale": 0.2}}
    return settings(**(fixed | over))
