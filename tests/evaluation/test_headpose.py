"""The headpose protocol: against DirectMHP's own numbers, a plain restatement, and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from vision_heads.cli.main import app
from vision_heads.data.sample import DataSplit, Sample
from vision_heads.errors import UserError
from vision_heads.evaluation.headpose import NUMBERS
from vision_heads.evaluation.predictions import read_predictions, write_predictions
from vision_heads.evaluation.protocols import at_confidence, protocol_of, score
from vision_heads.evaluation.records import Found
from vision_heads.geometry.rotations import from_euler
from vision_heads.heads.headpose.evaluate import evaluate
from vision_heads.results import Detections

pytest.importorskip("faster_coco_eval")
SEEDS = st.integers(0, 2**32 - 1)


def sample(name, boxes, angles=None, **more):
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    made = Sample(Path(f"{name}.png"), name, 200, 200, xyxy, np.zeros(len(xyxy), np.int64), **more)
    if angles is not None:
        made.euler = np.array(angles, np.float64).reshape(-1, 3)
        made.rotations = from_euler(made.euler).astype(np.float32)
    return made


def split_of(*samples):
    return DataSplit("made", "val", ("head",), (1,), list(samples))


def results(rows):
    """Rows of x1, y1, x2, y2, score, pitch, yaw, roll."""
    table = np.array(rows, np.float64).reshape(-1, 8)
    xywh = np.hstack([table[:, :2], table[:, 2:4] - table[:, :2]])
    return Found(xywh, table[:, 4], np.zeros(len(table), np.int64), table[:, 5:]).best_first()


def numbers_of(split, *found):
    return score(split, list(found), "headpose").numbers


@pytest.fixture
def fixture(fixtures_dir):
    return fixtures_dir / "headpose_eval"


def vh(*arguments):
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


def test_directmhps_numbers_are_reproduced_from_the_command_line(fixture, tmp_path):
    card = tmp_path / "card.yaml"
    card.write_text(f"format: coco\npath: {fixture}\nsplits:\n  val: {{annotations: gt.json}}\n")
    done = vh(
        *("--protocol", "headpose", "--predictions", fixture / "pred.json", "--data", card),
        *("--json", tmp_path / "scores.json", "--plots", tmp_path / "plots"),
    )
    assert done.exit_code == 0, done.output
    got = json.loads((tmp_path / "scores.json").read_text())
    expected = json.loads((fixture / "expected.json").read_text())
    assert tuple(got)[: len(NUMBERS)] == NUMBERS
    for name in ("total", "matched", "mae", "pitch", "yaw", "roll"):
        assert got[name] == pytest.approx(expected[name], abs=1e-3), name
    for side in ("frontal", "backward"):
        assert got[side]["matched"] == expected[side]["matched"]
        assert got[side]["mae"] == pytest.approx(expected[side]["mae"], abs=1e-3)
        assert got[f"{side}.mae"] == got[side]["mae"]
    assert got["recall"] == pytest.approx(100 * expected["matched"] / expected["total"])
    names = "AP AP50 AP75 AP_small AP_medium AP_large AR1 AR10 AR100 AR_small AR_medium AR_large"
    coco = [got["coco"][name] for name in names.split()]
    assert coco == pytest.approx([100 * value for value in expected["coco_stats"]], abs=1e-3)
    assert (got["AP"], got["AP50"]) == (coco[0], coco[1])
    drawn = {file.name for file in (tmp_path / "plots").iterdir()}
    assert drawn == {"pr.png", "f1.png", "confusion.png", "yaw.png", "size.png", "angles.png"}
    for word in ("recall", "frontal.mae", "geodesic_median", "-180..-150", "by shorter side"):
        assert word in done.output


def plainly(split, found):
    """State DirectMHP's rules as they read: head by head, result by result."""
    errors, heads = [], 0
    for one, results_ in zip(split.samples, found, strict=True):
        for box, angles in zip(one.boxes.astype(float), one.euler, strict=True):
            heads += 1
            best, chosen = 0.0, None
            for xywh, value, euler in zip(
                results_.xywh, results_.score, results_.euler, strict=True
            ):
                x1, y1, x2, y2 = *xywh[:2], *(xywh[:2] + xywh[2:])
                wide = min(x2, box[2]) - max(x1, box[0])
                high = min(y2, box[3]) - max(y1, box[1])
                if value < 0.7 or wide <= 0 or high <= 0:
                    continue
                whole = (x2 - x1) * (y2 - y1) + (box[2] - box[0]) * (box[3] - box[1])
                iou = wide * high / (whole - wide * high)
                if iou > best:
                    best, chosen = iou, euler
            if best > 0.5:
                pitch, yaw, roll = abs(chosen - angles)
                errors.append((abs(angles[1]), pitch, min(yaw, 360 - yaw), roll))
    return heads, np.array(errors).reshape(-1, 4)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_equals_the_rules_as_they_read(seed):
    rng = np.random.default_rng(seed)
    samples, found = [], []
    for name in "abc":
        count = int(rng.integers(0, 8))
        corners = rng.integers(0, 60, (count, 2))
        boxes = np.hstack([corners, corners + rng.integers(5, 30, (count, 2))])
        angles = rng.uniform((-90, -180, -90), (90, 180, 90), (count, 3)).round(1)
        angles[rng.random(count) < 0.2, 1] = 90  # pitch and roll are lost in float32 there
        samples.append(sample(name, boxes, angles))
        near = boxes[rng.integers(0, count, 3 * count)] if count else np.zeros((0, 4))
        near = near + rng.integers(-3, 4, near.shape) * np.array([0.5, 0.5, 1, 1])
        scores = np.sort(rng.permutation(len(near)) / max(1, len(near)))[::-1]
        more = rng.uniform((-90, -180, -90), (90, 180, 90), (len(near), 3))
        found.append(results(np.hstack([near, scores[:, None], more])))
    split = split_of(*samples)
    got = numbers_of(split, *found)
    heads, errors = plainly(split, found)
    assert (got["total"], got["matched"]) == (heads, len(errors))
    if not len(errors):
        assert np.isnan(got["mae"])
        return
    assert [got[n] for n in ("pitch", "yaw", "roll")] == pytest.approx(errors[:, 1:].mean(0))
    assert got["mae"] == pytest.approx(errors[:, 1:].mean())
    for name, rows in (("frontal", errors[:, 0] <= 90), ("backward", errors[:, 0] > 90)):
        expected = errors[rows, 1:].mean() if rows.any() else np.nan
        assert got[f"{name}.mae"] == pytest.approx(expected, nan_ok=True)


