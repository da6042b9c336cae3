"""What the recipe of head-pose weights learns from crops: places and rotations, moved together."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")

from tools.recipes import dense_crops, dense_heads  # noqa: E402
from tools.recipes.dense_warp import Crops, Move, moved, tiled, untiled  # noqa: E402
from vision_heads._ultralytics import Conv  # noqa: E402
from vision_heads.data.synthetic import synthetic_split  # noqa: E402
from vision_heads.data.synthetic.head_looks import draw_look  # noqa: E402
from vision_heads.data.synthetic.heads import render_people  # noqa: E402
from vision_heads.data.synthetic.people import Person  # noqa: E402
from vision_heads.geometry.rotations import from_euler  # noqa: E402
from vision_heads.network import Network, load_network, save_network  # noqa: E402
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec  # noqa: E402


@pytest.fixture(scope="module")
def crop(tmp_path_factory) -> Crops:
    """One crop of a head seen from so far away that pixels are linear in places."""
    look = replace(draw_look(np.random.default_rng(0), 100))
    one = Person(150, 110, 70, from_euler([15, 60, -20]), np.eye(3), 1e6, look)
    scene = render_people([one], 320, 240, np.random.default_rng(0), surface=True)
    crops = dense_crops.Crops()
    dense_crops.cut_scene(scene, crops)
    file = tmp_path_factory.mktemp("crops") / "one.npz"
    crops.save(file)
    return Crops.load([file])


@pytest.mark.parametrize("mirror", [1.0, -1.0])
@pytest.mark.parametrize(("turn", "zoom"), [(0.0, 1.0), (25.0, 0.8), (-70.0, 1.3)])
def test_moved_places_show_the_moved_rotation(crop, mirror, turn, zoom):
    move = Move(
        torch.tensor([mirror]),
        torch.tensor([np.radians(turn)], dtype=torch.float32),
        torch.tensor([zoom]),
        torch.tensor([[0.1, -0.05]]),
    )
    heads = moved(crop, move, 64)
    places, known = heads.places[2]
    y, x = np.nonzero(known[0].numpy())
    seen = (np.stack([x, y], 1) + 0.5) * 4
    rows = np.c_[places[0].numpy()[:, y, x].T, np.ones(len(x))]
    fit = np.linalg.lstsq(rows, seen, rcond=None)[0][:3].T
    fit /= np.linalg.norm(fit, axis=1, keepdims=True)
    # Cells of four pixels and steps of a 120th are coarse: a few degrees.
    np.testing.assert_allclose(fit, heads.rotations[0, :2].numpy(), atol=0.08)
    # The box of the moved head stays where its cells are.
    assert np.abs(seen.mean(0) - heads.middles[0].numpy()).max() < 6
    assert (np.abs(seen - heads.middles[0].numpy()) < heads.halves[0].numpy() * 1.7).all()


def test_tiles_are_taken_apart_again():
    maps = torch.arange(8 * 3 * 4 * 5).view(8, 3, 4, 5)
    whole = tiled(maps, 2)
    assert whole.shape == (2, 3, 8, 10)
    assert torch.equal(whole[1, :, 4:, :5], maps[6])
    assert torch.equal(untiled(whole, 2), maps)


def test_a_short_run_writes_weights_that_can_be_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    synthetic_split(2, 1, tmp_path / "people", what="heads", size=(96, 64))
    monkeypatch.setattr(sys, "argv", ["x", "scenes.npz", "--scenes", "3"])
    dense_crops.main()
    monkeypatch.setattr(sys, "argv", ["x", "faces.npz", "--card", "people/card.yaml"])
    monkeypatch.setitem(dense_crops.LEAST, "card", 5)
    dense_crops.main()
    head = HeadSpec(name="pose", kind="headpose", classes=("head",), levels=(2, 3, 4, 5))
    spec = ModelSpec(heads=(head,), input=InputSpec(height=64, width=64))
    save_network(tmp_path / "start.safetensors", Network(spec))
    config = {
        "heads": {"pose": {"kind": "headpose", "data": ["people/card.yaml"]}},
        "init": "start.safetensors",
        "imgsz": 64,
        "batch": 2,
        "workers": 0,
        "optimizer": {"name": "muon", "lr": 0.001},
        "augment": {"mosaic": 0, "close_mosaic": 0},
        "epochs": 1,
    }
    (tmp_path / "dense.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr(dense_heads, "SIZES", {32: (1.0, 2, 1)})
    words = [
        "x",
        "dense.yaml",
        "--crops",
        "scenes.npz",
        "--faces",
        "faces.npz",
        "--minutes",
        "0.02",
        "--out",
        "out",
    ]
    monkeypatch.setattr(sys, "argv", words)
    dense_heads.main()
    made = load_network(tmp_path / "out/weights/average.safetensors")
    start = load_network(tmp_path / "start.safetensors")
    assert (made.spec.provenance["minutes"], made.spec.provenance["seed"]) == ("0.02", "0")
    changed = [
        not torch.equal(a, b)
        for (name, a), b in zip(made.state_dict().items(), start.state_dict().values(), strict=True)
        if "running" not in name and "num_batches" not in name
    ]
    assert np.mean(changed) > 0.5
    for name, value in made.state_dict().items():
        if "running_mean" in name:
            assert torch.equal(value, start.state_dict()[name])


def test_a_norm_within_its_convolution_is_the_same_function():
    torch.manual_seed(0)
    module = Conv(3, 8, 3, 2)
    with torch.no_grad():
        for values in (module.bn.weight, module.bn.bias, module.bn.running_mean):
            values.uniform_(0.5, 2)
        module.bn.running_var.uniform_(0.5, 2)
    images = torch.rand(2, 3, 16, 16)
    apart = module.eval()(images)
    torch.testing.assert_close(dense_heads.still(module, images), apart, rtol=1e-4, atol=1e-5)
