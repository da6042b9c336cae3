"""The sparse assigner against ultralytics' dense one, and its own edges."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import vision_heads._ultralytics  # noqa: F401, E402, I001  (sets the offline switches first)
from ultralytics.utils.tal import TaskAlignedAssigner  # noqa: E402

from vision_heads._ultralytics import bbox_iou  # noqa: E402
from vision_heads.heads.detect.anchors import Grid, centers_and_strides  # noqa: E402
from vision_heads.heads.detect.assign import assign, covered_cells  # noqa: E402

GRIDS = [Grid(4, 32, 48), Grid(8, 16, 24), Grid(16, 8, 12), Grid(32, 4, 6)]
CLASSES = 3


def _scene(seed: int, rows: int, count: int):
    generator = torch.Generator().manual_seed(seed)
    centers, _ = centers_and_strides(GRIDS, torch.device("cpu"))
    middle = torch.rand(rows, count, 2, generator=generator) * torch.tensor((192.0, 128.0))
    side = torch.rand(rows, count, 2, generator=generator) ** 2 * 60 + 1
    boxes = torch.cat((middle - side / 2, middle + side / 2), 2)
    labels = torch.randint(0, CLASSES, (rows, count), generator=generator)
    scores = torch.rand(rows, len(centers), CLASSES, generator=generator)
    # Predictions that reach over the whole picture overlap every target: no ties at zero, which
    # the dense assigner would break arbitrarily.
    spread = torch.rand(rows, len(centers), 4, generator=generator) * 30 + 200
    predicted = torch.cat((centers - spread[..., :2], centers + spread[..., 2:]), 2)
    return centers, boxes, labels, scores, predicted


def _iou(first, second):
    return bbox_iou(first, second, xywh=False).squeeze(-1)


def _ours(centers, boxes, labels, scores, predicted):
    rows, count = labels.shape
    owner, anchor = covered_cells(boxes.view(-1, 4), GRIDS, 8.0)
    cell = torch.div(owner, count, rounding_mode="floor") * len(centers) + anchor
    overlap = _iou(boxes.view(-1, 4)[owner], predicted.view(-1, 4)[cell])
    metric = scores.view(-1, CLASSES)[cell, labels.view(-1)[owner]] ** 0.5 * overlap**6
    found = assign(owner, cell, metric, overlap, boxes=rows * count, topk=10)
    target = torch.zeros_like(scores)
    target.view(-1, CLASSES)[found.cell, labels.view(-1)[found.box]] = found.score
    wanted = torch.zeros_like(predicted)
    wanted.view(-1, 4)[found.cell] = boxes.view(-1, 4)[found.box]
    positive = torch.zeros(rows, len(centers), dtype=torch.bool)
    positive.view(-1)[found.cell] = True
    return target, wanted, positive


@pytest.mark.parametrize("seed", range(8))
def test_same_as_the_dense_assigner(seed: int) -> None:
    centers, boxes, labels, scores, predicted = _scene(seed, rows=3, count=40)
    dense = TaskAlignedAssigner(
        topk=10, num_classes=CLASSES, alpha=0.5, beta=6.0, stride=[4, 8, 16, 32]
    )
    dense.iou_calculation = _iou
    _, wanted, target, positive, _ = dense(
        scores, predicted, centers, labels.unsqueeze(-1), boxes, torch.ones(3, 40, 1)
    )
    ours_target, ours_wanted, ours_positive = _ours(centers, boxes, labels, scores, predicted)
    assert positive.any()
    assert torch.equal(ours_positive, positive)
    torch.testing.assert_close(ours_target, target, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(ours_wanted[positive], wanted[positive])


def test_tiny_box_between_centres_is_still_assigned() -> None:
    owner, _ = covered_cells(torch.tensor([[4.4, 4.4, 5.4, 5.4]]), GRIDS, 8.0)
    assert len(owner) >= 4
    assert not len(covered_cells(torch.tensor([[4.4, 4.4, 5.4, 5.4]]), GRIDS, 0.0)[0])


def test_box_outside_the_picture_covers_nothing() -> None:
    owner, _ = covered_cells(torch.tensor([[-50.0, -50.0, -20.0, -20.0]]), GRIDS, 8.0)
    assert not len(owner)


def test_no_boxes() -> None:
    owner, anchor = covered_cells(torch.zeros(0, 4), GRIDS, 8.0)
    empty = torch.zeros(0)
    found = assign(owner, anchor, empty, empty, boxes=0, topk=10)
    assert len(found.cell) == 0


def test_each_cell_has_one_box_and_each_box_at_most_topk() -> None:
    _, boxes, *_ = _scene(11, rows=1, count=60)
    owner, cell = covered_cells(boxes.view(-1, 4), GRIDS, 8.0)
    overlap = torch.rand(len(owner), generator=torch.Generator().manual_seed(0))
    found = assign(owner, cell, overlap**2, overlap, boxes=60, topk=4)
    assert len(found.cell.unique()) == len(found.cell)
    chosen_first = torch.bincount(found.box, minlength=60)
    assert chosen_first.max() >= 1
    assert (found.score <= 1).all() and (found.score >= 0).all()
