from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.plain_visdrone import plain_visdrone
from tests.evaluation.scenes import picture, random_scene, results, split_of, wild_scene
from vision_heads.data.card import load_split
from vision_heads.errors import UserError
from vision_heads.evaluation.predictions import read_predictions, read_sizes
from vision_heads.evaluation.protocols import PROTOCOLS, score
from vision_heads.evaluation.visdrone import covered


def numbers(samples, found):
    return score(split_of(samples), found, "visdrone").numbers


@pytest.fixture(scope="module")
def official(fixtures_dir, tmp_path_factory):
    folder = fixtures_dir / "visdrone_eval"
    card = tmp_path_factory.mktemp("card") / "reference.yaml"
    card.write_text(
        f"format: visdrone\npath: {folder}\nsplits:\n  val: {{annotations: annotations}}\n"
    )
    split = load_split(card, "val", images_needed=False, sizes=read_sizes(folder / "sizes.csv"))
    found = read_predictions(folder / "results", split, unscored=(0, 11)).found
    return split, found, json.loads((folder / "expected.json").read_text())


def test_reproduces_what_the_official_toolkit_said(official):
    split, found, expected = official
    got = score(split, found, "visdrone").numbers
    assert tuple(got) == ("AP", "AP50", "AP75", "AR1", "AR10", "AR100", "AR500")
    for name, value in got.items():
        assert value == pytest.approx(expected[name], abs=1e-6), name


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_equals_the_rules_written_out_box_by_box(seed):
    truth, found, split, predictions = random_scene(seed)
    expected = plain_visdrone(truth, found, [(100, 80)] * len(truth))
    got = score(split, predictions, "visdrone").numbers
    assert got == pytest.approx(expected, abs=1e-9, nan_ok=True)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_equals_the_rules_on_what_files_of_other_people_hold(seed):
    truth, found, sizes, split, predictions = wild_scene(seed)
    expected = plain_visdrone(truth, found, sizes)
    got = score(split, predictions, "visdrone").numbers
    assert got == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_equals_the_rules_on_more_results_than_the_limit():
    """What regions drop makes room for later lines, of which the best may be the last."""
    rng = np.random.default_rng(3)
    boxes = np.column_stack([rng.integers(0, 90, (12, 2)), rng.integers(4, 20, (12, 2))])
    category = np.array([0, 0, *rng.integers(1, 4, 10)])
    truth = [np.column_stack([boxes, category > 0, category]).astype(float)] * 2
    near = boxes[rng.integers(0, 12, 560)] + rng.integers(-3, 4, (560, 4)) / 2
    near[:, 2:] = np.maximum(near[:, 2:], 1)
    rows = np.column_stack([near, rng.random(560).round(2), rng.integers(1, 4, 560)])
    split = split_of([picture(name, truth[0]) for name in "ab"])
    expected = plain_visdrone(truth, [rows, rows[::-1]], [(100, 80)] * 2)
    got = score(split, [results(rows), results(rows[::-1])], "visdrone").numbers
    assert got == pytest.approx(expected, abs=1e-9)
    assert got["AR500"] > got["AR100"] > got["AR10"]


@pytest.mark.filterwarnings("error")
def test_results_of_absurd_size_are_false_ones_like_any_other():
    sample = picture("a", [(0, 0, 10, 10, 1, 1), (50, 50, 9, 9, 0, 0)])
    absurd = [(1e300, 1, 5, 5, 0.9, 1), (1, 1, 1e300, 1e300, 0.9, 1), (-1e300, 1, 5, 5, 0.9, 1)]
    found = results([*absurd, (0, 0, 10, 10, 0.8, 1)])
    assert numbers([sample], [found])["AP"] == pytest.approx(25)


def test_regions_in_a_picture_too_large_to_paint_are_the_users_mistake():
    sample = picture("a", [(0, 0, 9, 9, 0, 0)], 10**6, 10**6)
    with pytest.raises(UserError, match=r"a\.jpg: its size, 1000000x1000000, is too large"):
        numbers([sample], [results([])])


