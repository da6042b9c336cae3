"""Learned weights of the heads' losses."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.training.joint import data, joint  # noqa: E402
from vision_heads.training.trainer import Trainer  # noqa: E402
from vision_heads.training.weighting import Fixed, Uncertainty, sums_by_head  # noqa: E402


def _losses(**values: float) -> dict:
    return {name.replace("_", "/"): torch.tensor(value) for name, value in values.items()}


def test_it_starts_at_the_fixed_weights() -> None:
    losses = _losses(a_box=2.0, a_class=1.0, b_box=5.0)
    assert {k: float(v) for k, v in sums_by_head(losses).items()} == {"a": 3.0, "b": 5.0}
    weighting = Uncertainty(["a", "b"], torch.device("cpu"))
    total = weighting.total(losses, ["a", "b"])
    assert float(total.detach()) == float(Fixed().total(losses, ["a", "b"])) == 8.0
    total.backward()
    # d/ds (exp(-s) L + s) at 0.
    gradients = {name: float(p.grad) for name, p in weighting.log_variances.items()}
    assert gradients == {"a": -2.0, "b": -4.0}


def test_it_settles_where_the_factor_is_one_over_the_loss() -> None:
    weighting = Uncertainty(["a", "b"], torch.device("cpu"))
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.2)
    for _ in range(300):
        optimizer.zero_grad()
        weighting.total(_losses(a_x=4.0, b_x=0.5), ["a", "b"]).backward()
        optimizer.step()
    assert weighting.figures() == pytest.approx({"a": 0.25, "b": 2.0}, rel=1e-3)
    assert weighting.to_dict()["a"] == pytest.approx(math.log(4), rel=1e-3)
    other = Uncertainty(["a", "b"], torch.device("cpu"))
    other.restore(weighting.to_dict())
    assert other.to_dict() == weighting.to_dict()


def test_a_head_without_pictures_leaves_its_factor_alone() -> None:
    weighting = Uncertainty(["a", "b"], torch.device("cpu"))
    losses = _losses(a_x=4.0, b_x=0.0)
    losses["b/x"].requires_grad_()
    weighting.total(losses, ["a"]).backward()
    assert weighting.log_variances["b"].grad is None
    assert losses["b/x"].grad is not None, "other processes wait for its weights' gradients"


def test_several_processes_share_the_factors_gradients() -> None:
    asked = []

    class Two:
        num_processes = 2

        def reduce(self, gradient: torch.Tensor, how: str) -> torch.Tensor:
            asked.append((float(gradient), how))
            return gradient * 3

    weighting = Uncertainty(["a", "b"], torch.device("cpu"))
    weighting.total(_losses(a_x=4.0, b_x=0.0), ["a"]).backward()
    weighting.share(Two())  # type: ignore[arg-type]
    assert asked == [(-3.0, "mean")]
    assert float(weighting.log_variances["a"].grad) == -9.0


def test_a_run_learns_logs_and_keeps_factors(tmp_path: Path) -> None:
    config = joint({"blue": {"freeze_after": 1}}, loss_weighting="uncertainty", epochs=2)
    trainer = Trainer(config, data(tmp_path), {}, tmp_path / "run")
    seen = []
    save = trainer._save_state

    def keep() -> None:
        seen.append(trainer.weighting.to_dict())
        save()

    trainer._save_state = keep
    trainer.run()
    first, second = seen
    assert all(value > 0 for value in first.values()), "losses above 1 get smaller factors"
    assert second["blue"] == first["blue"], "frozen"
    assert second["yellow"] > first["yellow"]
    rows = list(csv.DictReader((tmp_path / "run/results.csv").open(newline="")))
    assert float(rows[1]["weight/yellow"]) == pytest.approx(math.exp(-second["yellow"]))
    # The plain losses are logged, so that runs with and without compare.
    assert float(rows[0]["loss/yellow/class"]) > 1
    resumed = Trainer(config, data(tmp_path), {}, tmp_path / "run", resume=True)
    assert resumed.weighting.to_dict() == second


def test_fixed_weights_add_no_columns(tmp_path: Path) -> None:
    Trainer(joint(epochs=1), data(tmp_path), {}, tmp_path / "run").run()
    header = (tmp_path / "run/results.csv").read_text().splitlines()[0]
    assert "weight/" not in header and "conflict/" not in header
