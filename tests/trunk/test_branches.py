"""Branches: what is shared is computed once, what is not is separate, gradients are averaged."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from vision_heads.network import Network, load_network, save_network  # noqa: E402
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec  # noqa: E402

BRANCHES = {"down_p3": [["a", "b"], ["c"]], "up_p4": [["a"], ["b"], ["c"]]}
LEVELS = {"a": (2, 3, 4, 5), "b": (3, 4, 5), "c": (2, 3)}
ROUTES = {"a": torch.tensor([0, 2]), "b": torch.tensor([1]), "c": torch.tensor([3, 4])}


def branched(**changes) -> ModelSpec:
    heads = tuple(HeadSpec(name=n, classes=("x", "y"), levels=v) for n, v in LEVELS.items())
    settings = {"input": InputSpec(height=64, width=64), "heads": heads, "branches": BRANCHES}
    return ModelSpec.model_validate(settings | changes)


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    network = Network(branched()).train()
    for _ in range(3):  # batch norms whose statistics are not the identity's
        network(torch.rand(4, 3, 64, 64))
    return network.eval()


def _calls(network: Network, *args, **kwargs) -> dict[str, int]:
    """Rows that each copy of a neck stage was run on; a stage that ran twice fails."""
    rows: dict[str, int] = {}
    hooks = []
    for stages in (network.neck.down_stages, network.neck.up_stages):
        for key, module in stages.items():
            name = ("down_" if stages is network.neck.down_stages else "up_") + key

            def count(_module, _inputs, out, name=name) -> None:
                assert name not in rows
                rows[name] = len(out[0] if isinstance(out, tuple) else out)

            hooks.append(module.register_forward_hook(count))
    with torch.no_grad():
        network(*args, **kwargs)
    for hook in hooks:
        hook.remove()
    return rows


def test_each_copy_runs_once_and_only_on_the_rows_of_its_heads(network: Network) -> None:
    rows = _calls(network, torch.rand(5, 3, 64, 64), ROUTES)
    assert rows == {
        "down_p4": 5, "down_p3": 3, "down_p3_1": 2, "down_p2": 3, "down_p2_1": 2,
        "up_p3": 3, "up_p3_1": 2, "up_p4": 2, "up_p4_1": 1, "up_p5": 2, "up_p5_1": 1,
    }  # fmt: skip


def test_a_head_alone_runs_only_its_own_branch(network: Network) -> None:
    hit: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: hit.append(name))
        for name, module in network.named_modules()
        if name.startswith("neck.") and name.count(".") == 2
    ]
    with torch.no_grad():
        network.export(torch.rand(1, 3, 64, 64), ["c"])
    for hook in hooks:
        hook.remove()
    assert hit == [
        "neck.down_stages.p4", "neck.down_stages.p3_1", "neck.down_stages.p2_1",
        "neck.up_stages.p3_1",
    ]  # fmt: skip


def test_mixed_rows_give_what_each_head_gives_alone(network: Network) -> None:
    images = torch.rand(5, 3, 64, 64)
    with torch.no_grad():
        mixed, alone = network(images, ROUTES), network(images)
    for name, rows in ROUTES.items():
        for key, value in mixed[name].items():
            torch.testing.assert_close(value, alone[name][key][rows], atol=1e-5, rtol=1e-4)


def _gradients(network: Network, images: torch.Tensor, names: list[str]) -> dict[str, torch.Tensor]:
    network.zero_grad()
    raw = network(images, {name: ROUTES[name] for name in names})
    sum(v.square().mean() for head in raw.values() for v in head.values()).backward()
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def test_every_parameter_gets_the_mean_of_the_gradients_of_the_heads_that_share_it(
    network: Network,
) -> None:
    images = torch.rand(5, 3, 64, 64)
    apart = [_gradients(network, images, [name]) for name in ROUTES]
    for name, value in _gradients(network, images, list(ROUTES)).items():
        found = [gradients[name] for gradients in apart if name in gradients]
        mean = torch.stack(found).mean(0)
        torch.testing.assert_close(value, mean, atol=1e-6, rtol=1e-3, msg=lambda m, n=name: n + m)
    sharers = {n: sum(n in g for g in apart) for n, _ in network.named_parameters()}
    assert sharers["backbone.stem.conv.weight"] == 3
    assert sharers["neck.down_stages.p3.compress.conv.weight"] == 2
    assert sharers["neck.up_stages.p4_1.fuse.cv1.conv.weight"] == 1
    assert all(sharers.values())


def test_a_branched_file_comes_back(network: Network, tmp_path) -> None:
    save_network(tmp_path / "m.safetensors", network)
    again = load_network(tmp_path / "m.safetensors").eval()
    assert again.spec.branches == network.spec.branches
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for name, raw in network(images).items():
            for key, value in raw.items():
                assert torch.equal(again(images)[name][key], value)


def test_a_neck_may_go_lower_than_its_heads() -> None:
    coarse = (HeadSpec(name="c", classes=("x",), levels=(3, 4, 5)),)
    spec = ModelSpec(heads=coarse, lowest=2)
    neck = Network(spec).neck
    assert isinstance(neck.down_stages["p2"], nn.Module) and "p3" in neck.up_stages


@pytest.mark.parametrize(
    ("branches", "message"),
    [
        ({"down_p9": [["a", "b", "c"]]}, "no stage 'down_p9'"),
        ({"up_p3": [["a"], ["b"]]}, "every head"),
        ({"up_p3": [["a", "b"], ["b", "c"]]}, "every head"),
        ({"down_p3": [["a"], ["b", "c"]], "up_p4": [["a", "b"], ["c"]]}, "stays split"),
    ],
)
def test_wrong_plans_are_named(branches: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        branched(branches=branches)


def test_plans_are_kept_in_one_form() -> None:
    spec = branched(branches={"up_p4": [["c"], ["b", "a"]], "up_p5": [["b", "a"], ["c"]]})
    assert spec.branches == {"up_p4": (("a", "b"), ("c",))}
    assert spec.groups("up_p3") == (("a", "b", "c"),)
    assert spec.groups("up_p5") == (("a", "b"), ("c",))
    assert ModelSpec.from_json(spec.to_json(), "here") == spec
