"""What becomes of tiles, of borders, and of cores, with an engine whose finds are known."""

from __future__ import annotations

import numpy as np
import pytest

from vision_heads import Predictor
from vision_heads.runtime.pipeline import plan_threads
from vision_heads.runtime.slicing import Slicing
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec


class _FindsBars:
    """An engine of 64 x 64 pixels that finds each bar of one red value; more of it scores more."""

    batch, any_size = None, False
    reds = (200, 250)

    def __init__(self):
        head = HeadSpec(name="bars", classes=tuple(map(str, self.reds)))
        self.spec = ModelSpec(input=InputSpec(height=64, width=64), heads=(head,), candidates=2)

    def run(self, images, heads=None):
        boxes = np.zeros((len(images), 2, 4), np.float32)
        scores = np.zeros((len(images), 2, 2), np.float32)
        for row, image in enumerate(np.round(images[:, 0] * 255).astype(int)):
            for number, red in enumerate(self.reds):
                y, x = np.nonzero(image == red)
                if len(x):
                    boxes[row, number] = x.min(), y.min(), x.max() + 1, y.max() + 1
                    scores[row, number, number] = 0.4 + len(x) / 10000
        return {"bars/boxes": boxes, "bars/scores": scores}


def test_what_is_longer_than_a_tile_is_one_box_as_good_as_its_best_piece():
    image = np.zeros((64, 250, 3), np.uint8)
    image[10:30, 20:230, 2] = 200
    image[40:60, 100:130, 2] = 250
    predictor = Predictor(_FindsBars())
    slicing = Slicing(size=64, overlap=0.25, whole=False)
    found = predictor(image, slicing=slicing)["bars"]
    assert found.xyxy.tolist() == [[20, 10, 230, 30], [100, 40, 130, 60]]
    assert found.class_id.tolist() == [0, 1]
    assert found.score.tolist() == pytest.approx([0.4 + 64 * 20 / 10000, 0.4 + 30 * 20 / 10000])
    # Seen coarsely in the whole picture too, each stays one.
    both = predictor(image, slicing=Slicing(size=64, overlap=0.25))["bars"]
    np.testing.assert_allclose(both.xyxy, found.xyxy)


def test_the_limit_of_results_is_of_the_picture_not_of_a_tile():
    image = np.zeros((64, 250, 3), np.uint8)
    image[10:20, 5:15, 2] = 200
    image[10:20, 220:240, 2] = 250  # more of it: the better one
    slicing = Slicing(size=64, overlap=0.25, whole=False)
    found = Predictor(_FindsBars())(image, slicing=slicing, max_det=1)["bars"]
    assert found.xyxy.tolist() == [[220, 10, 240, 20]]


def test_what_lies_in_the_border_alone_is_nothing(monkeypatch):
    """A wide picture has its borders above and below, a tall one beside it."""
    engine = _FindsBars()
    inside, above, left = [20, 20, 40, 40], [20, 2, 40, 12], [2, 20, 12, 40]
    scores = {"bars/scores": np.full((1, 2, 2), 0.9, np.float32) * [1, 0]}
    for size, border in (((32, 64), above), ((64, 32), left)):
        boxes = {"bars/boxes": np.array([[border, inside]], np.float32)}
        monkeypatch.setattr(engine, "run", lambda images, heads=None, b=boxes: scores | b)
        found = Predictor(engine)(np.zeros((*size, 3), np.uint8))["bars"]
        shift = [0, 16] if size == (32, 64) else [16, 0]
        assert found.xyxy.tolist() == [(np.array(inside) - shift * 2).tolist()]


@pytest.mark.parametrize(
    ("cores", "calls", "share", "plan"),
    [
        (1, None, True, (1, 1)),
        (2, None, True, (1, 2)),
        (8, None, True, (2, 4)),
        (6, None, True, (1, 4)),
        (8, 1, True, (8, 1)),
        (8, 3, True, (2, 3)),
        (2, 9, True, (1, 2)),
        (8, 0, True, (8, 1)),
        (8, None, False, (8, 1)),
    ],
)
def test_cores_are_shared_out_among_calls(cores, calls, share, plan):
    found = plan_threads(cores, calls, share=share)
    assert (found.threads, found.parallel) == plan


def test_all_cores_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 5}, raising=False)
    assert plan_threads(None, 1).threads == 3
