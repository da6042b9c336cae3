from __future__ import annotations

import copy
import json
import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest

from vision_heads.errors import UserError
from vision_heads.geometry.rotations import from_euler
from vision_heads.results import Detections, Failure, Result


def _found():
    return Detections(
        np.array([[1.005, 2, 11, 22.5], [0, 0, 4, 4], [5, 5, 6, 7]]),
        np.array([0.9, 0.5, 0.25]),
        np.array([1, 0, 1]),
        ("car", "van"),
        (4, 9),
    )


def test_types_and_shapes_are_made_right():
    found = _found()
    assert found.xyxy.dtype == np.float32 and found.score.dtype == np.float32
    assert found.class_id.dtype == np.int64
    assert Detections([], [], [], ("a",)).xyxy.shape == (0, 4)  # type: ignore[arg-type]
    assert Detections.empty(("a", "b")).category_ids == (0, 1)
    with pytest.raises(ValueError, match="differ in length"):
        Detections(np.zeros((2, 4)), np.zeros(1), np.zeros(2), ("a",))


def test_a_result_knows_its_heads_and_is_no_list_of_them():
    result = Result({"aerial": _found()}, 30, 30)
    assert "aerial" in result and "pose" not in result and 0 not in result
    with pytest.raises(TypeError, match="not iterable"):
        list(result)


def test_rows_are_selected_together():
    found = _found()
    found.rotation = np.stack([np.eye(3) * n for n in range(3)]).astype(np.float32)
    for index in (found.score > 0.3, slice(0, 2), np.array([0, 1])):
        part = found[index]
        assert part.score.tolist() == [np.float32(0.9), 0.5] and part.class_id.tolist() == [1, 0]
        assert part.rotation is not None and part.rotation[1, 0, 0] == 1
        assert part.names == found.names and part.category_ids == (4, 9)
    assert found[-1].xyxy.tolist() == [[5, 5, 6, 7]]


def test_results_are_equal_to_themselves_alone():
    """Numbers of two results have no one answer; asking for it raised ValueError."""
    results = [Result({"a": _found()}, 30, 20) for _ in range(3)]
    assert results.index(results[2]) == 2 and results[0] != results[1]
    assert _found() not in [_found()] and len(set(results)) == 3


def test_results_can_be_pickled_and_copied():
    found = _found()
    found.rotation = from_euler([[1, 2, 3]] * 3).astype(np.float32)
    result = Result({"a": found}, 30, 20, "a.jpg", np.zeros((20, 30, 3), np.uint8))
    for other in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert other.to_dict() == result.to_dict() and other.draw().shape == (20, 30, 3)
    failure = Failure("a.jpg", "a.jpg: truncated")
    assert pickle.loads(pickle.dumps(failure)) == failure


def test_iteration_and_counts():
    names = [(name, score) for _, score, name in _found()]
    assert names[0] == ("van", pytest.approx(0.9))
    assert all(type(score) is float for _, score in names)
    assert _found().counts() == {"car": 1, "van": 2}
    assert Detections.empty(("a",)).counts() == {}


def test_records_are_plain_and_rounded():
    record = _found().to_dicts()[0]
    assert record["box"] == [1.0, 2.0, 11.0, 22.5] or record["box"] == [1.01, 2.0, 11.0, 22.5]
    assert (record["class"], record["category_id"], record["score"]) == ("van", 9, 0.9)
    assert json.loads(json.dumps(_found().to_dicts())) == _found().to_dicts()
    odd = Detections([[0.1234, 0, 1, 1]], [0.1234567], [0], ("car",))
    assert odd.to_dicts()[0]["score"] == 0.12346 and odd.to_dicts()[0]["box"][0] == 0.12
    assert odd.to_coco(1)[0]["score"] == 0.123457 and odd.to_coco(1)[0]["bbox"][0] == 0.123


def test_coco_has_sizes_and_the_data_sets_ids():
    rows = _found().to_coco(17)
    assert rows[1] == {"image_id": 17, "category_id": 4, "bbox": [0.0, 0.0, 4.0, 4.0], "score": 0.5}
    assert rows[0]["bbox"][2:] == [9.995, 20.5]
    result = Result({"a": _found()}, 30, 40, "x.jpg")
    assert result.to_coco()["a"][0]["image_id"] == "x.jpg"
    assert result.to_coco(5)["a"][0]["image_id"] == 5


