"""One step of several heads: whose gradients go where, and what no head can spoil for another."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from tests.training.joint import BRANCHES, data, joint  # noqa: E402
from vision_heads.errors import UserError  # noqa: E402
from vision_heads.training.trainer import Trainer, targets_to  # noqa: E402


def _trainer(tmp_path: Path, config) -> Trainer:
    """A trainer whose weights do not move, so that gradients can be looked at."""
    trainer = Trainer(config, data(tmp_path), {}, tmp_path / "run")
    for batch in islice(trainer.loader.epoch(0), 1):  # batch norms that are not the identity
        trainer.network.train()(batch.images.float() / 255)
    trainer.network.eval()
    trainer._move_weights = lambda: None
    return trainer


def _gradients(network) -> dict:
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def _by_hand(trainer: Trainer, batch) -> dict:
    """Each head's rows through the network on their own; means over those that share."""
    found: dict = {}
    images = batch.images.float() / 255
    for name, head in trainer.config.heads.items():
        trainer.network.zero_grad()
        raw = trainer.network(images, {name: batch.routes[name]})[name]
        losses = trainer.network.heads[name].loss(raw, targets_to(batch.targets[name], "cpu"))
        (sum(losses.values()) * head.weight).backward()
        for parameter, gradient in _gradients(trainer.network).items():
            found.setdefault(parameter, []).append(gradient)
    trainer.network.zero_grad()
    return {name: torch.stack(each).mean(0) for name, each in found.items()}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("branches", [{}, BRANCHES])
