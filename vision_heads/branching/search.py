"""The search: every monotone plan scored by what it makes share, the best within a budget chosen.

Score of a plan: for each stage and each group of heads that share it, the dissimilarity of the
two heads of the group that are least alike, weighted by the share of heads in the group; summed
over the stages. The largest dissimilarity of a group is what Vandenhende et al. (arXiv
1904.02920) take; they average over the groups, and that average can rise when a group splits.
Weighted by heads it never does: splitting never makes the score worse, and not sharing scores 0.

Price of a plan: what it adds over sharing everything, as a fraction of what splitting everything
adds; the mean of this over the measures that count: those with a budget, or parameters and
operations where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vision_heads.branching.beam import beam_plans, nodes_of
from vision_heads.branching.cost import Cost, Costs
from vision_heads.branching.plans import (
    Partition,
    Plan,
    apart,
    refinements,
    restricted,
    together,
)
from vision_heads.errors import UserError

EXACT_HEADS = 5
"""Up to so many heads every plan is looked at: 14,532 of five heads and six stages."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper limits of a plan's cost, inclusive; None for no limit."""

    parameters: int | None = None
    flops: int | None = None
    ms: float | None = None

    def limits(self) -> dict[str, float]:
        """Return the limits that are given, by the names of `Cost`'s fields."""
        given = {"parameters": self.parameters, "flops": self.flops, "ms": self.ms}
        return {name: value for name, value in given.items() if value is not None}

    def holds(self, cost: Cost) -> bool:
        """Say whether a cost is within every limit."""
        return all(getattr(cost, name) <= limit for name, limit in self.limits().items())


def amount(name: str, value: float) -> str:
    """Write a cost with its unit; `name` is a field of `Cost`."""
    if name == "parameters":
        return f"{value:,.0f} parameters"
    return f"{value / 1e9:.2f} GFLOPs" if name == "flops" else f"{value:.1f} ms"


@dataclass(frozen=True, slots=True)
class Scored:
    """A plan, its score (lower is better), its price 0..1 and its cost."""

    plan: Plan
    score: float
    price: float
    cost: Cost


class Scorer:
    """Scores and prices plans.

    Args:
        matrices: by stage, (H, H) dissimilarities; NaN where a head's own model lacks the stage.
        costs: of the model's parts, for the same stages.
        heads: how many.
        priced: the measures that make the price, names of `Cost`'s fields.
    """

    def __init__(
        self,
        matrices: dict[str, Matrix],
        costs: Costs,
        heads: int,
        priced: Iterable[str] = ("parameters", "flops"),
    ) -> None:
        self.matrices = {stage: np.clip(matrices[stage], 0, None) for stage in costs.stages}
        self.costs, self.heads, self.priced = costs, heads, tuple(priced)
        self.stages = list(costs.stages)
        self._all = costs.of((apart(heads),) * len(self.stages))
        self.step = lru_cache(maxsize=None)(self._step)

    def __call__(self, plan: Plan) -> Scored:
        """Score a plan."""
        steps = [self.step(stage, part) for stage, part in zip(self.stages, plan, strict=True)]
        score, price = (float(sum(step[i] for step in steps)) for i in range(2))
        return Scored(plan, score, price, self.costs.of(plan))

    def _step(self, stage: str, partition: Partition) -> tuple[float, float]:
        """Return what a partition adds to score and price at one stage."""
        matrix, users = self.matrices[stage], self.costs.users[stage]
        known = frozenset(head for head in users if not np.isnan(matrix[head, head]))
        score = sum(
            len(group) * float(matrix[np.ix_(group, group)].max())
            for group in restricted(partition, known)
        )
        copies = self.costs.copies(stage, partition) - 1
        return score / self.heads, copies * self._unit(stage)

    def _unit(self, stage: str) -> float:
        """Return the price of one more copy of a stage."""
        parts = []
        for name in self.priced:
            span = getattr(self._all, name) - getattr(self.costs.shared, name)
            parts.append(getattr(self.costs.stages[stage], name) / span if span else 0.0)
        return sum(parts) / len(parts)


