"""What a branch plan costs, from the model's description alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vision_heads.branching.plans import Partition, Plan, restricted
from vision_heads.measure import measure
from vision_heads.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Cost:
    """Parameters, operations (2 x multiply-adds a picture) and, where measured, milliseconds."""

    parameters: int
    flops: int
    ms: float | None = None

    def plus(self, other: Cost, times: int = 1) -> Cost:
        """Return this and so many times the other."""
        ms = None if self.ms is None or other.ms is None else self.ms + times * other.ms
        return Cost(
            self.parameters + times * other.parameters, self.flops + times * other.flops, ms
        )


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs of every plan of a model: those of the parts it is made of.

    Attributes:
        shared: the model in which all heads share everything.
        stages: one more copy of each neck stage, in the order they run.
        users: by stage, numbers of the heads whose maps come through it.
    """

    shared: Cost
    stages: dict[str, Cost]
    users: dict[str, frozenset[int]]

    def copies(self, stage: str, partition: Partition) -> int:
        """Return how many copies of a stage are built: one a group that has a user."""
        return len(restricted(partition, self.users[stage]))

    def of(self, plan: Plan) -> Cost:
        """Return what a whole model of this plan costs."""
        cost = self.shared
        for (stage, more), partition in zip(self.stages.items(), plan, strict=True):
            cost = cost.plus(more, self.copies(stage, partition) - 1)
        return cost


def costs_of(spec: ModelSpec, ms: tuple[float, Mapping[str, float]] | None = None) -> Costs:
    """Count a model's parts.

    Args:
        spec: of the model; its branches do not matter. GFLOPs are for its input size.
        ms: measured milliseconds of the model that shares everything and of each stage.
    """
    together = spec.model_copy(update={"branches": {}})
    measures = measure(together)
    total = measures.total
    routes = [spec.route(head.name) for head in spec.heads]
    return Costs(
        Cost(total.parameters, total.flops, ms[0] if ms else None),
        {
            part.stage: Cost(part.parameters, part.flops, ms[1][part.stage] if ms else None)
            for part in measures.neck
        },
        {
            stage: frozenset(number for number, route in enumerate(routes) if stage in route)
            for stage in spec.stages
        },
    )
