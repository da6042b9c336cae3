"""Numbers that summarise runs, and turns that are fair."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_heads.benchmark.race import race
from vision_heads.benchmark.spread import Ratio, Spread

seconds = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=50)


@given(seconds)
def test_spread_is_within_the_runs_and_in_order(values):
    found = Spread.of(values)
    slack = 1e-9 * max(values)
    assert min(values) - slack <= found.p5 <= found.median + slack
    assert found.median <= found.p95 + slack <= max(values) + 2 * slack
    assert found.runs == len(values)


def test_one_slow_run_moves_no_median():
    calm = Spread.of([0.010] * 30)
    upset = Spread.of([0.010] * 29 + [9.0])
    assert upset.median == calm.median and upset.p95 == pytest.approx(0.010)
    assert calm.fps == pytest.approx(100)
    assert calm.to_dict() == {
        "median_ms": 10.0,
        "p5_ms": 10.0,
        "p95_ms": 10.0,
        "fps": 100.0,
        "runs": 30,
    }


def test_no_time_has_no_rate():
    assert Spread.of([0.0, 0.0]).fps is None
    assert Spread.of([0.0]).to_dict()["fps"] is None


def test_ratios_are_of_rounds_not_of_medians():
    first = [1.0, 10.0, 1.0, 10.0]  # a machine that is ten times slower in every other round
    found = Ratio.of([2 * value for value in first], first)
    assert (found.low, found.median, found.high) == (2, 2, 2)


def test_turns_are_fair_and_in_changing_order():
    calls: list[str] = []
    steps = []

    def contestant(name):
        def run():
            calls.append(name)
            return name, len(calls)

        return run

    found = race(
        [contestant("a"), contestant("b"), contestant("c")],
        8,
        warm_up=2,
        step=lambda: steps.append(1),
    )
    rounds = [calls[at : at + 3] for at in range(0, len(calls), 3)]
    assert len(rounds) == 10 and all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 2
    assert [name for name, _ in found[1]] == ["b"] * 8
    assert min(at for own in found for _, at in own) > 6  # warming up does not count
    assert len(steps) == 30