def test_an_ignored_object_is_no_false_positive_but_stays_in_the_denominator():
    sample = picture("a", [(0, 0, 10, 10, 1, 1), (50, 50, 10, 10, 0, 1)])
    found = results([(50, 50, 10, 10, 0.9, 1), (0, 0, 10, 10, 0.8, 1)])
    got = numbers([sample], [found])
    assert got["AP"] == pytest.approx(50)
    assert got["AR500"] == pytest.approx(50)
    assert got["AR1"] == 0


def test_an_ignored_object_takes_any_part_of_it_and_any_number():
    sample = picture("a", [(0, 0, 10, 10, 1, 1), (40, 40, 40, 20, 0, 1)])
    inside = [(40 + 4 * i, 41, 5, 5, 0.9, 1) for i in range(6)]
    got = numbers([sample], [results([*inside, (0, 0, 10, 10, 0.1, 1)])])
    assert got["AP50"] == pytest.approx(50)


def test_a_class_weighs_as_many_times_as_pictures_hold_it():
    both = picture("a", [(0, 0, 10, 10, 1, 1), (30, 30, 10, 10, 1, 2)])
    one = picture("b", [(0, 0, 10, 10, 1, 1)])
    hit = results([(0, 0, 10, 10, 0.9, 1)])
    assert numbers([both, one], [hit, hit])["AP"] == pytest.approx(100 * 2 / 3)


def test_the_rows_of_classes_make_up_the_numbers(official):
    split, found, _ = official
    scores = score(split, found, "visdrone")
    rows = [row for row in scores.classes.values() if row["objects"]]
    images = [row["images"] for row in rows]
    assert len(rows) > 5 and len(set(images)) > 2
    for name in ("AP", "AP50", "AP75", "AR500"):
        got = np.average([row[name] for row in rows], weights=images)
        assert got == pytest.approx(scores.numbers[name]), name


def test_a_class_without_objects_does_not_count():
    sample = picture("a", [(0, 0, 10, 10, 1, 1)])
    found = results([(0, 0, 10, 10, 0.5, 1), (30, 30, 10, 10, 0.9, 7)])
    assert numbers([sample], [found])["AP"] == pytest.approx(100)


def test_the_limits_hold_for_all_classes_together_and_go_by_the_files_order():
    sample = picture("a", [(0, 0, 10, 10, 1, 1)])
    elsewhere = (50, 50, 10, 10, 0.1, 2)
    hit = (0, 0, 10, 10, 0.9, 1)
    got = numbers([sample], [results([elsewhere, hit])])
    assert got["AR1"] == 0
    assert got["AR10"] == pytest.approx(100)
    for strangers, reached in ((499, 100), (500, 0)):
        got = numbers([sample], [results([elsewhere] * strangers + [hit])])
        assert got["AP"] == pytest.approx(reached)


@pytest.mark.parametrize("category", [0, 11])
def test_results_of_no_class_only_take_a_place(category):
    sample = picture("a", [(0, 0, 10, 10, 1, 1)])
    found = results([(0, 0, 10, 10, 0.9, category), (0, 0, 10, 10, 0.8, 1)])
    got = numbers([sample], [found])
    assert (got["AR1"], got["AR10"], got["AP"]) == (0, pytest.approx(100), pytest.approx(100))


def test_objects_called_others_play_no_part():
    sample = picture("a", [(0, 0, 10, 10, 1, 1), (40, 40, 10, 10, 0, 11)])
    found = results([(40, 40, 10, 10, 0.9, 1), (0, 0, 10, 10, 0.8, 1)])
    assert numbers([sample], [found])["AP"] == pytest.approx(50)  # the first is a false one


def test_what_regions_half_cover_is_dropped_on_both_sides_before_the_limits():
    region = (40, 40, 30, 30, 0, 0)
    sample = picture("a", [(0, 0, 10, 10, 1, 1), (45, 45, 10, 10, 1, 1), region])
    found = results([(45, 45, 10, 10, 0.9, 1), (0, 0, 10, 10, 0.8, 1)])
    got = numbers([sample], [found])
    assert got["AP"] == pytest.approx(100)
    assert got["AR1"] == pytest.approx(100)


