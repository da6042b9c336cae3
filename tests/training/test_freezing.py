"""Heads that stop early: what stands still from then on, and what goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.training.joint import BRANCHES, data, joint  # noqa: E402
from vision_heads.network import Network  # noqa: E402
from vision_heads.training.freezing import Freezing, own_parts  # noqa: E402
from vision_heads.training.trainer import Trainer  # noqa: E402


def _copy(network) -> dict:
    return {name: value.clone() for name, value in network.state_dict().items()}


def _names(network: Network, heads: list[str]) -> set[str]:
    modules = {module: name for name, module in network.named_modules()}
    return {modules[part] for part in own_parts(network, heads)}


def test_patience_counts_validations_without_a_better_figure() -> None:
    freezing = Freezing(joint({"yellow": {"patience": 2}, "blue": {"freeze_after": 3}}).heads)
    for epochs, mark in enumerate([0.0, 0.0, 0.0, 10.0, 12.0, 11.0, 12.0, 13.0], 1):
        freezing.judge({"yellow": mark, "blue": 1.0}, epochs)
    assert freezing.after == {"yellow": 7, "blue": 3}
    assert not freezing.frozen("yellow", 6) and freezing.frozen("yellow", 7)
    again = Freezing(joint({"yellow": {"patience": 2}}).heads)
    again.restore(freezing.to_dict())
    assert again.to_dict() == freezing.to_dict()


def test_each_head_waits_for_itself() -> None:
    """One without a figure, one that is frozen and one that gets better hold up no others."""
    settings = {name: {"patience": 1} for name in ("face", "blue", "yellow")}
    freezing = Freezing(joint(settings).heads)
    figures = [
        {"blue": 5.0, "yellow": 5.0},
        {"blue": 5.0, "yellow": 6.0},  # blue stops
        {"blue": 9.0, "yellow": 6.0, "face": 1.0},  # yellow stops
        {"blue": 1.0, "yellow": 1.0, "face": 2.0},
        {"blue": 1.0, "yellow": 1.0, "face": 2.0},
    ]
    for epochs, marks in enumerate(figures, 1):
        freezing.judge(marks, epochs)
    assert freezing.after == {"blue": 2, "yellow": 3, "face": 5}
    assert freezing.best == {"blue": 5.0, "yellow": 6.0, "face": 2.0}


def test_a_resumed_run_stops_heads_as_its_settings_say_now() -> None:
    before = Freezing(joint({n: {"freeze_after": 3} for n in ("yellow", "blue", "face")}).heads)
    record = before.to_dict()
    now = joint({"yellow": {"freeze_after": 9}, "blue": {"freeze_after": 1}}).heads
    for epochs, after in ((2, {"yellow": 9, "blue": 3}), (3, dict(record["after"]))):
        freezing = Freezing(now)
        freezing.resume(record, epochs)
        assert freezing.after == after


def test_own_parts_are_what_no_other_head_uses(tmp_path: Path) -> None:
    trainer = Trainer(joint(branches=BRANCHES), data(tmp_path), {}, tmp_path / "run")
    network = trainer.network
    assert _names(network, ["blue"]) == {
        "heads.blue", "neck.down_stages.p3_1", "neck.down_stages.p2_1", "neck.up_stages.p3_1",
        "neck.up_stages.p4_1",
    }  # fmt: skip
    assert _names(network, ["yellow"]) == {"heads.yellow", "neck.up_stages.p3"}
    both = _names(network, ["yellow", "face"])
    assert {"neck.down_stages.p3", "neck.down_stages.p2"} < both


def test_a_frozen_head_stands_still_while_the_others_train(tmp_path: Path) -> None:
    config = joint({"blue": {"freeze_after": 1}}, epochs=3, branches=BRANCHES, ema=0.9,
                   augment={"mosaic": 1.0, "close_mosaic": 1})  # fmt: skip
    trainer = Trainer(config, data(tmp_path), {}, tmp_path / "run")
    after: list[dict] = []
    shown: list[set[str]] = []
    save, step = trainer._save_state, trainer._train_step

    def keep_state() -> None:
        after.append(_copy(trainer.network))
        save()

    def keep_routes(batch) -> None:
        shown.append(set(batch.routes))
        step(batch)

    trainer._save_state, trainer._train_step = keep_state, keep_routes
    trainer.run()
    assert shown == [{"yellow", "blue", "face"}] * 4 + [{"yellow", "face"}] * 6
    own = tuple(f"{name}." for name in _names(trainer.network, ["blue"]))
    average = trainer.ema.network.state_dict()
    for name, value in after[0].items():
        if name.startswith(own):
            assert torch.equal(value, after[2][name]), name
            assert torch.equal(value, average[name]), f"{name}: not its averaged weights"
    moved = [n for n, v in after[0].items() if not torch.equal(v, after[2][n])]
    assert any(n.startswith("backbone") for n in moved)
    assert any(n.startswith("heads.yellow") for n in moved)
    assert any(n.startswith("neck.down_stages.p3.") for n in moved)


def test_the_learning_rate_ends_where_it_would_without_freezing(tmp_path: Path) -> None:
    rates = []
    for name, heads in (("all", {}), ("frozen", {"blue": {"freeze_after": 1}})):
        trainer = Trainer(joint(heads, epochs=4), data(tmp_path), {}, tmp_path / name)
        trainer.epoch = 3
        first = trainer._lr()
        trainer.step_in_epoch = trainer.steps_per_epoch
        rates.append((first, trainer._lr()))
    assert rates[0] == pytest.approx(rates[1])
    assert rates[0][0] > rates[0][1]


def test_a_run_ends_when_every_head_is_frozen(tmp_path: Path) -> None:
    heads = {name: {"freeze_after": 2} for name in ("yellow", "blue", "face")}
    val = data(tmp_path, "val", count=3, seed=5)
    config = joint(heads, epochs=9, val_every=9)
    figures = Trainer(config, data(tmp_path), val, tmp_path / "run").run()
    assert "yellow/AP50" in figures, "the last epoch is validated"
    assert len((tmp_path / "run/results.csv").read_text().splitlines()) == 3
    assert (tmp_path / "run/weights/last.safetensors").is_file()


def test_a_head_without_progress_stops_by_its_patience(tmp_path: Path, monkeypatch) -> None:
    """Only the head whose own figure stays stops, though the others' rise."""
    numbers = iter(range(100))

    def rising(*_) -> dict[str, float]:
        value = float(next(numbers))
        return {"yellow/AP50": value, "blue/AP50": 7.0, "face/AP50": value}

    monkeypatch.setattr("vision_heads.training.trainer.validate", rising)
    heads = {name: {"patience": 1} for name in ("yellow", "blue", "face")}
    config = joint(heads, epochs=4, val_every=1)
    val = data(tmp_path, "val", count=3, seed=5)
    for split in val.values():
        for sample in split.samples:
            sample.rotations = None
    trainer = Trainer(config, data(tmp_path), val, tmp_path / "run")
    trainer.run()
    assert trainer.freezing.after == {"blue": 2}
