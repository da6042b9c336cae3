from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path

import pytest

from vision_heads.errors import UserError
from vision_heads.evaluation import mot_files
from vision_heads.evaluation.mot import NUMBERS, score_mot
from vision_heads.evaluation.mot_files import pair_up, read_mot

BOX = "100,100,50,50"
FAR = "400,400,50,50"


def write(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{row}\n" for row in rows))
    return file


def sequence(folder, name, truth, found, frames=None):
    write(folder / "gt" / name / "gt" / "gt.txt", truth)
    write(folder / "found" / f"{name}.txt", found)
    if frames:
        info = folder / "gt" / name / "seqinfo.ini"
        info.write_text(f"[Sequence]\nname={name}\nseqLength={frames}\n")


def score(folder, **more):
    pytest.importorskip("trackers")
    return score_mot(folder / "found", folder / "gt", **more)


def test_perfect_tracks_score_100(tmp_path):
    rows = [f"{t},{i},{100 * i},{10 * t},50,50,1" for t in range(1, 11) for i in (1, 2)]
    sequence(tmp_path, "a", rows, [row.replace(",1,100", ",7,100") for row in rows])
    numbers = score(tmp_path).numbers
    assert {n: numbers[n] for n in ("HOTA", "DetA", "AssA", "LocA", "MOTA", "MOTP", "IDF1")} == {
        name: pytest.approx(100)
        for name in ("HOTA", "DetA", "AssA", "LocA", "MOTA", "MOTP", "IDF1")
    }
    assert (numbers["IDSW"], numbers["MT"], numbers["objects"]) == (0, 2, 20)


def test_one_switch_of_ids_by_hand(tmp_path):
    """One object in 10 frames, found each time; its id changes after the sixth.

    MOTA = 1 - (0 missed + 0 false + 1 switch) / 10. IDF1: the longer part explains 6, so
    2 * 6 / (10 + 10). AssA: each of 6 true ones has 6 / (10 + 6 - 6), each of 4 has 4 / 10:
    (6 * 0.6 + 4 * 0.4) / 10 = 0.52; DetA = 1; HOTA = sqrt(0.52).
    """
    truth = [f"{t},1,{BOX},1,1,1" for t in range(1, 11)]
    found = [f"{t},{3 if t <= 6 else 8},{BOX},0.9,-1,-1,-1" for t in range(1, 11)]
    sequence(tmp_path, "a", truth, found)
    numbers = score(tmp_path).numbers
    assert numbers["MOTA"] == pytest.approx(90)
    assert numbers["IDF1"] == pytest.approx(60)
    assert numbers["AssA"] == pytest.approx(52)
    assert numbers["HOTA"] == pytest.approx(100 * math.sqrt(0.52))
    assert (numbers["IDSW"], numbers["tracks"], numbers["found_tracks"]) == (1, 1, 2)


def test_misses_and_false_ones_by_hand(tmp_path):
    """Two objects in 4 frames; the second is never found, and 3 boxes are nowhere near.

    MOTA = 1 - (4 missed + 3 false) / 8. DetA = 4 / (4 + 4 + 3). IDF1 = 2 * 4 / (8 + 7).
    """
    truth = [f"{t},{i},{box}" for t in range(1, 5) for i, box in ((1, BOX), (2, FAR))]
    found = [f"{t},5,{BOX}" for t in range(1, 5)]
    found += [f"{t},6,0,0,50,50" for t in range(1, 4)]
    sequence(tmp_path, "a", truth, found)
    numbers = score(tmp_path).numbers
    assert numbers["MOTA"] == pytest.approx(100 * (1 - 7 / 8))
    assert numbers["DetA"] == pytest.approx(100 * 4 / 11)
    assert numbers["IDF1"] == pytest.approx(100 * 8 / 15)
    assert (numbers["FN"], numbers["FP"], numbers["MT"], numbers["ML"]) == (4, 3, 1, 1)


def test_boxes_that_overlap_half_count_at_half(tmp_path):
    """IoU 25 / 75 = 1/3: found by HOTA up to 0.3, never by MOTA."""
    truth = [f"{t},1,100,100,50,100" for t in range(1, 4)]
    sequence(tmp_path, "a", truth, [f"{t},1,125,100,50,100" for t in range(1, 4)])
    numbers = score(tmp_path).numbers
    assert numbers["MOTA"] == pytest.approx(-100)
    assert math.isnan(numbers["MOTP"])
    assert numbers["HOTA"] == pytest.approx(100 * 6 / 19)  # 6 of the 19 thresholds 0.05..0.95
    assert numbers["LocA"] == pytest.approx(100 * (6 / 3 + 13) / 19)  # 1 where nothing is found


def test_what_does_not_count_and_who_finds_it(tmp_path):
    """Flag 0 is no miss; a person on a vehicle (class 2) is no false alarm, a car (3) is one."""
    truth = [f"1,1,{BOX},1,1,1", f"1,2,{FAR},0,2,1", "1,3,700,100,50,50,0,3,1"]
    found = [f"1,1,{BOX}", f"1,2,{FAR}", "1,3,700,100,50,50"]
    sequence(tmp_path, "a", truth, found)
    numbers = score(tmp_path).numbers
    assert (numbers["objects"], numbers["FN"], numbers["FP"]) == (1, 0, 1)


def test_classes_can_be_picked(tmp_path):
    truth = [f"1,1,{BOX},1,4,1", f"1,2,{FAR},1,9,1"]
    found = [f"1,1,{BOX},0.9,4", f"1,2,{FAR},0.9,9"]
    sequence(tmp_path, "a", truth, found)
    assert score(tmp_path).numbers["objects"] == 2
    only = score(tmp_path, classes=[4]).numbers
    assert (only["objects"], only["FP"], only["MOTA"]) == (1, 0, pytest.approx(100))
    with pytest.raises(UserError, match="no object of the ground truth counts"):
        score(tmp_path, classes=[5])


def test_several_sequences_and_empty_frames(tmp_path):
    sequence(tmp_path, "a", [f"{t},1,{BOX}" for t in (1, 2, 9)], [f"{t},1,{BOX}" for t in (1, 2)])
    sequence(tmp_path, "b", [f"1,1,{BOX}"], [], frames=20)
    write(tmp_path / "found" / "c.txt", [f"1,1,{BOX}"])
    scores = score(tmp_path)
    assert scores.frames == 29
    assert scores.sequences["a"]["MOTA"] == pytest.approx(100 * 2 / 3)
    assert scores.sequences["b"]["MOTA"] == 0 and math.isnan(scores.sequences["b"]["LocA"])
    assert scores.numbers["MOTA"] == pytest.approx(50)
    assert scores.other_files == [tmp_path / "found" / "c.txt"]
    record = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert record["sequences"]["b"]["LocA"] is None and record["protocol"] == "mot"
    assert set(NUMBERS) <= set(record)


def test_a_frame_number_far_off_costs_no_time(tmp_path, monkeypatch):
    """One frame mistyped as 2000 is one more frame to score, not 1998 empty ones."""
    package = pytest.importorskip("trackers.eval")
    compared = []

    def counted(*boxes, **how):
        compared.append(1)
        return box_iou(*boxes, **how)

    box_iou = package.box_iou
    monkeypatch.setattr(package, "box_iou", counted)
    sequence(tmp_path, "a", [f"{t},1,{BOX}" for t in (1, 2)], [f"{t},1,{BOX}" for t in (1, 2000)])
    scores = score(tmp_path)
    assert (scores.frames, len(compared)) == (2000, 3)
    assert (scores.numbers["FP"], scores.numbers["FN"]) == (1, 1)


def test_results_without_a_track_are_left_out_and_counted(tmp_path):
    sequence(tmp_path, "a", [f"1,1,{BOX}"], [f"1,4,{BOX}", f"1,-1,{FAR}", f"1,-1,{FAR}"])
    scores = score(tmp_path)
    assert scores.untracked == 2 and scores.numbers["FP"] == 0
    write(tmp_path / "found" / "a.txt", [f"1,-1,{BOX}"])
    with pytest.raises(UserError, match=r"a\.txt: no result has a track .*vh stream --track"):
        score(tmp_path)


def test_ids_may_count_from_0(tmp_path):
    sequence(tmp_path, "a", [f"1,0,{BOX}"], [f"1,0,{BOX}"])
    scores = score(tmp_path)
    assert scores.untracked == 0 and scores.numbers["MOTA"] == pytest.approx(100)


def test_flat_results_are_false_ones_and_counted(tmp_path):
    flat = ["1,2,5,5,0,9", "1,3,5,5,9,-1", "1,4,5,5,0,0", "1,5,5,5,0.5,1"]  # but the last
    sequence(tmp_path, "a", [f"1,1,{BOX}"], [f"1,1,{BOX}", *flat])
    scores = score(tmp_path)
    assert scores.flat == 3 and scores.numbers["FP"] == 4


def crowd(folder, name, seed):
    """A crowd of all of MOT17's kinds, and a bad tracker; made of plain random numbers."""
    one = random.Random(seed)
    truth, found, fresh = [], [], 200
    people = []
    for i in range(8):
        ways = [one.uniform(*span) for span in ((50, 500), (50, 500), (-3, 3), (-3, 3))]
        sides = [one.uniform(20, 60), one.uniform(20, 60)]
        people.append([*ways, *sides, one.choice([1, 1, 1, 2, 7, 3, 8]), 100 + i])
    for t in range(1, 41):
        for i, person in enumerate(people):
            x, y, dx, dy, w, h, label, _ = person
            x, y = x + dx * t, y + dy * t
            if one.random() < 0.9:
                counts = int(label == 1 and i != 0)
                truth.append(f"{t},{i + 1},{x:.2f},{y:.2f},{w:.2f},{h:.2f},{counts},{label},1")
            if one.random() < 0.03:
                person[7] = fresh = fresh + 1
            if one.random() < 0.85:
                left, top, wide, high = (value + one.uniform(-6, 6) for value in (x, y, w, h))
                box = f"{left:.2f},{top:.2f},{wide:.2f},{high:.2f}"
                found.append(f"{t},{person[7]},{box},{one.uniform(0.3, 1):.3f},-1,-1,-1")
        if one.random() < 0.4:
            box = f"{one.uniform(0, 400):.2f},{one.uniform(0, 400):.2f},40,60"
            found.append(f"{t},{fresh + 1000},{box},0.5,-1,-1,-1")
    sequence(folder, name, truth, found, frames=40)


TRACKEVAL = {
    "S0": {
        "HOTA": 36.913651,
        "DetA": 43.018663,
        "AssA": 31.791251,
        "LocA": 76.475429,
        "MOTA": 38.378378,
        "MOTP": 71.949668,
        "IDF1": 46.634615,
        "IDP": 41.991342,
        "IDR": 52.432432,
        "IDSW": 6.0,
        "Frag": 34.0,
        "MT": 4.0,
        "PT": 1.0,
        "ML": 0.0,
        "FP": 77.0,
        "FN": 31.0,
    },
    "S1": {
        "HOTA": 26.203638,
        "DetA": 26.701309,
        "AssA": 25.744264,
        "LocA": 78.894336,
        "MOTA": -46.296296,
        "MOTP": 74.162992,
        "IDF1": 29.538462,
        "IDP": 22.119816,
        "IDR": 44.444444,
        "IDSW": 5.0,
        "Frag": 21.0,
        "MT": 1.0,
        "PT": 2.0,
        "ML": 0.0,
        "FP": 131.0,
        "FN": 22.0,
    },
    "all": {
        "HOTA": 32.306342,
        "DetA": 35.197527,
        "AssA": 29.733208,
        "LocA": 77.397859,
        "MOTA": 7.167235,
        "MOTP": 72.742776,
        "IDF1": 39.136302,
        "IDP": 32.366071,
        "IDR": 49.488055,
        "IDSW": 11.0,
        "Frag": 55.0,
        "MT": 5.0,
        "PT": 3.0,
        "ML": 0.0,
        "FP": 208.0,
        "FN": 53.0,
    },
}


def test_numbers_are_trackevals(tmp_path):
    """Reference: TrackEval (PyPI trackeval 1.3.0), MotChallenge2DBox, MOT17, on the same files."""
    for seed in range(2):
        crowd(tmp_path, f"S{seed}", seed)
    scores = score(tmp_path)
    rows = {**scores.sequences, "all": scores.numbers}
    for name, expected in TRACKEVAL.items():
        assert {key: rows[name][key] for key in expected} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1,2,3\n", "line 1: 4 values, at least 6 are needed: frame,id,left,top,width,height"),
        (f"1,1,{BOX},1\n\n2,1,{BOX}\n", "line 3: 6 values where the first line has 7"),
        (f"1,1,{BOX}\n2,1,10,ten,5,5\n", "line 2: value 4 is not a number: 'ten'"),
        ("1,1,10,,5,5\n", "line 1: value 4 is not a number: ''"),
        ("1,1,10,nan,5,5\n", "line 1: value 4 is not a number: 'nan'"),
        ("1,1,10,inf,5,5\n", "line 1: value 4 is not a number: 'inf'"),
        (f"0,1,{BOX}\n", "line 1: frame 0: frames count from 1"),
        (f"1,1,{BOX},1,1e300\n", "line 1: class 1000"),
        (f"1.5,1,{BOX}\n", "line 1: frame must be a whole number: 1.5"),
        (f"1,a,{BOX}\n", "line 1: value 2 is not a number: 'a'"),
        (f"1e12,1,{BOX}\n", "line 1: frame 1000000000000: above 10,000,000"),
        (f"1,1e20,{BOX}\n", "line 1: id 100000000000000000000: too large"),
        (f"1,1,{BOX}\n1,1,{FAR}\n", "line 2: id 1 is in frame 1 already, in line 1"),
        ("1 1 10 10 5 5\n", "line 1: 1 values, at least 6 are needed"),
    ],
)
def test_wrong_lines_are_named(tmp_path, text, message):
    file = tmp_path / "a.txt"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        read_mot(file)
    assert str(caught.value).startswith(f"{file}: {message}")


