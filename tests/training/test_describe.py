from pathlib import Path

import numpy as np
import pytest

from vision_heads.data.sample import DataSplit, Sample
from vision_heads.errors import UserError
from vision_heads.training.config import make_config
from vision_heads.training.describe import build_spec, pose_note

SPLITS = {
    "a": DataSplit("street", "train", ("car", "bus"), (1, 2), []),
    "b": DataSplit("air", "train", ("automobile",), (7,), []),
}


def _config(merge):
    heads = {"a": {"data": "street"}, "b": {"data": "air"}}
    return make_config({"heads": heads, "merge": merge}, "run.yaml")


def test_the_model_carries_what_is_to_be_merged():
    spec = build_spec(_config({"car": ["a:car", "b:automobile"]}), SPLITS, "")
    assert spec.merge == {"car": ("a:car", "b:automobile")}
    assert build_spec(_config({}), SPLITS, "").merge == {}


def test_a_class_that_the_data_lacks_is_named_before_training():
    with pytest.raises(UserError, match=r"settings: .*merge.car: no 'b:car'; write head:class"):
        build_spec(_config({"car": ["a:car", "b:car"]}), SPLITS, "")


def _heads(*rotations):
    box = np.array([[1, 1, 9, 9]], np.float32)
    samples = [
        Sample(Path("a.png"), "a", 10, 10, box, np.zeros(1, np.int64), rotations=rotation)
        for rotation in rotations
    ]
    return DataSplit("crowd", "train", ("head",), (0,), samples)


def test_a_head_whose_poses_nothing_teaches_says_so_in_its_weights():
    unknown, known = np.full((1, 3, 3), np.nan, np.float32), np.eye(3, dtype=np.float32)[None]
    heads = {"face": {"kind": "headpose", "data": "crowd"}, "box": {"data": "crowd"}}
    config = make_config({"heads": heads}, "run.yaml")
    for rotation in (None, unknown):
        splits = {"face": _heads(rotation), "box": _heads(rotation)}
        assert build_spec(config, splits, "").provenance["poses"] == (
            "face: no box of crowd (train) has a pose, so poses are not learned"
        )
    mixed = _heads(None, unknown, known)
    assert "poses" not in build_spec(config, {"face": mixed, "box": mixed}, "").provenance


def test_a_teacher_may_be_the_only_one_who_knows_poses():
    head = {"kind": "headpose", "data": "crowd", "teacher": "pose.safetensors"}
    config = make_config({"heads": {"face": head}}, "run.yaml")
    note = pose_note(config.heads["face"], _heads(None))
    assert note.endswith("so poses are learned from its teacher alone")
