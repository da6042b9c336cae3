import json

import pytest
from pydantic import ValidationError

from vision_heads.errors import UserError
from vision_heads.spec import HeadSpec, ModelSpec, NmsSpec, first_problem, reduce_merge

HEADS = (
    HeadSpec(name="aerial", classes=("car", "van")),
    HeadSpec(name="vehicles", classes=("automobile", "bus: double-decker")),
    HeadSpec(name="pose", kind="headpose", classes=("head",)),
    HeadSpec(name="more", classes=("car",)),
)


def _spec(merge, heads=HEADS):
    return ModelSpec(heads=heads, merge=merge)


def test_merge_is_off_by_default_and_survives_the_file():
    assert ModelSpec(heads=HEADS).merge == {}
    spec = _spec({"car": ["aerial:car", "vehicles:automobile"]})
    assert spec.merge == {"car": ("aerial:car", "vehicles:automobile")}
    assert ModelSpec.from_json(spec.to_json(), "m") == spec
    # Only the first colon separates: a class may have one in its name.
    assert _spec({"bus": ["aerial:van", "vehicles:bus: double-decker"]})


@pytest.mark.parametrize("name", ["", " \n"])
def test_a_class_without_a_name_is_refused(name):
    with pytest.raises(ValidationError) as caught:
        HeadSpec(name="aerial", classes=("car", name))
    assert first_problem(caught.value) == f"classes: class 1 has no name, only {name!r}"


@pytest.mark.parametrize(
    ("merge", "message"),
    [
        ({"car": ["aerial:car", "street:car"]}, "merge.car: no 'street:car'; write head:class, of"),
        ({"car": ["aerial:car", "vehicles:car"]}, "no 'vehicles:car'"),
        ({"car": ["aerial:car", "vehicles"]}, "no 'vehicles'"),
        ({"car": ["aerial:car", "aerial:van"]}, "merge.car: must name classes of at least two"),
        ({"car": []}, "at least two heads"),
        ({"x": ["aerial:car", "pose:head"]}, "'pose:head': a headpose finds more than boxes"),
        ({"car": ["aerial:car", "aerial:car", "more:car"]}, "'aerial:car' is named twice"),
        (
            {"car": ["aerial:car", "more:car"], "auto": ["vehicles:automobile", "aerial:car"]},
            "merge.auto: 'aerial:car' is named twice",
        ),
        ({" ": ["aerial:car", "more:car"]}, "has no name"),
    ],
)
def test_what_cannot_be_merged_is_named(merge, message):
    with pytest.raises(ValidationError) as caught:
        _spec(merge)
    assert message in first_problem(caught.value)


def test_a_head_may_not_be_called_as_the_merged_results_are():
    heads = (*HEADS, HeadSpec(name="merged", classes=("car",)))
    assert _spec({}, heads)
    with pytest.raises(ValidationError, match="a head is called 'merged'"):
        _spec({"car": ["aerial:car", "merged:car"]}, heads)


def test_a_merge_is_reduced_to_the_heads_that_are_left():
    merge = {
        "car": ("aerial:car", "vehicles:automobile", "more:car"),
        "van": ("aerial:van", "vehicles:bus: double-decker"),
    }
    assert reduce_merge(merge, ["aerial", "more"]) == {"car": ("aerial:car", "more:car")}
    assert reduce_merge(merge, ["aerial"]) == {}
    assert reduce_merge(merge, [head.name for head in HEADS]) == merge


HEAD = {"name": "a", "classes": ["x", "y"]}
OTHER = {"name": "b", "classes": ["x"], "levels": [4, 5]}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"heads": [HEAD | {"name": "1a"}]}, "must be letters, digits, '-' or '_', got '1a'"),
        ({"heads": [HEAD | {"levels": []}]}, "must be distinct levels out of"),
        ({"heads": [HEAD | {"levels": [3, 3]}]}, "must be distinct levels out of"),
        ({"heads": [HEAD | {"category_ids": [4]}]}, "category_ids has 1 entries for 2 classes"),
        ({"heads": [HEAD | {"classes": ["x", "x"]}]}, "classes repeats a name"),
        ({"heads": [HEAD, OTHER, HEAD]}, "head names repeat: ['a', 'b', 'a']"),
        ({"heads": [OTHER], "lowest": 5}, "lowest: 5 is above P4, which a head reads"),
        ({"branches": {"up_p9": [["a"], ["b"]]}}, "branches: no stage 'up_p9'"),
        ({"branches": {"up_p4": [["a"]]}}, "branches.up_p4: must name every head of ['a', 'b']"),
        ({"branches": {"up_p4": [["a", "b"], ["b"]]}}, "branches.up_p4: must name every head"),
        (
            {"branches": {"down_p2": [["a"], ["b"]], "up_p4": [["b", "a"]]}},
            "branches.up_p4: ['a', 'b'] were split at an earlier stage",
        ),
    ],
)
def test_a_model_that_cannot_be_is_refused(spec, message):
    text = json.dumps({"heads": [HEAD, OTHER]} | spec)
    with pytest.raises(UserError) as caught:
        ModelSpec.from_json(text, "best.onnx")
    assert str(caught.value).startswith("best.onnx: ") and message in str(caught.value)


def test_the_neck_of_a_model():
    fine, coarse = HeadSpec(name="a", classes=("x",)), HeadSpec(name="b", classes=("x",))
    coarse = coarse.model_copy(update={"levels": (4, 5)})
    spec = ModelSpec(
        heads=(fine, coarse),
        # Stages that split nothing are left out; groups and heads come in the heads' order.
        branches={"down_p4": [["b", "a"]], "down_p3": [["b"], ["a"]], "up_p4": [["b"], ["a"]]},
    )
    assert (spec.levels, spec.low) == ((2, 3, 4, 5), 2)
    assert spec.branches == {"down_p3": (("a",), ("b",))}
    assert spec.groups("down_p4") == (("a", "b"),)
    assert spec.groups("up_p5") == (("a",), ("b",))
    assert spec.stages == ("down_p4", "down_p3", "down_p2", "up_p3", "up_p4", "up_p5")
    assert spec.route("b") == dict(zip(spec.stages, (0, 1, 1, 1, 1, 1), strict=True))
    middle = fine.model_copy(update={"levels": (3, 4)})
    alone = ModelSpec(heads=(middle,))
    assert (alone.low, alone.stages) == (3, ("down_p4", "down_p3", "up_p4"))
    assert ModelSpec(heads=(middle, coarse), lowest=2).stages == spec.stages
    assert list(ModelSpec(heads=(middle, coarse), lowest=2).route("a")) == list(spec.stages[:5])


def test_what_older_versions_do_not_know_is_written_only_where_it_is():
    spec = ModelSpec(heads=HEADS)
    assert "nms" not in json.loads(spec.to_json())
    spec = spec.model_copy(update={"nms": NmsSpec(conf=0.3)})
    assert ModelSpec.from_json(spec.to_json(), "m") == spec