def test_good_lines_cost_no_messages(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(mot_files, "require", lambda good, message: made.append(message))
    rows = [f"{frame},7,1,2,3.5,4e1,0.5,1,-1" for frame in range(1, 30)]
    table = read_mot(write(tmp_path / "a.txt", rows))
    assert table.frame.tolist() == list(range(1, 30)) and table.xywh[0].tolist() == [1, 2, 3.5, 40]
    assert not made


def test_what_a_line_may_look_like(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeff 1.0, 2 ,3.5,4,5,6,0.5,-1\r\n\r\n2,2,3,4,5,6,1,7\r\n".encode())
    table = read_mot(file)
    assert table.frame.tolist() == [1, 2] and table.track.tolist() == [2, 2]
    assert table.xywh[0].tolist() == [3.5, 4, 5, 6]
    assert table.score.tolist() == [0.5, 1] and table.label.tolist() == [-1, 7]
    file.write_text("")
    assert len(read_mot(file)) == 0


def test_ways_to_name_sequences(tmp_path):
    sequence(tmp_path, "a", [f"1,1,{BOX}"], [f"1,1,{BOX}"], frames=5)
    truth, found = tmp_path / "gt", tmp_path / "found"
    for where in (truth, truth / "a", truth / "a" / "gt" / "gt.txt"):
        for what in (found, found / "a.txt"):
            (pair,), others = pair_up(what, where)
            assert (pair.name, pair.frames, others) == ("a", 5, [])
    flat = write(tmp_path / "flat" / "b.txt", [f"1,1,{BOX}"])
    (pair,), _ = pair_up(found / "a.txt", flat.parent)
    assert (pair.name, pair.frames) == ("b", None)


def test_missing_things_are_named(tmp_path):
    sequence(tmp_path, "a", [f"1,1,{BOX}"], [f"1,1,{BOX}"])
    sequence(tmp_path, "b", [f"1,1,{BOX}"], [])
    truth, found = tmp_path / "gt", tmp_path / "found"
    with pytest.raises(UserError, match=r"nothing: no such file or folder"):
        pair_up(found, tmp_path / "nothing")
    with pytest.raises(UserError, match=r"a\.txt: one file of results for 2 sequences \(a, b\)"):
        pair_up(found / "a.txt", truth)
    (found / "b.txt").unlink()
    with pytest.raises(UserError, match=r"found: no b\.txt of .*gt$"):
        pair_up(found, truth)
    with pytest.raises(UserError, match=r"no ground truth: neither SEQUENCE/gt/gt\.txt nor"):
        pair_up(found, tmp_path)


def test_sequences_have_an_end(tmp_path):
    sequence(tmp_path, "a", [f"1,1,{BOX}"], [f"9,1,{BOX}"], frames=5)
    with pytest.raises(UserError, match=r"a\.txt: frame 9: the sequence has 5 \(seqinfo\.ini\)"):
        score(tmp_path)
    (tmp_path / "gt" / "a" / "seqinfo.ini").write_text("[Sequence]\nseqLength=many\n")
    with pytest.raises(UserError, match=r"seqinfo\.ini: seqLength: "):
        score(tmp_path)


def test_the_end_is_known_in_the_folder_of_the_ground_truth_too(tmp_path, monkeypatch):
    pytest.importorskip("trackers")
    sequence(tmp_path, "a", [f"1,1,{BOX}"], [f"1,1,{BOX}"], frames=5)
    monkeypatch.chdir(tmp_path / "gt" / "a" / "gt")
    assert score_mot(tmp_path / "found" / "a.txt", Path("gt.txt")).frames == 5


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"3,-1,{BOX}", "frame 3: an object that counts has an id below 0"),
        ("3,1,5,5,0,9", "frame 3: an object that counts has no area"),
    ],
)
def test_ground_truth_must_make_sense(tmp_path, row, message):
    sequence(tmp_path, "a", [row], [f"1,1,{BOX}"])
    with pytest.raises(UserError, match=message):
        score(tmp_path)


def test_empty_ground_truth(tmp_path):
    sequence(tmp_path, "a", [], [f"1,1,{BOX}"])
    with pytest.raises(UserError, match=r"gt\.txt: holds no objects"):
        score(tmp_path)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    sequence(tmp_path, "a", [f"1,1,{BOX}"], [f"1,1,{BOX}"])
    for name in ("trackers", "trackers.eval"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r'pip install "vision-heads\[track\]"'):
        score_mot(tmp_path / "found", tmp_path / "gt")
