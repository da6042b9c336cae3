import onnxruntime
import pytest

from tests.runtime import tiny_onnx
from vision_heads.runtime.engines import OnnxEngine
from vision_heads.runtime.waiting import wait_setting


@pytest.mark.parametrize(
    ("version", "setting"),
    [
        ("1.18.0", ("session.intra_op.allow_spinning", "0")),
        ("1.25.1", ("session.intra_op.allow_spinning", "0")),
        ("1.26.0", ("session.intra_op.spin_duration_us", "50")),
        ("1.31.1", ("session.intra_op.spin_duration_us", "50")),
        ("2.0.0.dev1", ("session.intra_op.spin_duration_us", "50")),
    ],
)
def test_versions_that_take_a_time_get_one(version, setting):
    assert wait_setting(version) == setting


def test_sessions_have_the_setting(tmp_path):
    tiny_onnx.write_model(tmp_path / "m.onnx")
    engine = OnnxEngine(tmp_path / "m.onnx", threads=1)
    key, value = wait_setting(onnxruntime.__version__)
    options = engine._session.get_session_options()
    assert options.get_session_config_entry(key) == value
