"""Head poses: COCO's `euler_angles`, 300W-LP's .mat files, BIWI's folders; CrowdHuman's heads."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pytest

from tests.data.folders import card, coco, picture, text
from vision_heads.data.card import load_card, load_split
from vision_heads.data.convert import convert
from vision_heads.data.fixes import apply_fixes
from vision_heads.data.formats.heads import HALF_AXES, LANDMARKS, ellipsoid_box, fit_landmarks
from vision_heads.data.sample import REGION
from vision_heads.errors import UserError
from vision_heads.geometry.rotations import from_euler, geodesic, to_biwi

PERSON = [{"id": 1, "name": "person"}]


# COCO with euler_angles


def posed_coco(root, annotations, **fields):
    picture(root / "images/a.png")
    entries = [
        {"id": n, "image_id": 5, "category_id": 1, "bbox": [1, 2, 10, 8], **more}
        for n, more in enumerate(annotations, 1)
    ]
    images = [{"id": 5, "file_name": "a.png", "width": 40, "height": 30}]
    coco(root / "gt.json", images, entries, PERSON)
    place = {"images": "images", "annotations": "gt.json"}
    return card(root / "c.yaml", format="coco", splits={"train": place}, **fields)


def test_euler_angles_become_rotations(tmp_path):
    file = posed_coco(
        tmp_path,
        [
            {"euler_angles": [10, -150.5, 5]},
            {"bbox": [5, 5, 9, 9]},
            {"iscrowd": 1, "euler_angles": [0, 0, 0], "bbox": [0, 0, 5, 5]},
            {"euler_angles": None, "bbox": [6, 5, 9, 9]},
        ],
    )
    split = load_split(file, "train")
    (sample,) = split.samples
    assert split.problems == []
    assert (sample.rotations.dtype, sample.rotations.shape) == (np.float32, (3, 3, 3))
    assert geodesic(sample.rotations[0], from_euler([10, -150.5, 5])) < 1e-4
    assert np.isnan(sample.rotations[1:]).all()
    assert sample.euler[0].tolist() == [10, -150.5, 5]
    assert np.isnan(sample.euler[1:]).all()


def test_a_file_without_poses_has_none(tmp_path):
    (sample,) = load_split(posed_coco(tmp_path, [{}]), "train").samples
    assert sample.rotations is None
    assert sample.euler is None


@pytest.mark.parametrize(
    "angles", [[1, 2], "left", [1, 2, "x"], [-999, -999, -999], {}, [1, 2, None]]
)
def test_angles_that_are_none_are_named(tmp_path, angles):
    split = load_split(posed_coco(tmp_path, [{"euler_angles": angles}, {}]), "train")
    (problem,) = split.problems
    assert problem.kind == "bad-annotation"
    assert "annotation id 1: euler_angles is" in problem.detail
    assert len(split.samples[0].boxes) == 1


def test_fixes_keep_poses_with_their_boxes(tmp_path):
    poses = [{"euler_angles": [n, 0, 0], "bbox": [n, 2, 0 if n == 2 else 5, 8]} for n in (1, 2, 3)]
    split = apply_fixes(load_split(posed_coco(tmp_path, poses), "train"), ["drop"])
    (sample,) = split.samples
    assert sample.euler[:, 0].tolist() == [1, 3]
    assert geodesic(sample.rotations, from_euler(sample.euler)).max() < 1e-4


def test_converting_to_coco_keeps_poses_to_the_last_digit(tmp_path):
    angles = [33.123456789, -171.5, 0.1]
    file = posed_coco(tmp_path / "old", [{"euler_angles": angles}, {"bbox": [5, 5, 9, 9]}])
    report = convert(load_card(file), tmp_path / "new", "coco")
    assert not report.lost
    (sample,) = load_split(report.card, "train").samples
    assert sample.euler[0].tolist() == angles
    assert np.isnan(sample.euler[1]).all()
    report = convert(load_card(file), tmp_path / "yolo", "yolo")
    assert report.lost["head poses"] == 1


def test_classes_can_be_renamed(tmp_path):
    split = load_split(posed_coco(tmp_path, [{}], rename={"person": "head"}), "train")
    assert (split.names, split.category_ids) == (("head",), (1,))
    with pytest.raises(UserError, match="rename: no class 'dog', only person"):
        load_split(posed_coco(tmp_path, [{}], rename={"dog": "head"}), "train")


def test_shared_heads_are_read(shared_data):
    root = shared_data / "headpose/aflw_probe"
    fields = {"images": "images", "annotations": "annotations.json"}
    from vision_heads.data.card import Card

    made = Card.model_validate(
        {"file": root / "c.yaml", "format": "coco", "path": str(root), "splits": {"val": fields}}
    )
    split = load_split(made, "val")
    assert split.problems == []
    yaw = {sample.image.stem: sample.euler[0, 1] for sample in split.samples}
    assert yaw["image00251"] == pytest.approx(-54.685)
    assert all(sample.rotations.shape == (1, 3, 3) for sample in split.samples)


# the head's shape


def landmarks(rotation, centre, scale):
    points = np.zeros((68, 2))
    for number, place in LANDMARKS.items():
        points[number] = centre + scale * (rotation @ place)[:2]
    return points


@pytest.mark.parametrize("angles", [[0, 0, 0], [20, 85, -30], [-35, -60, 15], [0, 130, 0]])
def test_a_head_is_found_from_its_points(angles):
    rotation = from_euler(angles)
    centre, scale = fit_landmarks(landmarks(rotation, [100, 80], 0.7), rotation)
    assert centre == pytest.approx([100, 80])
    assert scale == pytest.approx(0.7)


def test_the_box_of_a_head():
    box = ellipsoid_box([100, 80], 0.5, np.eye(3))
    assert box == pytest.approx([57.5, 22.5, 142.5, 137.5])
    # In profile the length from brow to back is its width; rolled by 90 degrees height is width.
    assert np.ptp(ellipsoid_box([0, 0], 1, from_euler([0, 90, 0]))[::2]) == pytest.approx(200)
    assert np.ptp(ellipsoid_box([0, 0], 1, from_euler([0, 0, 90]))[::2]) == pytest.approx(230)
    rng = np.random.default_rng(0)
    rotation = from_euler([20, 50, -10])
    surface = rng.normal(size=(20000, 3))
    surface = surface / np.linalg.norm(surface, axis=1, keepdims=True) * HALF_AXES @ rotation.T
    seen = [*surface[:, :2].min(0), *surface[:, :2].max(0)]
    assert ellipsoid_box([0, 0], 1, rotation) == pytest.approx(seen, abs=1)


# 300W-LP and AFLW2000


def mat(file, pose=(0.1, -0.5, 0.2), key="pt3d_68", **more):
    io_ = pytest.importorskip("scipy.io")
    points = landmarks(from_euler(pose, "300w-lp"), [20, 15], 0.05).T
    if key == "pt3d_68":
        points = np.vstack([points, np.zeros(68)])
    fields = {"Pose_Para": np.array([[*pose, 1, 2, 3, 4e-4]]), key: points, **more}
    buffer = io.BytesIO()
    io_.savemat(buffer, {name: value for name, value in fields.items() if value is not None})
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(buffer.getvalue())


def lp_card(root):
    return card(root / "c.yaml", format="300w-lp", splits={"train": {"images": "."}})


def test_mat_files_beside_pictures_in_folders(tmp_path):
    picture(tmp_path / "AFW/a_0.png")
    mat(tmp_path / "AFW/a_0.mat", key="pt2d")
    picture(tmp_path / "HELEN/a_0.png", seed=1)
    mat(tmp_path / "HELEN/a_0.mat", pose=(0.0, 1.6, 0.0), pt2d=-np.ones((2, 21)))
    (tmp_path / "landmarks").mkdir()
    mat(tmp_path / "landmarks/b_pts.mat")  # 300W-LP's own points, of no picture
    split = load_split(lp_card(tmp_path), "train")
    assert split.problems == []
    assert split.names == ("head",)
    first, second = split.samples
    assert (first.image_id, second.image_id) == ("AFW/a_0", "HELEN/a_0")
    assert first.euler[0] == pytest.approx(np.degrees([0.1, -0.5, 0.2]))
    assert geodesic(second.rotations[0], from_euler([0, np.degrees(1.6), 0])) < 1e-3
    expected = ellipsoid_box([20, 15], 0.05, from_euler([0.1, -0.5, 0.2], "300w-lp"))
    assert first.boxes[0] == pytest.approx(expected, abs=1e-3)


def test_boxes_of_our_own_making_stay_in_the_picture(tmp_path):
    picture(tmp_path / "a.png", 24, 18)
    mat(tmp_path / "a.mat", (0.0, 0.0, 0.0))
    split = load_split(lp_card(tmp_path), "train")
    assert split.problems == []
    assert split.samples[0].boxes[0, 2:].tolist() == [24, 18]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.write_bytes(b"no"), "not a MATLAB file"),
        (lambda file: mat(file, Pose_Para=None), "has no Pose_Para"),
        (lambda file: mat(file, Pose_Para=np.array([[np.nan, 0, 0]])), "no pitch, yaw and roll"),
        (lambda file: mat(file, Pose_Para=np.array([[7, 0, 0]])), "no pitch, yaw and roll"),
        (lambda file: mat(file, Pose_Para=np.array(["x"])), "Pose_Para holds no numbers"),
        (lambda file: mat(file, pt3d_68=None), "has no 68 points"),
        (lambda file: mat(file, pt3d_68=np.zeros((3, 21))), "has no 68 points"),
        (lambda file: mat(file, pt3d_68=np.zeros((3, 68))), "not of a face turned as"),
    ],
)
def test_broken_mat_files_are_named(tmp_path, spoil, message):
    picture(tmp_path / "a.png")
    spoil(tmp_path / "a.mat")
    split = load_split(lp_card(tmp_path), "train")
    (problem,) = split.problems
    assert problem.kind == "bad-annotation"
    assert message in problem.detail
    assert "a.mat" in problem.detail


def test_a_picture_without_a_mat_file_is_named(tmp_path):
    picture(tmp_path / "a.png")
    (problem,) = load_split(lp_card(tmp_path), "train").problems
    assert problem.kind == "missing-annotation"


# BIWI

CAMERA = """100 0 20
0 100 15
0 0 1

