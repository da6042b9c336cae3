from __future__ import annotations

import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from vision_heads.cli.main import app
from vision_heads.errors import UserError
from vision_heads.export.onnx import export_onnx
from vision_heads.measure import Measures, measure
from vision_heads.network import Network, save_network
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec

BUDGETS = {"n": (2.2e6, 10e9), "s": (7.8e6, 27e9), "m": (17.9e6, None)}


def spec_of(size: str = "n", classes: int = 10, **more: object) -> ModelSpec:
    head = HeadSpec(name="aerial", classes=tuple(f"c{i}" for i in range(classes)), **more)
    return ModelSpec(size=size, heads=(head,), provenance={"data": "synthetic scenes"})


def run(*words: str) -> str:
    done = CliRunner().invoke(app, ["info", *words], env={"COLUMNS": "200"})
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("size", BUDGETS)
def test_sizes_keep_their_budgets(size):
    parameters, flops = BUDGETS[size]
    total = measure(spec_of(size)).total
    assert total.parameters <= parameters
    assert flops is None or total.flops <= flops


def test_counts_are_those_of_the_real_network():
    spec = spec_of(classes=3)
    measures, network = measure(spec, 96, 64), Network(spec).eval()
    assert measures.total.parameters == sum(p.numel() for p in network.parameters())
    assert measures.total.layers == sum(isinstance(m, torch.nn.Conv2d) for m in network.modules())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 96, 64))
    assert measures.total.flops == counter.get_total_flops()
    assert [part.name for part in measures.parts] == ["backbone", "neck", "aerial"]
    assert Measures.from_json(measures.to_json()) == measures


def test_a_head_without_p2_computes_nothing_there():
    """P2 of a 640-pixel picture is 160 x 160: neck and head must not make such a map."""
    network = Network(spec_of(levels=(3, 4, 5))).eval()
    shapes = []
    for part in (network.neck, network.heads):
        for module in part.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(lambda m, i, out: shapes.append(out.shape[-1]))
    with torch.no_grad():
        network(torch.zeros(1, 3, 128, 128))
    assert max(shapes) == 16
    with_p2, without = measure(spec_of()), measure(spec_of(levels=(3, 4, 5)))
    assert without.parts[0] == with_p2.parts[0]
    assert without.total.flops < 0.75 * with_p2.total.flops


def test_prints_what_a_model_would_be():
    text = run("--size", "s", "--classes", "4", "--levels", "3,4,5", "--imgsz", "320x448")
    total = measure(spec_of("s", 4, levels=(3, 4, 5)), 320, 448).total
    assert "GFLOPs at 320 x 448" in text
    assert f"{total.parameters:,}" in text
    assert f"{total.flops / 1e9:.2f}" in text
    assert "P3 stride 8, P4 stride 16, P5 stride 32" in text and "P2" not in text


def test_weights_and_their_export_tell_the_same(tmp_path):
    spec = spec_of(classes=2).model_copy(update={"input": InputSpec(height=96, width=64)})
    network = Network(spec)
    save_network(tmp_path / "m.safetensors", network)
    export_onnx(network, tmp_path / "m.onnx")
    weights, exported = run(str(tmp_path / "m.safetensors")), run(str(tmp_path / "m.onnx"))
    for line in weights.splitlines()[1:-1]:  # all but the names and sizes of the files
        assert line in exported
    assert "synthetic scenes" in weights
    assert "c0, c1" in weights
    assert "ONNX operator set 17" in exported
    assert "1 TopK" in exported


def test_onnx_files_need_no_torch(tmp_path, monkeypatch):
    export_onnx(Network(spec_of(classes=2)), tmp_path / "m.onnx", imgsz=(64, 64))
    for name in [name for name in sys.modules if name.split(".")[0] == "torch"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert "backbone" in run(str(tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give a MODEL"),
        (("m.onnx", "--size", "n"), "give a MODEL"),
        (("--size", "n", "--levels", "3,x"), "--levels 3,x"),
        (("--size", "n", "--levels", "1,2"), "levels"),
        (("--size", "n", "--fusion", "c3"), "fusion"),
        (("--size", "n", "--imgsz", "100"), "multiples of 32"),
        (("--size", "n", "--imgsz", "big"), "--imgsz big"),
        (("none.onnx",), "none.onnx"),
    ],
)
def test_mistakes_are_named(words, message):
    with pytest.raises(UserError, match=message):
        run(*words)


def test_an_onnx_file_of_another_program_is_named(tmp_path):
    import onnx

    node = onnx.helper.make_node("Relu", ["a"], ["b"])
    values = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "ab"]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / "other.onnx"))
    with pytest.raises(UserError, match=r"other\.onnx: carries no model description"):
        run(str(tmp_path / "other.onnx"))
