from __future__ import annotations

import pickle
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from vision_heads.errors import UserError  # noqa: E402
from vision_heads.network import Network, load_network, save_network  # noqa: E402
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec  # noqa: E402
from vision_heads.training.init import initialise  # noqa: E402


def _network(classes: int) -> Network:
    head = HeadSpec(name="aerial", classes=tuple(f"c{i}" for i in range(classes)))
    return Network(ModelSpec(input=InputSpec(height=64, width=64), heads=(head,)))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Network]:
    network = _network(3)
    save_network(tmp_path / "a.safetensors", network)
    return tmp_path / "a.safetensors", network


def test_round_trip_is_exact(saved: tuple[Path, Network]) -> None:
    file, network = saved
    again = load_network(file)
    assert again.spec == network.spec
    for (name, one), other in zip(
        network.state_dict().items(), again.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


def test_what_matches_is_loaded_and_the_rest_is_named(saved: tuple[Path, Network]) -> None:
    file, theirs = saved
    network = _network(5)
    report = initialise(network, file)
    assert torch.equal(network.backbone.stem.conv.weight, theirs.backbone.stem.conv.weight)
    assert report.other_shape and all("class_branches" in name for name in report.other_shape)
    assert not report.absent
    assert str(len(report.matched)) in str(report)


def test_plain_state_dict(tmp_path: Path) -> None:
    theirs = _network(3)
    torch.save(theirs.state_dict(), tmp_path / "plain.pt")
    network = _network(3)
    assert not initialise(network, tmp_path / "plain.pt").absent
    assert torch.equal(network.neck.up_stages["p3"].fuse.cv1.conv.weight,
                       theirs.neck.up_stages["p3"].fuse.cv1.conv.weight)  # fmt: skip


def test_shipped_weights_go_by_name() -> None:
    from vision_heads.paths import assets

    file = assets("weights") / "aerial-n.safetensors"
    for name in ("aerial-n", "aerial-n.safetensors"):
        network = Network(load_network(file).spec)
        assert not initialise(network, name).absent
    with pytest.raises(UserError, match=r"no-such-name\.safetensors: no such file"):
        initialise(network, "no-such-name")


class _Evil:
    def __reduce__(self):
        return (Path.touch, (Path("evil"),))


def test_pickled_code_is_refused_and_not_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": _Evil()}, tmp_path / "evil.pt", pickle_module=pickle)
    with pytest.raises(UserError, match="--trust-pickle"):
        initialise(_network(3), tmp_path / "evil.pt")
    assert not Path("evil").exists()


def test_trusted_ultralytics_checkpoint(tmp_path: Path) -> None:
    from ultralytics.nn.tasks import DetectionModel

    import vision_heads._ultralytics  # noqa: F401

    model = DetectionModel("yolov8n.yaml", nc=3, verbose=False)
    torch.save({"model": model, "ema": None}, tmp_path / "theirs.pt")
    # Their names are not ours, so nothing may match; but it must be read, and say so.
    with pytest.raises(UserError, match="none of its"):
        initialise(_network(3), tmp_path / "theirs.pt", trust_pickle=True)


@pytest.mark.parametrize("content", [b"", b"not weights at all"])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    for name in ("a.safetensors", "a.pt"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name) as caught:
            initialise(_network(3), tmp_path / name)
        assert "\n" not in str(caught.value)
        assert "trust-pickle" not in str(caught.value)  # there is no code in it to be trusted
    with pytest.raises(UserError, match="no such file"):
        initialise(_network(3), tmp_path / "absent.pt")


def test_file_with_wrong_tensors_for_its_spec(saved: tuple[Path, Network]) -> None:
    from safetensors.torch import load_file, save_file

    file, network = saved
    state = load_file(file)
    state.pop(next(name for name in state if name.startswith("neck")))
    save_file(state, file, metadata={"vision_heads": network.spec.to_json()})
    with pytest.raises(UserError, match="do not fit"):
        load_network(file)
