from __future__ import annotations

import numpy as np

from vision_heads.geometry.rotations import from_euler
from vision_heads.heads.base import DecodeOptions, kind_of
from vision_heads.results import Result
from vision_heads.runtime.predictor import Predictor
from vision_heads.runtime.slicing import Slicing
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec

SPEC = HeadSpec(name="pose", kind="headpose", classes=("head",))


def _candidates() -> dict[str, np.ndarray]:
    boxes = [[10, 10, 50, 60], [11, 10, 51, 60], [100, 10, 140, 60], [200, 10, 240, 60]]
    return {
        "boxes": np.array(boxes, np.float32),
        "scores": np.array([[0.6], [0.9], [0.7], [0.1]], np.float32),
        "rotation": from_euler([[0, 10, 0], [0, 20, 0], [0, 170, 0], [5, 5, 5]]).astype(np.float32),
    }


def test_each_box_keeps_the_rotation_of_its_own_candidate() -> None:
    found = kind_of("headpose").decode(_candidates(), SPEC, DecodeOptions(conf=0.25, iou=0.5))
    assert found.score.tolist() == np.array([0.9, 0.7], np.float32).tolist()
    # The better of two overlapping heads, not a mean of both.
    np.testing.assert_allclose(found.euler()[:, 1], [20, 170], atol=1e-3)


def test_max_det_and_nothing_found() -> None:
    one = kind_of("headpose").decode(_candidates(), SPEC, DecodeOptions(max_det=1))
    assert one.rotation is not None and one.rotation.shape == (1, 3, 3)
    none = kind_of("headpose").decode(_candidates(), SPEC, DecodeOptions(conf=0.95))
    assert none.rotation is not None and none.rotation.shape == (0, 3, 3)
    assert none.to_dicts() == []


class _FoundByBrightness:
    """An engine that "finds" a head wherever a picture has one of four bright blocks.

    The block's red value is the yaw, so that every rotation can be traced to its own head.
    """

    batch = None
    any_size = False

    def __init__(self) -> None:
        size = InputSpec(height=64, width=64)
        self.spec = ModelSpec(input=size, heads=(SPEC,), candidates=8)

    def run(self, images, heads=None) -> dict[str, np.ndarray]:
        boxes = np.zeros((len(images), 8, 4), np.float32)
        scores = np.zeros((len(images), 8, 1), np.float32)
        rotation = np.tile(np.eye(3, dtype=np.float32), (len(images), 8, 1, 1))
        for row, image in enumerate(images):
            reds = np.unique(np.round(image[0] * 255).astype(int))
            for number, red in enumerate(sorted(set(reds.tolist()) - {0, 114})):
                y, x = np.nonzero(np.round(image[0] * 255) == red)
                boxes[row, number] = [x.min(), y.min(), x.max() + 1, y.max() + 1]
                scores[row, number] = 0.5 + min(len(x), 400) / 1000
                rotation[row, number] = from_euler([0, red - 180, 0])
        return {"pose/boxes": boxes, "pose/scores": scores, "pose/rotation": rotation}


def _picture() -> np.ndarray:
    picture = np.zeros((64, 160, 3), np.uint8)
    for red, x in ((30, 4), (200, 50), (250, 130)):
        picture[20:40, x : x + 20, 2] = red
    return picture


def _yaws(result: Result) -> dict[int, float]:
    found = result["pose"]
    return {round(float(b[0])): round(float(a[1])) for b, a in
            zip(found.xyxy, found.euler(), strict=True)}  # fmt: skip


def test_rotation_goes_unchanged_through_the_letterbox() -> None:
    result = Predictor(_FoundByBrightness())(np.repeat(np.repeat(_picture(), 1, 0), 1, 1)[:, :64])
    assert _yaws(result) == {4: -150, 50: 20}


def test_rotation_goes_through_tiles() -> None:
    for merge in ("nms", "nmm"):
        slicing = Slicing(64, 0.4, whole=False, merge=merge)
        result = Predictor(_FoundByBrightness())(_picture(), slicing=slicing)
        assert _yaws(result) == {4: -150, 50: 20, 130: 70}
