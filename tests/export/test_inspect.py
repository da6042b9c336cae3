import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_heads.errors import UserError
from vision_heads.export.inspect import read_onnx
from vision_heads.export.onnx import export_onnx


def test_reads_what_the_onnx_package_reads(network, tmp_path):
    path = export_onnx(network, tmp_path / "m.onnx").path
    content, model = read_onnx(path), onnx.load(path)
    names = [node.op_type for node in model.graph.node]
    assert content.operators == {name: names.count(name) for name in set(names)}
    assert content.metadata == {entry.key: entry.value for entry in model.metadata_props}
    assert content.opset == 17
    assert content.size == path.stat().st_size
    arrays = [onnx.numpy_helper.to_array(i) for i in model.graph.initializer]
    assert content.numbers == sum(a.size for a in arrays if a.dtype.kind == "f")


def test_damaged_files_are_refused_by_name(network, tmp_path):
    whole = export_onnx(network, tmp_path / "m.onnx").path.read_bytes()
    for name, data in {
        "empty": b"",
        "text": b"hello, this is no model",
        "cut": whole[: len(whole) // 2],
        "zeros": bytes(100),
    }.items():
        file = tmp_path / f"{name}.onnx"
        file.write_bytes(data)
        with pytest.raises(UserError, match=rf"{name}\.onnx: not a readable ONNX file"):
            read_onnx(file)
    with pytest.raises(UserError, match="no such file"):
        read_onnx(tmp_path / "none.onnx")


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("bytes") / "m.onnx"
    file.write_bytes(data)
    try:
        content = read_onnx(file)
    except UserError as error:
        assert str(error).startswith(f"{file}: not a readable ONNX file")
    else:
        assert content.size == len(data)
