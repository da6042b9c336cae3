from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from vision_heads.errors import UserError
from vision_heads.geometry.rotations import from_euler
from vision_heads.media.attention import AttentionSink
from vision_heads.media.images import image_size
from vision_heads.media.sinks import CropSink, CsvSink, ImageSink, JsonSink, TextSink, save_jpeg
from vision_heads.media.sources import OUTPUT_MARK
from vision_heads.results import Detections, Failure, Result


def _result(source="a.jpg", count=2, heads=("aerial",), image=True):
    boxes = np.array([[10, 20, 50, 40], [100, 0, 200, 100]], np.float32)[:count]
    found = Detections(
        boxes, np.array([0.9, 0.30004])[:count], np.array([1, 0])[:count], ("car", "a/b"), (4, 9)
    )
    picture = np.full((100, 200, 3), 90, np.uint8) if image else None
    return Result(dict.fromkeys(heads, found), 200, 100, source, picture)


def test_json_is_an_array_of_records(tmp_path):
    path = tmp_path / "new" / "found.json"
    sink = JsonSink(path)
    sink.write("a", _result("Straße.jpg"))
    sink.write("b", Failure("b.jpg", "b.jpg: truncated"))
    sink.write("c", _result("c.jpg", count=0))
    sink.close()
    sink.close()
    records = json.loads(path.read_text(encoding="utf-8"))
    assert [record["source"] for record in records] == ["Straße.jpg", "b.jpg", "c.jpg"]
    assert records[0]["heads"]["aerial"][0] == {
        "class": "a/b", "category_id": 9, "score": 0.9, "box": [10.0, 20.0, 50.0, 40.0]
    }  # fmt: skip
    assert records[0]["heads"]["aerial"][1]["score"] == 0.30004
    assert records[1] == {"source": "b.jpg", "error": "b.jpg: truncated"}
    assert records[2] == {"source": "c.jpg", "width": 200, "height": 100, "heads": {"aerial": []}}


def test_json_of_nothing_is_an_empty_array(tmp_path):
    JsonSink(tmp_path / "a.json").close()
    assert json.loads((tmp_path / "a.json").read_text()) == []


def test_json_grows_on_disk_while_it_is_written(tmp_path):
    sink = JsonSink(tmp_path / "a.json")
    for number in range(3):
        sink.write(str(number), _result(f"{number}.jpg"))
    assert "1.jpg" in (tmp_path / "a.json").read_text()
    sink.close()


def test_csv_has_a_row_a_detection(tmp_path):
    sink = CsvSink(tmp_path / "a.csv")
    sink.write("a", _result('with "quotes", and commas.jpg'))
    sink.write("b", Failure("b.jpg", "broken"))
    sink.close()
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert rows[0]["source"] == 'with "quotes", and commas.jpg'
    assert rows[0]["head"] == "aerial" and rows[0]["class"] == "a/b"
    assert [float(rows[1][key]) for key in ("x1", "y1", "x2", "y2")] == [100, 0, 200, 100]


def test_txt_is_yolo_format(tmp_path):
    sink = TextSink(tmp_path)
    sink.write("sub/a", _result())
    sink.write("none", _result(count=0))
    sink.write("bad", Failure("bad.jpg", "broken"))
    lines = (tmp_path / "sub" / "a.txt").read_text().splitlines()
    assert lines[0] == "1 0.150000 0.300000 0.200000 0.200000 0.900000"
    assert len(lines) == 2
    assert (tmp_path / "none.txt").read_text() == ""
    assert not (tmp_path / "bad.txt").exists()
    sink.write("two", _result(heads=("one", "other")))
    assert (tmp_path / "one" / "two.txt").read_text() == (
        tmp_path / "other" / "two.txt"
    ).read_text()


