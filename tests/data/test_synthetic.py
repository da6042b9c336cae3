import json
import runpy
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_heads.data.card import load_split
from vision_heads.data.synthetic import (
    CATEGORY_IDS,
    KINDS,
    NAMES,
    View,
    models,
    render_clip,
    render_scene,
    synthetic_split,
)
from vision_heads.data.synthetic.actors import CAR, PEDESTRIAN, Actor
from vision_heads.data.synthetic.camera import Camera
from vision_heads.data.synthetic.plan import Building, Town, Tree
from vision_heads.data.synthetic.render import Shown, render
from vision_heads.data.synthetic.scene import SMALLEST, VISIBLE
from vision_heads.data.synthetic.weather import make_weather
from vision_heads.errors import UserError

COLORS = dict.fromkeys(
    (
        "body",
        "hood",
        "glass",
        "screen",
        "tyre",
        "lamp",
        "tail",
        "torso",
        "arm",
        "legs",
        "skin",
        "hair",
    ),
    (200.0, 30.0, 30.0),
)


def camera(altitude: float = 40.0, tilt: float = 0.0, yaw: float = 0.0) -> Camera:
    """Look at the origin from `altitude`, 400 x 300 pixels, focal length 400."""
    back = altitude * np.tan(tilt)
    position = (float(-back * np.sin(yaw)), float(-back * np.cos(yaw)), altitude)
    return Camera(position, yaw, tilt, 0.0, 400.0, 400, 300)


def a_car(x: float = 0.0, y: float = 0.0, heading: float = 0.0, speed: float = 0.0) -> Actor:
    return Actor(CAR, models.car(0), (1, 1, 1), x, y, 0.0, heading, speed, COLORS)


def show(
    actors: list[Actor],
    view: Camera,
    buildings: tuple[Building, ...] = (),
    trees: tuple[Tree, ...] = (),
    seconds: float = 0.0,
) -> dict[int, Shown]:
    town = Town("street", buildings=list(buildings), trees=list(trees))
    _, shown = render(town, actors, view, make_weather(np.random.default_rng(0)), seconds)
    return {one.actor: one for one in shown}


def test_a_car_seen_from_straight_above_has_the_size_it_must_have() -> None:
    length, width, height = models.car(0).size
    x1, y1, x2, y2 = show([a_car()], camera())[0].box
    # What is higher is nearer and looks larger: the true size lies between ground and roof.
    for seen, metres in ((x2 - x1, length), (y2 - y1, width)):
        assert metres * 400 / 40 - 0.5 <= seen <= metres * 400 / (40 - height) + 1.5
    assert (x1 + x2) / 2 == pytest.approx(200, abs=1)
    assert (y1 + y2) / 2 == pytest.approx(150, abs=1)


