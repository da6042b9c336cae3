"""A small network whose scores and boxes differ from cell to cell, as a trained one's do."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from vision_heads.export.onnx import export_onnx
from vision_heads.network import Network
from vision_heads.paths import assets
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec


def lively(spec: ModelSpec, seed: int = 0) -> Network:
    """Build a network with batch norms that do something and strong last layers."""
    torch.manual_seed(seed)
    network = Network(spec)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.uniform_(norm.weight, 0.7, 1.3)
        nn.init.uniform_(norm.bias, -0.2, 0.2)
    # One pass in training mode gives statistics that keep activations in a trained one's range.
    coarse = torch.rand(2, 3, 16, 16)
    images = nn.functional.interpolate(coarse, (spec.input.height, spec.input.width))
    with torch.no_grad():
        network.train()(images)
    for norm in norms:
        # A channel that hardly varies on two pictures would blow rounding up to whole pixels.
        norm.running_var.clamp_(min=0.1)
    for head in network.heads.values():
        for branch in head.class_branches.values():
            nn.init.normal_(branch[-1].weight, std=0.3)
            nn.init.constant_(branch[-1].bias, -1.0)
        for branch in getattr(head, "rotation_branches", nn.ModuleDict()).values():
            nn.init.normal_(branch[-1].weight, std=0.3)
    return network.eval()


@pytest.fixture(scope="session")
def network() -> Network:
    return lively(
        ModelSpec(
            input=InputSpec(height=128, width=192),
            heads=(HeadSpec(name="aerial", classes=("car", "van", "bus")),),
            candidates=200,
            provenance={"data": "none"},
        )
    )


@pytest.fixture(scope="session")
def two_heads() -> Network:
    return lively(
        ModelSpec(
            fusion="irdcb",
            activation="hardswish",
            input=InputSpec(height=128, width=128),
            heads=(
                HeadSpec(name="near", classes=("face",), levels=(3, 4, 5), category_ids=(7,)),
                HeadSpec(name="far", classes=("car", "van"), levels=(2, 3)),
            ),
            candidates=50,
        )
    )


@pytest.fixture(scope="session", params=["6d", "euler"])
def posed(request) -> Network:
    return _posed(request.param)


def _posed(representation: str) -> Network:
    heads = (
        HeadSpec(
            name="pose",
            kind="headpose",
            classes=("head",),
            options={"representation": representation},
        ),
        HeadSpec(name="car", classes=("car",), levels=(3, 4)),
    )
    size = InputSpec(height=128, width=160)
    return lively(ModelSpec(input=size, heads=heads, candidates=80))


@pytest.fixture(scope="session")
def network_onnx(network, tmp_path_factory) -> Path:
    return export_onnx(network, tmp_path_factory.mktemp("exported") / "network.onnx").path


@pytest.fixture(scope="session")
def posed_onnx(tmp_path_factory) -> Path:
    """Return the file of heads with poses and of another kind, for any number of pictures."""
    target = tmp_path_factory.mktemp("exported") / "posed.onnx"
    return export_onnx(_posed("6d"), target, dynamic_batch=True).path


@pytest.fixture(scope="session")
def two_heads_onnx(two_heads, tmp_path_factory) -> Path:
    return export_onnx(two_heads, tmp_path_factory.mktemp("exported") / "two.onnx").path


@pytest.fixture
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (3, 8, 10, 3), dtype=np.uint8)
    return [np.kron(tile, np.ones((12, 12, 1), np.uint8)) for tile in coarse]


@pytest.fixture(scope="session")
def four_heads() -> Network:
    """Heads of two kinds on different levels, split at two stages of the neck."""
    heads = (
        HeadSpec(name="aerial", classes=("car", "van"), levels=(2, 3, 4)),
        HeadSpec(name="pose", kind="headpose", classes=("head",), levels=(3, 4, 5)),
        HeadSpec(name="animals", classes=("cat", "dog", "cow"), levels=(4, 5)),
        HeadSpec(name="vehicles", classes=("automobile", "bus"), levels=(3, 4, 5)),
    )
    branches = {
        "down_p3": (("aerial", "pose"), ("animals", "vehicles")),
        "up_p4": (("aerial",), ("pose",), ("animals", "vehicles")),
    }
    return lively(
        ModelSpec(
            input=InputSpec(height=128, width=160),
            heads=heads,
            branches=branches,
            merge={"car": ("aerial:car", "vehicles:automobile")},
            candidates=60,
        )
    )


@pytest.fixture(scope="session")
def graphs(four_heads, tmp_path_factory) -> dict[str, Path]:
    """Files of `vh export`: the shipped one, poses, and heads with branches of an open batch."""
    folder = tmp_path_factory.mktemp("graphs")
    posed = {
        kind: lively(
            ModelSpec(
                input=InputSpec(height=64, width=64),
                heads=(
                    HeadSpec(
                        name="pose",
                        kind="headpose",
                        classes=("head",),
                        levels=(3, 4, 5),
                        options={"representation": kind},
                    ),
                ),
                candidates=40,
            )
        )
        for kind in ("6d", "euler")
    }
    made = {
        "6d": export_onnx(posed["6d"], folder / "6d.onnx", dynamic_batch=True),
        "euler": export_onnx(posed["euler"], folder / "euler.onnx", opset=14),
        "open": export_onnx(four_heads, folder / "open.onnx", dynamic_batch=True),
    }
    shipped = shutil.copy(assets("weights") / "aerial-n.onnx", folder / "fixed.onnx")
    return {name: file.path for name, file in made.items()} | {"fixed": shipped}


@pytest.fixture
def files(tmp_path):
    """Calibration pictures whose first pixel says which they are."""
    paths = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.full((128, 160, 3), 50 * number, np.uint8))
        paths.append(path)
    return paths
