"""Branch plans as such: set partitions of the heads that only ever get finer. No torch.

Heads are numbers 0..n-1 here; a plan has a partition of them for each stage of the neck.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from math import comb

Partition = tuple[tuple[int, ...], ...]
"""Groups of heads, each sorted, in the order of their first heads."""

Plan = tuple[Partition, ...]
"""A partition for each stage, in the order the stages run; each refines the one before."""


def partitions(items: Sequence[int]) -> Iterator[Partition]:
    """Yield every way to split sorted items into groups, the undivided one first."""
    if not items:
        yield ()
        return
    first, rest = items[0], items[1:]
    for split in partitions(rest):
        for number, group in enumerate(split):
            yield ((first, *group), *split[:number], *split[number + 1 :])
        yield ((first,), *split)


def together(heads: int) -> Partition:
    """Return the partition in which all heads share."""
    return (tuple(range(heads)),)


def apart(heads: int) -> Partition:
    """Return the partition in which no head shares."""
    return tuple((head,) for head in range(heads))


def refinements(partition: Partition) -> Iterator[Partition]:
    """Yield every partition that only splits groups of this one, itself included."""
    for split in product(*(list(partitions(group)) for group in partition)):
        yield tuple(sorted(group for groups in split for group in groups))


def refines(fine: Partition, coarse: Partition) -> bool:
    """Say whether each group of `fine` lies within one of `coarse`."""
    return all(any(set(group) <= set(wider) for wider in coarse) for group in fine)


def all_plans(heads: int, stages: int) -> Iterator[Plan]:
    """Yield every monotone plan; `count_plans` says how many there are."""

    def extend(plan: Plan) -> Iterator[Plan]:
        if len(plan) == stages:
            yield plan
            return
        for partition in refinements(plan[-1] if plan else together(heads)):
            yield from extend((*plan, partition))

    yield from extend(())


def count_plans(heads: int, stages: int) -> int:
    """Return how many monotone plans there are, without listing them.

    A plan of s stages splits the heads into groups at the first stage and then plans the other
    s - 1 stages within each group alone. So with f(0, k) = 1, f(s, n) is the sum over the sizes
    k of the group that holds the first head: f(s, n) = sum of C(n-1, k-1) f(s-1, k) f(s, n-k).
    For one stage these are the Bell numbers.
    """
    within = [1] * (heads + 1)
    for _ in range(stages):
        whole = [1]
        for n in range(1, heads + 1):
            terms = (comb(n - 1, k - 1) * within[k] * whole[n - k] for k in range(1, n + 1))
            whole.append(sum(terms))
        within = whole
    return within[heads]


def to_branches(
    plan: Plan, stages: Sequence[str], names: Sequence[str]
) -> dict[str, list[list[str]]]:
    """Return a plan as a model's `branches`: only the stages at which something splits."""
    branches: dict[str, list[list[str]]] = {}
    above = together(len(names))
    for stage, partition in zip(stages, plan, strict=True):
        if partition != above:
            branches[stage] = [[names[head] for head in group] for group in partition]
        above = partition
    return branches


def describe(branches: dict[str, list[list[str]]]) -> str:
    """Say a plan in one line, e.g. "up_p3: a+b | c"."""
    if not branches:
        return "all share everything"
    return "; ".join(
        f"{stage}: " + " | ".join("+".join(group) for group in groups)
        for stage, groups in branches.items()
    )


@lru_cache(maxsize=100_000)
def restricted(partition: Partition, heads: frozenset[int]) -> Partition:
    """Return the groups of these heads alone; a group of none of them goes."""
    groups = (tuple(head for head in group if head in heads) for group in partition)
    return tuple(sorted(group for group in groups if group))
