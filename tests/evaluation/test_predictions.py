from __future__ import annotations

import json
from pathlib import Path, PurePath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.scenes import picture, random_scene, split_of
from vision_heads.data.sample import DataSplit, Sample
from vision_heads.errors import UserError
from vision_heads.evaluation.predictions import (
    other_sizes,
    read_predictions,
    read_sizes,
    write_predictions,
)
from vision_heads.evaluation.protocols import score
from vision_heads.evaluation.records import UNSCORED, Found


def two() -> DataSplit:
    return split_of([picture("a", []), picture("b", [])])


def write_json(folder: Path, entries: object) -> Path:
    file = folder / "results.json"
    file.write_text(json.dumps(entries))
    return file


def entry(**changes):
    return {"image_id": "a", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5, **changes}


def test_submission_rows_keep_their_order_and_every_digit(tmp_path):
    (tmp_path / "b.txt").write_text(
        "352.13,540.21,18.50,59.14,0.3,1,-1,-1\n\n10,20,30,40,0.9,10,-1,-1\n"
    )
    read = read_predictions(tmp_path, two())
    assert read.missing == ("a",)
    assert len(read.found[0]) == 0
    assert read.found[1].xywh.tolist() == [[352.13, 540.21, 18.5, 59.14], [10, 20, 30, 40]]
    assert read.found[1].score.tolist() == [0.3, 0.9]
    assert read.found[1].label.tolist() == [0, 9]


def test_submission_may_be_empty_short_or_end_in_a_comma(tmp_path):
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_text("1,2,3,4,0.5,4\r\n1,2,3,4,0.5,4,-1,-1,\r\n")
    (tmp_path / "notes.md").write_text("hello")
    read = read_predictions(tmp_path, two())
    assert read.missing == ()
    assert read.other_files == ("notes.md",)
    assert read.found[1].label.tolist() == [3, 3]


def test_rows_of_no_class_are_kept_as_such_where_the_protocol_has_them(tmp_path):
    (tmp_path / "a.txt").write_text("1,2,3,4,0.5,11,-1,-1\n1,2,3,4,0.5,0,-1,-1\n")
    read = read_predictions(tmp_path, two(), unscored=(0, 11))
    assert read.found[0].label.tolist() == [UNSCORED, UNSCORED]
    assert read.unscored == 2
    with pytest.raises(UserError, match=r"a\.txt: line 1: category: the data set has no 11"):
        read_predictions(tmp_path, two())