def test_a_steps_gradients_are_the_mean_of_the_heads_own(
    tmp_path: Path, accumulate: int, branches: dict
) -> None:
    config = joint(accumulate=accumulate, branches=branches)
    trainer = _trainer(tmp_path, config)
    batches = list(islice(trainer.loader.epoch(0), accumulate))
    by_hand = [_by_hand(trainer, batch) for batch in batches]
    for batch in batches:
        trainer._train_step(batch)
        trainer.step_in_epoch += 1
    found = _gradients(trainer.network)
    assert found.keys() == by_hand[0].keys() == dict(trainer.network.named_parameters()).keys()
    for name, value in found.items():
        wanted = sum(gradients[name] for gradients in by_hand) / accumulate
        scale = float(wanted.abs().max())
        torch.testing.assert_close(
            value, wanted, rtol=2e-3, atol=1e-4 * scale + 1e-7, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert float(found["backbone.stem.conv.weight"].abs().max()) > 0


def test_the_last_batches_of_an_epoch_are_averaged_over_what_there_is(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, joint(accumulate=3))
    assert trainer.steps_per_epoch == 4
    (batch,) = islice(trainer.loader.epoch(0, 3), 1)
    wanted = _by_hand(trainer, batch)["backbone.stem.conv.weight"]
    trainer.step_in_epoch = 3  # three have moved the weights together, this one is alone
    trainer._train_step(batch)
    found = trainer.network.backbone.stem.conv.weight.grad
    torch.testing.assert_close(found, wanted, rtol=2e-3, atol=1e-4 * float(wanted.abs().max()))


def test_one_trunk_pass_and_one_backward_a_step(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, joint())
    passes, backs = [], []
    trainer.network.backbone.register_forward_hook(lambda *_: passes.append(1))
    stem = trainer.network.backbone.stem.conv.weight
    stem.register_hook(lambda _: backs.append(1))
    trainer._train_step(next(trainer.loader.epoch(0)))
    assert (len(passes), len(backs)) == (1, 1)


def _loss_of(trainer: Trainer, head: str, images, routes, targets) -> tuple:
    """Loss and gradients of one head out of a mixed pass."""
    trainer.network.zero_grad()
    raw = trainer.network(images, routes)[head]
    loss = sum(trainer.network.heads[head].loss(raw, targets).values())
    loss.backward()
    return loss.detach(), _gradients(trainer.network)


def test_a_heads_loss_does_not_know_the_other_heads_pictures(tmp_path: Path) -> None:
    """What one data set does not label is nobody's background.

    Both heads' data show yellow and blue squares; each labels its own colour only.
    """
    trainer = _trainer(tmp_path, joint())
    batch = next(b for b in trainer.loader.epoch(0) if len(b.routes["blue"]) > 1)
    images = batch.images.float() / 255
    others = images.clone()
    rows = torch.cat([batch.routes["blue"], batch.routes["face"]])
    # The other data sets now show what `yellow` looks for, without its labels.
    others[rows] = images[batch.routes["yellow"]][torch.arange(len(rows)) % 2]
    assert not torch.equal(others, images)
    for head in trainer.config.heads:
        own = batch.routes[head]
        changed = torch.where(
            torch.isin(torch.arange(len(images)), own)[:, None, None, None], images, others
        )
        targets = batch.targets[head]
        loss, gradients = _loss_of(trainer, head, images, batch.routes, targets)
        loss2, gradients2 = _loss_of(trainer, head, changed, batch.routes, targets)
        assert torch.equal(loss, loss2) and float(loss) > 0
        assert gradients.keys() == gradients2.keys()
        for name, value in gradients.items():
            torch.testing.assert_close(gradients2[name], value, rtol=1e-4, atol=1e-6)
        mixed = images.clone().requires_grad_()
        _loss_of(trainer, head, mixed, batch.routes, targets)
        reached = mixed.grad.abs().sum((1, 2, 3)) > 0
        assert reached.nonzero().flatten().tolist() == own.tolist()


def test_a_head_without_pictures_in_a_batch(tmp_path: Path) -> None:
    splits = data(tmp_path)
    splits["blue"].samples[1:] = []
    trainer = Trainer(joint(epochs=1, batch=3), splits, {}, tmp_path / "run")
    every, losses_of = [], trainer._losses

    def keep(images, routes, batch):
        every.append((len(routes["blue"]), losses_of(images, routes, batch)))
        return every[-1][1]

    trainer._losses = keep
    trainer.run()
    # Its mean is that of the batches it was in; the others' zeros say nothing of it.
    (own,) = (float(losses["blue/class"].detach()) for rows, losses in every if rows)
    assert len(every) > 1 and trainer.journal.rows[0]["loss/blue/class"] == pytest.approx(own)
    assert all(torch.isfinite(v).all() for v in trainer.network.state_dict().values())
    assert load_file(tmp_path / "run/weights/last.safetensors")


@pytest.mark.parametrize(
    ("heads", "over", "message"),
    [
        ({}, {"branches": {"up_p9": [["yellow"]]}}, "test: branches: no stage 'up_p9'"),
        ({}, {"branches": {"up_p3": [["yellow"], ["blue"]]}}, "test: branches.up_p3: must name"),
        ({"blue": {"sampling": 1.0}}, {}, "heads.yellow.sampling: give `sampling` to every head"),
        ({"face": {"protocol": "visdrone"}}, {}, "heads.face.protocol: visdrone does not score"),
        ({}, {"protocol": "headpose"}, "heads.yellow.protocol: headpose does not score"),
        ({"blue": {"patience": 2, "val": ""}}, {}, "heads.blue.patience: needs validation"),
        ({"blue": {"freeze_after": 0}}, {}, "heads.blue.freeze_after"),
        ({"blue": {"kind": "cubes"}}, {}, "heads.blue.kind: unknown head kind 'cubes'"),
        ({}, {"loss_weighting": "fair"}, "loss_weighting"),
    ],
)
def test_wrong_settings_name_their_field(heads: dict, over: dict, message: str) -> None:
    with pytest.raises(UserError) as caught:
        joint(heads, **over)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_each_head_has_rules_that_fit_it() -> None:
    unset = joint()
    assert [unset.protocol_of(name) for name in unset.heads] == ["coco", "coco", "headpose"]
    run = joint({"face": {"protocol": "headpose"}, "blue": {"protocol": "visdrone"}},
                protocol="coco")  # fmt: skip
    assert [run.protocol_of(name) for name in run.heads] == ["coco", "visdrone", "headpose"]
    assert joint(protocol="coco").protocol_of("face") == "coco"


def test_heads_are_validated_by_their_own_rules(tmp_path: Path) -> None:
    val = data(tmp_path, "val", count=4, seed=5)
    config = joint({"blue": {"protocol": "visdrone"}}, epochs=1)
    figures = Trainer(config, data(tmp_path), val, tmp_path / "run").run()
    assert "yellow/AP75" in figures and "blue/AR500" in figures and "face/recall" in figures
