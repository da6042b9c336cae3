"""`vh heads` as a person types it, on the shipped model and on small ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from tests.surgery.models import (  # noqa: E402
    BRANCHES,
    assert_same_bits,
    assert_same_outputs,
    network_of,
    pictures,
    spec_of,
)
from vision_heads.cli.heads import sharing  # noqa: E402
from vision_heads.cli.main import app  # noqa: E402
from vision_heads.errors import UserError  # noqa: E402
from vision_heads.measure import METADATA_KEY as MEASURES_KEY  # noqa: E402
from vision_heads.measure import measure  # noqa: E402
from vision_heads.network import load_network, save_network  # noqa: E402
from vision_heads.paths import assets  # noqa: E402
from vision_heads.spec import METADATA_KEY, ModelSpec  # noqa: E402
from vision_heads.surgery.model import read_model  # noqa: E402


def vh(*words: object) -> str:
    done = CliRunner().invoke(app, ["heads", *map(str, words)], env={"COLUMNS": "160"})
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("heads") / "three.safetensors"
    save_network(file, network_of(spec_of(branches=BRANCHES), half=True), half=True)
    return file


def described_onnx(file: Path, spec: ModelSpec) -> Path:
    """Write an ONNX file that says of itself what an export of this spec says."""
    import onnx

    node = onnx.helper.make_node("Relu", ["a"], ["b"])
    values = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "ab"]
    made = onnx.helper.make_model(onnx.helper.make_graph([node], "g", values[:1], values[1:]))
    said = {METADATA_KEY: spec.to_json(), MEASURES_KEY: measure(spec).to_json()}
    onnx.helper.set_model_props(made, said)
    onnx.save(made, str(file))
    return file


def test_the_shipped_model_through_every_command(tmp_path: Path) -> None:
    aerial = assets("weights") / "aerial-n.safetensors"
    traffic, both, back = (tmp_path / f"{n}.safetensors" for n in ("traffic", "both", "back"))
    assert "FP16" in vh("rename", "aerial-n", "aerial=traffic", "--out", traffic)
    assert "(aerial, traffic; FP16)" in vh("merge", "aerial-n", traffic, "--out", both)
    # Everything but the head is there once.
    assert both.stat().st_size < 1.3 * aerial.stat().st_size
    vh("drop", both, "traffic", "--out", back)
    assert_same_bits(read_model(aerial).state, read_model(back).state)
    vh("extract", both, "traffic", "--out", back, "--force")
    one, other = load_network(aerial).eval(), load_network(back).eval()
    assert_same_outputs(one, other, {"aerial": "traffic"}, pictures())
    assert read_model(back).half
    history = other.spec.provenance["history"]
    assert history.startswith("[traffic.safetensors] renamed aerial to traffic; then merged")
    assert other.spec.provenance["terms"] == one.spec.provenance["terms"]


def test_two_heads_change_names(three: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.safetensors"
    vh("rename", three, "a=b", "b=a", "--out", out)
    one, other = load_network(three).eval(), load_network(out).eval()
    assert_same_outputs(one, other, {"a": "b", "b": "a", "c": "c"}, pictures())


def test_list_tells_the_same_of_weights_and_their_export(three: Path, tmp_path: Path) -> None:
    listed = vh("list", three)
    rows = {line.split()[0]: line for line in listed.splitlines()[1:] if line.strip()}
    assert rows["b"].split()[1:3] == ["detect", "2"]
    assert "P3 P4 P5" in rows["b"] and "P2" not in rows["b"]
    heads = load_network(three).heads
    assert f"{sum(p.numel() for p in heads['b'].parameters()):,}" in rows["b"]
    assert "from down_p3 with b, from up_p4 alone" in rows["a"]
    assert "(neck)" in listed and "(backbone)" in listed

    folder = tmp_path / "runs[old]"  # no markup
    folder.mkdir()
    export = described_onnx(folder / "three.onnx", load_network(three).spec)
    found = vh("list", export).splitlines()
    assert found[0].endswith("runs[old]/three.onnx") and found[1:] == listed.splitlines()[1:]


def test_list_of_an_export_needs_no_torch(monkeypatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torch"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert "aerial" in vh("list", "aerial-n.onnx")


def test_who_shares_what() -> None:
    spec = spec_of(branches=BRANCHES)
    assert sharing(spec, "c") == "from down_p3 alone"
    assert sharing(spec_of(), "a") == "shared by all"
    assert sharing(spec_of({"a": (3, 4)}), "a") == "-"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("extract", "{m}", "z", "-o", "o.safetensors"), "no head 'z'.*'a', 'b', 'c'"),
        (("extract", "{m}", "a", "-o", "{m}"), "is there already; --force"),
        (("extract", "{m}", "a", "-o", "o.onnx"), "must end in .safetensors"),
        (("extract", "aerial-n.onnx", "aerial", "-o", "o.safetensors"), "needs the weights"),
        (("extract", "none.safetensors", "a", "-o", "o.safetensors"), "none"),
        (("rename", "{m}", "a", "-o", "o.safetensors"), "a: must be OLD=NEW"),
        (("rename", "{m}", "a=x", "a=y", "-o", "o.safetensors"), "renamed twice"),
        (("merge", "{m}", "-o", "o.safetensors"), "at least two"),
        (("merge", "{m}", "{m}", "-o", "o.safetensors"), "vh heads rename"),
        (("merge", "{m}", "aerial-n", "-o", "o.safetensors"), "backbone.* differs"),
        (("merge", "{m}", "{m}", "--imgsz", "big", "-o", "o.safetensors"), "--imgsz big"),
        (("list", "none.onnx"), "none"),
    ],
)
def test_mistakes_are_named(words, message, three, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        vh(*(word.format(m=three) for word in words))
    assert not list(tmp_path.iterdir())


def test_a_model_is_replaced_in_place_only_when_told(three: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    file.write_bytes(three.read_bytes())
    vh("drop", file, "c", "--out", file, "--force")
    assert [head.name for head in load_network(file).spec.heads] == ["a", "b"]