@pytest.mark.parametrize("tilt", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("heading", [0.0, 0.7, 2.5])
def test_boxes_agree_with_the_projected_corners(tilt: float, heading: float) -> None:
    view = camera(40, tilt, 0.3)
    actor = a_car(3.0, 2.0, heading)
    turn = np.array(
        [[np.cos(heading), -np.sin(heading), 0], [np.sin(heading), np.cos(heading), 0], [0, 0, 1]]
    )
    pixels = view.project(actor.model.corners @ turn.T + np.array([3.0, 2.0, 0.0]))[:, :2]
    expected = [*pixels.min(axis=0), *pixels.max(axis=0)]
    # Faces that look away are not painted, and OpenCV fills whole sub-pixels.
    np.testing.assert_allclose(show([actor], view)[0].box, expected, atol=1.6)


def test_the_nearer_car_hides_the_farther_one() -> None:
    view = camera(12, 1.0)
    near, far = a_car(0, 0), a_car(0, 3.0)
    both = show([near, far], view)
    assert both[0].visible == 1
    assert 0.1 < both[1].visible < 0.95
    assert both[1].box[3] <= show([far], view)[0].box[3]


def test_a_building_hides_what_stands_behind_it_and_only_that() -> None:
    view = camera(30, 0.9)
    wall = Building((-20, 4, 20, 10), 9.0, 0.0, 1)
    shown = show([a_car(0, 0), a_car(0, 12.5), a_car(0, 40)], view, (wall,))
    assert shown[0].visible == 1
    assert 1 not in shown
    assert shown[2].visible == 1


def test_a_tree_hides_part_of_a_car_under_it() -> None:
    view = camera(40)
    shown = show([a_car()], view, trees=(Tree(1.5, 0.0, 1.6, 3.0, 0),))
    assert 0.1 < shown[0].visible < 0.9


def test_a_car_half_outside_the_picture_counts_as_half_visible() -> None:
    edge = 200 * 40 / 400
    shown = show([a_car(edge, 0), a_car(-edge + 8, 0)], camera())
    assert shown[0].visible == pytest.approx(0.5, abs=0.06)
    assert shown[0].box[2] == 400
    assert shown[1].visible == 1


def test_what_drives_moves_as_fast_as_it_says() -> None:
    actor = a_car(speed=10.0)
    before, after = show([actor], camera())[0], show([actor], camera(), seconds=1.0)[0]
    assert after.box[0] - before.box[0] == pytest.approx(10 * 400 / 40, abs=4)
    assert after.box[1] == pytest.approx(before.box[1], abs=0.6)


def test_who_reaches_the_end_turns_round() -> None:
    walker = Actor(PEDESTRIAN, models.person(0), (1, 1, 1), 0, 0, 0, 0.0, 1.0, COLORS, reach=4.0)
    assert walker.place(3.0) == pytest.approx((3, 0, 0))
    assert walker.place(5.0) == pytest.approx((3, 0, np.pi))


@settings(deadline=None, max_examples=60)
@given(
    yaw=st.floats(-4, 4),
    tilt=st.floats(0, 1.0),
    roll=st.floats(-0.2, 0.2),
    row=st.integers(0, 59),
    column=st.integers(0, 79),
)
def test_the_ground_under_a_pixel_projects_back_to_it(
    yaw: float, tilt: float, roll: float, row: int, column: int
) -> None:
    view = Camera((5.0, -3.0, 30.0), yaw, tilt, roll, 90.0, 80, 60)
    x, y, depth = view.ground()
    u, v, far = view.project(np.array([[x[row, column], y[row, column], 0.0]]))[0]
    assert (u, v) == pytest.approx((column + 0.5, row + 0.5), abs=0.02)
    assert far == pytest.approx(depth[row, column], rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_a_whole_picture_with_sound_labels(kind: str) -> None:
    scene = render_scene(3, 320, 180, kind=kind)
    assert scene.image.shape == (180, 320, 3)
    assert scene.image.std() > 15
    assert len(scene.boxes) == len(scene.labels) == len(scene.areas) > 0
    every = np.concatenate([scene.boxes, scene.ignore_boxes])
    assert (every[:, :2] >= 0).all()
    assert (every[:, 2:] <= (320, 180)).all()
    sides = scene.boxes[:, 2:] - scene.boxes[:, :2]
    assert (sides >= SMALLEST).all()
    assert (scene.areas <= sides.prod(axis=1)).all()
    assert set(scene.labels) <= set(range(len(NAMES)))


@pytest.mark.parametrize(("altitude", "seeds"), [(8, 8), (60, 4), (400, 1)])
def test_no_seed_breaks_the_generator(altitude: float, seeds: int) -> None:
    for seed in range(1000, 1000 + seeds):
        scene = render_scene(seed, 96, 64, view=View(altitude=altitude, tilt=60))
        assert np.isfinite(scene.boxes).all()
    assert render_scene(1, 64, 160, view=View(tilt=60)).image.shape == (160, 64, 3)


def test_hidden_objects_become_ignore_areas_of_their_class() -> None:
    from vision_heads.data.synthetic.scene import _Stage

    stage = _Stage(5, (320, 180), "crossing", View(), 0.0)
    shown = [
        Shown(0, (10, 10, 30, 20), VISIBLE + 0.01, 60),
        Shown(1, (40, 10, 60, 20), VISIBLE - 0.01, 30),
        Shown(2, (70, 10, 72, 40), 1.0, 50),
    ]
    scene = stage._label(np.zeros((180, 320, 3), np.uint8), shown)
    assert scene.boxes.tolist() == [[10, 10, 30, 20]]
    assert scene.ignore_boxes.tolist() == [[40, 10, 60, 20], [70, 10, 72, 40]]
    assert scene.ignore_labels.tolist() == [stage.actors[k].label for k in (1, 2)]


def test_a_seed_gives_one_scene() -> None:
    first, again, other = (render_scene(seed, 160, 96) for seed in (9, 9, 10))
    assert (first.image == again.image).all()
    assert (first.boxes == again.boxes).all()
    assert (first.labels == again.labels).all()
    assert not (first.image == other.image).all()


def test_a_higher_camera_sees_smaller_cars() -> None:
    def size(altitude: float) -> float:
        view = View(altitude=altitude, tilt=0)
        scene = render_scene(6, 480, 270, kind="parking", view=view)
        cars = scene.boxes[scene.labels == CAR]
        return float(np.median((cars[:, 2:] - cars[:, :2]).max(axis=1)))

    assert size(40) == pytest.approx(3 * size(120), rel=0.25)


def test_a_clip_is_smooth_and_starts_like_the_first_frame() -> None:
    frames = list(render_clip(2, 0.4, 10, (160, 96), kind="street"))
    again = next(iter(render_clip(2, 0.4, 10, (160, 96), kind="street")))
    assert len(frames) == 4
    assert (frames[0].image == again.image).all()
    steps = [np.abs(a.image.astype(int) - b.image).mean() for a, b in pairwise(frames)]
    assert min(steps) > 0
    assert max(steps) < 40


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"seed": -1}, "seed"),
        ({"width": 10}, "size"),
        ({"kind": "beach"}, "kind"),
        ({"view": View(altitude=2)}, "altitude"),
        ({"view": View(tilt=80)}, "tilt"),
        ({"view": View(busy=-1)}, "busy"),
    ],
)
def test_values_out_of_range_are_named(change: dict, field: str) -> None:
    with pytest.raises(UserError, match=field):
        render_scene(**({"seed": 1, "width": 96, "height": 64} | change))


