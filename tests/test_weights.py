"""What is shipped in weights/ is whole, described, and finds things."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

import vision_heads
from vision_heads.data.card import load_split
from vision_heads.evaluation import protocols
from vision_heads.evaluation.runner import options_for, predict_split
from vision_heads.geometry.boxes import iou_matrix
from vision_heads.geometry.rotations import geodesic

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
FILES = sorted(f for f in WEIGHTS.iterdir() if f.suffix in (".safetensors", ".onnx"))


def test_checksums_name_every_file_and_are_right() -> None:
    lines = (WEIGHTS / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split() for line in lines)}
    assert set(listed) == {file.name for file in FILES}
    for file in FILES:
        assert hashlib.sha256(file.read_bytes()).hexdigest() == listed[file.name], file.name


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_each_file_has_a_card_that_says_where_it_comes_from(file: Path) -> None:
    card = file.with_suffix(".md").read_text()
    for word in ("Data", "Terms", "Command", "AP50", "seed"):
        assert word in card, word
    if file.suffix == ".safetensors":
        assert file.stat().st_size < 5e6


@pytest.mark.parametrize("name", [f.stem for f in FILES if f.suffix == ".onnx"])
def test_both_forms_describe_the_same_model(name: str) -> None:
    torch = pytest.importorskip("torch")
    from vision_heads.network import load_network

    network = load_network(WEIGHTS / f"{name}.safetensors")
    predictor = vision_heads.load(name)
    assert network.spec == predictor.spec
    assert network.spec.provenance["terms"]
    single = len(network.spec.heads) == 1
    assert sum(p.numel() for p in network.parameters()) <= (2.2e6 if single else 4.5e6)
    assert all(torch.isfinite(p).all() for p in network.parameters())


@pytest.mark.parametrize(("name", "least"), [("aerial-n", 40), ("multi-n", 20)])
def test_shipped_weights_find_the_cars_of_the_demo(name: str, least: float) -> None:
    pytest.importorskip("faster_coco_eval")
    predictor = vision_heads.load(name, threads=2)
    split = load_split("demo", "val")
    head = predictor.spec.head("aerial")
    run = predict_split(predictor, split, options_for("coco"), head=head)
    scores = protocols.score(split, run.detections, "coco")
    assert scores.classes["car"]["AP50"] > least


@pytest.mark.parametrize("name", ["headpose-n", "multi-n"])
def test_shipped_weights_know_where_the_people_of_the_demo_look(name: str) -> None:
    predictor = vision_heads.load(name, threads=2)
    split = load_split("demo-heads", "val")
    found, errors = 0, []
    for sample in split.samples:
        result = predictor(sample.image, conf=0.3)["pose"]
        overlaps = iou_matrix(sample.boxes, result.xyxy)
        for index in np.flatnonzero(overlaps.max(1, initial=0) > 0.5):
            match = overlaps[index].argmax()
            errors.append(geodesic(sample.rotations[index], result.rotation[match]))
            found += 1
    assert found > 0.85 * sum(len(sample.boxes) for sample in split.samples)
    assert np.median(errors) < 25


def test_the_heads_of_shipped_weights_answer_alone_as_they_do_together() -> None:
    predictor = vision_heads.load("multi-n", threads=2)
    assert {head.name: head.kind for head in predictor.spec.heads} == {
        "aerial": "detect", "pose": "headpose", "animals": "detect", "vehicles": "detect"
    }  # fmt: skip
    picture = load_split("demo", "val").samples[0].image
    together = predictor(picture, conf=0.1)
    for head in predictor.spec.heads:
        alone = predictor(picture, conf=0.1, heads=[head.name])
        assert list(alone.heads) == [head.name]
        np.testing.assert_allclose(
            alone[head.name].xyxy, together[head.name].xyxy, rtol=1e-4, atol=1e-2
        )
