"""The search: scores, prices, budgets, the knee, and the beam against looking at every plan."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.branching.test_plans import plans
from vision_heads.branching import search
from vision_heads.branching.cost import Cost, Costs, costs_of
from vision_heads.branching.plans import (
    all_plans,
    apart,
    refinements,
    refines,
    to_branches,
    together,
)
from vision_heads.branching.search import (
    Budget,
    Scorer,
    choose,
    find_plans,
    front,
    knee,
)
from vision_heads.errors import UserError
from vision_heads.measure import measure
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec

NAN = float("nan")


def costs(heads: int, stages: int = 6) -> Costs:
    """Return costs that differ from stage to stage, milliseconds included."""
    names = [f"s{number}" for number in range(stages)]
    return Costs(
        Cost(1000, 5000, 10.0),
        {n: Cost(10 * (i + 1), 70 - 10 * i, 0.5 + 0.1 * i) for i, n in enumerate(names)},
        {name: frozenset(range(heads)) for name in names},
    )


def distances(heads: int, seed: int = 0, stages: int = 6) -> dict[str, np.ndarray]:
    """Return dissimilarities that grow along the stages, as they do in networks."""
    points = np.random.default_rng(seed).normal(size=(heads, 3))
    matrix = np.linalg.norm(points[:, None] - points[None], axis=-1) / 5
    return {f"s{number}": matrix * (number + 1) / stages for number in range(stages)}


def scorer(heads: int, seed: int = 0, stages: int = 6, **more: object) -> Scorer:
    return Scorer(distances(heads, seed, stages), costs(heads, stages), heads, **more)


def test_costs_are_those_of_the_network_that_is_built():
    """Also where heads leave early, so that some groups need no copy of a stage."""
    levels = {"a": (2, 3, 4, 5), "b": (3, 4, 5), "c": (2, 3)}
    heads = tuple(HeadSpec(name=n, classes=("x",), levels=v) for n, v in levels.items())
    spec = ModelSpec(heads=heads, input=InputSpec(height=64, width=64))
    known = costs_of(spec)
    assert known.users["up_p4"] == {0, 1} and known.users["up_p3"] == {0, 1, 2}
    every = list(all_plans(3, len(spec.stages)))
    for plan in every[:: len(every) // 3]:
        branches = to_branches(plan, spec.stages, list(levels))
        total = measure(ModelSpec(heads=heads, input=spec.input, branches=branches)).total
        assert known.of(plan) == Cost(total.parameters, total.flops)


@given(plans(4), st.integers(0, 100))
def test_splitting_never_scores_worse_and_never_costs_less(given_plan, seed):
    heads, plan = given_plan
    score = scorer(heads, seed, len(plan))
    for finer in refinements(plan[-1]):
        before, after = score(plan), score((*plan[:-1], finer))
        assert after.score <= before.score + 1e-12
        assert after.price >= before.price - 1e-12
        assert after.cost.parameters >= before.cost.parameters


@given(st.integers(2, 5), st.integers(0, 100))
def test_the_ends_of_the_trade(heads, seed):
    score = scorer(heads, seed)
    whole, none = score((together(heads),) * 6), score((apart(heads),) * 6)
    assert (none.score, whole.price) == (0, 0)
    assert none.price == pytest.approx(1)
    assert whole.score == pytest.approx(
        sum(matrix.max() for matrix in distances(heads, seed).values())
    )
    assert whole.cost == costs(heads).shared


def test_the_score_is_the_worst_pair_of_each_group_weighted_by_its_heads():
    matrix = np.array([[0, 0.1, 0.4, 0.9], [0.1, 0, 0.3, 0.9], [0.4, 0.3, 0, 0.9], [0.9] * 4])
    np.fill_diagonal(matrix, 0)
    score = Scorer({"s0": matrix}, costs(4, 1), 4)
    assert score((((0, 1), (2, 3)),)).score == pytest.approx((2 * 0.1 + 2 * 0.9) / 4)
    assert score((((0, 1, 2), (3,)),)).score == pytest.approx(3 * 0.4 / 4)


def test_heads_without_a_stage_are_not_compared_there():
    matrix = np.array([[0, 0.5, NAN], [0.5, 0, NAN], [NAN] * 3])
    score = Scorer({"s0": matrix}, costs(3, 1), 3)
    assert score((together(3),)).score == pytest.approx(2 * 0.5 / 3)
    assert score((((0,), (1, 2)),)).score == 0
    nothing = Scorer({"s0": np.full((3, 3), NAN)}, costs(3, 1), 3)
    assert nothing((together(3),)).score == 0


def test_every_plan_is_found_best_first():
    score = scorer(3)
    found = find_plans(score, Budget())
    assert {plan.plan for plan in found} == set(all_plans(3, 6))
    assert [p.score for p in found] == sorted(p.score for p in found)
    assert found[0].score == 0


def test_plans_that_differ_only_in_who_does_not_matter_count_once():
    known = costs(3)
    users = known.users | {"s5": frozenset({0, 1})}
    score = Scorer(distances(3), Costs(known.shared, known.stages, users), 3)
    found = find_plans(score, Budget())
    assert len(found) < len(list(all_plans(3, 6)))
    rest = {(p.plan[:5], any({0, 1} <= set(g) for g in p.plan[5])) for p in found}
    assert len(rest) == len(found)


@pytest.mark.parametrize(
    "budget",
    [
        Budget(parameters=1150),
        Budget(flops=5100),
        Budget(ms=11.2),
        Budget(parameters=1200, flops=5200, ms=12.0),
        Budget(parameters=1000),
    ],
)
@pytest.mark.parametrize("heads", [2, 4])
def test_a_budget_is_kept_and_nothing_better_is_missed(budget, heads):
    score = scorer(heads, priced=tuple(budget.limits()))
    found = find_plans(score, budget)
    within = [p for p in map(score, all_plans(heads, 6)) if budget.holds(p.cost)]
    assert {plan.plan for plan in found} == {plan.plan for plan in within}
    best = choose(found, budget)
    assert budget.holds(best.cost)
    assert best.score == pytest.approx(min(plan.score for plan in within))


def test_a_larger_budget_is_never_worse():
    score = scorer(4, priced=("parameters",))
    limits = range(1000, 1700, 50)
    scores = [
        choose(find_plans(score, Budget(parameters=limit)), Budget(parameters=limit)).score
        for limit in limits
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1] == 0


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(parameters=999), "takes 1,000 parameters already, which is more than 999"),
        (Budget(flops=4999), "GFLOPs already"),
        (Budget(ms=9.9), r"takes 10\.0 ms already, which is more than 9\.9 ms"),
    ],
)
def test_a_budget_below_sharing_everything_is_named(budget, message):
    with pytest.raises(UserError, match=message):
        find_plans(scorer(3), budget)


def test_the_front_is_what_no_plan_beats():
    found = find_plans(scorer(3), Budget())
    best = front(found)
    for plan in best:
        beaten = [
            other
            for other in found
            if other.score < plan.score - 1e-9 and other.price <= plan.price + 1e-9
        ]
        assert not beaten
    assert [p.price for p in best] == sorted(p.price for p in best)
    assert best[0].plan == (together(3),) * 6 and best[-1].score == 0


def test_copies_are_paired_and_a_stranger_is_not():
    matrix = np.array([[0, 0, 0.5], [0, 0, 0.5], [0.5, 0.5, 0]])
    score = Scorer({f"s{i}": matrix for i in range(6)}, costs(3), 3)
    chosen = choose(find_plans(score, Budget()), Budget())
    assert chosen.plan == (((0, 1), (2,)),) * 6
    assert chosen.score == 0 and chosen.price == pytest.approx(0.5)


def test_late_differences_split_late():
    """Early stages see alike, the last two do not: those are worth copies."""
    alike, unlike = np.zeros((2, 2)), np.array([[0, 0.8], [0.8, 0]])
    matrices = {f"s{i}": unlike if i >= 4 else alike for i in range(6)}
    chosen = choose(find_plans(Scorer(matrices, costs(2), 2), Budget()), Budget())
    assert chosen.plan == (together(2),) * 4 + (apart(2),) * 2


def test_heads_that_are_all_alike_share_everything():
    matrices = {f"s{i}": np.zeros((3, 3)) for i in range(6)}
    plans_found = find_plans(Scorer(matrices, costs(3), 3), Budget())
    assert knee(front(plans_found)).plan == (together(3),) * 6


def test_where_no_plan_pays_everything_is_shared():
    """Two heads, one stage: half the score could be had for half the price of it."""
    score = Scorer({"s0": np.array([[0, 0.3], [0.3, 0]])}, costs(2, 1), 2)
    assert choose(find_plans(score, Budget()), Budget()).plan == (together(2),)


def test_the_beam_agrees_with_looking_at_every_plan(monkeypatch):
    for seed in range(3):
        for budget in (Budget(), Budget(parameters=1250)):
            score = scorer(4, seed, priced=tuple(budget.limits()) or ("parameters", "flops"))
            exact = choose(find_plans(score, budget), budget)
            monkeypatch.setattr(search, "EXACT_HEADS", 1)
            found = find_plans(score, budget)
            monkeypatch.undo()
            assert all(budget.holds(plan.cost) for plan in found)
            assert choose(found, budget).score == pytest.approx(exact.score)


def test_six_heads_are_searched_by_beam_and_stay_monotone():
    budget = Budget(parameters=1400)
    score = scorer(6, priced=("parameters",))
    found = find_plans(score, budget)
    assert found and all(budget.holds(plan.cost) for plan in found)
    for plan in found[::50]:
        for coarse, fine in pairwise(plan.plan):
            assert refines(fine, coarse)
    best = choose(found, budget)
    assert best.score < score((together(6),) * 6).score