def test_a_split_reads_back_as_it_was_made(tmp_path: Path) -> None:
    seen: list[int] = []
    made = synthetic_split(3, 1, tmp_path / "s", size=(160, 96), progress=seen.append)
    synthetic_split(1, 1, tmp_path / "s", split="val", size=(160, 96))
    assert seen == [1, 2, 3]
    read = load_split(tmp_path / "s" / "card.yaml", "train")
    assert not read.problems
    assert read.names == NAMES
    assert read.category_ids == CATEGORY_IDS == tuple(range(1, 11))
    assert [s.image.name for s in read.samples] == [s.image.name for s in made.samples]
    for ours, theirs in zip(made.samples, read.samples, strict=True):
        assert ours.image.is_file()
        np.testing.assert_allclose(theirs.boxes, ours.boxes, atol=0.011)
        assert (theirs.labels == ours.labels).all()
        np.testing.assert_allclose(theirs.ignore_boxes, ours.ignore_boxes, atol=0.011)
        assert (theirs.ignore_labels == ours.ignore_labels).all()
    val = load_split(tmp_path / "s" / "card.yaml", "val")
    names = {s.image.name for s in read.samples}
    assert len(val.samples) == 1 and val.samples[0].image.name not in names


def test_workers_change_nothing(tmp_path: Path) -> None:
    for workers in (1, 2):
        synthetic_split(2, 4, tmp_path / str(workers), size=(128, 96), workers=workers)
    first, second = (tmp_path / "1" / "train", tmp_path / "2" / "train")
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) == 3
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes()


