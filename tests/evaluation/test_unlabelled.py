"""Areas where a model finds what no label says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vision_heads.data.card import load_split
from vision_heads.data.sample import DataSplit, Sample
from vision_heads.errors import UserError
from vision_heads.evaluation.unlabelled import SAME, ignore_found
from vision_heads.geometry.boxes import iou_matrix
from vision_heads.runtime.predictor import load


@pytest.fixture(scope="module")
def people() -> DataSplit:
    """Four pictures of synthetic people, every second head without its label."""
    split = load_split("demo-heads", "val")

    def half(sample: Sample) -> Sample:
        assert sample.rotations is not None
        return replace(
            sample,
            boxes=sample.boxes[::2],
            labels=sample.labels[::2],
            rotations=sample.rotations[::2],
            areas=None,
            euler=None,
        )

    return replace(split, split="train", samples=[half(sample) for sample in split.samples[:4]])


@pytest.fixture(scope="module")
def heads():
    return load("headpose-n", threads=1)


def test_finds_without_a_label_become_areas_and_labels_stay(people, heads):
    whole = load_split("demo-heads", "val").samples
    steps: list[tuple[int, int]] = []
    marked, unread = ignore_found(people, heads, 0.3, progress=lambda *step: steps.append(step))
    assert not unread
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    missing = covered = 0
    for before, after, labelled in zip(people.samples, marked.samples, whole, strict=False):
        assert np.array_equal(before.boxes, after.boxes)
        assert np.array_equal(before.rotations, after.rotations)
        assert len(after.ignore_boxes) == len(after.ignore_labels)
        assert set(after.ignore_labels.tolist()) <= {0}
        # Nothing that is labelled is taken away.
        assert iou_matrix(after.ignore_boxes, after.boxes).max(initial=0) < SAME
        lost = labelled.boxes[1::2]
        missing += len(lost)
        covered += int((iou_matrix(lost, after.ignore_boxes).max(1, initial=0) > 0.5).sum())
    assert missing >= 4
    assert covered >= 0.75 * missing


def test_areas_that_are_there_are_not_added_again(people, heads):
    once, _ = ignore_found(people, heads, 0.3)
    twice, _ = ignore_found(once, heads, 0.3)
    assert [len(s.ignore_boxes) for s in once.samples] == [
        len(s.ignore_boxes) for s in twice.samples
    ]


def test_a_model_that_knows_none_of_the_classes_is_refused(people, heads):
    with pytest.raises(UserError, match=r"the model finds head; labels are of car, bus"):
        ignore_found(replace(people, names=("car", "bus"), category_ids=(1, 2)), heads, 0.3)


def test_unreadable_pictures_are_told(people, heads, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    samples = [replace(people.samples[0], image=broken), people.samples[1]]
    marked, unread = ignore_found(replace(people, samples=samples), heads, 0.3)
    assert len(unread) == 1 and "broken.jpg" in unread[0]
    assert not len(marked.samples[0].ignore_boxes)
    assert len(marked.samples[1].ignore_boxes)
