"""Losses of the detect head: BCE over classes, CIoU and DFL over the assigned cells' boxes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from vision_heads._ultralytics import DFLoss, bbox_iou
from vision_heads.heads.base import Targets
from vision_heads.heads.detect.anchors import Grid, centers_and_strides, distances_to_boxes
from vision_heads.heads.detect.assign import Assignment, assign, covered_cells
from vision_heads.heads.detect.options import DetectOptions


class DetectLoss(nn.Module):
    """Task-aligned training of one detect head.

    Args:
        classes: number of classes.
        levels: pyramid levels of the raw predictions.
        options: gains and assignment settings.
    """

    def __init__(self, classes: int, levels: tuple[int, ...], options: DetectOptions) -> None:
        super().__init__()
        self.classes, self.levels, self.options = classes, levels, options
        # Boxes smaller than a cell of the second level still get a few cells to choose from.
        self.min_side = float(2 ** levels[min(1, len(levels) - 1)])
        self.distribution = DFLoss(options.reg_max)
        self.bins: Tensor
        self.register_buffer("bins", torch.arange(float(options.reg_max)), persistent=False)

    def forward(self, raw: Mapping[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Return the weighted losses "box", "class" and "dfl", each a mean over assigned scores."""
        return self.assigned(raw, targets)[0]

    def assigned(
        self, raw: Mapping[str, Tensor], targets: Targets
    ) -> tuple[dict[str, Tensor], Assignment]:
        """Return the losses, and which cells they took for which boxes."""
        grids = [Grid.of(level, raw[f"scores/{level}"]) for level in self.levels]
        logits = flat_cells(raw, "scores", self.levels)
        spread = flat_cells(raw, "boxes", self.levels)
        centers, strides = centers_and_strides(grids, logits.device)
        cells = len(centers)
        found = self._assign(logits, spread, targets, grids, centers, strides)

        wanted = torch.zeros_like(logits)
        labels = targets.labels[found.box]
        flat = wanted.view(-1, self.classes)
        flat[found.cell, labels] = found.score
        weight = _outside_ignored(logits, targets, grids, found.cell)
        total = global_mean(found.score.sum())
        bce = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        class_loss = (bce.sum(2) * weight).sum() / total

        anchor = found.cell % cells
        box_loss, dfl_loss = self._box_losses(
            spread.view(-1, spread.shape[2])[found.cell],
            targets.boxes[found.box],
            centers[anchor],
            strides[anchor],
            found.score,
        )
        losses = {
            "box": box_loss / total * self.options.box_gain,
            "class": class_loss * self.options.class_gain,
            "dfl": dfl_loss / total * self.options.dfl_gain,
        }
        return losses, found

    @torch.no_grad()
    def _assign(
        self,
        logits: Tensor,
        spread: Tensor,
        targets: Targets,
        grids: list[Grid],
        centers: Tensor,
        strides: Tensor,
    ) -> Assignment:
        box, anchor = covered_cells(targets.boxes, grids, self.min_side)
        cell = targets.rows[box] * len(centers) + anchor
        predicted = self._decode(
            spread.view(-1, spread.shape[2])[cell], centers[anchor], strides[anchor]
        )
        overlap = self._overlap(targets.boxes[box], predicted).clamp(min=0)
        score = logits.view(-1, self.classes)[cell, targets.labels[box]].sigmoid()
        metric = score**self.options.alpha * overlap**self.options.beta
        return assign(box, cell, metric, overlap, boxes=len(targets.boxes), topk=self.options.topk)

    def _box_losses(
        self, spread: Tensor, boxes: Tensor, centers: Tensor, strides: Tensor, score: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sums over positive cells, weighted by their score; zero with a gradient when none."""
        predicted = self._decode(spread, centers, strides)
        box_loss = ((1 - self._overlap(predicted, boxes)) * score).sum()
        wanted = torch.cat((centers - boxes[:, :2], boxes[:, 2:] - centers), 1) / strides
        wanted = wanted.clamp(0, self.options.reg_max - 1.01)
        dfl = self.distribution(spread.reshape(-1, self.options.reg_max), wanted).squeeze(-1)
        return box_loss, (dfl * score).sum()

    def _decode(self, spread: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
        """(P, 4 * reg_max) logits to (P, 4) xyxy in pixels."""
        distances = spread.view(-1, 4, self.options.reg_max).softmax(2) @ self.bins
        return distances_to_boxes(distances, centers, strides)

    def _overlap(self, first: Tensor, second: Tensor) -> Tensor:
        """CIoU (arXiv 1911.08287) of (P, 4) pairs, blended with NWD as the options say."""
        ciou: Tensor = bbox_iou(first, second, xywh=False, CIoU=True).squeeze(-1)
        if self.options.nwd == 0:
            return ciou
        near = wasserstein_similarity(first, second, self.options.nwd_constant)
        return (1 - self.options.nwd) * ciou + self.options.nwd * near


def wasserstein_similarity(first: Tensor, second: Tensor, constant: float) -> Tensor:
    """Return the normalised Wasserstein similarity of (P, 4) xyxy pairs, in 0..1.

    Boxes are taken as Gaussians (arXiv 2110.13389); unlike IoU it changes smoothly when boxes of
    a few pixels stop touching.
    """
    center = (first[:, :2] + first[:, 2:] - second[:, :2] - second[:, 2:]) / 2
    size = (first[:, 2:] - first[:, :2] - second[:, 2:] + second[:, :2]) / 2
    squared = (center**2).sum(1) + (size**2).sum(1)
    return torch.exp(-(squared + 1e-7).sqrt() / constant)


def global_mean(score_sum: Tensor) -> Tensor:
    """Return the normaliser of the losses: the sum of scores, averaged over processes, at least 1.

    With it, gradients averaged over processes equal those of one process with the whole batch.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return score_sum.clamp(min=1)
    total = score_sum.detach().clone()
    torch.distributed.all_reduce(total)
    return total.clamp(min=1) / torch.distributed.get_world_size()


def flat_cells(raw: Mapping[str, Tensor], name: str, levels: tuple[int, ...]) -> Tensor:
    """Concatenate a prediction's levels to (B, A, C), FP32: half precision cannot sum BCE."""
    return (
        torch.cat([raw[f"{name}/{level}"].flatten(2) for level in levels], 2)
        .mT.float()
        .contiguous()
    )


def _outside_ignored(
    logits: Tensor, targets: Targets, grids: list[Grid], positive: Tensor
) -> Tensor:
    """(B, A) weights: 0 for cells whose centre lies in an ignored area, positives excepted."""
    weight = torch.ones(logits.shape[:2], device=logits.device)
    if len(targets.ignore_boxes):
        area, anchor = covered_cells(targets.ignore_boxes, grids, 0.0)
        weight.view(-1)[targets.ignore_rows[area] * logits.shape[1] + anchor] = 0
        weight.view(-1)[positive] = 1
    return weight
