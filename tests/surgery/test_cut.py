"""Heads cut out and renamed: the file, its spec and its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from tests.surgery.models import (  # noqa: E402
    BRANCHES,
    assert_same_bits,
    assert_same_outputs,
    built,
    model_of,
    network_of,
    pictures,
    spec_of,
)
from vision_heads.errors import UserError  # noqa: E402
from vision_heads.network import load_network, save_network  # noqa: E402
from vision_heads.surgery.cut import drop, extract, rename  # noqa: E402
from vision_heads.surgery.model import read_model, write_model  # noqa: E402


def test_a_cut_keeps_what_the_head_stood_on() -> None:
    model = model_of(spec_of(branches=BRANCHES, provenance={"terms": "mine", "seed": "3"}))
    spec, state = extract(model, ["b"])
    assert spec.lowest == 2 and spec.low == 2  # b reads P3..P5 of a neck that went down to P2
    assert spec.branches == {}
    assert spec.provenance["terms"] == "mine" and spec.provenance["seed"] == "3"
    assert spec.provenance["history"] == "took b out of m.safetensors (a, b, c)"
    # b is the second of three groups at up_p4; alone it is the first.
    old, new = "neck.up_stages.p4_1.fuse.cv1.conv.weight", "neck.up_stages.p4.fuse.cv1.conv.weight"
    assert torch.equal(state[new], model.state[old])
    assert not [name for name in state if "_1." in name or "heads.a" in name]


def test_stages_that_nobody_needs_are_dropped() -> None:
    model = model_of(spec_of(branches=BRANCHES))
    spec, state = extract(model, ["c"])
    assert spec.lowest is None and spec.stages == ("down_p4", "down_p3", "down_p2", "up_p3")
    assert not [name for name in state if "up_stages.p4" in name or "up_stages.p5" in name]
    assert sum(v.numel() for v in state.values()) < sum(v.numel() for v in model.state.values()) / 2


def test_rename_follows_the_head_everywhere() -> None:
    united = {"thing": ("a:x", "b:y")}
    model = model_of(spec_of(branches=BRANCHES, merge=united))
    spec, state = rename(model, {"a": "c", "c": "a", "b": "other"})
    assert [head.name for head in spec.heads] == ["c", "other", "a"]
    assert spec.groups("up_p4") == (("c",), ("other",), ("a",))
    assert spec.merge == {"thing": ("c:x", "other:y")}
    assert spec.provenance["history"] == "renamed a to c, c to a, b to other"
    names = {"a": "c", "b": "other", "c": "a"}
    assert_same_outputs(built(model), built((spec, state)), names, pictures())


def test_classes_united_across_heads_are_reduced() -> None:
    model = model_of(spec_of(merge={"thing": ("a:x", "b:y"), "all": ("a:y", "b:x", "c:x")}))
    assert drop(model, ["b"])[0].merge == {"all": ("a:y", "c:x")}
    assert drop(model, ["b", "c"])[0].merge == {}


@pytest.mark.parametrize("half", [True, False])
def test_files_keep_their_precision_and_every_bit(half: bool, tmp_path: Path) -> None:
    file, out = tmp_path / "m.safetensors", tmp_path / "r.safetensors"
    network = network_of(spec_of(branches=BRANCHES), half=half)
    save_network(file, network, half=half)
    model = read_model(file)
    assert model.half is half
    write_model(out, *rename(model, {"a": "z"}), half=model.half)
    moved = {n.replace("heads.a.", "heads.z."): v for n, v in load_file(file).items()}
    assert_same_bits(moved, load_file(out))
    names = {"a": "z", "b": "b", "c": "c"}
    assert_same_outputs(network, load_network(out).eval(), names, pictures())
    write_model(out, *rename(read_model(out), {"z": "a"}), half=model.half, force=True)
    assert_same_bits(load_file(file), load_file(out))


def test_one_finer_tensor_makes_a_file_fp32(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    save_network(file, network_of(spec_of()), half=True)
    state = load_file(file)
    state["backbone.stem.conv.weight"] = state["backbone.stem.conv.weight"].float() + 1e-6
    save_file(state, file, metadata={"vision_heads": spec_of().to_json()})
    assert not read_model(file).half


def test_files_are_not_overwritten_nor_left_half_written(tmp_path: Path, monkeypatch) -> None:
    made = extract(model_of(spec_of()), ["a"])
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"precious")
    with pytest.raises(UserError, match="is there already; --force"):
        write_model(file, *made, half=False)

    def fail(*_args, **_kwargs) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vision_heads.network.save_file", fail)
    with pytest.raises(UserError, match=r"x\.safetensors: No space left"):
        write_model(file, *made, half=False, force=True)
    assert file.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("name", "message"), [("x.onnx", "must end in .safetensors"), ("no/x.safetensors", "no such")]
)
def test_targets_that_cannot_be_written(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        write_model(tmp_path / name, *extract(model_of(spec_of()), ["a"]), half=False)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda m: extract(m, ["d"]), "no head 'd'"),
        (lambda m: extract(m, []), "at least one head of a, b, c"),
        (lambda m: drop(m, ["a", "b", "c"]), "no head left"),
        (lambda m: drop(m, ["d"]), "no head 'd'"),
        (lambda m: drop(m, []), "at least one head of a, b, c"),
        (lambda m: rename(m, {"d": "e"}), "no head 'd'"),
        (lambda m: rename(m, {"a": "b"}), r"would be called \['b'\]"),
        (lambda m: rename(m, {"a": "not a name"}), "name: must be letters"),
    ],
)
def test_mistakes_are_named(act, message: str) -> None:
    with pytest.raises(UserError, match=message):
        act(model_of(spec_of()))


def test_a_name_that_torch_uses_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'type' is a reserved name"):
        write_model(
            tmp_path / "x.safetensors", *rename(model_of(spec_of()), {"a": "type"}), half=False
        )


def test_a_file_whose_tensors_have_other_shapes_is_named(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    save_network(file, network_of(spec_of()))
    state = load_file(file)
    state["backbone.stem.conv.weight"] = torch.zeros(1)
    save_file(state, file, metadata={"vision_heads": spec_of().to_json()})
    with pytest.raises(UserError, match=r"m\.safetensors: weights do not fit.*stem"):
        read_model(file)


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    from safetensors import SafetensorError

    def full(_: object, path: Path, **__: object) -> None:
        path.write_bytes(b"half of it")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("vision_heads.network.save_file", full)
    with pytest.raises(UserError, match=r"--out .*m\.safetensors: .*No space"):
        write_model(tmp_path / "m.safetensors", *extract(model_of(spec_of()), ["a"]), half=False)
    assert not list(tmp_path.iterdir())
