"""After any augmentation each box still bounds its coloured block."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tests.data.scenes import COLORS, STILL, extent, make_sample, picture_of, still
from vision_heads.data.augment import (
    AugmentConfig,
    augment,
    blend,
    check_poses,
    compose,
    random_view,
)
from vision_heads.data.colour import degrade, shift_hsv
from vision_heads.data.paste import paste_small
from vision_heads.data.sample import Sample
from vision_heads.data.warp import PAD_VALUE, Labels, transform_points
from vision_heads.errors import UserError
from vision_heads.geometry.boxes import clip, intersection_matrix, iou_matrix
from vision_heads.geometry.letterbox import letterbox

SIZE = (256, 320)
FOUR = [
    make_sample(400, 300, [(150, 100, 220, 160)], [0], "0.png"),
    make_sample(300, 400, [(100, 150, 170, 260)], [1], "1.png"),
    make_sample(640, 360, [(280, 120, 390, 210)], [2], "2.png"),
    make_sample(200, 200, [(60, 60, 130, 120)], [3], "3.png"),
]


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def check_blocks(picture: np.ndarray, labels: Labels, slack: float) -> int:
    """Assert that each box of a class with one block bounds its pixels; return how many did."""
    checked = 0
    for box, label in zip(labels.boxes, labels.labels.tolist(), strict=True):
        if (labels.labels == label).sum() > 1 or (box[2:] - box[:2]).min() < 8:
            continue
        found = extent(picture, label)
        assert np.abs(found - box).max() <= slack, (label, found, box)
        checked += 1
    return checked


def test_without_augmentation_the_input_is_the_letterboxed_picture() -> None:
    for sample in FOUR:
        picture, labels = compose([sample], picture_of, STILL, SIZE, rng(0))
        expected, fit = letterbox(picture_of(sample), *SIZE)
        assert (picture == expected).all()
        assert np.allclose(labels.boxes, fit.to_network(sample.boxes), atol=1e-3)


def test_small_pictures_kept_at_the_networks_size_are_not_touched_again() -> None:
    sample = FOUR[0]
    expected, _ = letterbox(picture_of(sample), *SIZE)
    inner = np.ascontiguousarray(expected[8:248])

    picture, _ = compose([sample], lambda _: inner, STILL, SIZE, rng(0))
    assert (picture == expected).all()


def test_flip_mirrors_picture_and_boxes() -> None:
    sample = make_sample(320, 256, [(20, 30, 90, 80), (200, 100, 250, 140)], [0, 1])
    picture, labels = compose([sample], picture_of, still(flip=1), SIZE, rng(0))
    assert (picture == picture_of(sample)[:, ::-1]).all()
    assert labels.boxes.tolist() == [[230, 30, 300, 80], [70, 100, 120, 140]]


@pytest.mark.parametrize(
    ("changes", "slack"),
    [
        ({"scale": 0.5, "translate": 0.2, "flip": 0.5}, 1.0),
        # The hull of a turned block's corners is where its last pixel ends.
        ({"degrees": 45.0, "flip": 0.5}, 2.0),
        ({"shear": 20.0}, 2.0),
        ({"perspective": 0.4}, 2.0),
        ({"degrees": 20.0, "shear": 10.0, "scale": 0.4, "translate": 0.1, "flip": 0.5}, 2.0),
    ],
)
@pytest.mark.parametrize("pictures", [1, 4])
def test_boxes_bound_their_blocks(changes: dict, slack: float, pictures: int) -> None:
    checked = 0
    for seed in range(25):
        picture, labels = compose(FOUR[:pictures], picture_of, still(**changes), SIZE, rng(seed))
        assert picture.shape == (*SIZE, 3) and picture.dtype == np.uint8
        checked += check_blocks(picture, labels, slack)
    assert checked >= 15 * pictures**0.5


def test_a_mosaic_holds_four_pictures_and_little_grey() -> None:
    config = still()
    grey, together = [], 0
    for seed in range(20):
        picture, labels = compose(FOUR, picture_of, config, SIZE, rng(seed))
        check_blocks(picture, labels, 1.0)
        together = max(together, len(set(labels.labels.tolist())))
        grey.append((picture == PAD_VALUE).all(-1).mean())
    assert together >= 3
    wide = [make_sample(400, 200, [(50, 50, 90, 90)], [i], f"{i}.png") for i in range(4)]
    picture, _ = compose(wide, picture_of, config, SIZE, rng(0))
    assert not (picture == PAD_VALUE).all(-1).any(), "wide pictures must fill the input"


def test_only_pictures_in_view_are_read() -> None:
    read: list[Sample] = []

    def load(sample: Sample) -> np.ndarray:
        read.append(sample)
        return picture_of(sample)

    for seed in range(30):
        read.clear()
        _, labels = compose(FOUR, load, still(scale=0.5, translate=0.4), SIZE, rng(seed))
        assert set(labels.labels.tolist()) <= {int(sample.labels[0]) for sample in read}
        if len(read) < 4:
            return
    pytest.fail("every mosaic read all four pictures")


def test_a_picture_out_of_view_leaves_the_others_in(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, read = [], []
    monkeypatch.setattr(
        "vision_heads.data.augment.in_view", lambda *_: bool(asked.append(1) or len(asked) > 1)
    )
    compose(FOUR, lambda sample: read.append(sample) or picture_of(sample), STILL, SIZE, rng(0))
    assert read == FOUR[1:]


def test_ignore_areas_follow_and_are_cut() -> None:
    sample = make_sample(320, 256, [], ignore=[(10, 20, 60, 50), (250, 200, 400, 300)])
    _, labels = compose([sample], picture_of, still(flip=1), SIZE, rng(0))
    assert labels.ignore.tolist() == [[260, 20, 310, 50], [0, 200, 70, 256]]


def test_mixup_keeps_both_labels_and_both_blocks() -> None:
    one = compose([FOUR[0]], picture_of, STILL, SIZE, rng(0))
    two = compose([FOUR[2]], picture_of, STILL, SIZE, rng(1))
    picture, labels = blend(one, two, rng(2))
    assert labels.labels.tolist() == [0, 2]
    for part in (one, two):
        x, y = part[1].boxes[0].reshape(2, 2).mean(0).astype(int)
        assert 80 < picture[y, x].max() < 255
    assert np.allclose(labels.boxes, np.concatenate([one[1].boxes, two[1].boxes]))


def test_mixup_happens_through_augment() -> None:
    _, labels = augment(
        FOUR[0], lambda _: FOUR[1], picture_of, config=still(mixup=1.0), size=SIZE, rng=rng(0)
    )
    assert labels.labels.tolist() == [0, 1]


def paste_scene() -> tuple[np.ndarray, Labels]:
    boxes = [(30, 40, 42, 60), (100, 100, 120, 112), (200, 30, 290, 90)]
    sample = make_sample(320, 256, boxes, [0, 1, 2], ignore=[(0, 150, 320, 256)])
    return compose([sample], picture_of, STILL, SIZE, rng(0))


def test_copies_are_labelled_where_they_are() -> None:
    picture, labels = paste_scene()
    pasted, more = paste_small(picture, labels, 1.0, 32.0, rng(3))
    assert more.labels.tolist() == [0, 1, 2, 0, 1], "the large block is not copied"
    for box, label in zip(more.boxes, more.labels.tolist(), strict=True):
        x1, y1, x2, y2 = box.astype(int).tolist()
        assert (pasted[y1:y2, x1:x2] == COLORS[label]).all()
    new = more.boxes[3:]
    assert iou_matrix(new, more.ignore).max() == 0 or (new[:, 3] <= 152).all()
    assert iou_matrix(more.boxes, more.boxes)[np.triu_indices(5, 1)].max() <= 0.1
    assert np.allclose(new[:, 2:] - new[:, :2], labels.boxes[:2, 2:] - labels.boxes[:2, :2])


def test_a_copy_is_whole_and_its_margin_fades() -> None:
    sample = make_sample(320, 256, [(100, 80, 120, 100)])
    noise = rng(7).integers(0, 100, (256, 320, 3)).astype(np.uint8)
    noise[70:110, 90:130] += 120
    _, labels = compose([sample], picture_of, STILL, SIZE, rng(0))
    pasted, more = paste_small(noise, labels, 1.0, 32, rng(2))
    (x1, y1, *_), (x2, y2, *_) = labels.boxes[0].astype(int), more.boxes[1].astype(int)
    dx, dy = x2 - x1, y2 - y1
    part, old, margin = np.roll(noise, (dy, dx), (0, 1)).astype(float), noise.astype(float), 3
    np.testing.assert_array_equal(pasted[y2 : y2 + 20, x2 : x2 + 20], noise[80:100, 100:120])
    for out in range(1, margin + 2):  # pixels beside the copy, level with its middle
        weight = max(1 - (out - 0.5) / (margin + 0.5), 0) if out <= margin else 0
        for x, y in (
            (x2 - out, y2 + 9),
            (x2 + 19 + out, y2 + 9),
            (x2 + 9, y2 - out),
            (x2 + 9, y2 + 19 + out),
        ):
            mixed = part[y, x] * weight + old[y, x] * (1 - weight)
            np.testing.assert_allclose(pasted[y, x], mixed, atol=0.51)
    changed = np.argwhere((pasted != noise).any(-1))
    assert changed.min(0).tolist() == [y2 - margin, x2 - margin]
    assert changed.max(0).tolist() == [y2 + 19 + margin, x2 + 19 + margin]


@pytest.mark.parametrize(("box", "copied"), [((9, 9, 42, 19), 0), ((9, 9, 41, 19), 1)])
def test_small_goes_by_the_longest_side(box: tuple[int, ...], copied: int) -> None:
    sample = make_sample(320, 256, [box])
    picture, labels = compose([sample], picture_of, STILL, SIZE, rng(0))
    _, more = paste_small(picture, labels, 1.0, 32, rng(2))
    assert len(more.boxes) == 1 + copied


def test_copies_stay_off_each_other() -> None:
    boxes = [(4 + 16 * i, 4, 16 + 16 * i, 18) for i in range(6)]
    sample = make_sample(104, 64, boxes, list(range(6)))
    picture, labels = compose([sample], picture_of, STILL, (64, 104), rng(0))
    pasted = 0
    for seed in range(10):
        _, more = paste_small(picture, labels, 1.0, 32.0, rng(seed))
        pasted += len(more.boxes) - 6
        shared = intersection_matrix(more.boxes, more.boxes)[np.triu_indices(len(more.boxes), 1)]
        assert shared.max() <= 0.1 * 12 * 14 + 1e-3
    assert pasted > 20


def test_copies_change_nothing_else() -> None:
    picture, labels = paste_scene()
    before = picture.copy()
    pasted, more = paste_small(picture, labels, 1.0, 32.0, rng(3))
    assert (picture == before).all()
    changed = (pasted != picture).any(-1)
    margin = np.zeros_like(changed)
    for x1, y1, x2, y2 in more.boxes[3:].astype(int).tolist():
        margin[max(y1 - 4, 0) : y2 + 4, max(x1 - 4, 0) : x2 + 4] = True
    assert changed.any() and not (changed & ~margin).any()


def test_nothing_is_pasted_on_grey_or_without_room() -> None:
    picture = np.full((64, 64, 3), PAD_VALUE, np.uint8)
    picture[20:30, 20:30] = 200
    box = np.array([[20, 20, 30, 30]], np.float32)
    labels = Labels(box, np.array([0]), np.zeros((0, 4), np.float32), np.zeros((1, 3, 3)))
    for seed in range(20):
        _, more = paste_small(picture, labels, 1.0, 32.0, rng(seed))
        assert len(more.boxes) == 1
    full = np.array([[0, 0, 64, 64]], np.float32)
    labels = Labels(box, np.array([0]), full, np.zeros((1, 3, 3)))
    assert paste_small(picture, labels, 1.0, 32.0, rng(0))[0] is picture


def test_poses_turn_with_mosaic_flip_and_copies() -> None:
    turned = np.array([[[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]]], np.float32)
    sample = make_sample(320, 256, [(100, 100, 120, 120)], [0], rotations=turned)
    config = still(flip=1, copy_paste=1.0)
    _, labels = augment(
        sample, lambda _: sample, picture_of, config=config, size=SIZE, rng=rng(0), combine=False
    )
    assert len(labels.boxes) == 2
    expected = [[0.8, 0, -0.6], [0, 1, 0], [0.6, 0, 0.8]]
    assert np.allclose(labels.rotations, [expected, expected])


@pytest.mark.parametrize("field", ["shear", "perspective"])
def test_poses_refuse_distortion(field: str) -> None:
    posed = make_sample(64, 64, [(1, 1, 9, 9)], rotations=np.eye(3, dtype=np.float32)[None])
    config = AugmentConfig(**{field: 0.3})
    with pytest.raises(UserError, match=rf"augment\.{field}: must be 0, because heads"):
        check_poses(config, [FOUR[0], posed], "heads")
    check_poses(config, FOUR, "drones")
    check_poses(AugmentConfig(), [posed], "heads")


@pytest.mark.parametrize("seed", range(40))
def test_the_whole_mosaic_stays_before_the_horizon(seed: int) -> None:
    config = still(perspective=0.5, shear=45, degrees=180, scale=0.9)
    view = random_view(config, SIZE, rng(seed))
    reach = np.array([[x, y] for x in (-320, 640) for y in (-256, 512)], np.float64)
    depth = reach @ view[2, :2] + view[2, 2]
    assert (depth > 0.1).all()
    assert np.isfinite(transform_points(reach, view)).all()


def test_the_same_numbers_give_the_same_scene() -> None:
    config = AugmentConfig(
        degrees=10, mixup=0.5, copy_paste=0.5, blur=0.5, grey=0.3, contrast=0.5, perspective=0.1
    )

    def scene(seed: int) -> tuple[np.ndarray, Labels]:
        return augment(
            FOUR[0],
            lambda r: FOUR[int(r.integers(4))],
            picture_of,
            config=config,
            size=SIZE,
            rng=rng(seed),
        )

    different = 0
    for seed in range(8):
        (one, labels), (two, again) = scene(seed), scene(seed)
        assert (one == two).all() and (labels.boxes == again.boxes).all()
        different += bool((one != scene(seed + 100)[0]).any())
    assert different == 8


def test_the_last_epochs_combine_nothing() -> None:
    def never(_: np.random.Generator) -> Sample:
        raise AssertionError("asked for another picture")

    config = still(mosaic=1.0, mixup=1.0)
    picture, labels = augment(
        FOUR[0], never, picture_of, config=config, size=SIZE, rng=rng(0), combine=False
    )
    assert labels.labels.tolist() == [0]
    assert (picture == letterbox(picture_of(FOUR[0]), *SIZE)[0]).all()


def test_hsv_changes_colour_within_its_limits() -> None:
    picture = np.full((8, 8, 3), (60, 90, 120), np.uint8)
    assert (shift_hsv(picture, rng(0), 0, 0, 0) == picture).all()
    values = [int(shift_hsv(picture, rng(seed), 0, 0, 0.4).max()) for seed in range(60)]
    assert min(values) >= 120 * 0.6 - 2 and max(values) <= 120 * 1.4 + 2
    assert max(values) - min(values) > 60
    grey = np.full((8, 8, 3), 77, np.uint8)
    assert (shift_hsv(grey, rng(1), 0.5, 0, 0) == grey).all(), "grey has no hue"
    assert not (shift_hsv(picture, rng(1), 0.5, 0, 0) == picture).all()


def test_degrading_is_repeatable_and_optional() -> None:
    noise = rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert degrade(noise, rng(0), 0, 0, 0) is noise
    blurred = [degrade(noise, rng(seed), 1, 0, 0) for seed in (1, 1, 2, 3, 4)]
    assert (blurred[0] == blurred[1]).all()
    assert any((blurred[0] != other).any() for other in blurred[2:])
    assert all(b.std() < noise.std() for b in blurred)
    grey = degrade(noise, rng(0), 0, 1, 0)
    assert (grey[..., 0] == grey[..., 2]).all()
    assert (degrade(noise // 4, rng(0), 0, 0, 1) != noise // 4).any()


@pytest.mark.parametrize(
    "wrong",
    [{"flip": 1.2}, {"scale": 1.0}, {"hsv_h": float("nan")}, {"cache": "disk"}, {"mosiac": 1}],
)
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        AugmentConfig(**wrong)


def test_every_setting_is_described_and_frozen() -> None:
    assert all(field.description for field in AugmentConfig.model_fields.values())
    with pytest.raises(ValidationError, match="frozen"):
        AugmentConfig().flip = 0.1  # type: ignore[misc]


def test_the_page_lists_every_setting_with_its_default(repository: Path) -> None:
    rows = {}
    for line in (repository / "docs" / "augmentation.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if line.startswith("| `"):
            names = [name.strip(" `") for name in cells[1].split(",")]
            values = cells[2].removesuffix(" each").split(", ")
            rows.update(zip(names, values * (len(names) // len(values)), strict=True))
    defaults = AugmentConfig().model_dump()
    assert rows.keys() == defaults.keys()
    for name, value in rows.items():
        assert str(defaults[name]) == value or float(value) == defaults[name], name


def test_boxes_never_leave_the_input() -> None:
    for seed in range(30):
        config = AugmentConfig(degrees=30, shear=10, translate=0.5, copy_paste=0.5, mixup=0.3)
        _, labels = augment(
            FOUR[0], lambda _: FOUR[1], picture_of, config=config, size=SIZE, rng=rng(seed)
        )
        for found in (labels.boxes, labels.ignore):
            assert (clip(found, SIZE[1], SIZE[0]) == found).all()
            assert (found[:, 2:] > found[:, :2]).all()


def test_albumentations_asks_nobody_for_its_newest_version() -> None:
    program = """
import os, socket
asked = []
def no(*_, **__):
    asked.append(1)
    raise OSError("blocked")
socket.getaddrinfo = socket.socket.connect = no
from vision_heads.data.colour import transforms
transforms()
os._exit(3 if asked else 0)
"""
    environment = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert done.returncode == 0
