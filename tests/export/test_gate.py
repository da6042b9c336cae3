"""The gate: what passes, what is refused, and why."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from vision_heads.data.sample import DataSplit, Sample
from vision_heads.errors import UserError
from vision_heads.export import gate as module
from vision_heads.export.fp16 import to_fp16
from vision_heads.export.gate import Gate, HeadChange, Limits, Verdict
from vision_heads.export.gate_latency import Latency, compare
from vision_heads.export.gate_truth import Figures, load_truths, pictures_alone
from vision_heads.export.pictures import picture_files
from vision_heads.network import Network
from vision_heads.runtime.engines import open_engine
from vision_heads.runtime.predictor import Predictor
from vision_heads.spec import ModelSpec

OFF = Limits(latency="off", rounds=5)


@pytest.fixture(scope="module")
def files(repository):
    return picture_files(repository / "datasets/demo/images")[:3]


@pytest.fixture
def gate(network, network_onnx, files):
    truths = pictures_alone(files, network.spec.heads)
    return Gate(network, network.spec, truths, network_onnx, limits=OFF, threads=1)


@pytest.fixture(scope="module")
def damaged(network_onnx, tmp_path_factory):
    """Return the file with one layer's weights thrown about, as bad ranges of INT8 would."""
    model = onnx.load(str(network_onnx))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    convolution = [n for n in model.graph.node if n.op_type == "Conv"][40]
    tensor = tensors[convolution.input[1]]
    values = numpy_helper.to_array(tensor)
    noise = np.random.default_rng(0).normal(0, 3 * values.std(), values.shape)
    tensor.CopyFrom(numpy_helper.from_array((values + noise).astype(np.float32), tensor.name))
    target = tmp_path_factory.mktemp("damaged") / "damaged.onnx"
    onnx.save(model, str(target))
    return target


def test_the_fp32_file_is_as_good_as_torch(gate, network_onnx):
    verdict = gate.judge("onnx", network_onnx, "float32")
    assert verdict.passed, verdict.problems
    (head,) = verdict.heads
    assert head.basis == "torch" and head.torch.ap50 > 98
    assert head.change.ap50 == pytest.approx(0, abs=0.1)
    assert verdict.latency is None and verdict.own_ms > 0
    assert set(verdict.executed["Conv"]) == {"float32"}
    record = json.loads(json.dumps(verdict.to_dict()))
    assert record["passed"] and record["heads"]["aerial"]["change"]["mae"] is None


def test_lost_accuracy_is_refused_with_the_number(gate, damaged):
    verdict = gate.judge("onnx-int8", damaged, "float32")
    assert not verdict.passed
    assert any("below the torch model's" in p and "--max-drop 0.5" in p for p in verdict.problems)
    assert not gate.accepts(damaged, "int8")
    gate.limits = Limits(max_drop=100)
    assert gate.accepts(damaged, "int8")


@pytest.mark.parametrize(
    ("precision", "limits", "ap50", "mae", "problems"),
    [
        ("float16", {}, 89.5, 10.5, 0),
        ("float16", {}, 89.49, 10.5, 1),
        ("float16", {}, 89.5, 10.51, 1),
        ("float32", {}, 89.4, 10.6, 2),
        ("bfloat16", {}, 99.0, 2.0, 0),
        ("int8", {}, 88.5, 11.5, 0),
        ("int8", {}, 88.4, 11.6, 2),
        ("int8", {"max_drop": 0.0, "max_mae_rise": 0.0}, 90.0, 10.0, 0),
        ("int8", {"max_drop": 0.0, "max_mae_rise": 0.0}, 89.9, 10.1, 2),
        ("int8", {}, math.nan, 10.0, 1),
        ("int8", {}, 90.0, math.nan, 1),
    ],
)
def test_what_a_file_may_lose(precision, limits, ap50, mae, problems):
    judge = Gate(None, None, {}, None, limits=Limits(**limits))
    changed = HeadChange("a", "labels", Figures(90, 50, 10), Figures(ap50, 50, mae))
    assert len(judge._accuracy_problems([changed], precision)) == problems
    poseless = HeadChange("b", "labels", Figures(90, 50, math.nan), Figures(ap50, 50, math.nan))
    drop_alone = bool(problems) and not -(ap50 - 90) <= judge.limits.drop(precision)
    assert len(judge._accuracy_problems([poseless], precision)) == drop_alone


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_a_head_that_finds_nothing_refuses_all_but_the_proved_file(precision):
    judge = Gate(None, None, {}, None)
    nothing = HeadChange("a", "nothing", *[Figures(*[math.nan] * 3)] * 2)
    assert bool(judge._accuracy_problems([nothing], precision)) == (precision != "float32")