def test_a_split_is_never_overwritten_and_never_left_half_done(tmp_path: Path) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthetic_split(2, 0, tmp_path, size=(96, 64), progress=stop)
    assert not list(tmp_path.iterdir())
    synthetic_split(1, 0, tmp_path, size=(96, 64))
    with pytest.raises(UserError, match="already there"):
        synthetic_split(1, 0, tmp_path, size=(96, 64))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: cannot be written"):
        synthetic_split(1, 0, tmp_path / "file", size=(96, 64))


# --- what is shipped ---------------------------------------------------------------------------


def test_the_demo_set_is_whole(repository: Path) -> None:
    split = load_split(repository / "datasets" / "demo.yaml", "val")
    assert len(split.samples) == 12
    assert not split.problems
    assert {int(label) for s in split.samples for label in s.labels} == set(range(10))
    folder = repository / "datasets" / "demo"
    pictures = sum(path.stat().st_size for path in (folder / "images").iterdir())
    assert pictures < 2_500_000
    assert (folder / "clip.mp4").stat().st_size < 1_000_000


def test_the_demo_labels_are_what_the_generator_gives(repository: Path, tmp_path: Path) -> None:
    tool = runpy.run_path(str(repository / "tools" / "make_demo.py"))
    picture = next(p for p in tool["PICTURES"] if p.name == "08_square_low")
    fresh = tool["draw_picture"](picture)
    folder = repository / "datasets" / "demo"
    record = json.loads((folder / "annotations.json").read_text())
    (entry,) = [i for i in record["images"] if i["file_name"] == f"{picture.name}.jpg"]
    rows = [a for a in record["annotations"] if a["image_id"] == entry["id"]]
    shipped = np.array([a["bbox"] for a in rows if not a["iscrowd"]])
    shipped[:, 2:] += shipped[:, :2]
    # Half a pixel is one sub-pixel: another version of OpenCV may round a corner elsewhere.
    np.testing.assert_allclose(fresh.boxes, shipped, atol=0.51)
    labels = [CATEGORY_IDS[label] for label in fresh.labels]
    assert labels == [a["category_id"] for a in rows if not a["iscrowd"]]
    stored = cv2.imread(str(folder / "images" / entry["file_name"]))
    assert np.abs(stored.astype(int) - fresh.image).mean() < 4


def test_the_demo_clip_opens_and_plays(repository: Path) -> None:
    tool = runpy.run_path(str(repository / "tools" / "make_demo.py"))
    assert tool["check_clip"](repository / "datasets" / "demo" / "clip.mp4") == 75


def test_the_camera_scales_without_moving_anything() -> None:
    view = camera(30, 0.5, 0.2)
    point = np.array([[2.0, 5.0, 1.0]])
    np.testing.assert_allclose(view.scaled(3).project(point)[0, :2], 3 * view.project(point)[0, :2])


# --- the command -------------------------------------------------------------------------------


def run_vh(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    from vision_heads.cli.main import main

    monkeypatch.setattr("sys.argv", ["vh", "data", "synth", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_the_command_writes_both_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scenes"
    asked = [str(out), "--count", "2", "--val", "1", "--size", "96x64", "--kind", "highway"]
    assert run_vh(asked, monkeypatch) == 0
    assert "train: 2 pictures" in capsys.readouterr().out
    assert len(load_split(out / "card.yaml", "train").samples) == 2
    assert len(load_split(out / "card.yaml", "val").samples) == 1


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (["--size", "big"], "--size"),
        (["--kind", "beach"], "--kind"),
        (["--count", "0"], "count"),
        (["--tilt", "80"], "tilt"),
    ],
)
def test_the_command_names_the_mistake_in_one_line(
    asked: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_vh([str(tmp_path / "s"), *asked], monkeypatch) == 2
    text = capsys.readouterr().err
    assert named in text
    assert text.count("\n") == 1


def test_a_card_of_somebody_else_is_not_replaced(tmp_path):
    (tmp_path / "card.yaml").write_text("format: voc\n")
    with pytest.raises(UserError, match=r"card\.yaml: is already there"):
        synthetic_split(1, 0, tmp_path, size=(64, 64))
    assert (tmp_path / "card.yaml").read_text() == "format: voc\n"
