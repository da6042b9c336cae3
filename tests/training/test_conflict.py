"""The measure of gradient conflict: right, and without any effect on what it measures."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from tests.training.joint import BRANCHES, data, joint  # noqa: E402
from vision_heads.training.conflict import gradient_cosines, trunk_stages  # noqa: E402
from vision_heads.training.report import _conflict_table  # noqa: E402
from vision_heads.training.trainer import Trainer  # noqa: E402


def test_cosines_are_those_of_gradients_taken_one_by_one(tmp_path: Path) -> None:
    trainer = Trainer(joint(branches=BRANCHES), data(tmp_path), {}, tmp_path / "run")
    network = trainer.network.eval()
    batch = next(trainer.loader.epoch(0))
    images = batch.images.float() / 255

    def losses() -> dict:
        raw = network(images, batch.routes)
        return {n: sum(v.square().mean() for v in each.values()) for n, each in raw.items()}

    found = gradient_cosines(network, losses())
    assert all(parameter.grad is None for parameter in network.parameters())
    flat = {}
    for name in batch.routes:
        network.zero_grad()
        losses()[name].backward()
        for stage, module in trunk_stages(network).items():
            parts = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
            if parts:
                flat[stage, name] = torch.cat(parts)
    checked = 0
    for key, cosine in found.items():
        stage, pair = key.split("/")
        one, other = pair.split("~")
        wanted = torch.cosine_similarity(flat[stage, one], flat[stage, other], dim=0)
        assert cosine == pytest.approx(float(wanted), abs=1e-4), key
        checked += 1
    # All three share the backbone and down_p4, two share the next stages, nobody the rest.
    assert {key for key in found if "neck.down_p3" in key} == {"neck.down_p3/yellow~face"}
    assert "backbone.p5/yellow~blue" in found and not any("up_p3" in key for key in found)
    assert checked == 3 * 6 + 2


def test_opposite_wishes_have_a_cosine_of_minus_one(tmp_path: Path) -> None:
    trainer = Trainer(joint(), data(tmp_path), {}, tmp_path / "run")
    maps = trainer.network.backbone(torch.rand(2, 3, 64, 64))
    loss = maps[3].square().mean()
    found = gradient_cosines(trainer.network, {"yellow": loss, "blue": -2 * loss})
    assert set(found) == {f"backbone.{s}/yellow~blue" for s in ("stem", "p2", "p3")}
    assert all(value == pytest.approx(-1) for value in found.values())


def test_measuring_changes_nothing(tmp_path: Path) -> None:
    states, rows = [], []
    for every in (0, 2):
        out = tmp_path / str(every)
        config = joint(epochs=2, conflict_every=every, loss_weighting="uncertainty")
        Trainer(config, data(tmp_path), {}, out).run()
        states.append(load_file(out / "weights/last.safetensors"))
        rows.append(list(csv.DictReader((out / "results.csv").open(newline=""))))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    columns = [name for name in rows[1][0] if name.startswith("conflict/")]
    assert "conflict/backbone.stem/yellow~blue" in columns
    assert all(-1 <= float(row[name]) <= 1 for row in rows[1] for name in columns)
    kept = [{k: v for k, v in row.items() if k not in columns} for row in rows[1]]
    assert kept == rows[0]
    table = _conflict_table(rows[1])
    assert "backbone.stem" in table and "yellow~face" in table
    assert _conflict_table(rows[0]) == ""
