"""Plans: as many as there should be, all of them monotone, none twice."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_heads.branching.plans import (
    all_plans,
    apart,
    count_plans,
    describe,
    partitions,
    refinements,
    refines,
    restricted,
    to_branches,
    together,
)
from vision_heads.spec import STAGES, HeadSpec, ModelSpec


@st.composite
def plans(draw, most_heads: int = 5, most_stages: int = 6):
    heads, stages = draw(st.integers(1, most_heads)), draw(st.integers(1, most_stages))
    plan = [draw(st.sampled_from(list(partitions(range(heads)))))]
    while len(plan) < stages:
        plan.append(draw(st.sampled_from(list(refinements(plan[-1])))))
    return heads, tuple(plan)


@pytest.mark.parametrize(("heads", "bell"), enumerate([1, 1, 2, 5, 15, 52, 203]))
def test_partitions_are_as_many_as_bell_says(heads, bell):
    found = list(partitions(range(heads)))
    assert len(found) == len(set(found)) == bell
    for partition in found:
        assert sorted(head for group in partition for head in group) == list(range(heads))
        assert all(group == tuple(sorted(group)) for group in partition)
        assert list(partition) == sorted(partition)


@pytest.mark.parametrize(("heads", "stages"), [(1, 3), (2, 4), (2, 6), (3, 1), (3, 3), (4, 2)])
def test_plans_are_all_the_monotone_ones(heads, stages):
    """Against every sequence of partitions there is, kept where each refines the one before."""
    nodes = list(partitions(range(heads)))
    brute = {
        plan
        for plan in product(nodes, repeat=stages)
        if all(refines(fine, coarse) for coarse, fine in pairwise(plan))
    }
    found = list(all_plans(heads, stages))
    assert set(found) == brute
    assert len(found) == len(brute) == count_plans(heads, stages)


def test_large_counts_follow_the_same_formula():
    assert count_plans(5, 6) == sum(1 for _ in all_plans(5, 6)) == 14532
    assert [count_plans(n, 1) for n in range(6)] == [1, 1, 2, 5, 15, 52]
    assert count_plans(2, 6) == 7  # the two part before one of the six stages, or never


@given(plans())
def test_what_has_split_stays_split(given_plan):
    heads, plan = given_plan
    steps = (together(heads), *plan, apart(heads))
    for coarse, fine in pairwise(steps):
        assert refines(fine, coarse)
        assert len(fine) >= len(coarse)


@given(plans())
def test_a_plan_becomes_the_branches_of_a_model_and_back(given_plan):
    heads, plan = given_plan
    names = [f"h{number}" for number in range(heads)]
    stages = STAGES[: len(plan)]
    branches = to_branches(plan, stages, names)
    spec = ModelSpec(
        heads=tuple(HeadSpec(name=name, classes=("x",)) for name in names), branches=branches
    )
    for stage, partition in zip(stages, plan, strict=True):
        expected = tuple(tuple(names[head] for head in group) for group in partition)
        assert spec.groups(stage) == expected
    # Nothing is named that splits nothing.
    assert {s: tuple(map(tuple, g)) for s, g in branches.items()} == spec.branches


@given(plans(), st.frozensets(st.integers(0, 4)))
def test_restricting_keeps_who_is_together(given_plan, kept):
    heads, plan = given_plan
    for partition in plan:
        found = restricted(partition, kept)
        assert sorted(head for group in found for head in group) == sorted(set(range(heads)) & kept)
        assert all(any(set(group) <= set(wider) for wider in partition) for group in found)


def test_words_for_a_plan():
    assert describe({}) == "all share everything"
    assert describe({"up_p3": [["a", "b"], ["c"]]}) == "up_p3: a+b | c"