def test_a_class_of_the_data_set_goes_before_an_unscored_number(tmp_path):
    split = two()
    split.category_ids = tuple(range(10))
    (tmp_path / "a.txt").write_text("1,2,3,4,0.5,0,-1,-1\n")
    assert read_predictions(tmp_path, split, unscored=(0, 11)).found[0].label.tolist() == [0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,3,4,0.5", "line 2: must be x,y,w,h,score,category,-1,-1, got 5 fields"),
        ("1,2,3,4,0.5,1,-1,-1,7", "line 2: must be .* got 9 fields"),
        ("1,2,x,4,0.5,1,-1,-1", "line 2: width: must be a number, got 'x'"),
        ("1,2,3,4,nan,1,-1,-1", "line 2: score: must be a number, got 'nan'"),
        ("1,2,3,inf,0.5,1,-1,-1", "line 2: height: must be a number, got 'inf'"),
        ("1,2,3,4,0.5,12,-1,-1", "line 2: category: the data set has no 12"),
        ("1,2,3,4,0.5,1.5,-1,-1", "line 2: category: the data set has no 1.5"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    (tmp_path / "a.txt").write_text(f"1,2,3,4,0.5,1,-1,-1\n{line}\n")
    with pytest.raises(UserError, match=rf"a\.txt: {message}"):
        read_predictions(tmp_path, two(), unscored=(0, 11))


def test_files_of_no_picture_are_named_and_not_read(tmp_path):
    (tmp_path / "c.txt").write_text("no numbers")
    (tmp_path / "._a.txt").write_text("\0")  # what macOS leaves on foreign disks
    with pytest.raises(UserError, match=r"no \.txt file is named after a picture"):
        read_predictions(tmp_path, two())
    (tmp_path / "a.txt").write_text("1,2,3,4,0.5,4,-1,-1")
    read = read_predictions(tmp_path, two())
    assert (len(read.found[0]), read.missing) == (1, ("b",))
    assert read.other_files == ("._a.txt", "c.txt")


def test_files_of_a_submission_are_not_compared_with_each_other(tmp_path, monkeypatch):
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text("1,2,3,4,0.5,4,-1,-1")
    compared = []
    plain = PurePath.__eq__
    monkeypatch.setattr(PurePath, "__eq__", lambda *both: compared.append(0) or plain(*both))
    split = split_of([picture(str(number), []) for number in range(40)])
    assert not read_predictions(tmp_path, split).other_files
    assert len(compared) <= 40


def test_a_folder_without_text_files_and_a_missing_path_are_mistakes(tmp_path):
    with pytest.raises(UserError, match=r"holds no \.txt file"):
        read_predictions(tmp_path, two())
    with pytest.raises(UserError, match="no such file or folder"):
        read_predictions(tmp_path / "nothing", two())


def test_json_is_sorted_by_score_and_finds_pictures_by_any_name(tmp_path):
    split = split_of([picture("0007", []), picture("b", [])])
    names = ["0007", "0007.jpg", 7, 7.0]
    entries = [entry(image_id=name, score=i / 10) for i, name in enumerate(names)]
    read = read_predictions(write_json(tmp_path, entries), split)
    assert read.found[0].score.tolist() == [0.3, 0.2, 0.1, 0.0]
    assert read.missing == ("b",)


def test_the_data_sets_own_id_goes_before_a_name(tmp_path):
    samples = [picture("2", []), picture("1", [])]
    samples[0].image_id, samples[1].image_id = 1, 2
    read = read_predictions(write_json(tmp_path, [entry(image_id=2)]), split_of(samples))
    assert [len(found) for found in read.found] == [0, 1]


def test_a_name_of_two_pictures_is_refused(tmp_path):
    samples = [Sample(Path(f"{folder}/a.jpg"), f"{folder}/a", 9, 9) for folder in "xy"]
    file = write_json(tmp_path, [entry(image_id="x/a"), entry(image_id="a")])
    with pytest.raises(UserError, match="entry 1: image_id: 2 pictures are called 'a'"):
        read_predictions(file, split_of(samples))


def test_a_picture_that_is_there_twice_is_not_taken_for_one_of_the_two(tmp_path):
    split = split_of([picture("a", []), picture("a", [])])
    with pytest.raises(UserError, match="2 pictures are called 'a'"):
        read_predictions(write_json(tmp_path, [entry()]), split)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"results": []}, "must be a list of COCO results, got dict"),
        ({"annotations": 3}, "must be a list of COCO results, got int"),
        ({"annotations": [{"image_id": "a"}]}, "entry 0: bbox is missing"),
        ([{"source": "a.jpg", "heads": {}}], "is of vh detect, which leaves out"),
        ([entry(), 3], "entry 1: must be an object, got int"),
        ([entry(), {"category_id": 1}], "entry 1: image_id is missing"),
        ([entry(image_id="z")], "entry 0: image_id: the data set has no picture 'z'"),
        ([entry(image_id=None)], "entry 0: image_id: the data set has no picture None"),
        ([entry(category_id=99)], "entry 0: category_id: the data set has no 99"),
        ([entry(bbox=[1, 2, 3])], r"entry 0: bbox: must be \[x, y, width, height\]"),
        ([entry(bbox=[1, 2, None, 4])], "entry 0: bbox width: must be a number, got None"),
        ([entry(score=True)], "entry 0: score: must be a number, got True"),
        ([entry(score=10**400)], "entry 0: score: must be a number, got 1000"),
        ([entry(bbox=[1, 2, 3, float("nan")])], "entry 0: bbox height: must be a number, got nan"),
    ],
)
def test_a_bad_entry_is_named(tmp_path, entries, message):
    with pytest.raises(UserError, match=rf"results\.json: {message}"):
        read_predictions(write_json(tmp_path, entries), two())


