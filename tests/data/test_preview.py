"""The picture of a batch."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.data.scenes import STILL, write_split
from vision_heads.data.dataset import TrainLoader
from vision_heads.data.preview import batch_preview, save_batch_preview
from vision_heads.errors import UserError
from vision_heads.media.draw import class_color


def loader(folder: Path, pictures: int, batch: int) -> TrainLoader:
    sources = {"a": write_split(folder / "a", pictures), "b": write_split(folder / "b", pictures)}
    return TrainLoader(
        sources, STILL, height=64, width=96, batch_size=batch, epochs=1, seed=0, workers=0
    )


def test_every_picture_and_its_boxes_are_on_the_sheet(tmp_path: Path) -> None:
    batch = next(loader(tmp_path, 3, 6).epoch(0))
    names = {"a": [f"a{i}" for i in range(6)], "b": [f"b{i}" for i in range(6)]}
    save_batch_preview(batch, names, tmp_path / "batch.png")
    sheet = cv2.imread(str(tmp_path / "batch.png"))
    assert sheet.shape[0] >= 2 * 64 and sheet.shape[1] >= 4 * 96
    labels = {int(x) for head in batch.targets.values() for x in head.labels}
    for label in labels:
        assert (sheet == class_color(label)).all(-1).any(), label
    bare = batch.targets["a"].labels.new_zeros(0)
    for targets in batch.targets.values():
        targets.boxes, targets.labels, targets.rows = targets.boxes[:0], bare, bare
        targets.ignore_boxes, targets.ignore_rows = targets.ignore_boxes[:0], bare
    plain = batch_preview(batch, names)
    assert plain.shape == sheet.shape and (plain != sheet).any()
    for row in range(6):
        picture = batch.images[row].numpy()[::-1].transpose(1, 2, 0)
        assert _holds(plain, picture)


def _holds(sheet: np.ndarray, picture: np.ndarray) -> bool:
    found = cv2.matchTemplate(sheet, np.ascontiguousarray(picture), cv2.TM_SQDIFF)
    return bool(found.min() <= 1)


def test_large_batches_show_their_first_pictures(tmp_path: Path) -> None:
    batch = next(loader(tmp_path, 12, 24).epoch(0))
    sheet = batch_preview(batch, {"a": ["x"] * 6, "b": ["y"] * 6})
    assert sheet.shape[0] < 6 * 64


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    batch = next(loader(tmp_path, 2, 2).epoch(0))
    with pytest.raises(UserError, match=r"nowhere/batch\.png: No such file"):
        save_batch_preview(
            batch, {"a": ["x"] * 6, "b": ["y"] * 6}, tmp_path / "nowhere" / "batch.png"
        )