def test_images_are_drawn(tmp_path):
    sink = ImageSink(tmp_path)
    sink.write("sub/a", _result())
    sink.write("b", Failure("b.jpg", "broken"))
    drawn = cv2.imread(str(tmp_path / "sub" / "a.jpg"))
    assert drawn.shape == (100, 200, 3)
    assert np.abs(drawn.astype(int) - 90).max() > 60
    assert len(list(tmp_path.rglob("*.jpg"))) == 1


def test_crops_are_the_boxes_pixels(tmp_path):
    result = _result()
    result.image[20:40, 10:50] = (0, 0, 250)
    CropSink(tmp_path).write("sub/a", result)
    crop = cv2.imread(str(tmp_path / "aerial" / "a_b" / "sub" / "a-0.jpg"))
    assert crop.shape == (20, 40, 3)
    assert np.abs(crop.astype(int) - (0, 0, 250)).max() < 12
    assert cv2.imread(str(tmp_path / "aerial" / "car" / "sub" / "a-1.jpg")).shape == (100, 100, 3)


def test_a_crop_holds_every_pixel_that_its_box_touches(tmp_path):
    result = _result(count=0)
    result.heads["aerial"] = Detections([[10.4, 5.6, 20.2, 9.1]], [0.5], [0], ("car",))
    result.image[5:10, 10:21] = (0, 0, 250)
    CropSink(tmp_path).write("a", result)
    crop = cv2.imread(str(tmp_path / "aerial" / "car" / "a-0.jpg"))
    assert crop.shape == (5, 11, 3)
    assert np.abs(crop.astype(int) - (0, 0, 250)).max() < 12


def test_a_thin_box_gives_a_thin_crop(tmp_path):
    result = _result(count=0)
    result.heads["aerial"] = Detections(
        np.array([[5.2, 5.0, 5.2, 9.0]]), np.array([0.5]), np.array([0]), ("car",)
    )
    CropSink(tmp_path).write("a", result)
    assert cv2.imread(str(tmp_path / "aerial" / "car" / "a-0.jpg")).shape == (4, 1, 3)


@pytest.mark.parametrize("kind", [JsonSink, CsvSink, TextSink, ImageSink, CropSink])
def test_a_place_that_cannot_be_written_to_is_named_at_once(tmp_path, kind):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        kind(blocker / "inside")


@pytest.mark.parametrize("kind", [TextSink, ImageSink, CropSink])
def test_files_of_others_are_never_written_over(tmp_path, kind):
    mine = tmp_path / "mine.txt"
    mine.write_text("labelled by hand")
    with pytest.raises(UserError, match="did not write; name another folder"):
        kind(tmp_path)
    mine.unlink()
    kind(tmp_path).write("a", _result())
    kind(tmp_path).write("a", _result())  # its own may be written over


@pytest.mark.parametrize("name", ["street.jpg", "clip.MP4", "-"])
@pytest.mark.parametrize("kind", [JsonSink, CsvSink])
def test_a_picture_is_never_replaced_by_results(tmp_path, monkeypatch, kind, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=name):
        kind(Path(name))
    assert not list(tmp_path.iterdir())


def test_file_names_need_not_be_unicode(tmp_path):
    result = _result()
    result.source = os.fsdecode(b"caf\xe9.jpg")
    sink = JsonSink(tmp_path / "a.json")
    sink.write("a", result)
    sink.close()
    (record,) = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert os.fsencode(record["source"]) == b"caf\xe9.jpg"
    table = CsvSink(tmp_path / "a.csv")
    table.write("a", result)
    table.close()
    assert "caf\\udce9.jpg" in (tmp_path / "a.csv").read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk always full")
@pytest.mark.parametrize("kind", [JsonSink, CsvSink])
def test_a_full_disk_is_named(kind):
    with pytest.raises(UserError, match=r"/dev/full: cannot be written: No space left"):
        sink = kind(Path("/dev/full"))
        for _ in range(3):
            sink.write("a", _result())


