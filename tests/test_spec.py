import pytest
from pydantic import ValidationError

from vision_heads.spec import HeadSpec, ModelSpec, first_problem, reduce_merge

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
