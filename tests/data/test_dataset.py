"""Batches: repeatable, resumable, split among processes, routed to heads."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.scenes import COLORS, STILL, make_sample, still, write_split
from vision_heads.data.augment import AugmentConfig
from vision_heads.data.dataset import Batch, TrainLoader
from vision_heads.data.order import epoch_order, quotas
from vision_heads.data.sample import DataSplit
from vision_heads.data.store import PictureStore
from vision_heads.errors import UserError
from vision_heads.geometry.letterbox import letterbox
from vision_heads.media.images import read_image

FULL = AugmentConfig(degrees=10, mixup=0.3, copy_paste=0.5, blur=0.2, mosaic_pool=5)


def make_loader(
    sources: DataSplit | dict[str, DataSplit], augment: AugmentConfig = FULL, **changes: object
) -> TrainLoader:
    settings: dict = {
        "height": 64,
        "width": 96,
        "batch_size": 4,
        "epochs": 20,
        "seed": 7,
        "workers": 0,
    }
    if isinstance(sources, DataSplit):
        sources = {"a": sources}
    return TrainLoader(sources, augment, **{**settings, **changes})


def same(one: Batch, two: Batch) -> bool:
    """Whether two batches are equal in every tensor."""
    if one.files != two.files or list(one.routes) != list(two.routes):
        return False
    pairs = [(one.images, two.images)]
    for head in one.routes:
        pairs.append((one.routes[head], two.routes[head]))
        for name in ("boxes", "labels", "rows", "ignore_boxes", "ignore_rows", "rotations"):
            a, b = getattr(one.targets[head], name), getattr(two.targets[head], name)
            assert (a is None) == (b is None)
            pairs += [] if a is None else [(a, b)]
    return all(
        a.shape == b.shape and bool(torch.allclose(a, b, 0, 0, equal_nan=True)) for a, b in pairs
    )


@pytest.fixture
def blocks(tmp_path: Path) -> DataSplit:
    return write_split(tmp_path / "blocks", 11)


def test_a_batch_has_the_promised_tensors(blocks: DataSplit) -> None:
    batch = next(make_loader(blocks).epoch(0))
    assert batch.images.shape == (4, 3, 64, 96) and batch.images.dtype == torch.uint8
    assert batch.routes["a"].tolist() == [0, 1, 2, 3] and len(batch.files) == 4
    targets = batch.targets["a"]
    assert targets.boxes.dtype == torch.float32 and targets.boxes.shape[1] == 4
    assert targets.labels.dtype == targets.rows.dtype == torch.int64
    assert len(targets.boxes) == len(targets.labels) == len(targets.rows)
    assert len(targets.ignore_boxes) == len(targets.ignore_rows)
    assert targets.rotations is None
    assert int(targets.rows.min()) >= 0 and int(targets.rows.max()) < 4


def test_without_augmentation_rows_are_letterboxed_files(blocks: DataSplit) -> None:
    by_file = {str(sample.image): sample for sample in blocks.samples}
    boxes = 0
    for batch in make_loader(blocks, STILL, width=128).epoch(0):
        for row, file in enumerate(batch.files):
            expected, fit = letterbox(read_image(file), 64, 128)
            seen = batch.images[row].permute(1, 2, 0).numpy()
            assert (seen == expected[..., ::-1]).all()
            targets = batch.targets["a"]
            mine = targets.rows == row
            sample = by_file[file]
            assert np.allclose(targets.boxes[mine], fit.to_network(sample.boxes))
            assert targets.labels[mine].tolist() == sample.labels.tolist()
            ignored = targets.ignore_boxes[targets.ignore_rows == row]
            assert np.allclose(ignored, fit.to_network(sample.ignore_boxes))
            boxes += int(mine.sum())
    assert boxes == 20


def test_colours_reach_the_network_as_rgb(blocks: DataSplit) -> None:
    batch = next(make_loader(blocks, STILL).epoch(0))
    targets = batch.targets["a"]
    assert len(targets.boxes) > 0
    for box, label, row in zip(targets.boxes, targets.labels, targets.rows, strict=True):
        x, y = ((box[:2] + box[2:]) / 2).int().tolist()
        assert batch.images[row, :, y, x].tolist() == list(COLORS[label][::-1])


def test_an_epoch_shows_every_picture_once_in_a_new_order(blocks: DataSplit) -> None:
    loader = make_loader(blocks)
    assert len(loader) == 3
    epochs = [[f for batch in loader.epoch(e) for f in batch.files] for e in range(3)]
    files = sorted(str(sample.image) for sample in blocks.samples)
    assert all(sorted(epoch) == files for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("config", [FULL, still(mosaic=1.0, multi_scale=0.4)])
def test_workers_and_the_cache_change_nothing(blocks: DataSplit, config: AugmentConfig) -> None:
    alone = list(make_loader(blocks, config).epoch(1))
    cached = AugmentConfig(**{**config.model_dump(), "cache": "ram"})
    for loader in (make_loader(blocks, config, workers=2), make_loader(blocks, cached, workers=1)):
        loaded = list(loader.epoch(1))
        assert len(loaded) == len(alone)
        assert all(same(a, b) for a, b in zip(alone, loaded, strict=True))
        loader.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_goes_on_exactly(blocks: DataSplit, workers: int) -> None:
    through = make_loader(blocks, workers=workers)
    expected = [batch for epoch in (2, 3) for batch in through.epoch(epoch)]
    through.close()
    resumed = make_loader(blocks, workers=workers)
    got = [*resumed.epoch(2, start_step=1), *resumed.epoch(3)]
    assert len(got) == 5
    assert all(same(a, b) for a, b in zip(expected[1:], got, strict=True))
    # An epoch left early, asked for again, and one out of turn.
    assert same(next(resumed.epoch(2)), expected[0])
    assert same(next(resumed.epoch(2)), expected[0])
    assert same(next(resumed.epoch(3, 2)), expected[5])
    resumed.close()


def test_a_resumed_epoch_that_was_done_is_empty(blocks: DataSplit) -> None:
    assert list(make_loader(blocks).epoch(0, start_step=3)) == []


def test_the_training_random_state_is_left_alone(blocks: DataSplit) -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state().clone(), np.random.get_state()[1].copy()
    list(make_loader(blocks).epoch(0))
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


def test_seeds_and_epochs_differ(blocks: DataSplit) -> None:
    first = next(make_loader(blocks).epoch(0))
    assert not same(first, next(make_loader(blocks, seed=8).epoch(0)))
    assert not same(first, next(make_loader(blocks).epoch(1)))


def test_one_picture_is_seen_differently_in_each_epoch_and_place(tmp_path: Path) -> None:
    split = write_split(tmp_path, 2)
    split.samples[:] = [split.samples[1]] * 3
    loader = make_loader(split, still(scale=0.4, flip=0.5))
    seen = [picture for epoch in range(3) for picture in next(loader.epoch(epoch)).images]
    assert len({picture.numpy().tobytes() for picture in seen}) == 9


def test_processes_share_the_batch_of_one(blocks: DataSplit) -> None:
    config = still(mosaic=1.0, multi_scale=0.4, scale=0.3)
    whole = list(make_loader(blocks, config).epoch(1))
    parts = [make_loader(blocks, config, rank=r, world=2) for r in (0, 1)]
    assert [len(part) for part in parts] == [2, 2], "the incomplete batch is left out"
    for batch, one, two in zip(whole, *(part.epoch(1) for part in parts), strict=False):
        assert torch.equal(batch.images, torch.cat([one.images, two.images]))
        assert batch.files == one.files + two.files
        a, b, c = batch.targets["a"], one.targets["a"], two.targets["a"]
        assert torch.equal(a.boxes, torch.cat([b.boxes, c.boxes]))
        assert torch.equal(a.rows, torch.cat([b.rows, c.rows + 2]))
        assert torch.equal(a.ignore_rows, torch.cat([b.ignore_rows, c.ignore_rows + 2]))


def test_rows_are_routed_to_their_heads(tmp_path: Path) -> None:
    sources = {
        "cars": write_split(tmp_path / "cars", 9),
        "faces": write_split(tmp_path / "faces", 6, posed=True),
    }
    seen = {"cars": 0, "faces": 0}
    for batch in make_loader(sources, still(mosaic=0.5)).epoch(0):
        rows = torch.cat([batch.routes[head] for head in sources])
        assert sorted(rows.tolist()) == list(range(len(batch.files)))
        for head, own in batch.routes.items():
            assert all(f"/{head}/" in batch.files[row] for row in own.tolist())
            targets = batch.targets[head]
            assert targets.rows.numel() == 0 or int(targets.rows.max()) < len(own)
            seen[head] += len(own)
            assert (targets.rotations is None) == (head == "cars")
        faces = batch.targets["faces"]
        assert faces.rotations is not None
        assert faces.rotations.shape == (len(faces.boxes), 3, 3)
        assert torch.isfinite(faces.rotations).all()
    assert seen == {"cars": 9, "faces": 6}


def test_a_head_without_rows_has_empty_targets(tmp_path: Path) -> None:
    sources = {"cars": write_split(tmp_path / "cars", 8), "rare": write_split(tmp_path / "rare", 1)}
    empty = [b for b in make_loader(sources, STILL).epoch(0) if not len(b.routes["rare"])]
    assert empty
    assert empty[0].targets["rare"].boxes.shape == (0, 4)
    assert empty[0].targets["rare"].rows.dtype == torch.int64


def test_weights_set_the_shares(tmp_path: Path) -> None:
    sources = {"cars": write_split(tmp_path / "cars", 9), "few": write_split(tmp_path / "few", 3)}
    loader = make_loader(sources, STILL, weights={"cars": 1, "few": 1})
    files = [f for batch in loader.epoch(0) for f in batch.files]
    few = [f for f in files if "/few/" in f]
    assert len(files) == 12 and len(few) == 6
    assert all(few.count(f) == 2 for f in few), "each of the small set twice"


def test_pictures_all_of_ignore_or_nothing_are_negatives(tmp_path: Path) -> None:
    split = write_split(tmp_path, 1)
    batch = next(make_loader(split, STILL).epoch(0))
    assert batch.targets["a"].boxes.shape == (0, 4)
    assert len(batch.targets["a"].ignore_boxes) == 1


def test_the_last_epochs_have_no_mosaic(blocks: DataSplit) -> None:
    loader = make_loader(blocks, still(mosaic=1.0, close_mosaic=2), epochs=4)
    plain = list(make_loader(blocks, still(mosaic=0)).epoch(2))
    assert all(same(a, b) for a, b in zip(loader.epoch(2), plain, strict=True))
    assert not same(next(loader.epoch(1)), next(make_loader(blocks, still()).epoch(1)))


def test_multi_scale_picks_a_size_a_step(blocks: DataSplit) -> None:
    loader = make_loader(blocks, still(multi_scale=0.5), height=128, width=192)
    shapes = {tuple(b.images.shape[2:]) for e in range(6) for b in loader.epoch(e)}
    assert len(shapes) > 2
    for height, width in shapes:
        assert height % 32 == width % 32 == 0
        assert 64 <= height <= 192 and 96 <= width <= 288


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("fault", ["corrupt", "missing", "resized"])
def test_an_unreadable_picture_is_named(blocks: DataSplit, workers: int, fault: str) -> None:
    bad = blocks.samples[4].image
    if fault == "corrupt":
        bad.write_bytes(bad.read_bytes()[:60])
    elif fault == "missing":
        bad.unlink()
    else:
        blocks.samples[4].width += 1
    loader = make_loader(blocks, workers=workers)
    with pytest.raises(UserError) as caught:
        list(loader.epoch(0))
    message = str(caught.value)
    assert message.startswith(str(bad)) and "\n" not in message
    if fault == "resized":
        assert "is 96x64, its labels are for 97x64" in message


def test_wrong_arguments_are_named(blocks: DataSplit) -> None:
    with pytest.raises(UserError, match="batch_size: must be a multiple of the 3 processes"):
        make_loader(blocks, world=3)
    with pytest.raises(UserError, match="batch_size: 16 is more than the 11 pictures"):
        make_loader(blocks, batch_size=16, world=2)
    with pytest.raises(UserError, match="weights: must name the heads"):
        make_loader(blocks, weights={"b": 1.0})
    with pytest.raises(UserError, match="weight must be above 0"):
        make_loader(blocks, weights={"a": 0.0})
    with pytest.raises(UserError, match="no pictures to train head 'a' on"):
        make_loader(DataSplit("void", "train", ("x",), (0,), []))
    broken = make_sample(96, 64, [(5, 5, 5, 9)], name="broken.png")
    with pytest.raises(UserError, match=r"broken.png: box 0 is empty"):
        make_loader(DataSplit("d", "train", ("x",), (0,), [broken]))
    posed = make_sample(96, 64, [(5, 5, 9, 9)], rotations=np.eye(3, dtype=np.float32)[None])
    with pytest.raises(UserError, match=r"augment.shear: must be 0, because heads \(train\)"):
        make_loader(DataSplit("heads", "train", ("x",), (0,), [posed]), AugmentConfig(shear=2))


def test_quotas_add_up() -> None:
    assert quotas([7, 3], None) == [7, 3]
    assert quotas([90, 10], [1, 1]) == [50, 50]
    assert sum(quotas([33, 33, 34], [1, 1, 1.5])) == 100
    assert quotas([1000, 1], [1e6, 1])[1] == 1, "every head sees something"


def test_data_sets_are_mixed_evenly() -> None:
    order = epoch_order([300, 100], [300, 100], 0, 0)
    shares = [int((part == 1).sum()) for part in np.split(order.source, 20)]
    assert min(shares) >= 3 and max(shares) <= 7
    for i in (0, 1):
        assert order.rank[order.source == i].tolist() == list(range([300, 100][i]))


@pytest.mark.parametrize("recent", [2, None])
def test_the_store_gives_the_same_picture_however_it_keeps_them(
    blocks: DataSplit, recent: int | None
) -> None:
    store = PictureStore(blocks.samples, 32, 48, 1.0, recent)
    for sample in [*blocks.samples, *blocks.samples[::-1], blocks.samples[0]]:
        expected, _ = letterbox(read_image(sample.image), 32, 48)
        assert (store(sample) == expected).all()


def test_the_store_reads_a_kept_picture_once(blocks: DataSplit) -> None:
    store = PictureStore(blocks.samples, 64, 96, 1.0, recent=3)
    kept = [store(sample) for sample in blocks.samples[:4]]
    for sample in blocks.samples:
        sample.image.unlink()
    for sample, picture in list(zip(blocks.samples, kept, strict=False))[1:]:
        assert (store(sample) == picture).all()
    with pytest.raises(UserError, match=r"000\.png"):
        store(blocks.samples[0])


def test_pictures_outlast_their_place_in_the_store(blocks: DataSplit) -> None:
    store = PictureStore(blocks.samples, 64, 96, 1.0, recent=2)
    store(blocks.samples[0])
    kept = store(blocks.samples[0])
    before = kept.copy()
    for sample in blocks.samples[1:]:
        store(sample)
    assert (kept == before).all()


class _Interrupted:
    """A lock after whose first release something else happens, as another process might."""

    def __init__(self, lock: AbstractContextManager, action: Callable[[], None]) -> None:
        self.lock, self.actions = lock, [action]

    def __enter__(self) -> None:
        self.lock.__enter__()

    def __exit__(self, *exception: object) -> None:
        self.lock.__exit__(*exception)
        if self.actions:
            self.actions.pop()()


def test_a_place_taken_while_it_is_read_is_noticed(blocks: DataSplit) -> None:
    store = PictureStore(blocks.samples, 64, 96, 1.0, recent=2)
    first, *others = blocks.samples
    expected = store(first).copy()

    def take_the_place() -> None:
        for sample in others:
            store(sample)

    interrupted = _Interrupted(store._lock, take_the_place)
    store._lock = interrupted  # type: ignore[assignment]
    assert (store(first) == expected).all()
    assert not interrupted.actions


def test_mosaics_reuse_what_is_decoded(blocks: DataSplit, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(path: Path) -> np.ndarray:
        read.append(path)
        return read_image(path)

    monkeypatch.setattr("vision_heads.data.store.read_image", counted)
    loader = make_loader(blocks, still(mosaic=1.0, mosaic_pool=3), batch_size=1)
    list(loader.epoch(0))
    read.clear()
    for epoch in range(1, 9):
        list(loader.epoch(epoch))
    # One decoding a picture and epoch, but for what an epoch's end and beginning share.
    assert len(read) <= 8 * 11 + 4


def _fill(store: PictureStore, split: DataSplit) -> None:
    for sample in split.samples:
        store(sample)


def test_forked_processes_share_the_store(blocks: DataSplit) -> None:
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this platform cannot fork")
    store = PictureStore(blocks.samples, 64, 96, 1.0, recent=None)
    child = multiprocessing.get_context("fork").Process(target=_fill, args=(store, blocks))
    child.start()
    child.join()
    pictures = [read_image(sample.image) for sample in blocks.samples]
    for sample in blocks.samples:
        sample.image.unlink()
    for sample, picture in zip(blocks.samples, pictures, strict=True):
        assert (store(sample) == picture).all()


def test_a_cache_larger_than_memory_is_refused(blocks: DataSplit) -> None:
    huge = [make_sample(2**15, 2**15, [], name=f"{i}.png") for i in range(2**12)]
    with pytest.raises(UserError, match=r"augment.cache: 4096 pictures need \d+.\d GiB of memory"):
        PictureStore(huge, 2**15, 2**15, 1.0, None)


def test_detail_keeps_larger_pictures(blocks: DataSplit) -> None:
    sample = blocks.samples[1]
    sizes = [PictureStore(blocks.samples, 16, 24, d, 9).size_of(sample) for d in (1, 2, 8)]
    assert sizes == [(24, 16), (48, 32), (96, 64)]