BOX = (10, 10, 50, 50)


def test_perfect_poses_have_no_error():
    split = split_of(sample("a", [BOX, (100, 100, 150, 160)], [[10, 20, 30], [-5, 179, 0]]))
    found = results([(*BOX, 0.9, 10, 20, 30), (100, 100, 150, 160, 0.8, -5, -181, 0)])
    got = numbers_of(split, found)
    assert (got["AP"], got["AP50"], got["recall"]) == pytest.approx((100, 100, 100))
    for name in ("mae", "pitch", "yaw", "roll", "geodesic_mean", "geodesic_median"):
        assert got[name] == pytest.approx(0, abs=1e-5)


def test_the_operating_point_and_its_edges():
    split = split_of(sample("a", [BOX], [[0, 0, 0]]))
    assert numbers_of(split, results([(*BOX, 0.7, 9, 0, 0)]))["pitch"] == pytest.approx(9)
    below = numbers_of(split, results([(*BOX, 0.69, 9, 0, 0)]))
    assert (below["recall"], below["AP50"]) == pytest.approx((0, 100))
    assert np.isnan(below["mae"])
    half = results([(10, 10, 50, 30, 0.9, 9, 0, 0)])  # an IoU of 0.5 is not above 0.5
    assert numbers_of(split, half)["matched"] == 0


def test_another_operating_point_changes_recall_and_errors_alone():
    split = split_of(sample("a", [BOX], [[0, 0, 0]]))
    found = [results([(*BOX, 0.4, 9, 0, 0)])]
    rules = at_confidence(protocol_of("headpose"), 0.4)
    scores = rules.score(split, found)
    assert (scores.numbers["recall"], scores.numbers["pitch"]) == pytest.approx((100, 9))
    assert scores.numbers["AP"] == numbers_of(split, *found)["AP"]
    assert scores.pose.to_dict()["operating_point"] == {"confidence": 0.4, "iou": 0.5}
    with pytest.raises(UserError, match="--pose-conf: coco judges no poses"):
        at_confidence(protocol_of("coco"), 0.4)


