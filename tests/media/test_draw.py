import numpy as np
import pytest

from vision_heads.media import draw
from vision_heads.media.draw import (
    class_color,
    contact_sheet,
    draw_boxes,
    draw_legend,
    draw_result,
)
from vision_heads.results import Detections, Result

NAMES = ("pedestrian", "car", "bus")
RED = (0, 0, 255)


def grey(height: int = 240, width: int = 320) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(axis=2)


def test_colors_do_not_repeat_and_do_not_change() -> None:
    colors = [class_color(index) for index in range(80)]
    assert len(set(colors)) == 80
    assert class_color(0) == (0, 176, 255)  # orange, as BGR


def test_a_tiny_box_is_a_one_pixel_ring_exactly_around_its_pixels() -> None:
    image = grey()
    out = draw_boxes(image, np.array([[10, 20, 17, 26]]), ["car"], [(1, 2, 3)])
    rows, columns = np.nonzero(changed(image, out))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (10, 20, 16, 25)
    assert not changed(image, out)[21:25, 11:16].any()
    assert tuple(out[20, 10]) == (1, 2, 3)


def test_the_picture_given_is_left_alone() -> None:
    image = grey()
    image.setflags(write=False)
    result = Result({"a": Detections([[5, 5, 200, 150]], [0.9], [1], NAMES)}, 320, 240)
    assert changed(image, draw_result(image, result)).any()
    assert (image == 90).all()


def test_labels_appear_only_where_there_is_room() -> None:
    image = grey()
    box = np.array([[60, 60, 220, 180]])
    plain = draw_boxes(image, box, [""], [(0, 255, 0)])
    labelled = draw_boxes(image, box, ["car 90"], [(0, 255, 0)])
    assert changed(plain, labelled).sum() > 100
    small = np.array([[60, 60, 74, 72]])
    assert (draw_boxes(image, small, ["car 90"]) == draw_boxes(image, small, [""])).all()


def test_a_label_never_hides_a_tiny_box() -> None:
    image = grey()
    big = [60.0, 100.0, 220.0, 200.0]
    # Tiny objects above, below and inside the upper edge: every place for the label is taken.
    tiny = [[x, y, x + 5, y + 5] for y in (90, 104, 203) for x in range(60, 150, 8)]
    boxes = np.array([big, *tiny])
    texts = ["car 90"] + [""] * len(tiny)
    colors = [(0, 255, 0)] * len(boxes)
    out = draw_boxes(image, boxes, texts, colors)
    assert (out == draw_boxes(image, boxes, [""] * len(boxes), colors)).all()


@pytest.mark.parametrize(
    "box",
    [
        [np.nan, 0, 10, 10],
        [0, 0, np.inf, 10],
        [-1e12, -1e12, 1e12, 1e12],
        [400, 400, 500, 500],
        [50, 50, 50, 50],
        [60, 60, 40, 40],
    ],
)
def test_odd_boxes_do_not_break_the_drawing(box: list[float]) -> None:
    image = grey()
    boxes = np.array([box, [100, 100, 120, 110]])
    out = draw_boxes(image, boxes, ["car", "car"])
    assert changed(image, out)[100:110, 100:120].any()
    if not np.isfinite(box).all():
        alone = draw_boxes(image, boxes[1:], ["car"])
        assert (out == alone).all()


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="1 boxes, 2 labels"):
        draw_boxes(grey(), np.zeros((1, 4)), ["a", "b"])


def test_colors_follow_the_sorted_labels_when_none_are_given() -> None:
    boxes = np.array([[10, 10, 20, 20], [40, 40, 50, 50]])
    out = draw_boxes(grey(), boxes, ["zebra", "ant"])
    assert tuple(out[10, 10]) == class_color(1)
    assert tuple(out[40, 40]) == class_color(0)


def test_no_detections_draw_nothing() -> None:
    image = grey()
    result = Result({"a": Detections.empty(NAMES)}, 320, 240)
    assert (draw_result(image, result) == image).all()


def test_two_heads_share_no_color() -> None:
    first = Detections([[10, 10, 18, 18]], [0.9], [0], NAMES)
    second = Detections([[100, 100, 108, 108]], [0.9], [0], ("head",))
    out = draw_result(grey(), Result({"a": first, "b": second}, 320, 240))
    # The legend would lie on one of the boxes only if every corner were taken.
    assert tuple(out[10, 10]) == class_color(0)
    assert tuple(out[100, 100]) == class_color(len(NAMES))