def find_plans(scorer: Scorer, budget: Budget) -> list[Scored]:
    """Return the plans within a budget, best score first, then lowest price.

    Up to `EXACT_HEADS` heads these are all there are. With more they are what a beam search finds
    (`beam_plans`).

    Plans that differ only in heads that do not use a stage count once.

    Raises:
        UserError: even sharing everything is over the budget.
    """
    check_budget(scorer.costs, budget)
    search = _exact if scorer.heads <= EXACT_HEADS else _beam
    found: dict[tuple[Partition, ...], Scored] = {}
    for plan in search(scorer, budget):
        key = tuple(
            restricted(part, scorer.costs.users[stage])
            for stage, part in zip(scorer.stages, plan, strict=True)
        )
        if key not in found:
            found[key] = scorer(plan)
    within = [plan for plan in found.values() if budget.holds(plan.cost)]
    # Sums of floats in another order differ in their last digits; those do not rank.
    return sorted(within, key=lambda s: (round(s.score, 9), round(s.price, 9)))


def check_budget(costs: Costs, budget: Budget) -> None:
    """Raise `UserError` when even sharing everything, which costs least, is over the budget."""
    for name, limit in budget.limits().items():
        least = getattr(costs.shared, name)
        if least > limit:
            raise UserError(
                f"budget: sharing everything takes {amount(name, least)} already, which is more "
                f"than {amount(name, limit)}"
            )


def front(plans: Iterable[Scored]) -> list[Scored]:
    """Return the plans that no other beats in score and price at once, cheapest first."""
    best: list[Scored] = []
    for plan in sorted(plans, key=lambda s: (round(s.price, 9), s.score)):
        if not best or plan.score < best[-1].score - 1e-9:
            best.append(plan)
    return best


def knee(plans: list[Scored]) -> Scored:
    """Return the plan of a front that buys most: the lowest sum of price and relative score.

    Both lie between 0 and 1: the score relative to that of sharing everything. In a drawing of
    the front this is the plan farthest below the line from sharing everything (price 0, score 1)
    to sharing nothing (1, 0). Of equal ones the cheapest; sharing everything where no plan lies
    below the line.
    """
    whole = plans[0].score
    if whole <= 0:
        return plans[0]
    return min(plans, key=lambda s: (round(s.price + s.score / whole, 9), s.price))


def choose(plans: list[Scored], budget: Budget) -> Scored:
    """Return the best-scored plan within a budget, or the knee of the front without one."""
    return plans[0] if budget.limits() else knee(front(plans))


def _fits(scorer: Scorer, budget: Budget) -> Callable[[Plan], bool]:
    """Return a test of beginnings of plans: can any plan that begins so keep the budget?

    The cheapest one splits nothing further.
    """
    stages = len(scorer.stages)

    def fits(begun: Plan) -> bool:
        rest = (begun[-1],) * (stages - len(begun))
        return budget.holds(scorer.costs.of(begun + rest))

    return fits


def _exact(scorer: Scorer, budget: Budget) -> Iterator[Plan]:
    """Yield every plan within the budget; what can no longer keep it is not gone into."""
    fits = _fits(scorer, budget)
    finer = lru_cache(maxsize=None)(lambda partition: list(refinements(partition)))

    def extend(plan: Plan) -> Iterator[Plan]:
        if len(plan) == len(scorer.stages):
            yield plan
            return
        for partition in finer(plan[-1] if plan else together(scorer.heads)):
            longer = (*plan, partition)
            if fits(longer):
                yield from extend(longer)

    yield from extend(())


def _beam(scorer: Scorer, budget: Budget) -> Iterator[Plan]:
    limits, shared = budget.limits(), scorer.costs.shared

    def row(stage: str, node: Partition) -> list[float]:
        more = scorer.costs.copies(stage, node) - 1
        unit = scorer.costs.stages[stage]
        return [*scorer.step(stage, node), *(more * getattr(unit, name) for name in limits)]

    nodes = nodes_of(scorer.heads)
    steps = [np.array([row(stage, node) for node in nodes]) for stage in scorer.stages]
    room = [limit - getattr(shared, name) for name, limit in limits.items()]
    return beam_plans(scorer.heads, steps, room)