def test_a_class_wholly_inside_regions_is_not_there():
    sample = picture("a", [(0, 0, 10, 10, 1, 1), (45, 45, 10, 10, 1, 2), (40, 40, 30, 30, 0, 0)])
    assert numbers([sample], [results([(0, 0, 10, 10, 0.9, 1)])])["AP"] == pytest.approx(100)


def painted(columns, lines, width=20, height=20):
    mask = np.zeros((height, width), np.uint8)
    mask[lines[0] - 1 : lines[1], columns[0] - 1 : columns[1]] = 1
    return cv2.integral(mask)


@pytest.mark.parametrize(
    ("box", "share"),
    [
        ((1, 1, 2, 2), 1 / 4),  # looks at columns and lines 2..3 only, of which 2 is painted
        ((1, 1, 2, 1), 1 / 2),
        ((0.4, -7, 1, 1), 1.0),  # the corner is moved to 1, 1
        ((1, 1, 1.5, 1), 1 / 2),  # halves are rounded up
        ((1, 1, 1.49, 1), 1.0),
        ((1, 1, 0.1, 0.2), 1.0),  # no side is shorter than 1
        ((90, 90, 3, 3), 0.0),
    ],
)
def test_covered_share(box, share):
    got = covered(np.array([box], float), painted((1, 2), (1, 2)))
    assert got[0] == pytest.approx(share)


def test_covered_share_of_a_box_that_sticks_out_is_of_its_whole_area():
    whole = painted((1, 20), (1, 20))
    assert covered(np.array([[18.0, 18, 10, 10]]), whole)[0] == pytest.approx(4 / 100)


def test_equal_overlaps_take_the_later_object():
    # The wide result covers both equally; taking the second leaves the first to the next one.
    sample = picture("a", [(0, 0, 10, 10, 1, 1), (10, 0, 10, 10, 1, 1)])
    found = results([(0, 0, 20, 10, 0.9, 1), (0, 0, 10, 10, 0.8, 1)])
    assert numbers([sample], [found])["AP50"] == pytest.approx(100)


def test_equal_scores_rank_by_picture_name_whatever_the_splits_order():
    samples = [picture("a", [(0, 0, 10, 10, 1, 1)]), picture("b", [(0, 0, 10, 10, 1, 1)])]
    miss, hit = results([(50, 50, 9, 9, 0.5, 1)]), results([(0, 0, 10, 10, 0.5, 1)])
    assert numbers(samples, [miss, hit])["AP"] == pytest.approx(25)
    assert numbers(samples, [hit, miss])["AP"] == pytest.approx(50)
    assert numbers(samples[::-1], [miss, hit])["AP"] == pytest.approx(50)


def test_area_under_the_envelope_is_exact_not_sampled():
    # Precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3: 1/3 + 1/3 * 2/3.
    sample = picture("a", [(0, 0, 10, 10, 1, 1), (20, 0, 10, 10, 1, 1), (40, 0, 10, 10, 1, 1)])
    found = results([(0, 0, 10, 10, 0.9, 1), (70, 50, 10, 10, 0.8, 1), (20, 0, 10, 10, 0.7, 1)])
    assert numbers([sample], [found])["AP"] == pytest.approx(100 * 5 / 9)


def test_nothing_to_measure_is_nan_and_null():
    scores = score(split_of([picture("a", [])]), [results([(0, 0, 5, 5, 0.5, 1)])], "visdrone")
    assert all(math.isnan(value) for value in scores.numbers.values())
    assert json.loads(json.dumps(scores.to_dict(), allow_nan=False))["AP"] is None


def test_nothing_found_is_zero():
    got = numbers([picture("a", [(0, 0, 10, 10, 1, 1)])], [results([])])
    assert set(got.values()) == {0.0}


def test_no_pictures_at_all():
    assert math.isnan(score(split_of([]), [], "visdrone").numbers["AP"])


def test_the_registry_names_the_numbers_it_gives(official):
    split, found, _ = official
    for name, protocol in PROTOCOLS.items():
        if name != "coco":
            assert tuple(score(split, found, name).numbers) == protocol.numbers
