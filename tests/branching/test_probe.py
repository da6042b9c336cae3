"""Probes: chosen the same way each time, all sorts among them; features: what the stages give."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vision_heads.branching.probe import (
    GRID,
    POOL,
    choose_probes,
    compare,
    pool_size,
    stage_features,
)
from vision_heads.branching.singles import (
    MOST,
    Single,
    read_singles,
    together_spec,
)
from vision_heads.data.sample import DataSplit, Sample
from vision_heads.errors import UserError
from vision_heads.network import Network, save_network
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec

SIDE = 64


def network(seed: int = 0, name: str = "a", levels: tuple[int, ...] = (3, 4, 5), **more) -> Network:
    torch.manual_seed(seed)
    head = HeadSpec(name=name, classes=("x",), levels=levels)
    settings = {"input": InputSpec(height=SIDE, width=SIDE), "heads": (head,)} | more
    made = Network(ModelSpec(**settings)).train()
    with torch.no_grad():  # batch norms whose statistics are not the identity's
        made(torch.rand(4, 3, SIDE, SIDE))
    return made.eval()


def single(name: str = "a", **more) -> Single:
    return Single(name, Path(f"{name}.safetensors"), network(name=name, **more))


def pictures(folder: Path, kinds: int, copies: int) -> DataSplit:
    """Return pictures of several kinds, each with almost equal copies."""
    folder.mkdir()
    samples = []
    for kind in range(kinds):
        rng = np.random.default_rng(kind)
        small = rng.integers(0, 255, (6, 8, 3)).astype(np.uint8)
        for copy in range(copies):
            file = folder / f"{kind}_{copy}.png"
            image = cv2.resize(small, (80, 60), interpolation=cv2.INTER_NEAREST).astype(int)
            noise = np.random.default_rng(1000 * kind + copy).integers(-2, 3, image.shape)
            cv2.imwrite(str(file), np.clip(image + noise, 0, 255).astype(np.uint8))
            samples.append(Sample(file, file.stem, 80, 60))
    return DataSplit(folder.name, "val", ("x",), (0,), samples)


def nothing() -> None:
    pass


def chosen(split: DataSplit, count: int, seed: int = 0, **more) -> list[str]:
    inputs = InputSpec(height=SIDE, width=SIDE)
    return [
        s.image_id
        for s in choose_probes(single(**more), split, count, inputs, seed, nothing).samples
    ]


def test_probes_hold_every_kind_of_picture_once(tmp_path):
    split = pictures(tmp_path / "a", kinds=5, copies=4)
    kinds = [name.split("_")[0] for name in chosen(split, 5)]
    assert sorted(kinds) == list("01234")


def test_the_same_seed_chooses_the_same_pictures(tmp_path):
    split = pictures(tmp_path / "a", kinds=5, copies=4)
    assert chosen(split, 8) == chosen(split, 8)
    assert len(set(chosen(split, 8))) == 8
    assert len({tuple(chosen(split, 8, seed)) for seed in range(4)}) > 1


def test_a_small_set_is_taken_whole_and_a_large_one_is_not_read_through(tmp_path):
    split = pictures(tmp_path / "a", kinds=6, copies=5)
    assert (pool_size(split, 30), pool_size(split, 6), pool_size(split, 10)) == (0, 24, 30)
    assert len(chosen(split, 30)) == 30
    steps: list[int] = []
    inputs = InputSpec(height=SIDE, width=SIDE)
    probes = choose_probes(single(), split, 4, inputs, 0, lambda: steps.append(1))
    assert len(probes.samples) == 4 and probes.pool == len(steps) == 4 * POOL


def test_unreadable_pictures_are_named_and_left_out(tmp_path):
    split = pictures(tmp_path / "a", kinds=5, copies=2)
    split.samples[3].image.write_bytes(b"no picture")
    inputs = InputSpec(height=SIDE, width=SIDE)
    probes = choose_probes(single(), split, 7, inputs, 0, nothing)
    assert len(probes.samples) == 7 and len(probes.unread) == 1
    assert split.samples[3].image.name in probes.unread[0]
    whole = choose_probes(single(), split, 10, inputs, 0, nothing)
    compare([single(), single("b", seed=1)], whole, inputs, "dds", "rbf", nothing)
    assert len(whole.samples) == 9 and len(whole.unread) == 1
    for sample in split.samples[:7]:
        sample.image.unlink(missing_ok=True)
    with pytest.raises(UserError, match="a: val: 3 readable pictures, a search needs 4; first"):
        choose_probes(single(), split, 9, inputs, 0, nothing)


def test_features_are_the_stages_maps_averaged_to_the_grid():
    images = torch.rand(2, 3, 2 * SIDE, SIDE)
    net = network(levels=(2, 3, 4, 5))
    found = stage_features(net, images)
    assert list(found) == list(net.spec.stages)
    with torch.no_grad():
        maps = net.features(images)["a"]
    # At the finest level the way down is what the head reads; up_p5 ends the way up.
    for stage, level in (("down_p2", 2), ("up_p3", 3), ("up_p5", 5)):
        side = min(GRID, 2**6 // 2**level)
        pooled = torch.nn.functional.adaptive_avg_pool2d(maps[level], (GRID, side))
        assert np.allclose(found[stage], pooled.flatten(1).numpy(), atol=1e-5)
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("method", ["dds", "rsa"])
def test_copies_are_alike_and_others_are_not(tmp_path, method):
    split = pictures(tmp_path / "a", kinds=10, copies=1)
    inputs = InputSpec(height=SIDE, width=SIDE)
    models = [single(), single("b"), single("c", seed=7, levels=(2, 3, 4, 5))]
    probes = choose_probes(models[0], split, 10, inputs, 0, nothing)
    found = compare(models, probes, inputs, method, "rbf", nothing)
    assert set(found) == set(models[2].network.spec.stages)
    for stage in ("down_p4", "down_p3", "up_p4", "up_p5"):
        matrix = found[stage]
        assert np.allclose(matrix, matrix.T) and np.allclose(np.diag(matrix), 0, atol=1e-12)
        assert matrix[0, 1] < 1e-9 and matrix[0, 2] > 0.01
    for stage in ("down_p2", "up_p3"):  # only the third has them
        assert np.isnan(found[stage]).sum() == 8 and found[stage][2, 2] == pytest.approx(0)


def test_a_model_that_sees_nothing_is_named(tmp_path):
    split = pictures(tmp_path / "a", kinds=5, copies=1)
    inputs = InputSpec(height=SIDE, width=SIDE)
    blind = single("blind", seed=1)
    for parameter in blind.network.neck.parameters():
        parameter.data.zero_()
    probes = choose_probes(blind, split, 5, inputs, 0, nothing)
    with pytest.raises(UserError, match=r"blind\.safetensors: \w+: its features are the same"):
        compare([single(), blind], probes, inputs, "dds", "rbf", nothing)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_network(folder / "a.safetensors", network())
    save_network(folder / "b.safetensors", network(name="b", fusion="irdcb"))
    save_network(folder / "c.safetensors", network(name="c", levels=(2, 3)))
    wide = InputSpec(height=32, width=96)
    save_network(folder / "d.safetensors", network(name="d", input=wide))
    two = tuple(HeadSpec(name=name, classes=("x",)) for name in "ef")
    save_network(folder / "ef.safetensors", Network(ModelSpec(heads=two)))
    save_network(folder / "low.safetensors", network(name="low", lowest=2))
    return folder


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a"], "at least two"),
        (["a"] * (MOST + 1), "at most 8 models, got 9"),
        (["a", "a"], r"called 'a', as that of .*a\.safetensors; give one another name"),
        (["a", "b"], r"b\.safetensors: fusion irdcb, but c2f in .*a\.safetensors"),
        (["a", "ef"], r"ef\.safetensors: has the heads e, f; .* one head each"),
        (["a", "none"], "no such file"),
        (["a", "2=c"], r"2=.*c\.safetensors: name: must be letters"),
    ],
)
def test_models_that_cannot_be_compared_are_named(files, names, message):
    given = [name.rpartition("=") for name in names]
    with pytest.raises(UserError, match=message):
        read_singles([(name or None, files / f"{stem}.safetensors") for name, _, stem in given])


def test_together_they_make_the_model_of_all_heads(files):
    given = [(None, "a"), ("again", "a"), (None, "c")]
    singles = read_singles([(name, files / f"{stem}.safetensors") for name, stem in given])
    spec = together_spec(singles)
    assert [(head.name, head.levels) for head in spec.heads] == [
        ("a", (3, 4, 5)),
        ("again", (3, 4, 5)),
        ("c", (2, 3)),
    ]
    assert spec.stages == ("down_p4", "down_p3", "down_p2", "up_p3", "up_p4", "up_p5")
    assert (spec.input.height, spec.input.width, spec.lowest) == (SIDE, SIDE, None)


def test_a_head_cut_out_of_a_larger_model_brings_its_lowest_level(files):
    singles = read_singles([(None, files / f"{stem}.safetensors") for stem in ("a", "low")])
    assert together_spec(singles).lowest == 2


def test_inputs_that_differ_need_a_choice(files):
    singles = read_singles([(None, files / f"{stem}.safetensors") for stem in ("a", "d")])
    with pytest.raises(UserError, match=r"d\.safetensors: input 32x96, but 64x64 in .*--imgsz"):
        together_spec(singles)
    spec = together_spec(singles, (96, 160))
    assert (spec.input.height, spec.input.width) == (96, 160)
    with pytest.raises(UserError, match="--imgsz: height: must be a multiple of 32"):
        together_spec(singles, (100, 160))