@pytest.mark.parametrize("text", ["", "[{", "[" * 100_000])
def test_what_is_no_json_is_a_mistake(tmp_path, text):
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(UserError, match=r"results\.json: not JSON"):
        read_predictions(file, two())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_json_of_another_encoding_or_inside_an_object_is_read(tmp_path, encoding):
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"annotations": [entry(image_id="b")]}), encoding)
    assert read_predictions(file, two()).missing == ("a",)


def test_one_file_of_a_submission_is_not_taken_for_json(tmp_path):
    (tmp_path / "a.txt").write_text("1,2,3,4,0.5,4")
    with pytest.raises(UserError, match="give the folder"):
        read_predictions(tmp_path / "a.txt", two())


def test_pictures_are_found_by_the_end_of_their_path(tmp_path):
    samples = [Sample(Path(f"/data/{folder}/a.jpg"), f"{folder}/a", 9, 9) for folder in "xy"]
    names = ["x/a.jpg", "y/a.png", "y\\a.jpg", "/data/y/a.jpg", "data/y/a"]
    entries = [entry(image_id=name) for name in names]
    read = read_predictions(write_json(tmp_path, entries), split_of(samples))
    assert [len(found) for found in read.found] == [1, 4]
    for name in ("z/a.jpg", "a.png", "/data/a.jpg", "/", ""):
        with pytest.raises(UserError, match="entry 0: image_id: "):
            read_predictions(write_json(tmp_path, [entry(image_id=name)]), split_of(samples))


def test_pictures_of_one_name_in_many_folders_are_not_all_looked_through(tmp_path, monkeypatch):
    samples = [Sample(Path(f"/data/v{i}/000001.jpg"), i + 1, 9, 9) for i in range(60)]
    entries = [entry(image_id=f"v{i}/000001.jpg") for i in range(60) for _ in range(5)]
    looked = []
    plain = PurePath.with_suffix
    monkeypatch.setattr(PurePath, "with_suffix", lambda *a: looked.append(0) or plain(*a))
    read = read_predictions(write_json(tmp_path, entries), split_of(samples))
    assert [len(found) for found in read.found] == [5] * 60
    assert len(looked) <= 2 * 60  # each picture once, each name once


def test_results_of_pictures_with_one_name_do_not_overwrite_each_other(tmp_path):
    samples = [Sample(Path(f"{folder}/a.jpg"), f"{folder}/a", 9, 9) for folder in "xy"]
    found = [Found.empty(), Found.empty()]
    with pytest.raises(UserError, match=r"2 pictures are called 'a'.*\.json"):
        write_predictions(tmp_path / "kept", split_of(samples), found)
    write_predictions(tmp_path / "kept.json", split_of(samples), found)


@pytest.mark.parametrize("name", ["kept.json", "kept"])
def test_written_results_give_the_very_same_numbers(tmp_path, name):
    _, _, split, found = random_scene(5)
    found = [
        Found(one.xywh / 3, one.score / 7, np.where(one.label < 0, 0, one.label)).best_first()
        for one in found
    ]
    write_predictions(tmp_path / "deep" / name, split, found)
    again = read_predictions(tmp_path / "deep" / name, split).found
    for protocol in ("visdrone", "coco"):
        before, after = score(split, found, protocol), score(split, again, protocol)
        assert after.numbers == pytest.approx(before.numbers, abs=0, nan_ok=True)


