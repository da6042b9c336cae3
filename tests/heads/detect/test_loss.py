"""The detect losses against their definitions, written out cell by cell."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from vision_heads._ultralytics import bbox_iou  # noqa: E402
from vision_heads.heads.base import Targets  # noqa: E402
from vision_heads.heads.detect.loss import (  # noqa: E402
    DetectLoss,
    global_mean,
    wasserstein_similarity,
)
from vision_heads.heads.detect.options import DetectOptions  # noqa: E402

BINS, CLASSES = 8, 3
SIDES = {3: 8, 4: 4}  # of a picture of 64 px


def _raw(rows=2):
    generator = torch.Generator().manual_seed(5)
    raw = {}
    for level, side in SIDES.items():
        raw[f"scores/{level}"] = torch.randn(rows, CLASSES, side, side, generator=generator)
        raw[f"boxes/{level}"] = torch.randn(rows, 4 * BINS, side, side, generator=generator)
    return raw


def _targets():
    boxes = [[4, 4, 40, 30], [20, 10, 62, 60], [1, 33, 30, 63], [10, 10, 20, 22]]
    return Targets(
        torch.tensor(boxes, dtype=torch.float32),
        torch.tensor([2, 0, 1, 1]),
        torch.tensor([0, 0, 1, 1]),
        torch.zeros(0, 4),
        torch.zeros(0, dtype=torch.int64),
    )


def _plain_cells(raw):
    """For each row the cells: centre, stride, class logits, and log shares of the bins by side."""
    for row in range(2):
        for level, side in SIDES.items():
            stride = 2**level
            for y in range(side):
                for x in range(side):
                    spread = raw[f"boxes/{level}"][row, :, y, x].view(4, BINS).log_softmax(1)
                    center = ((x + 0.5) * stride, (y + 0.5) * stride)
                    yield center, stride, raw[f"scores/{level}"][row, :, y, x], spread


def _plain_overlap(spread, center, stride, box, options):
    left, top, right, bottom = (spread.exp() @ torch.arange(float(BINS)) * stride).tolist()
    found = [center[0] - left, center[1] - top, center[0] + right, center[1] + bottom]
    both = torch.tensor([found]), box[None]
    ciou = float(bbox_iou(*both, xywh=False, CIoU=True))
    near = float(wasserstein_similarity(*both, options.nwd_constant))
    return (1 - options.nwd) * ciou + options.nwd * near


@pytest.mark.parametrize("nwd", [0.0, 0.25])
def test_the_losses_are_what_they_are_defined_as(nwd):
    options = DetectOptions(
        reg_max=BINS,
        topk=6,
        alpha=0.7,
        beta=2.0,
        box_gain=3.0,
        class_gain=0.7,
        dfl_gain=2.0,
        nwd=nwd,
    )
    raw, targets = _raw(), _targets()
    losses, found = DetectLoss(CLASSES, (3, 4), options).assigned(raw, targets)
    assert set(found.box.tolist()) == {0, 1, 2, 3}
    cells = list(_plain_cells(raw))

    # Scores: each box's metric, scaled so that its best cell has its best overlap.
    metrics, overlaps = [], []
    for box, cell in zip(found.box.tolist(), found.cell.tolist(), strict=True):
        center, stride, logits, spread = cells[cell]
        overlap = max(_plain_overlap(spread, center, stride, targets.boxes[box], options), 0)
        chance = float(logits[targets.labels[box]].sigmoid())
        metrics.append(chance**options.alpha * overlap**options.beta)
        overlaps.append(overlap)
    for box in range(4):
        mine = [n for n, other in enumerate(found.box.tolist()) if other == box]
        scale = max(overlaps[n] for n in mine) / max(metrics[n] for n in mine)
        assert found.score[mine].tolist() == pytest.approx(
            [metrics[n] * scale for n in mine], rel=1e-4
        )

    wanted = torch.zeros(len(cells), CLASSES)
    box_sum = dfl_sum = 0.0
    for box, cell, score in zip(*(part.tolist() for part in found), strict=True):
        center, stride, _, spread = cells[cell]
        wanted[cell, targets.labels[box]] = score
        corners = targets.boxes[box]
        box_sum += score * (1 - _plain_overlap(spread, center, stride, corners, options))
        x1, y1, x2, y2 = corners.tolist()
        sides = (center[0] - x1, center[1] - y1, x2 - center[0], y2 - center[1])
        for shares, side in zip(spread.tolist(), sides, strict=True):
            place = min(max(side / stride, 0), BINS - 1.01)
            low = math.floor(place)
            far = place - low
            dfl_sum += score * -(shares[low] * (1 - far) + shares[low + 1] * far) / 4
    chances = torch.stack([logits for _, _, logits, _ in cells]).sigmoid()
    class_sum = -(wanted * chances.log() + (1 - wanted) * (1 - chances).log()).sum()
    total = max(float(found.score.sum()), 1)
    assert total > 1
    assert float(losses["class"]) == pytest.approx(0.7 * float(class_sum) / total, rel=1e-4)
    assert float(losses["box"]) == pytest.approx(3.0 * box_sum / total, rel=1e-4)
    assert float(losses["dfl"]) == pytest.approx(2.0 * dfl_sum / total, rel=1e-4)


def test_boxes_are_widened_to_a_cell_of_the_second_level():
    options = DetectOptions()
    sides = [DetectLoss(1, levels, options).min_side for levels in ((2, 3, 4), (4, 5), (4,))]
    assert sides == [8, 32, 16]


def test_the_similarity_is_that_of_centres_and_half_sides():
    box = torch.tensor([[10.0, 10.0, 30.0, 40.0]])
    for other in ([13, 14, 33, 44], [7, 6, 33, 44]):  # moved by 3, 4; wider by 2 * 3, 2 * 4
        got = float(wasserstein_similarity(box, torch.tensor([other]).float(), 12.8))
        assert got == pytest.approx(math.exp(-5 / 12.8), rel=1e-5)
    both = float(wasserstein_similarity(box, torch.tensor([[16.0, 18, 30, 40]]), 10.0))
    assert both == pytest.approx(math.exp(-math.sqrt(3**2 + 4**2 + 3**2 + 4**2) / 10), rel=1e-5)


@pytest.mark.parametrize(("sums", "expected"), [((3.0, 5.0), 4.0), ((0.25, 0.25), 0.5)])
def test_several_processes_share_one_normaliser(monkeypatch, sums, expected):
    """The gradients' mean over processes is then that of one with the whole batch."""
    mine, others = torch.tensor(sums[0]), torch.tensor(sums[1])
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.add_(others))
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    assert float(global_mean(mine)) == expected
    assert float(mine) == sums[0]
