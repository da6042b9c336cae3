"""Every graph that `vh export` writes keeps to what TensorRT 8.6 to 11 takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vision_heads.errors import UserError
from vision_heads.export import operators
from vision_heads.export.nms import add_nms
from vision_heads.export.nodes import TYPES, decode_nodes, element_types, read_graph
from vision_heads.export.operators import RELEASES, table_of, unsupported
from vision_heads.paths import assets
from vision_heads.spec import NmsSpec

GRAPHS = ("fixed", "open", "6d", "euler")


def reasons(path, release="10.3"):
    return [problem.reason for problem in unsupported(path, release)]


def write(folder, nodes, *, constants=None, opset=17, kind=TensorProto.FLOAT, shape=(1, 3, 8, 8)):
    """A graph of a few nodes that read `x`."""
    values = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    last = next(name for name in nodes[-1].output if name)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
        values,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    onnx.save(model, str(folder / "m.onnx"))
    return folder / "m.onnx"


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", GRAPHS)
def test_exported_graphs_use_nothing_else(graphs, name, release):
    assert unsupported(graphs[name], release) == []


@pytest.mark.parametrize("way", ["onnx", "tensorrt"])
@pytest.mark.parametrize("name", ["open", "6d"])
def test_graphs_with_nms_use_nothing_else(graphs, tmp_path, name, way):
    add_nms(graphs[name], tmp_path / "m.onnx", NmsSpec(max_det=20), way=way)
    used = {node.operator for node in read_graph(tmp_path / "m.onnx").nodes}
    assert used & {"NonMaxSuppression", "EfficientNMS_TRT"}
    for release in RELEASES:
        assert unsupported(tmp_path / "m.onnx", release) == []


def test_shipped_files_use_nothing_else():
    files = sorted(Path(assets("weights")).glob("*.onnx"))
    assert files
    for file in files:
        for release in RELEASES:
            assert unsupported(file, release) == [], file


@pytest.mark.parametrize("name", GRAPHS)
def test_types_are_those_that_onnx_infers(graphs, name):
    model = onnx.shape_inference.infer_shapes(onnx.load(graphs[name]))
    values = [*model.graph.value_info, *model.graph.output]
    expected = {value.name: TYPES[value.type.tensor_type.elem_type] for value in values}
    found = element_types(read_graph(graphs[name]))
    assert len(expected) > 300
    assert {name: found[name] for name in expected} == expected


def test_the_graph_is_what_the_onnx_package_reads(graphs):
    model, graph = onnx.load(graphs["open"]), read_graph(graphs["open"])
    assert [(n.name, n.op_type, tuple(n.input), tuple(n.output)) for n in model.graph.node] == [
        (n.name, n.operator, n.inputs, n.outputs) for n in graph.nodes
    ]
    assert graph.opset == 17 and graph.inputs == {"images": ("FLOAT", (-1, 3, 128, 160))}
    assert graph.outputs == tuple(output.name for output in model.graph.output)
    for tensor in model.graph.initializer:
        constant, values = graph.constants[tensor.name], numpy_helper.to_array(tensor)
        assert (constant.type, constant.dims) == (TYPES[tensor.data_type], values.shape)
        if values.dtype == np.int64 and values.size <= 64:
            assert list(constant.numbers) == values.ravel().tolist()
    for node, read in zip(model.graph.node, graph.nodes, strict=True):
        for attribute in node.attribute:
            value = helper.get_attribute_value(attribute)
            if isinstance(value, int):
                assert read.attributes[attribute.name] == value
            elif isinstance(value, list) and value and isinstance(value[0], int):
                assert read.attributes[attribute.name] == tuple(value)
            elif isinstance(value, bytes):
                assert read.attributes[attribute.name] == value.decode()


def test_decoding_begins_behind_the_last_convolutions(graphs):
    tail, last = decode_nodes(read_graph(graphs["open"]))
    nodes = {node.name: node.operator for node in read_graph(graphs["open"]).nodes}
    # Levels times branches of each head; a pose has three.
    assert len(last) == 3 * 2 + 3 * 3 + 2 * 2 + 3 * 2
    assert {nodes[name] for name in last} == {"Conv"}
    assert {"TopK", "Softmax", "GatherElements"} <= {nodes[name] for name in tail}
    assert not {"Conv", "MaxPool", "Resize"} & {nodes[name] for name in tail}


def test_the_lists_name_operators_that_exist():
    """A slip of the pen in the data would let an operator through that nobody checks."""
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    known |= {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}  # of ONNX before version 1
    names = set(TYPES.values())
    data = json.loads(Path(operators.__file__).with_name("operators.json").read_text())
    for table in data["tables"]:
        assert table["source"]
        listed = [name for group in table["operators"].values() for name in group]
        assert len(listed) == len(set(listed))
        assert set(listed) <= known | {"Swish"}, table["release"]
        assert {t for types in table["operators"] for t in types.split()} <= names
        assert set(table["narrowed"]) | set(table["narrowed"].values()) <= names


def test_a_release_between_two_lists_takes_what_both_have():
    old, new, between = table_of("8.6"), table_of("10.15"), table_of("10.3.0")
    assert set(between.operators) == set(old.operators) & set(new.operators)
    assert between.operators["Add"] == new.operators["Add"] and between.opset == 20
    assert len(between.sources) == 3
    # INT64 is a type of its own from 10.0 on, and made INT32 before.
    assert between.narrowed == {"DOUBLE": "FLOAT"} and "INT64" in old.narrowed
    assert table_of("8.6.1").operators == old.operators
    assert table_of("9.2").opset == 17 and table_of("9.2").operators["Add"] == old.operators["Add"]
    assert set(table_of("11.4.0.106").operators) == set(new.operators) | {"Swish"}
    assert table_of("12.0").opset == 25
    for text, message in [("8.5.2", "must be 8.6 or newer"), ("new", "no version like 10.3")]:
        with pytest.raises(UserError, match=message):
            table_of(text)


def test_what_is_not_taken_is_named(tmp_path):
    file = write(tmp_path, [helper.make_node("Det", ["x"], ["y"], "/det")], opset=21)
    problems = unsupported(file, "10.3")
    assert [str(problem) for problem in problems] == [
        "ONNX operator set 21; 10.3 takes up to 20",
        "Det (/det): not among the operators of TensorRT 10.3",
    ]
    assert reasons(file, "11.0") == ["not among the operators of TensorRT 11.0"]
    file = write(tmp_path, [helper.make_node("Magic", ["x"], ["y"], "/m", domain="com.x")])
    assert reasons(file) == ["operators of 'com.x' are not TensorRT's"]


@pytest.mark.parametrize(
    ("kind", "release", "message"),
    [
        (TensorProto.INT64, "8.6", None),  # made INT32
        (TensorProto.INT64, "10.3", None),
        (TensorProto.DOUBLE, "10.3", None),  # made FLOAT
        (TensorProto.UINT8, "10.3", "UINT8: TensorRT 10.3 takes "),
        (TensorProto.BFLOAT16, "8.6", "BFLOAT16: TensorRT 8.6 takes FLOAT, FLOAT16, INT32"),
        (TensorProto.BFLOAT16, "10.3", None),
    ],
)
def test_types_are_checked(tmp_path, kind, release, message):
    file = write(tmp_path, [helper.make_node("Add", ["x", "x"], ["y"], "/a")], kind=kind)
    found = reasons(file, release)
    assert (found == []) if message is None else (len(found) == 1 and message in found[0])


def test_bytes_may_only_be_cast(tmp_path):
    nodes = [helper.make_node("Cast", ["x"], ["y"], "/c", to=TensorProto.FLOAT)]
    file = write(tmp_path, nodes, kind=TensorProto.UINT8)
    assert reasons(file, "10.15") == []
    assert "UINT8" in reasons(file, "8.6")[0]


def test_limits_of_operators(tmp_path):
    def check(operator, inputs, constants, message, *, release="10.3", outputs=("y",), **more):
        nodes = [helper.make_node(operator, inputs, list(outputs), f"/{operator}", **more)]
        found = reasons(write(tmp_path, nodes, constants=constants), release)
        assert (found == []) if message is None else (message in " ".join(found)), found

    k = ["x", "k"]
    for most, message in ((3840, None), (3841, "K is 3841, at most 3840: export with fewer")):
        for release in RELEASES:
            check("TopK", k, {"k": [most]}, message, outputs=("v", "i"), release=release)
    check("TopK", ["x", "x"], {}, "K must be constant", outputs=("v", "i"))
    check("TopK", k, {"k": [9]}, "sorted must be 1", outputs=("v", "i"), sorted=0)
    check("Resize", ["x", "", "s"], {"s": np.ones(4, np.float32)}, "mode 'cubic'", mode="cubic")
    check("Resize", ["x", "", "s"], {"s": np.ones(4, np.float32)}, None, mode="nearest")
    check("MaxPool", ["x"], {}, "indices", outputs=("y", "i"), kernel_shape=[2, 2])
    check("MaxPool", ["x"], {}, "dilations", kernel_shape=[2, 2], dilations=[2, 2])
    check("Unsqueeze", ["x", "x"], {}, "axes must be constant")
    check("Unsqueeze", ["x", "a"], {"a": [0]}, None)
    check("ReduceSum", ["x", "x"], {}, "axes must be constant")
    check("ReduceSum", ["x"], {}, None)
    scale = {"s": np.float32(0.1)}
    three = ["x", "s", "z"]
    check("QuantizeLinear", three, scale | {"z": np.int8(0)}, None)
    check("QuantizeLinear", three, scale | {"z": np.int8(3)}, "zero point must be 0")
    check("QuantizeLinear", three, scale | {"z": np.uint8(0)}, "UINT8; TensorRT takes INT8")
    check("QuantizeLinear", ["x", "s"], scale, "must say its type")
    boxes = ["x", "x", "m"]
    check("NonMaxSuppression", boxes, {"m": [6000]}, "6000 boxes, at most 5000")
    check("NonMaxSuppression", boxes, {"m": [300]}, None)


def test_constants_may_be_nodes(tmp_path):
    value = numpy_helper.from_array(np.array([7]), "k")
    nodes = [
        helper.make_node("Constant", [], ["k"], "/k", value=value),
        helper.make_node("TopK", ["x", "k"], ["v", "i"], "/t"),
    ]
    assert reasons(write(tmp_path, nodes)) == []


def test_what_is_no_onnx_file_is_refused(tmp_path, graphs):
    whole = graphs["fixed"].read_bytes()
    for name, data in {"empty": b"", "text": b"no model", "cut": whole[: len(whole) // 3]}.items():
        (tmp_path / f"{name}.onnx").write_bytes(data)
        with pytest.raises(UserError, match=rf"{name}\.onnx: not a readable ONNX file"):
            unsupported(tmp_path / f"{name}.onnx", "10.3")
    with pytest.raises(UserError, match="no such file"):
        unsupported(tmp_path / "none.onnx", "10.3")
