"""Batch norm by head: whose statistics are whose."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from tests.training.joint import BRANCHES, data, joint  # noqa: E402
from vision_heads.network import Network, fuse, load_network  # noqa: E402
from vision_heads.training.batch_norm import BatchNormByHead, grouped, split_by_head  # noqa: E402
from vision_heads.training.describe import build_spec  # noqa: E402
from vision_heads.training.trainer import Trainer  # noqa: E402


def test_each_group_is_normalised_by_itself() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 3, 4, 4) * torch.tensor([1.0, 5, 1, 5, 1])[:, None, None, None] + 2
    x.requires_grad_()
    norm = BatchNormByHead.of(nn.BatchNorm2d(3, 1e-3, 0.1))
    norm.groups = (torch.tensor([0, 2, 4]), torch.tensor([1, 3]))
    out = norm(x)
    out.square().mul(torch.arange(5.0)[:, None, None, None]).sum().backward()
    own = [x[rows] for rows in norm.groups]
    for rows in norm.groups:
        apart = nn.BatchNorm2d(3, 1e-3)(x.detach()[rows])
        torch.testing.assert_close(out.detach()[rows], apart)
    means = torch.stack([part.mean((0, 2, 3)) for part in own]).mean(0)
    variances = torch.stack([part.var((0, 2, 3)) for part in own]).mean(0)
    torch.testing.assert_close(norm.running_mean, 0.1 * means.detach())
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * variances.detach())
    assert int(norm.num_batches_tracked) == 1 and norm.weight.grad is not None


def test_alone_it_is_a_plain_batch_norm() -> None:
    x = torch.randn(4, 3, 2, 2)
    plain, ours = nn.BatchNorm2d(3), BatchNormByHead.of(nn.BatchNorm2d(3))
    for training in (True, False):
        for norm in (plain, ours):
            norm.train(training)
        assert torch.equal(plain(x), ours(x))
    assert torch.equal(plain.running_var, ours.running_var)
    ours.train().groups = (torch.arange(4),)
    plain.train()
    torch.testing.assert_close(plain(x), ours(x))
    torch.testing.assert_close(plain.running_var, ours.running_var)
    ours.groups = (torch.tensor([0]), torch.tensor([1, 2, 3]))
    single = torch.randn(4, 3, 1, 1)  # a group of one value has no spread
    assert torch.isfinite(ours(single)).all()


@pytest.mark.parametrize("branches", [{}, BRANCHES])
def test_a_mixed_pass_gives_each_head_what_its_own_batch_would(
    tmp_path: Path, branches: dict
) -> None:
    torch.manual_seed(0)
    network = Network(build_spec(joint(branches=branches), data(tmp_path, count=5), ""))
    before = list(network.state_dict())
    split_by_head(network)
    assert list(network.state_dict()) == before
    network.train()
    images = torch.rand(7, 3, 64, 64)
    routes = {
        "yellow": torch.tensor([0, 4]), "blue": torch.tensor([1, 2, 6]),
        "face": torch.tensor([3, 5]),
    }  # fmt: skip
    with torch.no_grad():
        with grouped(network, routes):
            mixed = network(images, routes)
        plain = network(images, routes)
        differs = 0.0
        for name, rows in routes.items():
            alone = network(images[rows])[name]
            for key, value in alone.items():
                torch.testing.assert_close(mixed[name][key], value, rtol=1e-3, atol=1e-3)
                differs += float((plain[name][key] - value).abs().max())
    assert differs > 0.1
    assert all(m.groups is None for m in network.modules() if isinstance(m, BatchNormByHead))


def test_a_run_by_head_leaves_ordinary_weights(tmp_path: Path) -> None:
    config = joint(epochs=1, batch_norm="per_head")
    val = data(tmp_path, "val", count=3, seed=5)
    figures = Trainer(config, data(tmp_path), val, tmp_path / "run").run()
    assert "yellow/AP50" in figures
    network = load_network(tmp_path / "run/weights/last.safetensors").eval()
    assert not any(isinstance(module, BatchNormByHead) for module in network.modules())
    with torch.no_grad():
        images = torch.rand(1, 3, 64, 64)
        raw = network(images)["yellow"]["scores/2"]
        torch.testing.assert_close(fuse(network)(images)["yellow"]["scores/2"], raw, atol=1e-3,
                                   rtol=1e-3)  # fmt: skip