def test_results_are_true_and_failures_false():
    empty = Result({"a": Detections.empty(("car",))}, 30, 40)
    assert empty and len(empty) == 0
    assert not Failure("x.jpg", "x.jpg: truncated")
    assert empty.to_dict() == {"source": "", "width": 30, "height": 40, "heads": {"a": []}}


def test_unknown_heads_and_missing_pictures_are_named():
    result = Result({"a": _found()}, 30, 40)
    with pytest.raises(KeyError, match="no head 'b'; this result has"):
        result["b"]
    with pytest.raises(UserError, match="keep_image=True"):
        result.draw()
    drawn = result.draw(np.zeros((40, 30, 3), np.uint8))
    assert drawn.shape == (40, 30, 3) and drawn.any()


@pytest.mark.parametrize(
    "image",
    [np.zeros((40, 30, 3)), np.zeros((40, 30), np.uint8), np.zeros((30, 40, 3), np.uint8), "a.jpg"],
)
def test_pictures_that_would_be_drawn_on_wrongly_are_refused(image):
    with pytest.raises(UserError, match=r"draw\(\): expected .* \(40, 30, 3\), got"):
        Result({"a": _found()}, 30, 40).draw(image)


def test_supervision_gets_everything():
    sv = pytest.importorskip("supervision")
    found = Result({"a": _found()}, 30, 40).to_supervision()["a"]
    assert isinstance(found, sv.Detections)
    np.testing.assert_allclose(found.xyxy, _found().xyxy)
    assert found.data["class_name"].tolist() == ["van", "car", "van"]
    assert found.tracker_id is None
    assert len(Detections.empty(("a",)).to_supervision()) == 0


def test_supervision_gets_track_ids():
    pytest.importorskip("supervision")
    found = replace(_found(), track=[4, -1, 2]).to_supervision()
    assert found.tracker_id.tolist() == [4, -1, 2]


def test_without_supervision_the_way_to_get_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match="pip install supervision"):
        _found().to_supervision()


def _posed() -> Detections:
    rotation = from_euler([[10, 170, -5], [np.nan] * 3])
    return Detections([[0, 0, 10, 10], [5, 5, 9, 9]], [0.9, 0.5], [0, 0], ("head",), (3,), rotation)


def test_euler_angles_in_every_convention():
    found = _posed()
    assert found.rotation.dtype == np.float32
    np.testing.assert_allclose(found.euler()[0], [10, 170, -5], atol=1e-3)
    assert np.isnan(found.euler()[1]).all()
    assert found.euler("opencv").shape == (2, 3)
    with pytest.raises(UserError, match="klingon"):
        found.euler("klingon")
    with pytest.raises(UserError, match="no rotation"):
        Detections.empty(("head",)).euler()


def test_records_of_poses():
    found = _posed()
    known, unknown = found.to_dicts()
    assert [known["pitch"], known["yaw"], known["roll"]] == pytest.approx([10, 170, -5], abs=2e-3)
    np.testing.assert_allclose(known["rotation"], found.rotation[0], atol=1e-6)
    assert known["yaw"] == round(known["yaw"], 3)
    assert known["rotation"] == np.round(known["rotation"], 6).tolist()
    assert unknown["yaw"] is None and unknown["rotation"] is None
    coco = found.to_coco(7)
    assert coco[0]["category_id"] == 3 and coco[0]["yaw"] == pytest.approx(170, abs=2e-3)
    assert json.loads(json.dumps(coco)) == coco


def test_selecting_keeps_each_rotation():
    found = _posed()[[1, 0]]
    assert np.isnan(found.rotation[0]).all() and found.euler()[1, 1] == pytest.approx(170, abs=1e-3)
    with pytest.raises(ValueError, match="rotation"):
        Detections([[0, 0, 1, 1]], [0.5], [0], ("head",), (), np.zeros((2, 3, 3)))


def test_track_ids_stay_with_their_rows():
    found = Detections(
        np.array([[0, 0, 4, 4], [1, 1, 5, 5]]), np.ones(2), np.zeros(2), ("car",), track=[7, -1]
    )
    assert [record["track"] for record in found.to_dicts()] == [7, None]
    assert found[[1]].track.tolist() == [-1]
    plain = Detections(found.xyxy, found.score, found.class_id, ("car",))
    assert "track" not in plain.to_dicts()[0]
    with pytest.raises(ValueError, match="track differ"):
        Detections(found.xyxy, found.score, found.class_id, ("car",), track=[1])