@pytest.mark.parametrize(
    ("stored", "executed", "latency", "problems", "notes"),
    [
        ((10, 0), (10, 0), "here", 0, 0),
        ((5, 5), (5, 5), "here", 0, 0),  # half is enough
        ((4, 6), (4, 6), "here", 1, 0),
        ((10, 0), (5, 5), "here", 0, 1),  # the runtime computes half of what is stored: told
        ((10, 0), (4, 6), "here", 1, 0),
        ((10, 0), (4, 6), "auto", 0, 1),
        ((10, 0), (4, 6), "off", 0, 1),
        ((0, 10), (0, 10), "off", 1, 1),
        (None, (5, 5), "here", 0, 1),  # a file that says nothing is judged by what runs
        (None, (4, 6), "here", 1, 0),
    ],
)
def test_how_much_must_be_in_the_precision_asked_for(stored, executed, latency, problems, notes):
    def layers(counts):
        half, single = counts
        # Adding holds no weights, and counts for nothing.
        return {"Conv": {"float16": half, "float32": single}, "Add": {"float32": 99}}

    judge = Gate(None, None, {}, None, limits=Limits(latency=latency))
    verdict = Verdict("onnx-fp16", Path("a.onnx"), "float16", 1, executed=layers(executed))
    verdict.stored = layers(stored) if stored else {}
    judge._judge_precision(verdict)
    assert (len(verdict.problems), len(verdict.notes)) == (problems, notes)


@pytest.mark.parametrize(
    ("latency", "computed", "slower", "problems", "notes"),
    [
        ("here", 9, False, 0, 0),
        ("here", 0, True, 1, 0),
        ("auto", 9, True, 1, 0),
        ("auto", 0, True, 0, 1),  # the machine has no such arithmetic: not the file's fault
        ("off", 9, True, 0, 1),
    ],
)
def test_what_slower_means_for_a_file(latency, computed, slower, problems, notes):
    judge = Gate(None, None, {}, None, limits=Limits(latency=latency))
    verdict = Verdict("onnx-fp16", Path("a.onnx"), "float16", 1)
    verdict.executed = {"Conv": {"float16": computed, "float32": 9 - computed}}
    times = (3.0, 2.0, 1.5, 1.4, 1.6) if slower else (2.0, 3.0, 0.7, 0.5, 0.9)
    verdict.latency = Latency(*times, rounds=5, batch=1)
    judge._judge_latency(verdict)
    assert (len(verdict.problems), len(verdict.notes)) == (problems, notes)


def test_a_precision_that_the_machine_does_not_use_is_refused_unless_it_is_for_another(
    gate, network_onnx, tmp_path, monkeypatch
):
    half = to_fp16(network_onnx, tmp_path / "half.onnx").path
    widened = module.executed_by(open_engine(network_onnx), network_onnx)
    monkeypatch.setattr(module, "executed_by", lambda engine, path: widened)
    elsewhere = gate.judge("onnx-fp16", half, "float16")
    assert elsewhere.passed, elsewhere.problems
    assert any("0 of" in note and "float16" in note for note in elsewhere.notes)
    gate.limits = Limits(latency="here", rounds=5)
    here = gate.judge("onnx-fp16", half, "float16")
    assert any("--latency-gate off" in problem for problem in here.problems)


def test_a_file_that_silently_stayed_fp32_is_refused_everywhere(gate, network_onnx):
    verdict = gate.judge("onnx-fp16", network_onnx, "float16")
    assert any("was asked for, and only 0 of" in problem for problem in verdict.problems)


@pytest.mark.parametrize(("latency", "refused"), [("here", True), ("auto", True), ("off", False)])
def test_a_slower_file_is_refused(gate, network_onnx, tmp_path, monkeypatch, latency, refused):
    other = tmp_path / "other.xml"
    other.write_bytes(b"")
    real = module.open_engine
    monkeypatch.setattr(
        module,
        "open_engine",
        lambda path, **more: real(network_onnx if path == other else path, **more),
    )
    executed = ({"Convolution": {"float32": 9}}, "OpenVINO (CPU)")
    monkeypatch.setattr(module, "executed_by", lambda engine, path: executed)
    slow = Latency(30.0, 20.0, 1.5, 1.4, 1.6, 5, 1)
    monkeypatch.setattr(module, "compare", lambda *args, **kwargs: slow)
    gate.limits = Limits(latency=latency, rounds=5)
    verdict = gate.judge("openvino", other, "float32")
    text = "slower than FP32: 30.0 ms a picture, 1.50 x the FP32 ONNX's 20.0 ms"
    assert (text in verdict.problems) == refused


