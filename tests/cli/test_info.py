from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from vision_heads.cli.main import app
from vision_heads.errors import UserError
from vision_heads.export.onnx import export_onnx
from vision_heads.measure import METADATA_KEY, Measures, measure, separate
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
    folder = tmp_path / "runs[old]"  # no markup
    folder.mkdir()
    (tmp_path / "m.onnx").rename(folder / "m.onnx")
    assert "runs[old]" in run(str(folder / "m.onnx")).replace("\n", "")
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
        (("--size", "n", "--imgsz", "100"), "multiples of 32 up to 8192, such as 96 or 128"),
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


def test_openvino_files_tell_what_they_are(tmp_path):
    spec = spec_of(classes=2)
    about = {"spec": spec.to_json(), "measures": measure(spec).to_json(), "precision": "float16"}
    entries = "".join(f"<{name} value={quoteattr(text)} />" for name, text in about.items())
    file = tmp_path / "m.xml"
    file.write_text(f"<net><rt_info><vision_heads>{entries}</vision_heads></rt_info></net>")
    file.with_suffix(".bin").write_bytes(bytes(3_000_000))
    text = run(str(file))
    assert "c0, c1" in text and f"{measure(spec).total.parameters:,}" in text
    assert "3.00 MB with its .bin, computed in float16" in text
    file.with_suffix(".bin").unlink()
    assert "MB without its weights m.bin, computed in float16" in run(str(file))
    listed = CliRunner().invoke(app, ["heads", "list", str(file)])
    assert "aerial" in listed.output
    file.write_text("<net/>")
    with pytest.raises(UserError, match=r"m\.xml: carries no model description"):
        run(str(file))
    file.write_text("")
    with pytest.raises(UserError, match=r"m\.xml: not a readable OpenVINO file"):
        run(str(file))


LEVELS = {"a": (2, 3, 4, 5), "b": (3, 4, 5), "c": (2, 3), "backbone": (3, 4, 5)}
BRANCHES = {"down_p3": [["a", "b"], ["c"], ["backbone"]], "up_p4": [[name] for name in LEVELS]}


def branched(**changes: object) -> ModelSpec:
    heads = tuple(HeadSpec(name=n, classes=("x", "y"), levels=v) for n, v in LEVELS.items())
    settings = {"input": InputSpec(height=64, width=64), "heads": heads, "branches": BRANCHES}
    return ModelSpec.model_validate(settings | changes)


def test_every_copy_of_a_stage_is_counted_and_they_make_the_neck():
    spec = branched()
    measures, network = measure(spec), Network(spec).eval()
    copies = {(copy.stage, copy.copy): copy for copy in measures.neck}
    # c stops at P3, so its group has no copy of up_p4 and up_p5.
    assert [number for stage, number in copies if stage == "up_p4"] == [0, 1, 3]
    for (stage, number), copy in copies.items():
        module = network.neck.copy_of(stage, number)
        assert copy.parameters == sum(p.numel() for p in module.parameters())
    neck = measures.parts[1]
    for what in ("layers", "parameters", "flops"):
        assert sum(getattr(copy, what) for copy in measures.neck) == getattr(neck, what)
    assert copies["down_p3", 0].flops == copies["down_p3", 1].flops > 0
    assert Measures.from_json(measures.to_json()) == measures


def test_separate_models_are_counted_as_they_would_be_built():
    spec = branched()
    alone = separate(spec, measure(spec))
    for head, part in zip(spec.heads, alone, strict=True):
        total = measure(ModelSpec(heads=(head,), input=spec.input)).total
        assert (part.name, part.parameters, part.flops, part.layers) == (
            head.name, total.parameters, total.flops, total.layers,
        )  # fmt: skip


def test_the_tree_shows_who_shares_what(tmp_path):
    spec = branched()
    save_network(tmp_path / "m.safetensors", Network(spec))
    lines = run(str(tmp_path / "m.safetensors")).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("tree"))
    tree = lines[first + 1 : first + 20]
    drawn = [re.match(r"[│├└─ ]*[a-z0-9_]+", line)[0] for line in tree]
    assert drawn == [
        "backbone",
        "down_p4",
        "├─ down_p3",
        "│  down_p2",
        "│  up_p3",
        "│  ├─ up_p4",
        "│  │  up_p5",
        "│  │  a",
        "│  └─ up_p4",
        "│     up_p5",
        "│     b",
        "├─ down_p3",
        "│  down_p2",
        "│  up_p3",
        "│  c",
        "└─ down_p3",
        "   down_p2",
        "   up_p3",
        "   up_p4",
    ]
    measures = measure(spec)
    for line, part in ((tree[0], measures.parts[0]), (tree[7], measures.parts[2])):
        assert f"{part.parameters:,}" in line and f"{part.flops / 1e9:.2f}" in line
    assert "a, b" in tree[2] and "all" in tree[1] and "head, detect" in tree[10]
    whole, alone = measures.total.parameters, sum(p.parameters for p in separate(spec, measures))
    (saved,) = [line for line in lines if line.startswith("sharing")]
    assert f"{whole:,} parameters instead of {alone:,} of 4 separate models" in saved
    assert f"({1 - whole / alone:.0%} saved)" in saved


def test_a_model_of_one_head_has_no_tree():
    text = run("--size", "n")
    assert "tree" not in text and "sharing" not in text and "down_p4" not in text


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "m.onnx"
    export_onnx(Network(branched()), file)
    return file


def test_exported_files_draw_the_tree_without_torch(tmp_path, monkeypatch, exported):
    save_network(tmp_path / "m.safetensors", Network(branched()))
    weights = run(str(tmp_path / "m.safetensors")).splitlines()
    for name in [name for name in sys.modules if name.split(".")[0] == "torch"]:
        monkeypatch.setitem(sys.modules, name, None)
    shown = run(str(exported)).splitlines()
    assert [line for line in weights[1:-1] if line not in shown] == []


def test_files_from_before_the_copies_were_counted_are_still_read(tmp_path, exported):
    import onnx

    model = onnx.load(str(exported))
    (field,) = [prop for prop in model.metadata_props if prop.key == METADATA_KEY]
    content = json.loads(field.value)
    del content["neck"]
    field.value = json.dumps(content)
    onnx.save(model, str(tmp_path / "old.onnx"))
    assert Measures.from_json(field.value).neck == ()
    text = run(str(tmp_path / "old.onnx"))
    assert "├─ down_p3" in text and "sharing" not in text
    assert f"{measure(branched()).parts[0].parameters:,}" in text


def test_what_is_merged_at_detection_is_shown(tmp_path):
    from tests.runtime.tiny_onnx import write_model

    spec = write_model(tmp_path / "m.onnx", heads=("one", "two"))
    plain = run(str(tmp_path / "m.onnx"))
    merged = spec.model_dump() | {"merge": {"warm": ["one:red", "two:red"]}}
    text = ModelSpec.model_validate(merged).to_json()
    write_model(tmp_path / "m.onnx", heads=("one", "two"), metadata=text)
    assert "warm" not in plain
    assert "merged       warm: one:red, two:red" in run(str(tmp_path / "m.onnx"))


@pytest.mark.parametrize("words", [("--classes", "10"), ("--levels", "3"), ("--fusion", "c2f")])
def test_what_describes_a_new_model_is_not_for_one_that_is_there(words):
    """It would show the model's own, as if they had been asked for."""
    with pytest.raises(UserError, match=f"{words[0]}: of a model to describe by --size; aerial-n"):
        run("aerial-n", *words)
