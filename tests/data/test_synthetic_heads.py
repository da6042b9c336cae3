from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from vision_heads.data.card import load_split
from vision_heads.data.synthetic import GROUPS, render_heads, synthetic_split
from vision_heads.data.synthetic.head_looks import draw_look
from vision_heads.data.synthetic.head_shape import HEAD
from vision_heads.data.synthetic.heads import person_meshes, render_people
from vision_heads.data.synthetic.people import OVER, Person, turn_x, turn_y
from vision_heads.data.synthetic.surface import paint
from vision_heads.errors import UserError
from vision_heads.geometry.rotations import (
    from_euler,
    geodesic,
    is_rotation,
    mirror,
    rotate_in_plane,
    to_euler,
)


def person(rotation, x=160.0, y=100.0, size=100.0, seed=0, distance=1e6) -> Person:
    look = draw_look(np.random.default_rng(seed), size)
    return Person(x, y, size, np.asarray(rotation), np.eye(3), distance, look)


def silhouette(one: Person, width=320, height=240) -> np.ndarray:
    """Pixels of the head alone."""
    parts = [part for part in person_meshes(one) if part.tag == HEAD]
    flats = [(part.points[:, :2] * one.size + (one.x, one.y)).astype(np.float32) for part in parts]
    fragment = paint(parts, flats, width, height)
    mask = np.zeros((height, width), bool)
    rows, columns = fragment.tags.shape
    mask[fragment.top : fragment.top + rows, fragment.left : fragment.left + columns] = (
        fragment.tags == HEAD
    )
    return mask


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_gives_sound_labels(group: str) -> None:
    scene = render_heads(5, 320, 192, group=group)
    again = render_heads(5, 320, 192, group=group)
    assert scene.image.shape == (192, 320, 3) and scene.image.dtype == np.uint8
    assert np.array_equal(scene.image, again.image) and np.array_equal(scene.boxes, again.boxes)
    assert len(scene.boxes) == len(scene.labels) == len(scene.rotations)
    assert len(scene.boxes) + len(scene.ignore_boxes) >= 1
    assert is_rotation(scene.rotations).all()
    for boxes in (scene.boxes, scene.ignore_boxes):
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes >= 0).all() and (boxes <= (320, 192, 320, 192)).all()


def test_yaw_goes_all_the_way_round() -> None:
    angles = np.concatenate(
        [to_euler(render_heads(seed, 160, 96, group="group").rotations) for seed in range(25)]
    )
    counts, _ = np.histogram(angles[:, 1], bins=8, range=(-180, 180))
    assert (counts > 0).all()
    assert np.abs(angles[:, 0]).max() > 25 and np.abs(angles[:, 2]).max() > 20


@pytest.mark.parametrize(
    ("yaw", "pitch"), [(0, 0), (60, 0), (-60, 0), (0, 40), (120, 0), (180, 0), (-100, 20)]
)
def test_the_nose_is_where_the_rotation_says(yaw: float, pitch: float) -> None:
    one = person(from_euler([pitch, yaw, 0]))
    build = one.look.build
    plain = replace(build, hair=0.0, cover="", long=0.0, bun=0.0)
    one = replace(one, look=replace(one.look, build=plain))
    skull = person_meshes(one)[0]
    upright = person_meshes(replace(one, rotation=np.eye(3)))[0]
    tip = int(upright.points[:, 2].argmax())  # what stands out farthest from a bare face
    assert abs(upright.points[tip, 0]) < 0.05 and 0 < upright.points[tip, 1] < 0.2
    direction = skull.points[tip] / np.linalg.norm(skull.points[tip])
    assert direction @ one.rotation[:, 2] > 0.95


def test_boxes_are_those_of_the_pixels() -> None:
    one = person(from_euler([10, 50, 0]), distance=1e6)
    scene = render_people([one], 320, 240, np.random.default_rng(0))
    y, x = np.nonzero(silhouette(one))
    box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert np.abs(scene.boxes[0] - box).max() <= 1.5
    assert geodesic(scene.rotations[0], one.rotation) < 0.01


def test_who_is_larger_hides_who_is_behind() -> None:
    near, far = person(np.eye(3), size=120), person(np.eye(3), x=165, size=50, seed=1)
    scene = render_people([near, far], 320, 240, np.random.default_rng(0))
    assert len(scene.boxes) == 1 and scene.boxes[0, 3] - scene.boxes[0, 1] > 90
    half = replace(far, x=222.0)
    scene = render_people([near, half], 320, 240, np.random.default_rng(0))
    widths = scene.boxes[:, 2] - scene.boxes[:, 0]
    alone = render_people([half], 320, 240, np.random.default_rng(0)).boxes[0]
    assert len(scene.boxes) == 2 and widths.min() < alone[2] - alone[0] + 0.1