def test_slower_means_three_rounds_of_four():
    class Sleeper:
        spec = None

        def __init__(self, seconds):
            self.seconds = seconds

        def run(self, images):
            import time

            time.sleep(self.seconds)

    images = np.zeros((2, 3, 32, 32), np.float32)
    found = compare(Sleeper(0.02), Sleeper(0.001), images, rounds=5)
    assert found.slower and found.ratio > 2 and found.batch == 2 and found.rounds == 5
    assert found.file_ms < 20  # a picture, not a call of two
    assert not Latency(1, 1, 1.01, 0.99, 1.03, 5, 1).slower
    assert Latency(1, 1, 1.02, 1.01, 1.03, 5, 1).slower
    assert Latency(1, 1, 1.06, 0.98, 1.20, 5, 1).slower


def test_labels_are_the_measure_where_they_measure_something(network, network_onnx, files):
    predictor = Predictor(open_engine(network_onnx))
    samples = []
    for file in files:
        result = predictor(str(file), conf=0.3)
        found = result["aerial"][:15]
        samples.append(
            Sample(file, file.stem, result.width, result.height, found.xyxy, found.class_id)
        )
    names = network.spec.heads[0].classes
    split = DataSplit("made", "val", names, (0, 1, 2), samples)
    gate = Gate(network, network.spec, {"aerial": split}, network_onnx, limits=OFF, threads=1)
    (exam,) = gate.exams
    assert exam.basis == "labels" and exam.torch.ap50 > 5
    nowhere = [
        Sample(f, f.stem, 9, 9, np.ones((1, 4), np.float32), np.zeros(1, int)) for f in files
    ]
    split = DataSplit("made", "val", names, (0, 1, 2), nowhere)
    gate = Gate(network, network.spec, {"aerial": split}, network_onnx, limits=OFF, threads=1)
    assert gate.exams[0].basis == "torch"  # AP50 of 0 would let anything pass


def test_a_model_that_finds_nothing_cannot_be_judged(network, network_onnx, files):
    silent = Network(network.spec)  # starts with scores of one in ten thousand
    truths = pictures_alone(files[:1], silent.spec.heads)
    gate = Gate(silent, silent.spec, truths, network_onnx, limits=OFF, threads=1)
    assert gate.exams[0].basis == "nothing" and math.isnan(gate.exams[0].torch.ap50)
    assert gate.accepts(network_onnx, "float32")  # proved cell by cell before
    assert not gate.accepts(network_onnx, "float16")
    # Leaving layers of an INT8 file in float would not help: the search must end at once.
    assert gate.accepts(network_onnx, "float16", measured=True)


def test_errors_of_head_poses_are_compared(posed_onnx, files):
    from tests.export.conftest import _posed

    network = _posed("6d")
    for branch in network.heads["pose"].class_branches.values():
        branch[-1].bias.data += 4  # poses are read from results of 0.7 or more
    spec = open_engine(posed_onnx).spec
    truths = pictures_alone(files[:2], spec.heads)
    gate = Gate(network, spec, truths, posed_onnx, limits=OFF, threads=1)
    exam = gate.exams[0]
    assert exam.head.name == "pose" and exam.torch.mae == pytest.approx(0, abs=0.01)
    turned = module.HeadChange("pose", "torch", exam.torch, module.Figures(100, 100, 3.0))
    (problem,) = gate._accuracy_problems([turned], "float16")
    assert "MAE 3.00 degrees" in problem and "--max-mae-rise 0.5" in problem


def test_cards_of_heads_that_are_not_there(network):
    with pytest.raises(UserError, match="no such head"):
        load_truths(network.spec.heads, {"pose": "demo"}, None, "val", 5)
    truths = load_truths(network.spec.heads, {}, None, "val", 5)
    assert len(truths["aerial"].samples) == 5


def test_decoding_is_that_of_the_file(network):
    assert module.decode_options(network.spec).multi_label
    spec = ModelSpec.model_validate(
        network.spec.model_dump() | {"nms": {"conf": 0.3, "iou": 0.5, "max_det": 7}}
    )
    options = module.decode_options(spec)
    assert (options.conf, options.iou, options.max_det, options.multi_label) == (0.3, 0.5, 7, False)


def test_pipes_and_devices_are_no_pictures_to_judge_on(tmp_path):
    """To read one may never end; of a folder it was a traceback."""
    with pytest.raises(UserError, match=r"/dev/null: a pipe or device, no picture"):
        picture_files(Path("/dev/null"))
    (tmp_path / "a.png").symlink_to("/dev/zero")
    (tmp_path / "b.png").touch()
    assert picture_files(tmp_path) == [tmp_path / "b.png"]
