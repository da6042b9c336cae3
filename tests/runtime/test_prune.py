from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.tiny_onnx import write_model
from vision_heads.runtime import wire
from vision_heads.runtime.prune import keep_outputs

onnx = pytest.importorskip("onnx")


def _run(model, names, value):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == names
    return session.run(names, {"x": value})


ONE = np.float32(1)


def _model(nodes, outputs, constants=()):
    helper, kind = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", kind.FLOAT, [2])],
        [helper.make_tensor_value_info(name, kind.FLOAT, [None]) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    helper.set_model_props(model, {"key": "value"})
    onnx.checker.check_model(model)
    return model


def _chain():
    node = onnx.helper.make_node
    return _model(
        [
            node("Add", ["x", "one"], ["shared"]),
            node("Mul", ["shared", "two"], ["a"]),
            node("Mul", ["shared", "three"], ["inner"]),
            node("Add", ["inner", "one"], ["b"]),
        ],
        ["a", "b"],
        {"one": ONE, "two": 2 * ONE, "three": 3 * ONE}.items(),
    )


def test_only_what_an_output_needs_is_left():
    whole = _chain().SerializeToString()
    part = onnx.load_from_string(keep_outputs(whole, ["b"]))
    onnx.checker.check_model(part)
    assert [node.output[0] for node in part.graph.node] == ["shared", "inner", "b"]
    assert [constant.name for constant in part.graph.initializer] == ["one", "three"]
    assert part.metadata_props[0].value == "value" and part.graph.name == "made"
    value = np.array([1, 5], np.float32)
    assert _run(part.SerializeToString(), ["b"], value)[0].tolist() == [7, 19]
    assert _run(keep_outputs(whole, ["a"]), ["a"], value)[0].tolist() == [4, 12]


def test_all_outputs_leave_the_file_as_it_is():
    whole = _chain().SerializeToString()
    assert keep_outputs(whole, ["a", "b"]) == whole


def test_what_a_branch_reads_from_outside_stays():
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    bodies = {
        name: onnx.helper.make_graph(
            [node("Add", ["x", outer], [f"{name}_out"])],
            name,
            [],
            [info(f"{name}_out", onnx.TensorProto.FLOAT, [2])],
        )
        for name, outer in (("yes", "plus"), ("no", "minus"))
    }
    model = _model(
        [
            node("Identity", ["one"], ["plus"]),
            node("Neg", ["one"], ["minus"]),
            node("Neg", ["two"], ["unused"]),
            node("ReduceSum", ["x"], ["sum"], keepdims=0),
            node("Greater", ["sum", "two"], ["large"]),
            node("If", ["large"], ["out"], then_branch=bodies["yes"], else_branch=bodies["no"]),
        ],
        ["out", "unused"],
        {"one": ONE, "two": 2 * ONE}.items(),
    )
    part = keep_outputs(model.SerializeToString(), ["out"])
    assert len(onnx.load_from_string(part).graph.node) == 5
    assert _run(part, ["out"], np.array([3, 4], np.float32))[0].tolist() == [4, 5]
    assert _run(part, ["out"], np.array([0, 1], np.float32))[0].tolist() == [-1, 0]


def test_optional_outputs_and_inputs_that_are_left_out_keep_nothing_alive():
    node = onnx.helper.make_node
    model = _model(
        [
            node("Dropout", ["x"], ["same", ""]),
            node("Neg", ["same"], ["negative"]),
            node("Clip", ["x", "", "top"], ["clipped"]),
        ],
        ["negative", "clipped"],
        [("top", ONE)],
    )
    part = onnx.load_from_string(keep_outputs(model.SerializeToString(), ["clipped"]))
    assert [one.op_type for one in part.graph.node] == ["Clip"]
    assert [constant.name for constant in part.graph.initializer] == ["top"]


@settings(max_examples=30)
@given(st.data())
def test_random_graphs_give_the_same_numbers_with_fewer_nodes(data):
    node = onnx.helper.make_node
    names, nodes = ["x"], []
    for number in range(data.draw(st.integers(1, 8))):
        picked = data.draw(st.lists(st.sampled_from(names), min_size=2, max_size=2))
        nodes.append(node(data.draw(st.sampled_from(["Add", "Max"])), picked, [f"n{number}"]))
        names.append(f"n{number}")
    outputs = data.draw(st.lists(st.sampled_from(names[1:]), min_size=1, unique=True))
    whole = _model(nodes, outputs).SerializeToString()
    wanted = data.draw(st.lists(st.sampled_from(outputs), min_size=1, unique=True))
    wanted.sort(key=outputs.index)
    part = keep_outputs(whole, wanted)
    read = {name for one in onnx.load_from_string(part).graph.node for name in one.input}
    made = {one.output[0] for one in onnx.load_from_string(part).graph.node}
    assert made <= read | set(wanted)  # nothing is computed for nobody
    value = np.array([1.5, -2], np.float32)
    session = onnxruntime.InferenceSession(whole, providers=["CPUExecutionProvider"])
    for a, b in zip(session.run(wanted, {"x": value}), _run(part, wanted, value), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_missing_output_and_a_damaged_file_are_refused(tmp_path):
    write_model(tmp_path / "m.onnx")
    model = (tmp_path / "m.onnx").read_bytes()
    with pytest.raises(ValueError, match="no output other/boxes"):
        keep_outputs(model, ["other/boxes"])
    with pytest.raises(ValueError):
        keep_outputs(model[:-9], ["aerial/boxes"])


@given(st.integers(1, 100), st.binary(max_size=400))
def test_a_field_that_is_written_reads_back(number, inside):
    (field,) = wire.fields(memoryview(wire.packed(number, inside)))
    assert field.number == number and wire.content(field.value) == inside