def test_the_operating_point_is_an_option(fixture, tmp_path):
    card = tmp_path / "card.yaml"
    card.write_text(f"format: coco\npath: {fixture}\nsplits:\n  val: {{annotations: gt.json}}\n")
    words = ("--protocol", "headpose", "--predictions", fixture / "pred.json", "--data", card)
    recalls = []
    for point in (0.1, 0.7):
        file = tmp_path / f"{point}.json"
        done = vh(*words, "--pose-conf", point, "--json", file)
        assert done.exit_code == 0, done.output
        recalls.append(json.loads(file.read_text())["recall"])
    assert recalls[0] > recalls[1]


def test_overlap_decides_not_the_score_and_a_result_may_serve_two_heads():
    split = split_of(sample("a", [BOX, (12, 10, 52, 50)], [[0, 0, 0], [0, 100, 0]]))
    found = results([(14, 10, 54, 50, 0.99, 60, 0, 0), (11, 10, 51, 50, 0.8, 0, 90, 0)])
    got = numbers_of(split, found)
    assert (got["matched"], got["pitch"], got["yaw"]) == (2, 0, pytest.approx(50))
    assert (got["frontal.mae"], got["backward.mae"]) == pytest.approx((30, 10 / 3))


def test_of_equal_overlaps_the_better_score_counts():
    split = split_of(sample("a", [BOX], [[0, 0, 0]]))
    rows = [(*BOX, 0.8, 30, 0, 0), (*BOX, 0.9, 3, 0, 0)]
    assert numbers_of(split, results(rows))["pitch"] == pytest.approx(3)
    assert numbers_of(split, results(rows[::-1]))["pitch"] == pytest.approx(3)


def test_yaw_takes_the_shorter_way_round_pitch_and_roll_do_not():
    split = split_of(sample("a", [BOX], [[80, -170, -80]]))
    got = numbers_of(split, results([(*BOX, 0.9, -80, 170, 80)]))
    assert (got["pitch"], got["yaw"], got["roll"]) == pytest.approx((160, 20, 160))


def test_unknown_poses_count_for_detection_only():
    boxes = [BOX, (60, 10, 100, 50), (10, 100, 50, 150)]
    angles = [[0, 0, 0], [np.nan] * 3, [np.nan] * 3]
    crowd = {
        "ignore_boxes": np.array([[120, 0, 200, 80]], np.float32),
        "ignore_labels": np.zeros(1, int),
    }
    split = split_of(sample("a", boxes, angles, **crowd))
    found = results([(*BOX, 0.9, 6, 0, 0), (60, 10, 100, 50, 0.9, 80, 80, 80)])
    scores = score(split, [found], "headpose")
    got = scores.numbers
    assert (got["total"], got["matched"]) == (3, 2)
    assert got["recall"] == pytest.approx(200 / 3)
    assert (got["mae"], got["geodesic_mean"]) == pytest.approx((2, 6))
    assert (scores.pose.groups["all"]["heads"], scores.pose.groups["all"]["recall"]) == (1, 100)


def test_data_without_poses_have_no_errors_but_recall():
    split = split_of(sample("a", [BOX]))
    got = numbers_of(split, results([(*BOX, 0.9, 6, 0, 0)]))
    assert got["recall"] == 100
    assert np.isnan(got["mae"])
    record = score(split, [Found.empty()], "headpose").to_dict()
    assert (record["mae"], record["recall"], record["frontal"]["mae"]) == (None, 0, None)
    json.dumps(record, allow_nan=False)


def test_nothing_to_find_is_nan():
    for split, found in ((split_of(), []), (split_of(sample("a", [])), [results([])])):
        scores = score(split, found, "headpose")
        got = scores.numbers
        assert (got["total"], got["matched"]) == (0, 0)
        assert all(np.isnan(got[name]) for name in ("recall", "mae", "frontal.mae"))
        assert json.loads(json.dumps(scores.to_dict(), allow_nan=False))["recall"] is None


def test_labels_may_be_rotations_alone():
    labelled = sample("a", [BOX, (60, 10, 100, 50)], [[10, 20, 30], [0, -170, 0]])
    labelled.euler = None
    found = results([(*BOX, 0.9, 13, 20, 30), (60, 10, 100, 50, 0.9, 0, 175, 0)])
    got = numbers_of(split_of(labelled), found)
    assert (got["pitch"], got["yaw"], got["roll"]) == pytest.approx((1.5, 7.5, 0), abs=1e-4)