def test_the_legend_says_whose_class_it_is_where_there_are_several_heads(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(draw, "draw_legend", lambda image, entries, avoid: seen.append(entries))
    found = Detections([[10, 10, 18, 18]], [0.9], [0], NAMES)
    draw_result(grey(), Result({"a": found}, 320, 240))
    draw_result(grey(), Result({"a": found, "b": found}, 320, 240))
    # Also where only one of them found something: a film's legend must not jump.
    draw_result(grey(), Result({"a": found, "b": found[:0]}, 320, 240))
    name = NAMES[0]
    assert [list(entries) for entries in seen] == [
        [name], [f"a: {name}", f"b: {name}"], [f"a: {name}"]
    ]  # fmt: skip


def test_the_legend_goes_where_no_boxes_are() -> None:
    image = grey()
    crowd = np.array([[x, y, x + 4, y + 4] for x in range(5, 100, 9) for y in range(5, 60, 9)])
    entries = {"car": (class_color(1), 12)}
    kept = changed(image, draw_legend(image, entries, avoid=crowd))
    assert not kept[:70, :110].any()
    assert kept.any()
    assert changed(image, draw_legend(image, entries))[:40, :60].any()


def test_a_long_legend_is_summed_up_instead_of_leaving_the_picture() -> None:
    entries = {f"class {index}": (class_color(index), index) for index in range(200)}
    for height, width in ((240, 320), (20, 30), (3, 3)):
        assert draw_legend(grey(height, width), entries).shape == (height, width, 3)


def test_the_legends_lines_and_their_order(monkeypatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(draw, "_text", lambda picture, text, *_: written.append(text))
    entries = {"a": (RED, 5), "later": (RED, None), "b": (RED, 9), "c": (RED, 1), "d": (RED, 5)}
    draw_legend(grey(), entries)
    assert written == ["b  9", "a  5", "d  5", "c  1", "later"]
    written.clear()
    draw_legend(grey(height=48), entries)
    assert written == ["b  9", "a  5", "3 more  6"]


def placed(monkeypatch, boxes: list[list[float]]) -> list[list[int]]:
    """Where the labels of boxes are written, left, top, right and bottom."""
    places: list[list[int]] = []
    monkeypatch.setattr(
        draw, "_write_label", lambda picture, text, place, *_: places.append(place.tolist())
    )
    draw_boxes(grey(), np.array(boxes, np.float32), ["car"] * len(boxes))
    return places


def test_a_label_lies_above_its_box_or_below_or_in_it(monkeypatch) -> None:
    ((left, top, right, bottom),) = placed(monkeypatch, [[100, 100, 200, 180]])
    wide = right - left
    assert (left, bottom) == (100, 100) and 12 < wide < 60
    ((left, top, *_),) = placed(monkeypatch, [[100, 0, 200, 180]])
    assert left == 100 and 180 <= top <= 182
    ((left, top, right, bottom),) = placed(monkeypatch, [[0, 0, 320, 240]])
    assert left == 0 and 0 <= top <= 2 and bottom < 240
    # At the right edge it moves in, as far as it must.
    ((left, _, right, _),) = placed(monkeypatch, [[308, 100, 320, 180]])
    assert 308 - wide < left < 308 and right == 320
    # Two labels never lie on each other.
    first, second = placed(monkeypatch, [[100, 100, 200, 180], [104, 100, 204, 180]])
    assert first[3] <= second[1] or second[3] <= first[1]


def test_a_label_in_its_box_hides_a_fifth_of_it_at_most(monkeypatch) -> None:
    places: list[np.ndarray] = []
    monkeypatch.setattr(draw, "_write_label", lambda *given: places.append(given[2]))
    low = grey(height=40)  # no room above or below
    draw_boxes(low, np.array([[0, 0, 20, 40]], np.float32), ["car"])
    assert not places
    draw_boxes(low, np.array([[0, 0, 200, 40]], np.float32), ["car"])
    ((left, top, right, bottom),) = places
    assert 20 * 40 < 5 * (right - left) * (bottom - top) < 200 * 40


def test_contact_sheet_keeps_every_picture_and_its_shape() -> None:
    pictures = [
        np.full((h, w, 3), value, np.uint8)
        for h, w, value in ((100, 200, 10), (200, 100, 120), (50, 400, 250))
    ]
    sheet = contact_sheet(pictures, columns=2, cell_width=80)
    gap = 2
    assert sheet.shape == (160 + 10 + 3 * gap, 2 * 82 + gap, 3)
    assert (sheet[gap : gap + 40, gap : gap + 80] == 10).all()
    assert (sheet[gap : gap + 160, 84:164] == 120).all()
    assert (sheet[160 + 2 * gap : 170 + 2 * gap, gap : gap + 80] == 250).all()


@pytest.mark.parametrize(("count", "columns", "width"), [(0, 1, 10), (1, 0, 10), (1, 1, 0)])
def test_contact_sheet_refuses_nothing_to_show(count: int, columns: int, width: int) -> None:
    with pytest.raises(ValueError, match="contact sheet"):
        contact_sheet([grey()] * count, columns, width)