@pytest.mark.parametrize("kind", [JsonSink, CsvSink, AttentionSink])
@pytest.mark.parametrize("room", [1000, 1100, 1190])
def test_a_disk_that_fills_up_tears_no_record(tmp_path, kind, room):
    resource = pytest.importorskip("resource")
    path, written = tmp_path / "found", 0
    sink = kind(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(UserError, match="found: cannot be written"):
            for written in range(30):  # noqa: B007
                sink.write("a", _posed_result())
        sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    if kind is JsonSink:
        assert len(json.loads(path.read_text())) == written > 0
    else:
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
        assert len(rows) == 1 + 2 * written and len({len(row) for row in rows}) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk always full")
def test_a_picture_on_a_full_disk_is_named():
    with pytest.raises(UserError, match="No space left"):
        save_jpeg(Path("/dev/full"), np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize("kind", [ImageSink, CropSink, TextSink])
def test_a_disk_that_fills_up_leaves_no_half_pictures(tmp_path, kind):
    resource = pytest.importorskip("resource")
    rng = np.random.default_rng(0)
    result = _posed_result()
    result.image = rng.integers(0, 255, (100, 200, 3), np.uint8)
    sink = kind(tmp_path)
    sink.write("a", result)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    room = min(len(data) for path, data in before.items() if path.name != OUTPUT_MARK) // 2
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        for name in "ab":
            with pytest.raises(UserError, match="cannot be written: File too large"):
                sink.write(name, result)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(before) > 1 and after == before
    sink.write("b", result)


def _posed_result() -> Result:
    rotation = from_euler([[10, 170, -5], [np.nan] * 3])
    boxes = [[10, 20, 50, 60], [100, 0, 140, 50]]
    found = Detections(boxes, [0.9, 0.5], [0, 0], ("head",), (1,), rotation)
    return Result({"pose": found}, 200, 100, "a.jpg")


def test_csv_and_json_carry_poses(tmp_path):
    for sink in (CsvSink(tmp_path / "a.csv"), JsonSink(tmp_path / "a.json")):
        sink.write("a", _posed_result())
        sink.write("b", _result("b.jpg"))
        sink.close()
        sink.close()
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(rows[0][k]) for k in ("pitch", "yaw", "roll")] == pytest.approx(
        [10, 170, -5], abs=2e-3
    )
    matrix = [float(rows[0][f"r{i}{j}"]) for i in (1, 2, 3) for j in (1, 2, 3)]
    np.testing.assert_allclose(np.reshape(matrix, (3, 3)), from_euler([10, 170, -5]), atol=1e-4)
    assert rows[1]["yaw"] == rows[1]["r11"] == rows[2]["yaw"] == ""
    assert rows[2]["source"] == "b.jpg" and rows[2]["x1"] == "10.0"
    record = json.loads((tmp_path / "a.json").read_text())[0]["heads"]["pose"]
    assert record[0]["yaw"] == pytest.approx(170, abs=2e-3) and record[1]["rotation"] is None


def test_csv_of_boxes_has_no_columns_for_poses(tmp_path):
    for name, results in (("some", [_result()]), ("none", [])):
        sink = CsvSink(tmp_path / name)
        for result in results:
            sink.write("a", result)
        sink.close()
        header = (tmp_path / name).read_text().splitlines()[0]
        assert header == "source,head,class,category_id,score,x1,y1,x2,y2"


def test_attention_report(tmp_path):
    boxes = [[0, 40, 30, 80], [100, 40, 130, 80], [160, 40, 190, 80], [60, 0, 70, 10]]
    turns = from_euler([[0, -90, 0], [0, 90, 0], [0, 3, 0], [np.nan] * 3])
    found = Detections(boxes, [0.9, 0.8, 0.7, 0.6], [0] * 4, ("head",), (), turns)
    sink = AttentionSink(tmp_path / "a.csv", within=30)
    sink.write("a", Result({"pose": found}, 200, 120, "a.jpg"))
    sink.write("b", Failure("b.jpg", "broken"))
    sink.write("c", _result())
    sink.close()
    assert sink.counts == {
        "heads": 4, "camera": 1, "others": 2, "nobody": 0, "unknown": 1, "pairs": 1
    }  # fmt: skip
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["turned_to"] for row in rows] == ["1", "0", "camera", "unknown"]
    assert [row["mutual"] for row in rows] == ["1", "1", "0", "0"]
    assert float(rows[2]["camera_degrees"]) == pytest.approx(3, abs=0.01)
    assert rows[3]["camera_degrees"] == ""