def test_results_that_hide_their_pose_are_refused():
    split = split_of(sample("a", [BOX], [[0, 0, 0]]))
    bare = Found(np.array([[10.0, 10, 40, 40]]), np.array([0.9]), np.zeros(1, np.int64))
    with pytest.raises(UserError, match="1 of the results have no pose"):
        numbers_of(split, bare)


def test_bins_of_yaw_hold_every_head_once():
    yaws = [-180, -179.9, -90, -30, 0, 29.9, 30, 90, 90.1, 180]
    boxes = [(20 * n, 0, 20 * n + 15, 15) for n in range(len(yaws))]
    split = split_of(sample("a", boxes, [[0, yaw, 0] for yaw in yaws]))
    found = results([(*box, 0.9, 0, yaw + 2, 0) for box, yaw in zip(boxes, yaws, strict=True)])
    groups = score(split, [found], "headpose").pose.groups
    counts = {name: row["heads"] for name, row in groups.items() if row["heads"]}
    assert counts == {
        "all": 10,
        "frontal": 6,
        "backward": 4,
        "-180..-150": 3,  # 180 is -180
        "-90..-60": 1,
        "-30..0": 1,
        "0..30": 2,
        "30..60": 1,
        "90..120": 2,
    }
    errors = [row["yaw"] for row in groups.values() if row["heads"]]
    assert errors == pytest.approx([2] * len(errors))


def test_bins_of_size_hold_every_head_once_by_its_shorter_side():
    sides = [3, 15.9, 16, 23, 32, 95, 96, 400]
    boxes = [(500 * n, 0, 500 * n + side, 450) for n, side in enumerate(sides)]
    split = split_of(sample("a", boxes, [[0, 0, 0]] * len(boxes)))
    found = results([(*box, 0.9, 0, 2 + n, 0) for n, box in enumerate(boxes)][1:])
    sizes = score(split, [found], "headpose").pose.to_dict()["size_bins"]
    counts = {name: (row["heads"], row["matched"]) for name, row in sizes.items()}
    assert counts == {
        "under 16": (2, 1),
        "16..24": (2, 2),
        "24..32": (0, 0),
        "32..48": (1, 1),
        "48..64": (0, 0),
        "64..96": (1, 1),
        "96 and more": (2, 2),
    }
    assert sizes["16..24"]["yaw"] == pytest.approx(4.5)
    assert sizes["24..32"]["recall"] is None


def test_labels_that_count_on_beyond_180_degrees_are_the_same_heads():
    yaws = [350, -350, 270, 200, -200]
    boxes = [(30 * n, 0, 30 * n + 25, 25) for n in range(len(yaws))]
    split = split_of(sample("a", boxes, [[0, yaw, 0] for yaw in yaws]))
    groups = score(split, [results([(*boxes[0], 0.9, 0, -10, 0)])], "headpose").pose.groups
    assert (groups["frontal"]["heads"], groups["backward"]["heads"]) == (3, 2)
    assert groups["-30..0"]["heads"] == groups["frontal"]["matched"] == 1


def test_other_triples_of_a_pose_are_the_same_pose():
    # Of each the same head: as 300W-LP names one that is turned away, and counted from 0 to 360.
    stated = [[170, 10, 175], [-10, 170, -5], [350, 170, 355], [350, 20, 5], [-10, 20, 365]]
    plain = [[-10, 170, -5]] * 3 + [[-10, 20, 5]] * 2
    boxes = [(30 * n, 0, 30 * n + 25, 25) for n in range(len(stated))]
    rows = [
        [(*box, 0.9, *pose) for box, pose in zip(boxes, one, strict=True)]
        for one in (stated, plain)
    ]
    for labels, found in ((stated, rows[1]), (plain, rows[0])):
        groups = score(
            split_of(sample("a", boxes, labels)), [results(found)], "headpose"
        ).pose.groups
        assert groups["all"]["mae"] == pytest.approx(0, abs=1e-9)
        assert (groups["frontal"]["heads"], groups["backward"]["heads"]) == (2, 3)


