"""Models put together: what they share, what becomes a branch, and what cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.surgery.models import (  # noqa: E402
    assert_same_outputs,
    built,
    model_of,
    pictures,
    spec_of,
)
from vision_heads.errors import UserError  # noqa: E402
from vision_heads.spec import InputSpec  # noqa: E402
from vision_heads.surgery.cut import rename  # noqa: E402
from vision_heads.surgery.join import merge  # noqa: E402
from vision_heads.surgery.model import Model  # noqa: E402

ONE = {"a": (2, 3, 4, 5)}


def _other(model: Model, name: str, **fields) -> Model:
    """Return the model with its head called otherwise and other fields of its spec."""
    spec, state = rename(model, {model.spec.heads[0].name: name})
    return Model(Path(f"{name}.safetensors"), spec.model_copy(update=fields), state, model.half)


def _with(model: Model, name: str, change=lambda value: value + 1) -> Model:
    return replace(model, state=model.state | {name: change(model.state[name])})


def test_necks_that_differ_become_branches() -> None:
    a = model_of(spec_of(ONE), name="a.safetensors")
    b = _with(_other(a, "b"), "neck.up_stages.p3.fuse.cv1.conv.weight")
    c = _with(_other(a, "c"), "neck.down_stages.p4.compress.bn.running_mean")
    spec, state = merge([a, b, c])
    assert spec.branches == {
        "down_p4": (("a", "b"), ("c",)),
        "up_p3": (("a",), ("b",), ("c",)),
    }
    whole = built((spec, state))
    for model in (a, b, c):
        name = model.spec.heads[0].name
        assert_same_outputs(built(model), whole, {name: name}, pictures())


def test_a_head_whose_way_ends_early_shares_what_it_needs() -> None:
    whole = model_of(spec_of({"a": (2, 3, 4, 5), "b": (2, 3)}))
    from vision_heads.surgery.cut import extract

    parts = [Model(Path(n), *extract(whole, [n]), half=False) for n in ("b", "a")]
    spec, state = merge(parts)
    assert spec.branches == {} and [head.name for head in spec.heads] == ["b", "a"]
    assert state.keys() == whole.state.keys()


def test_provenance_of_all_is_kept() -> None:
    a = model_of(spec_of(ONE, provenance={"terms": "T1; CC0", "seed": "0", "data": "x"}))
    b = _other(a, "b", provenance={"terms": "CC0; T2", "seed": "1", "data": "y", "init": "w"})
    spec, _ = merge([a, b])
    assert spec.provenance == {
        "terms": "T1; CC0; T2",
        "seed": "[m.safetensors] 0; [b.safetensors] 1",
        "data": "x; y",
        "init": "[b.safetensors] w",
        "history": "merged m.safetensors and b.safetensors",
    }


def test_input_size_and_candidates_are_chosen_where_they_differ() -> None:
    a = model_of(spec_of(ONE))
    b = _other(a, "b", input=InputSpec(height=96, width=64), candidates=30)
    with pytest.raises(UserError, match=r"b\.safetensors: input is 96x64.*64x64.*--imgsz"):
        merge([a, b], candidates=30)
    with pytest.raises(UserError, match=r"gives 30 candidates.*20.*--candidates"):
        merge([a, b], imgsz=(96, 64))
    spec, _ = merge([a, b], imgsz=(32, 96), candidates=30)
    assert (spec.input.height, spec.input.width, spec.candidates) == (32, 96, 30)
    with pytest.raises(UserError, match="multiples of 32"):
        merge([a, _other(a, "b")], imgsz=(30, 96))
    grey = _other(a, "b", input=a.spec.input.model_copy(update={"pad_value": 0}))
    with pytest.raises(UserError, match="fed otherwise"):
        merge([a, grey])


def test_united_classes_come_along() -> None:
    both = model_of(spec_of({"a": (3, 4), "b": (3, 4)}, merge={"thing": ("a:x", "b:x")}))
    spec, state = rename(both, {"a": "c", "b": "d"})
    other = Model(Path("o"), spec, state, half=False)
    with pytest.raises(UserError, match=r"merge\.thing is in another model too"):
        merge([both, other])
    named = replace(other, spec=spec.model_copy(update={"merge": {"it": ("c:x", "d:x")}}))
    assert set(merge([both, named])[0].merge) == {"thing", "it"}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (lambda a: a, "has a head 'a' too; .*vh heads rename"),
        (lambda a: _other(a, "b", size="s"), "size is s, but .* has n"),
        (lambda a: _other(a, "b", fusion="irdcb"), "fusion is irdcb"),
        (lambda a: _other(a, "b", activation="relu"), "activation is relu"),
        (lambda a: model_of(spec_of({"b": (3, 4)})), "down to P3, that of .* to P2"),
        (
            lambda a: _with(_other(a, "b"), "backbone.stem.bn.running_var"),
            r"b\.safetensors: backbone\.stem\.bn\.running_var differs .*no common trunk; heads",
        ),
        (
            lambda a: replace(_with(_other(a, "b"), "backbone.stem.conv.weight"), half=True),
            "stored as FP32, the other as FP16",
        ),
    ],
)
def test_models_that_do_not_belong_together(second, message: str) -> None:
    a = model_of(spec_of(ONE))
    with pytest.raises(UserError, match=message):
        merge([a, second(a)])


def test_one_model_is_nothing_to_merge() -> None:
    with pytest.raises(UserError, match="at least two"):
        merge([model_of(spec_of(ONE))])