def test_results_are_written_picture_by_picture(tmp_path, monkeypatch):
    """As records of JSON, all results of a large data set would fill the memory."""
    rows = Found(np.ones((3, 4)), np.ones(3), np.array([0, UNSCORED, 1]))
    split = split_of([picture(name, []) for name in "abcd"])
    held, plain = [], json.dumps
    monkeypatch.setattr(json, "dumps", lambda rows: held.append(len(rows)) or plain(rows))
    write_predictions(tmp_path / "a.json", split, [rows, Found.empty(), rows, rows])
    assert max(held) == 2
    kept = json.loads((tmp_path / "a.json").read_text())
    assert [row["image_id"] for row in kept] == ["a", "a", "c", "c", "d", "d"]
    write_predictions(tmp_path / "b.json", split, [Found.empty()] * 4)
    assert (tmp_path / "b.json").read_text() == "[]"


def test_a_place_that_cannot_be_written_is_a_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_predictions(tmp_path / "file" / "x.json", two(), [Found.empty(), Found.empty()])


@pytest.mark.parametrize("header", ["", "name,width,height\n", "Name, Width, Height\n"])
def test_sizes_with_and_without_header(tmp_path, header):
    file = tmp_path / "sizes.csv"
    file.write_text(f"{header}a,10,20\nb.jpg,30,40\n")
    assert read_sizes(file) == {"a": (10, 20), "b.jpg": (30, 40), "b": (30, 40)}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_sizes_as_other_programs_write_them(tmp_path, encoding):
    file = tmp_path / "sizes.csv"
    text = 'file_name,"width",height\r\nval/a.b.jpg,10.0, 20 \r\n\r\n'
    file.write_bytes(text.encode(encoding))
    assert read_sizes(file) == {"a.b.jpg": (10, 20), "a.b": (10, 20)}


def test_sizes_of_names_with_a_dot_but_no_ending(tmp_path):
    file = tmp_path / "sizes.csv"
    file.write_text("frame.0001,10,20\nframe.0002,30,40\n")
    assert read_sizes(file) == {"frame.0001": (10, 20), "frame.0002": (30, 40)}


def test_pictures_of_another_size_than_given_are_named():
    split = split_of([picture("a", []), picture("b", [])])
    sizes = {"a": (100, 80), "b": (80, 100), "c": (1, 1)}
    assert other_sizes(split, sizes) == ["b.jpg (100x80, not 80x100)"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no sizes"),
        ("name,width,height\n", "holds no sizes"),
        ("name,height,width\na,1,2\n", "line 1: width: must be a whole number above 0"),
        (",10,20\n", "line 1: name: empty"),
        ("a,1e999,20\n", "line 1: width: must be"),
        ("a,10\n", "line 1: must be name,width,height, got 2 fields"),
        ("a,10,20\nb,0,20\n", "line 2: width: must be a whole number above 0, got '0'"),
        ("a,10,2.5\n", "line 1: height: must be"),
        ("a,10,20\na,10,21\n", "line 2: name: 'a' has another size"),
    ],
)
def test_bad_sizes_are_named(tmp_path, text, message):
    file = tmp_path / "sizes.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=rf"sizes\.csv: {message}"):
        read_sizes(file)


@given(
    st.lists(
        st.tuples(
            *[st.floats(-1e6, 1e6)] * 4, st.floats(0, 1), st.integers(1, 10), st.sampled_from("ab")
        ),
        max_size=30,
    )
)
def test_any_results_survive_the_round_trip(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("trip")
    split = two()
    found = [
        Found(
            np.array([row[:4] for row in rows if row[6] == name]).reshape(-1, 4),
            np.array([row[4] for row in rows if row[6] == name]),
            np.array([row[5] - 1 for row in rows if row[6] == name], np.int64),
        )
        for name in "ab"
    ]
    write_predictions(folder / "txt", split, found)
    for before, after in zip(found, read_predictions(folder / "txt", split).found, strict=True):
        assert np.array_equal(before.xywh, after.xywh)
        assert np.array_equal(before.score, after.score)
        assert np.array_equal(before.label, after.label)
