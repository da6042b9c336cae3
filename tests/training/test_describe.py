import pytest

from vision_heads.data.sample import DataSplit
from vision_heads.errors import UserError
from vision_heads.training.config import make_config
from vision_heads.training.describe import build_spec

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
