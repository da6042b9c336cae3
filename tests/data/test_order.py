"""What an epoch holds, with and without weights, and what is left of it when heads freeze."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.scenes import STILL, write_split
from vision_heads.data.dataset import TrainLoader
from vision_heads.data.order import NEVER, Schedule, epoch_order, quotas
from vision_heads.errors import UserError

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=4)


def schedule(sizes, weights=None, **changes) -> Schedule:
    settings = {"until": (NEVER,) * len(sizes), "seed": 3, "batch_size": 4, "whole_batches": False}
    return Schedule(tuple(sizes), weights, **(settings | changes))


@given(SIZES, st.integers(1, 5))
def test_without_weights_each_picture_has_one_turn_an_epoch(sizes: list[int], epochs: int) -> None:
    for turns in schedule(sizes).turns(epochs):
        assert (turns == epochs).all()


@given(SIZES, st.integers(1, 5), st.data())
def test_turns_are_as_even_as_the_weights_allow(sizes, epochs, data) -> None:
    weights = tuple(data.draw(st.floats(0.1, 10)) for _ in sizes)
    plan = schedule(sizes, weights)
    counts = plan.counts(0)
    for size, count, turns in zip(sizes, counts, plan.turns(epochs), strict=True):
        assert turns.sum() == count * epochs
        # Within an epoch nothing comes a second time before everything else had its turn.
        assert turns.max() <= epochs * -(-count // size)
        assert turns.min() >= epochs * (count // size)


@pytest.mark.parametrize(
    ("sizes", "weights", "expected"),
    [
        ((6, 4), None, [6, 4]),
        ((6, 4), (1, 1), [5, 5]),
        ((3, 3, 3), (1, 1, 2), [2, 2, 5]),  # 2.25, 2.25, 4.5: the largest remainder
        ((3, 3, 4), (1, 1, 1), [4, 3, 3]),  # of equal ones the first
        ((3, 1), (1000, 1), [4, 1]),  # none is left out
    ],
)
def test_shares_of_an_epoch(sizes, weights, expected) -> None:
    assert quotas(sizes, weights) == expected


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="weight must be above 0"):
        quotas([3, 3], [1, 0])


@given(st.integers(0, 99))
def test_data_sets_are_evenly_mixed(epoch: int) -> None:
    order = epoch_order((40, 10, 7), (40, 20, 7), seed=1, epoch=epoch)
    assert [sorted(picks.tolist()) for picks in order.picks] == [
        [*range(40)], sorted([*range(10)] * 2), [*range(7)]
    ]  # fmt: skip
    for part in (1 / 4, 1 / 2, 3 / 4):
        begun = np.bincount(order.source[: round(67 * part)], minlength=3)
        assert (np.abs(begun - np.array([40, 20, 7]) * part) <= 3).all()
    for source, count in enumerate((40, 20, 7)):
        assert order.rank[order.source == source].tolist() == [*range(count)]


def test_counted_turns_are_those_that_batches_show(tmp_path: Path) -> None:
    sources = {"big": write_split(tmp_path / "big", 9), "few": write_split(tmp_path / "few", 4)}
    loader = TrainLoader(
        sources, STILL, height=32, width=32, batch_size=4, epochs=3, seed=1, workers=0,
        weights={"big": 1.0, "few": 2.0}, world=2, rank=0,
    )  # fmt: skip
    other = TrainLoader(
        sources, STILL, height=32, width=32, batch_size=4, epochs=3, seed=1, workers=0,
        weights={"big": 1.0, "few": 2.0}, world=2, rank=1,
    )  # fmt: skip
    for each in (loader, other):
        each.freeze("few", 2)
    shown = [
        f for e in range(3) for each in (loader, other) for b in each.epoch(e) for f in b.files
    ]
    counted = loader.turns(3)
    for name, split in sources.items():
        assert counted[name].tolist() == [shown.count(str(s.image)) for s in split.samples]
    # Two processes leave incomplete batches out: 3 epochs of 13, 13 and 9 pictures.
    assert len(shown) == 12 + 12 + 8


@pytest.mark.parametrize("weights", [None, (1.0, 1.0)])
def test_what_is_left_out_gives_its_place_to_the_others(weights) -> None:
    plan = schedule((20, 10), weights).leave_out(1, 2)
    assert plan.counts(1) == ([20, 10] if weights is None else [15, 15])
    assert plan.counts(2) == [20, 0] and plan.active(2) == [0]
    assert plan.steps(1) == 8 and plan.steps(2) == 5
    assert plan.leave_out(1, 5) == plan, "what is left out stays out"
    nothing = plan.leave_out(0, 3)
    assert nothing.steps(3) == 0 and nothing.counts(3) == [0, 0]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_head_freezes_between_epochs(tmp_path: Path, workers: int) -> None:
    sources = {"a": write_split(tmp_path / "a", 9), "b": write_split(tmp_path / "b", 6)}
    settings = {"height": 32, "width": 32, "batch_size": 4, "epochs": 4, "seed": 1}
    told = TrainLoader(sources, STILL, workers=workers, **settings)
    batches = [*told.epoch(0), *told.epoch(1)]
    # Workers have loaded ahead by now, with pictures of b.
    told.freeze("b", 2)
    batches += [*told.epoch(2), *told.epoch(3)]
    told.close()
    assert [list(batch.routes) for batch in batches] == [["a", "b"]] * 8 + [["a"]] * 6

    knew = TrainLoader(sources, STILL, workers=0, **settings)
    knew.freeze("b", 2)
    for one, two in zip(batches, (b for e in range(4) for b in knew.epoch(e)), strict=True):
        assert one.files == two.files
        assert np.array_equal(one.images.numpy(), two.images.numpy())
