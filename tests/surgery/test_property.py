"""Whatever the plan and the levels: cutting and joining change no bit of what heads give."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from tests.surgery.models import assert_same_outputs, built, model_of, pictures, spec_of  # noqa: E402
from vision_heads.spec import STAGES, ModelSpec  # noqa: E402
from vision_heads.surgery.cut import drop, extract, rename  # noqa: E402
from vision_heads.surgery.join import merge  # noqa: E402
from vision_heads.surgery.model import Model  # noqa: E402

NAMES = ("a", "b", "c")
IMAGES = pictures(height=32, width=64)


@st.composite
def specs(draw) -> ModelSpec:
    some_levels = st.sets(st.sampled_from((2, 3, 4, 5)), min_size=1).map(lambda s: tuple(sorted(s)))
    levels = {name: draw(some_levels) for name in NAMES}
    groups, branches = [list(NAMES)], {}
    for stage in STAGES:
        for group in list(groups):
            if len(group) > 1 and draw(st.booleans()):
                apart = draw(st.sampled_from(group))
                groups.remove(group)
                groups += [[apart], [name for name in group if name != apart]]
        branches[stage] = [list(group) for group in groups]
    lowest = draw(st.sampled_from((None, 2)))
    return spec_of(levels, branches=branches, lowest=lowest)


@settings(max_examples=8)
@given(specs(), st.sets(st.sampled_from(NAMES), min_size=1, max_size=2), st.permutations(NAMES))
def test_operations_change_no_bit(spec, some, order) -> None:
    model = model_of(spec)
    whole = built(model)
    kept = [name for name in NAMES if name not in some]

    for made, names in ((extract(model, sorted(some)), some), (drop(model, sorted(some)), kept)):
        assert {head.name for head in made[0].heads} == set(names)
        assert_same_outputs(whole, built(made), {name: name for name in names}, IMAGES)

    others = dict(zip(NAMES, order, strict=True))
    assert_same_outputs(whole, built(rename(model, others)), others, IMAGES)

    parts = [Model(model.file, *extract(model, [name]), half=False) for name in order]
    joined = built(merge(parts))
    assert_same_outputs(whole, joined, {name: name for name in NAMES}, IMAGES)
    # What was shared is shared again, and nothing else: every module is there once.
    assert _size(joined) == _size(whole)


def _size(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
