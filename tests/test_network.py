from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from copy import deepcopy  # noqa: E402

import numpy as np  # noqa: E402

from vision_heads.errors import UserError  # noqa: E402
from vision_heads.network import Network, fuse, read_spec, save_network  # noqa: E402
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec  # noqa: E402
from vision_heads.torch_engine import TorchEngine  # noqa: E402


def _spec(**levels) -> ModelSpec:
    heads = tuple(
        HeadSpec(name=name, classes=("x", "y"), levels=value) for name, value in levels.items()
    )
    return ModelSpec(input=InputSpec(height=64, width=64), heads=heads)


@pytest.fixture(scope="module")
def two() -> Network:
    torch.manual_seed(0)
    return Network(_spec(fine=(2, 3), coarse=(3, 4, 5)))


def _trained(network: Network) -> Network:
    """Give batch norms statistics that are not the identity's."""
    network.train()
    for _ in range(3):
        network(torch.rand(4, 3, 64, 64))
    return network.eval()


@pytest.mark.parametrize("fusion", ["c2f", "irdcb"])
@pytest.mark.parametrize("activation", ["silu", "hardswish", "relu"])
def test_fusing_batch_norm_changes_nothing(fusion: str, activation: str) -> None:
    torch.manual_seed(0)
    spec = _spec(fine=(2, 3, 4, 5)).model_copy(update={"fusion": fusion, "activation": activation})
    network = _trained(Network(spec))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = network(images)["fine"]
        fused = fuse(deepcopy(network))
        after = fused(images)["fine"]
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fused.modules())
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-4, rtol=1e-4)


def test_each_head_sees_only_its_rows(two: Network) -> None:
    network = deepcopy(two).eval()
    images = torch.rand(3, 3, 64, 64)
    routes = {"fine": torch.tensor([0, 2]), "coarse": torch.tensor([1])}
    with torch.no_grad():
        mixed = network(images, routes)
        alone = network(images)
    for name, rows in routes.items():
        for key, value in mixed[name].items():
            torch.testing.assert_close(value, alone[name][key][rows], atol=1e-5, rtol=1e-4)


def test_shared_gradients_are_averaged_over_heads(two: Network) -> None:
    network = deepcopy(two).eval()
    images = torch.rand(2, 3, 64, 64)

    def trunk_gradient(names: list[str]) -> torch.Tensor:
        network.zero_grad()
        routes = {name: torch.arange(2) for name in names}
        raw = network(images, routes)
        sum(v.square().mean() for head in raw.values() for v in head.values()).backward()
        return network.backbone.stem.conv.weight.grad.clone()

    mean = (trunk_gradient(["fine"]) + trunk_gradient(["coarse"])) / 2
    torch.testing.assert_close(trunk_gradient(["fine", "coarse"]), mean, atol=1e-7, rtol=1e-4)


def test_a_coarse_model_computes_no_p2() -> None:
    network = Network(_spec(coarse=(3, 4, 5)))
    assert not [name for name, _ in network.neck.named_modules() if "p2" in name]
    largest: list[int] = []
    for module in network.neck.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _m, _i, out: largest.append(out.shape[-1]))
    with torch.no_grad():
        network.eval()(torch.rand(1, 3, 64, 64))
    assert max(largest) == 64 // 8


@pytest.mark.parametrize("header", [b"[]", b"null", b"[" * 100_000, b'{"__metadata__": 1}', b"5"])
def test_a_header_that_is_none_is_refused(tmp_path, header: bytes) -> None:
    """It was a traceback of `vh info` and `vh heads list`."""
    file = tmp_path / "w.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(UserError, match="no vision_heads model in this file"):
        read_spec(file)


def test_engine_runs_a_file_and_only_the_heads_asked_for(two: Network, tmp_path) -> None:
    file = tmp_path / "two.safetensors"
    save_network(file, two)
    assert read_spec(file) == two.spec
    engine = TorchEngine(file, threads=1)
    images = np.random.default_rng(0).random((2, 3, 64, 64), np.float32)
    everything = engine.run(images)
    assert list(everything) == ["fine/boxes", "fine/scores", "coarse/boxes", "coarse/scores"]
    assert everything["fine/boxes"].shape == (2, 320, 4)
    some = engine.run(images, ["coarse"])
    assert list(some) == ["coarse/boxes", "coarse/scores"]
    np.testing.assert_array_equal(some["coarse/scores"], everything["coarse/scores"])


def test_half_precision_file_is_half_the_size_and_close(two: Network, tmp_path) -> None:
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    save_network(full, two)
    save_network(half, two, half=True)
    assert half.stat().st_size < 0.6 * full.stat().st_size
    images = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    one, other = (TorchEngine(f, threads=1).run(images) for f in (full, half))
    np.testing.assert_allclose(one["fine/scores"], other["fine/scores"], atol=2e-3)


def test_a_full_disk_is_an_oserror_and_leaves_nothing(tmp_path, two, monkeypatch) -> None:
    """safetensors has an error of its own, in which the system's number is only text."""
    from safetensors import SafetensorError

    def full(state, path, **_):
        path.write_bytes(b"half of it")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("vision_heads.network.save_file", full)
    with pytest.raises(OSError, match="No space") as caught:
        save_network(tmp_path / "m.safetensors", two)
    assert caught.value.errno == 28 and caught.value.filename.startswith(str(tmp_path))
    assert not list(tmp_path.iterdir())