0 0 0 0

1 0 0
0 1 0
0 0 1

-25 0 0

40 30
"""


def biwi(root, angles=(10, -40, 5), place=(25, 0, 1000), camera=CAMERA):
    picture(root / "hpdb/01/frame_00003_rgb.png")
    picture(root / "hpdb/01/frame_00003_mask.png")
    rows = [" ".join(map(str, row)) for row in to_biwi(from_euler(angles)).tolist()]
    text(root / "hpdb/01/frame_00003_pose.txt", "\n".join([*rows, "", " ".join(map(str, place))]))
    if camera is not None:
        text(root / "hpdb/01/rgb.cal", camera)
    return card(root / "c.yaml", format="biwi", splits={"val": {"images": "hpdb"}})


def test_biwi_poses_and_boxes(tmp_path):
    split = load_split(biwi(tmp_path), "val")
    assert split.problems == []
    (sample,) = split.samples
    assert sample.image.name == "frame_00003_rgb.png"
    assert geodesic(sample.rotations[0], from_euler([10, -40, 5])) < 1e-4
    assert sample.euler[0] == pytest.approx([10, -40, 5], abs=1e-5)
    # 25 mm to the right of the depth camera is the middle of the colour camera.
    expected = ellipsoid_box([20, 15], 0.1, from_euler([10, -40, 5]))
    assert sample.boxes[0] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"camera": None}, "no camera"),
        ({"camera": "1 2 3"}, "3 numbers, not 27"),
        ({"camera": "one two"}, "could not convert"),
        ({"place": (0, 0)}, "11 numbers, not a 3x3 matrix and a place"),
        ({"place": (0, 0, -900)}, "behind the camera"),
        ({"place": (0, 0, "nan")}, "not finite"),
        ({"camera": CAMERA.replace("100", "1e308")}, "reaches beyond"),
    ],
)
def test_broken_biwi_files_are_named(tmp_path, changed, message):
    (problem,) = load_split(biwi(tmp_path, **changed), "val").problems
    assert problem.kind == "bad-annotation"
    assert message in problem.detail


def test_listed_biwi_pictures_have_their_poses_in_one_folder(tmp_path):
    biwi(tmp_path)
    text(tmp_path / "list.txt", "hpdb/01/frame_00003_rgb.png\n")
    place = {"images": "list.txt", "annotations": "hpdb/01"}
    path = card(tmp_path / "c.yaml", format="biwi", splits={"val": place})
    split = load_split(path, "val")
    assert split.problems == []
    assert len(split.samples[0].boxes) == 1


def test_a_mirror_image_is_no_rotation(tmp_path):
    file = biwi(tmp_path)
    text(tmp_path / "hpdb/01/frame_00003_pose.txt", "-1 0 0 0 1 0 0 0 1 0 0 1000")
    (problem,) = load_split(file, "val").problems
    assert "no rotation" in problem.detail
    (tmp_path / "hpdb/01/frame_00003_pose.txt").unlink()
    (problem,) = load_split(file, "val").problems
    assert problem.kind == "missing-annotation"


# CrowdHuman


def person(hbox, ignore=0, **head):
    attributes = {"ignore": 0, "occ": 0, "unsure": 0, **head}
    return {"tag": "person", "hbox": hbox, "head_attr": attributes, "extra": {"ignore": ignore}}


def crowdhuman(root, lines):
    picture(root / "Images/1,a.png")
    written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    text(root / "train.odgt", "\n".join(written) + "\n")
    place = {"images": "Images", "annotations": "train.odgt"}
    return card(root / "c.yaml", format="crowdhuman", splits={"train": place})


def test_heads_are_read_and_marked_ones_not_judged(tmp_path):
    boxes = [
        person([1, 2, 5, 6]),
        person([10, 2, 5, 6], ignore=1),
        person([11, 2, 5, 6], unsure=1),
        {"tag": "person", "hbox": [12, 2, 5, 6], "head_attr": {}},
        {"tag": "person", "hbox": [0, 0, 0, 0]},
        {"tag": "mask", "fbox": [20, 5, 10, 10], "hbox": [0, 0, 1, 1], "extra": {"ignore": 1}},
    ]
    split = load_split(crowdhuman(tmp_path, [{"ID": "1,a", "gtboxes": boxes}, ""]), "train")
    assert split.problems == []
    (sample,) = split.samples
    assert (sample.image_id, sample.width, sample.height) == ("1,a", 40, 30)
    assert sample.boxes.tolist() == [[1, 2, 6, 8]]
    assert sample.ignore_boxes[:, 0].tolist() == [10, 11, 12, 20]
    assert sample.ignore_labels.tolist() == [0, 0, 0, REGION]
    assert sample.rotations is None


def test_hidden_heads_without_a_side_have_no_area(tmp_path):
    boxes = [person([n, 2, *side], ignore=1) for n, side in enumerate(((0, 5), (5, 0), (1, 1)))]
    boxes.append(person([9, 2, 0, 5]))  # one that is judged is faulty, and named
    split = load_split(crowdhuman(tmp_path, [{"ID": "1,a", "gtboxes": boxes}]), "train")
    assert split.samples[0].ignore_boxes.tolist() == [[2, 2, 3, 3]]
    assert [problem.kind for problem in split.problems] == ["empty-box"]


def test_pictures_are_needed_only_where_they_are_looked_at(tmp_path):
    path = crowdhuman(tmp_path, [{"ID": "1,a", "gtboxes": [person([1, 2, 5, 6])]}])
    (tmp_path / "Images/1,a.png").unlink()
    (tmp_path / "Images").rmdir()
    with pytest.raises(UserError, match="Images: no such folder of pictures"):
        load_split(path, "train")
    split = load_split(path, "train", images_needed=False, sizes={"1,a": (40, 30)})
    assert split.samples[0].boxes.tolist() == [[1, 2, 6, 8]]


def test_broken_lines_and_boxes_are_named(tmp_path):
    boxes = [person([1, 2, 5]), person([1, 2, 0, 5]), {"tag": "dog", "hbox": [1, 2, 3, 4]}]
    boxes += [{"tag": ["person"], "hbox": [1, 2, 3, 4]}, person([10**400, 2, -(10**400), 4])]
    deep = '{"ID": "1,a", "gtboxes":' + "[" * 100_000 + "]" * 100_000 + "}"
    lines = [{"ID": "1,a", "gtboxes": boxes}, "{", deep, {"ID": "1,a", "gtboxes": []}]
    split = load_split(crowdhuman(tmp_path, [*lines, {"ID": "gone", "gtboxes": []}]), "train")
    found = {(problem.kind, problem.detail.split(":")[0]) for problem in split.problems}
    assert found == {
        ("bad-annotation", "line 1, ID 1,a"),
        ("unknown-class", "line 1, ID 1,a"),
        ("empty-box", "box 2 (1,a.png)"),
        ("bad-annotation", "line 2"),
        ("bad-annotation", "line 3"),
        ("bad-annotation", "line 4"),
        ("missing-image", "labelled by " + str(tmp_path / "train.odgt")),
    }


@pytest.mark.parametrize("content", ["", "no odgt", "[1, 2]"])
def test_what_is_no_odgt_is_refused(tmp_path, content):
    with pytest.raises(UserError, match=r"not an \.odgt file"):
        load_split(crowdhuman(tmp_path, [content]), "train")


@pytest.mark.parametrize("name", ["300w-lp", "biwi", "crowdhuman"])
def test_formats_of_heads_have_one_class(tmp_path, name):
    place = {"images": ".", "annotations": "."}
    file = card(tmp_path / "c.yaml", format=name, names=["a", "b"], splits={"train": place})
    with pytest.raises(UserError, match="has one class, the card names 2"):
        load_split(file, "train")


def test_a_pipe_named_like_a_picture_is_none(tmp_path):
    path = crowdhuman(tmp_path, [{"ID": "pipe", "gtboxes": []}])
    where = load_split(path, "train").problems[0].file
    where.parent.mkdir(exist_ok=True)
    os.mkfifo(where)
    assert [p.kind for p in load_split(path, "train").problems] == ["missing-image"]
