"""Frames as watchers want them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vision_heads.geometry.rotations import from_euler
from vision_heads.media.frames import Frame
from vision_heads.results import Detections, Result
from vision_heads.serve.render import WIDTHS, Look, nearest_width, render
from vision_heads.stream.seen import Seen


@pytest.fixture
def seen() -> Seen:
    image = np.zeros((400, 1200, 3), np.uint8)
    car = Detections([[100, 100, 300, 300]], [0.9], [0], ("car",), track=[7])
    turn = from_euler(np.array([[5.0, 30.0, 0.0]]))
    face = Detections([[800, 100, 1000, 300]], [0.9], [0], ("face",), rotation=turn)
    result = Result({"cars": car, "faces": face}, 1200, 400, image=image)
    return Seen(Frame("a", 0, 0.0, 0.0, image), result)


def left_and_right(seen: Seen, look: Look) -> tuple[bool, bool]:
    """Tell whether something is drawn in each half."""
    image = cv2.imdecode(np.frombuffer(render(seen, look), np.uint8), 1)
    middle = image.shape[1] // 2
    return bool(image[:, :middle].max() > 120), bool(image[:, middle:].max() > 120)


def test_what_is_drawn(seen):
    image = seen.frame.image.copy()
    plain = Look(drawn=False)
    assert left_and_right(seen, plain) == (False, False)
    assert left_and_right(seen, Look()) == (True, True)
    assert left_and_right(seen, Look(boxes=False)) == (False, True)  # axes alone
    assert left_and_right(seen, Look(boxes=False, axes=False)) == (False, False)
    assert np.array_equal(seen.frame.image, image), "the frame is others' too"


def test_heads_that_are_left_out(seen):
    one = cv2.imdecode(np.frombuffer(render(seen, Look(heads=frozenset({"cars"}))), np.uint8), 1)
    both = cv2.imdecode(np.frombuffer(render(seen, Look()), np.uint8), 1)
    assert one[90:320, 790:1010].max() < 60 < both[90:320, 790:1010].max()
    # The other head keeps its colour.
    assert np.abs(one[150:250, 99:103].astype(int) - both[150:250, 99:103]).max() < 30


def test_track_ids_are_left_out(seen):
    with_ids, without = render(seen, Look()), render(seen, Look(tracks=False))
    assert with_ids != without


def test_overlays_are_on_every_look(seen):
    seen.overlay.append(lambda image: image[380:].fill(255))
    for look in (Look(), Look(drawn=False), Look(boxes=False), Look(480)):
        image = cv2.imdecode(np.frombuffer(render(seen, look), np.uint8), 1)
        assert image[-3:].min() > 200
    assert seen.frame.image.max() == 0


def test_pictures_are_made_smaller_never_larger(seen):
    for width, wanted in ((480, 480), (960, 960), (1920, 1200), (None, 1200)):
        image = cv2.imdecode(np.frombuffer(render(seen, Look(width)), np.uint8), 1)
        assert image.shape == (round(400 * wanted / 1200), wanted, 3)


def test_widths_are_few():
    assert {nearest_width(wanted) for wanted in range(1, 3000, 7)} == {*WIDTHS, None}
    assert nearest_width(481) == 960
