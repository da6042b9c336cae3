from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from vision_heads.training.config import OptimizerConfig  # noqa: E402
from vision_heads.training.muon import Muon  # noqa: E402
from vision_heads.training.optimizer import Ema, learning_rate, make_optimizer  # noqa: E402


def test_learning_rate_rises_then_falls_to_its_final_fraction() -> None:
    config = OptimizerConfig(lr=0.01, final=0.1, warmup_epochs=1, warmup_steps=0)
    rates = [learning_rate(config, step, 10, 100) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) == pytest.approx(0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert learning_rate(config, 100, 10, 100) == pytest.approx(0.001)


def test_the_schedule_step_by_step() -> None:
    config = OptimizerConfig(lr=0.01, final=0.2, warmup_epochs=1.5, warmup_steps=4)
    assert learning_rate(config, 0, 10, 115) == pytest.approx(0.01 / 15)
    assert learning_rate(config, 14, 10, 115) == pytest.approx(0.01)
    # From step 15 on a cosine: a quarter, a half and three quarters of its 100 steps.
    cosines = [(1 + math.cos(math.pi * share)) / 2 for share in (0.25, 0.5, 0.75)]
    for step, cosine in zip((40, 65, 90), cosines, strict=True):
        expected = 0.01 * (0.2 + 0.8 * cosine)
        assert learning_rate(config, step, 10, 115) == pytest.approx(expected)
    more = OptimizerConfig(lr=0.01, warmup_epochs=1.5, warmup_steps=40)  # the longer of the two
    assert learning_rate(more, 0, 10, 115) == pytest.approx(0.01 / 40)
    none = OptimizerConfig(lr=0.01, warmup_epochs=0, warmup_steps=0)
    assert learning_rate(none, 0, 10, 100) == pytest.approx(0.01)


def test_warm_up_never_takes_more_than_half_of_a_short_run() -> None:
    config = OptimizerConfig(lr=0.01, warmup_epochs=3, warmup_steps=100)
    assert learning_rate(config, 5, 5, 10) == pytest.approx(0.01)


def test_warm_up_ends_at_the_peak_where_frozen_heads_make_an_epoch_shorter() -> None:
    config = OptimizerConfig(lr=0.01, warmup_epochs=1, warmup_steps=0)
    assert learning_rate(config, 3.5, 4, 100) == pytest.approx(0.01)
    assert learning_rate(config, 2.5, 4, 100) == pytest.approx(0.01 * 3.5 / 4)


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_only_weights_of_convolutions_decay(name: str) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    decayed, plain, *_ = make_optimizer(network, OptimizerConfig(name=name)).param_groups
    assert [p.ndim for p in decayed["params"]] == [4]
    assert decayed["weight_decay"] > 0 == plain["weight_decay"]
    assert len(plain["params"]) == 3


def test_the_optimizer_is_the_one_that_was_asked_for() -> None:
    network = torch.nn.Conv2d(4, 4, 1, bias=False)
    made = {
        name: make_optimizer(network, OptimizerConfig(name=name, lr=0.03, momentum=0.8))
        for name in ("adamw", "sgd", "muon")
    }
    kinds = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD, "muon": Muon}
    assert {name: type(one) for name, one in made.items()} == kinds
    assert all(group["lr"] == 0.03 for one in made.values() for group in one.param_groups)
    assert made["adamw"].defaults["betas"] == (0.8, 0.999)
    assert (made["sgd"].defaults["momentum"], made["sgd"].defaults["nesterov"]) == (0.8, True)
    assert made["muon"].defaults["momentum"] == 0.8


def test_what_is_frozen_stays_out_and_what_is_beside_the_network_does_not_decay() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    network[0].requires_grad_(False)
    beside = [torch.nn.Parameter(torch.zeros(2, 2))]
    for others in ((), beside):
        groups = make_optimizer(network, OptimizerConfig(weight_decay=0.1), others).param_groups
        assert [g["params"] for g in groups[:2]] == [[network[1].weight], [network[1].bias]]
        assert [(g["params"], g["weight_decay"]) for g in groups[2:]] == (
            [(beside, 0.0)] if others else []
        )


def test_muon_turns_hidden_layers_alone() -> None:
    plain = {"kernel_size": 1, "bias": False}
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, **plain),  # of colours
        torch.nn.Conv2d(8, 8, **plain),
        torch.nn.Conv2d(8, 8, groups=8, **plain),
        torch.nn.Conv2d(8, 2, 1),  # the last
    )
    optimizer = make_optimizer(network, OptimizerConfig(name="muon"))
    turned = [g["params"] for g in optimizer.param_groups if g["matrix"]]
    assert turned == [[network[1].weight]]
    assert [len(g["params"]) for g in optimizer.param_groups] == [3, 1, 1]


def test_average_follows_and_then_lags() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    ema = Ema(network, 0.99)
    with torch.no_grad():
        network.weight.fill_(1.0)
    start = float(ema.network.weight)
    ema.update(network)
    # The ramp makes the first step nearly a copy.
    assert abs(float(ema.network.weight) - 1) < 0.01 * abs(start - 1) + 1e-3
    ema.updates = 10**6
    with torch.no_grad():
        network.weight.fill_(2.0)
    before = float(ema.network.weight)
    ema.update(network)
    assert float(ema.network.weight) == pytest.approx(0.99 * before + 0.01 * 2)


def test_the_average_ramps_up_counts_on_and_leaves_alone_what_is_still() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1))
    ema = Ema(network, 0.9, still={"0.bias"})
    bias = float(network[0].bias.detach())
    with torch.no_grad():
        ema.network[0].weight.fill_(1.0)
        network[0].weight.fill_(2.0)
        network[0].bias.fill_(9.0)
        network[1].running_mean.fill_(4.0)
        network[1].num_batches_tracked.fill_(7)
    ema.updates = Ema.RAMP - 1
    ema.update(network)
    keep = 0.9 * (1 - math.exp(-1))
    assert float(ema.network[0].weight) == pytest.approx(keep * 1 + (1 - keep) * 2)
    assert float(ema.network[1].running_mean) == pytest.approx((1 - keep) * 4)
    assert int(ema.network[1].num_batches_tracked) == 7
    assert float(ema.network[0].bias) == bias
    assert not ema.network.training and not ema.network[0].weight.requires_grad


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_no_momentum_is_a_setting_too(name: str) -> None:
    network = torch.nn.Conv2d(4, 4, 1, bias=False)
    optimizer = make_optimizer(network, OptimizerConfig(name=name, momentum=0, weight_decay=0))
    before = network.weight.detach().clone()
    network.weight.sum().backward()
    optimizer.step()
    assert bool((network.weight < before).all())