@pytest.mark.parametrize("theta", [20.0, -75.0, 180.0])
@pytest.mark.parametrize("angles", [(0, 0, 0), (20, 70, 10), (-15, 150, 0)])
def test_turning_the_picture_is_turning_the_head(theta: float, angles: tuple) -> None:
    one = person(from_euler(angles), 160, 120, 90)
    other = replace(one, rotation=rotate_in_plane(one.rotation, theta))
    # OpenCV counts from pixel centres, and its angles anticlockwise.
    matrix = cv2.getRotationMatrix2D((159.5, 119.5), -theta, 1)
    turned = cv2.warpAffine(silhouette(one).astype(np.uint8) * 255, matrix, (320, 240)) > 127
    assert overlap(turned, silhouette(other)) > 0.97


@pytest.mark.parametrize("angles", [(0, 30, 0), (20, 70, 10), (-15, 150, -40)])
def test_mirroring_the_picture_is_mirroring_the_head(angles: tuple) -> None:
    one = person(from_euler(angles), 160, 120, 90)
    other = replace(one, rotation=mirror(one.rotation))
    flipped = silhouette(one)[:, ::-1]
    assert overlap(flipped, silhouette(other)) > 0.97
    assert overlap(flipped, silhouette(one)) < 0.97


@pytest.mark.parametrize("angles", [(0, 0, 0), (20, 70, 10), (-15, 150, -40)])
def test_places_on_a_head_and_where_they_are_seen_give_its_rotation(angles: tuple) -> None:
    one, other = person(from_euler(angles)), person(np.eye(3), x=260, size=70, seed=3)
    scene = render_people([one, other], 320, 240, np.random.default_rng(0), surface=True)
    surface = scene.surface
    assert surface is not None and surface.owner.shape == (240 * OVER, 320 * OVER)
    row = int(scene.boxes[:, 0].argmin())
    y, x = np.nonzero(surface.owner == row)
    box = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) / OVER
    np.testing.assert_allclose(scene.boxes[row], box)
    # From so far away a pixel is a linear function of the place: two rows of the rotation.
    places = surface.places[y, x]
    seen = (np.stack([x, y], 1) + 0.5) / OVER - (one.x, one.y)
    rows = np.linalg.lstsq(places, seen, rcond=None)[0].T / one.size
    np.testing.assert_allclose(rows, one.rotation[:2], atol=1e-3)
    depth = places @ one.rotation[2]
    assert depth.max() > 0.2  # the near side, not the far one
    assert np.isnan(surface.places[surface.owner < 0]).any()
    assert np.isfinite(surface.places[surface.owner >= 0]).all()


def test_asking_for_the_surface_changes_no_picture() -> None:
    plain, more = render_heads(5, 160, 96), render_heads(5, 160, 96, surface=True)
    assert plain.surface is None and np.array_equal(plain.image, more.image)


def test_the_turns_are_those_of_the_convention() -> None:
    np.testing.assert_allclose(
        turn_x(np.radians(25)) @ turn_y(np.radians(-40)), from_euler([25, 40, 0]), atol=1e-12
    )


def test_written_data_sets_are_read_back(tmp_path) -> None:
    made = synthetic_split(4, 1, tmp_path / "people", what="heads", size=(320, 192), quality=70)
    read = load_split(tmp_path / "people" / "card.yaml", "train")
    assert read.names == made.names == ("head",) and not read.problems
    for ours, theirs in zip(made.samples, read.samples, strict=True):
        np.testing.assert_allclose(theirs.boxes, ours.boxes, atol=0.02)
        assert theirs.rotations is not None and ours.rotations is not None
        assert geodesic(theirs.rotations, ours.rotations).max(initial=0) < 0.02
        assert len(theirs.ignore_boxes) == len(ours.ignore_boxes)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"seed": -1}, "seed"), ({"seed": 0, "width": 10}, "width"),
     ({"seed": 0, "group": "party"}, "group")],
)  # fmt: skip
def test_wrong_values_are_named(arguments: dict, word: str) -> None:
    with pytest.raises(UserError, match=word):
        render_heads(**arguments)


def test_the_demo_set_is_what_its_maker_makes() -> None:
    from tools.make_demo_heads import PICTURES, SIZE

    split = load_split("demo-heads", "val")
    assert [sample.image.stem for sample in split.samples] == [name for name, _, _ in PICTURES]
    assert not split.problems and len(split.samples) == 6
    folder = split.samples[0].image.parent.parent
    assert sum(file.stat().st_size for file in folder.rglob("*.*")) < 1_000_000
    _, seed, group = PICTURES[1]
    scene = render_heads(seed, *SIZE, group=group)
    np.testing.assert_allclose(split.samples[1].boxes, scene.boxes, atol=1)
    assert geodesic(split.samples[1].rotations, scene.rotations).max() < 0.02
    shipped = cv2.imread(str(split.samples[1].image)).astype(float)
    assert np.abs(shipped - scene.image).mean() < 4  # JPEG


def test_people_seen_from_above_have_their_feet_behind_them() -> None:
    scene = render_heads(20, 320, 192, group="crowd")
    assert len(scene.boxes) >= 10  # nobody fills the picture by coming too near
    tall = scene.boxes[:, 3] - scene.boxes[:, 1]
    assert tall.max() < 60
