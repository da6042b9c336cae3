"""The mean of weight files."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tools.recipes.average_weights import average, main  # noqa: E402
from vision_heads.network import Network, load_network, save_network  # noqa: E402
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec  # noqa: E402


def _saved(path, levels=(3, 4), seed=0):
    torch.manual_seed(seed)
    head = HeadSpec(name="a", kind="detect", classes=("car",), levels=levels)
    network = Network(ModelSpec(heads=(head,), input=InputSpec(height=64, width=64)))
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.uniform_(0.5, 1)
    save_network(path, network)
    return path


def test_the_mean_is_weighted_tensor_by_tensor(tmp_path, monkeypatch):
    one, two = _saved(tmp_path / "1.safetensors"), _saved(tmp_path / "2.safetensors", seed=1)
    out = tmp_path / "new" / "mean.safetensors"
    monkeypatch.setattr("sys.argv", ["x", f"{one}=3", f"{two}=1", "--out", str(out)])
    main()
    a, b, mean = (load_network(file).state_dict() for file in (one, two, out))
    for name, value in mean.items():
        torch.testing.assert_close(value, (0.75 * a[name] + 0.25 * b[name]).to(value.dtype))
    spec = load_network(out).spec
    assert spec.heads == load_network(one).spec.heads
    assert spec.provenance["average"] == f"0.75 {one}, 0.25 {two}"


def test_other_networks_and_shares_that_are_none_are_refused(tmp_path, monkeypatch):
    one = _saved(tmp_path / "1.safetensors")
    two = _saved(tmp_path / "2.safetensors", levels=(2, 3))
    out = tmp_path / "mean.safetensors"
    with pytest.raises(SystemExit, match=r"2.safetensors: is of another network than"):
        average({one: 0.5, two: 0.5}, out)
    with pytest.raises(SystemExit, match="shares"):
        average({one: -1.0}, out)
    monkeypatch.setattr("sys.argv", ["x", str(one), "--out", str(out)])
    with pytest.raises(SystemExit, match="FILE=SHARE is needed"):
        main()
    assert not out.exists()