@pytest.mark.parametrize(
    ("label", "found"), [((89, 10, 0), (92, 10, 0)), ((92, 10, 0), (89, 8, 1))]
)
def test_a_pitch_just_beyond_90_is_compared_by_its_number(label, found):
    scores = score(
        split_of(sample("a", [BOX], [list(label)])), [results([(*BOX, 0.9, *found)])], "headpose"
    )
    assert scores.pose.groups["all"]["mae"] == pytest.approx(
        np.abs(np.subtract(label, found)).mean()
    )


def detections(names=("head",)):
    rotation = from_euler([[6, 0, 0]]).astype(np.float32)
    return Detections([BOX], [0.9], [0], names, rotation=rotation)


@pytest.mark.parametrize("protocol", ["headpose", "coco"])
def test_a_models_detections(protocol):
    split = split_of(sample("a", [BOX], [[0, 0, 0]]))
    got = evaluate(split, [detections()], protocol)
    assert got["mae"] == pytest.approx(2, abs=1e-4)
    assert got["AP50"] == pytest.approx(100)
    assert "backward.mae" not in got
    assert ("AP75" in got) == (protocol == "coco")
    assert not any(np.isnan(value) for value in got.values())


def test_a_lone_class_needs_no_name():
    """DirectMHP's labels call a head "person"."""
    split = split_of(sample("a", [BOX], [[0, 0, 0]]))
    split.names = ("person",)
    assert score(split, [detections()], "headpose").numbers["recall"] == 100
    assert score(split, [Detections.empty(("head",))], "headpose").numbers["recall"] == 0
    with pytest.raises(UserError, match="no class in common"):
        score(split, [detections()], "coco")


def test_predictions_are_written_and_read_with_their_poses(tmp_path):
    split = split_of(sample("a", [BOX], [[0, 0, 0]]), sample("b", [], []))
    found = results([(*BOX, 0.75, 1.25, -170.123456789, 3), (*BOX, 0.9, 4, 5, 6)])
    write_predictions(tmp_path / "p.json", split, [found, results([])])
    read = read_predictions(tmp_path / "p.json", split, poses=True)
    assert read.found[0].euler.tolist() == found.euler.tolist()
    assert read.missing == ("b",)
    assert read_predictions(tmp_path / "p.json", split).found[0].euler is None


@pytest.mark.parametrize(
    ("change", "message"),
    [({"yaw": None}, "entry 0: yaw: must be a number"), ({"roll": "x"}, "roll: must be a number")],
)
def test_entries_without_a_pose_are_named(tmp_path, change, message):
    split = split_of(sample("a", [BOX], [[0, 0, 0]]))
    entry = {"image_id": "a", "category_id": 1, "bbox": [10, 10, 40, 40], "score": 0.9}
    (tmp_path / "p.json").write_text(
        json.dumps([{**entry, "pitch": 1, "yaw": 2, "roll": 3, **change}])
    )
    with pytest.raises(UserError, match=message):
        read_predictions(tmp_path / "p.json", split, poses=True)
    (tmp_path / "p.json").write_text(json.dumps([entry]))
    with pytest.raises(UserError, match="entry 0: pitch is missing"):
        read_predictions(tmp_path / "p.json", split, poses=True)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="from a COCO results JSON, not a folder"):
        read_predictions(tmp_path / "folder", split, poses=True)


def test_the_worst_heads_are_shown_with_both_poses(tmp_path):
    from vision_heads.evaluation.plots import write_plots
    from vision_heads.evaluation.pose_plots import worst_sheet

    split = split_of(sample("a", [BOX, (100, 100, 150, 160)], [[0, 0, 0], [0, 0, 0]]))
    split.samples[0].image = tmp_path / "a.png"
    cv2.imwrite(str(tmp_path / "a.png"), np.full((200, 200, 3), 90, np.uint8))
    found = results([(*BOX, 0.9, 0, 90, 0), (100, 100, 150, 160, 0.9, 0, 5, 0)])
    scores = score(split, [found], "headpose")
    files = write_plots(scores, tmp_path / "plots", split)
    assert {"yaw.png", "size.png", "angles.png", "worst.png"} <= {file.name for file in files}
    one = worst_sheet(scores.pose.heads, split, 1)
    assert worst_sheet(scores.pose.heads, split, 2).shape[0] >= one.shape[0]
    split.samples[0].image = tmp_path / "gone.png"
    assert worst_sheet(scores.pose.heads, split) is None