def test_every_record_and_row_says_which_head_found_it(tmp_path):
    """Two heads with a class of the same name, one of them with poses."""
    result = _result(heads=("aerial", "street"))
    pose = Detections([[1, 2, 3, 4]], [0.5], [0], ("car",), rotation=from_euler([[5, 6, 7]]))
    result.heads["pose"] = pose
    for sink in (JsonSink(tmp_path / "a.json"), CsvSink(tmp_path / "a.csv")):
        sink.write("a", result)
        sink.close()
    (record,) = json.loads((tmp_path / "a.json").read_text())
    assert {head: len(found) for head, found in record["heads"].items()} == {
        "aerial": 2, "street": 2, "pose": 1
    }  # fmt: skip
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["head"] for row in rows] == ["aerial", "aerial", "street", "street", "pose"]
    assert [row["class"] for row in rows] == ["a/b", "car", "a/b", "car", "car"]
    assert [row["yaw"] for row in rows] == ["", "", "", "", "6.0"]


@pytest.mark.parametrize(("yaw", "word"), [(0, "camera"), (90, ""), (np.nan, "unknown")])
def test_attention_of_a_head_alone_in_its_picture(tmp_path, yaw, word):
    found = Detections([[80, 40, 120, 80]], [0.9], [0], ("head",), (), from_euler([[0, yaw, 0]]))
    sink = AttentionSink(tmp_path / "a.csv")
    sink.write("a", Result({"pose": found}, 200, 120, "a.jpg"))
    sink.close()
    with (tmp_path / "a.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["turned_to"] == word
    assert (row["turned_degrees"] != "") == (word == "camera")


def test_a_picture_too_long_for_a_jpeg_is_shrunk(tmp_path):
    save_jpeg(tmp_path / "long.jpg", np.zeros((40, 70_000, 3), np.uint8))
    assert image_size(tmp_path / "long.jpg") == (65_500, 37)


@pytest.mark.parametrize("kind", [JsonSink, CsvSink, AttentionSink])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_deleted_meanwhile_is_said(tmp_path, kind, replaced):
    for last in ("write", "close"):
        path = tmp_path / last
        sink = kind(path)
        sink.write("a", _posed_result())
        path.unlink()
        if replaced:
            path.write_text("somebody's own\n")
        with pytest.raises(UserError, match=f"{last}: cannot be written: it was deleted"):
            sink.write("b", _posed_result()) if last == "write" else sink.close()
        if last == "write":
            with pytest.raises(UserError, match="it was deleted"):
                sink.close()
        sink.close()
        assert path.exists() == replaced and not (replaced and "box" in path.read_text())


@pytest.mark.parametrize("kind", [JsonSink, CsvSink, AttentionSink])
def test_a_file_that_is_moved_keeps_its_results(tmp_path, kind):
    sink = kind(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    sink.write("a", _posed_result())
    sink.close()
    assert "a.jpg" in (tmp_path / "b").read_text()


@pytest.mark.parametrize("kind", [TextSink, ImageSink, CropSink])
def test_a_folder_that_is_deleted_meanwhile_is_said(tmp_path, kind):
    """Made anew, it would lack the mark that keeps its pictures out of the next search."""
    folder = tmp_path / "out"
    sink = kind(folder)
    sink.write("a", _result())
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="out: cannot be written: it was deleted or replaced"):
        sink.write("b", _result())
    assert not folder.exists()
