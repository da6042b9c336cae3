"""Several contestants in turns, so that whatever else the machine does meets them all alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def race(
    contestants: Sequence[Callable[[], T]],
    rounds: int,
    *,
    warm_up: int = 0,
    step: Callable[[], None] | None = None,
    seed: int = 0,
) -> list[list[T]]:
    """Call every contestant once a round, in a new order each round.

    Args:
        contestants: measure themselves, and return what they measured.
        rounds: that count.
        warm_up: rounds before those, which do not: first runs fill caches and plan memory.
        step: called after each call.
        seed: of the orders.

    Returns:
        What was measured, by contestant and round.
    """
    shuffle = random.Random(seed).shuffle
    order = list(range(len(contestants)))
    found: list[list[T]] = [[] for _ in contestants]
    for number in range(-warm_up, rounds):
        shuffle(order)
        for which in order:
            measured = contestants[which]()
            if number >= 0:
                found[which].append(measured)
            if step is not None:
                step()
    return found
