"""Losses of the head-pose head: those of `detect`, and the rotation's over cells with a pose."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vision_heads.geometry.rotations import to_euler
from vision_heads.heads.base import Targets
from vision_heads.heads.detect.loss import DetectLoss, flat_cells, global_mean
from vision_heads.heads.headpose.options import HeadPoseOptions
from vision_heads.heads.headpose.rotate import (
    EULER_RANGE,
    angles_error,
    columns_error,
    euler_error,
    from_columns,
    geodesic,
)

COLUMNS = 0.5
"""Weight of the columns' own error beside the angle between rotations.

The angle knows no length, so its gradient is at right angles to a column, and every step makes the
column longer and the next one turn it less: after 1,800 steps columns were 5 to 13 long, yaw was
learned and pitch and roll were not. Pulling them to the wanted columns keeps their length at 1.
"""


class HeadPoseLoss(DetectLoss):
    """Task-aligned training of boxes, classes and rotations.

    Args:
        classes: number of classes.
        levels: pyramid levels of the raw predictions.
        options: gains, assignment settings and the rotation's representation.
    """

    def __init__(self, classes: int, levels: tuple[int, ...], options: HeadPoseOptions) -> None:
        super().__init__(classes, levels, options)
        self.representation, self.rotation_gain = options.representation, options.gain
        self.angles_gain = options.angles_gain

    def forward(self, raw: Mapping[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Return the weighted losses "box", "class", "dfl" and "rotation".

        Rotations are learned where boxes are, each weighted by its cell's assigned score. A
        head whose pose is unknown trains box and class only, and does not thin out the others:
        the rotation loss is a mean over the scores of heads with a pose.
        """
        losses, found = self.assigned(raw, targets)
        predicted = flat_cells(raw, "rotation", self.levels)
        predicted = predicted.view(-1, predicted.shape[2])[found.cell]
        score = found.score
        if targets.rotations is None:
            # Zero, but still with a gradient: every process must have one for every weight.
            losses["rotation"] = predicted.sum() * 0
            return losses
        wanted = targets.rotations[found.box]
        known = torch.isfinite(wanted).all(-1).all(-1)
        predicted, wanted, score = predicted[known], wanted[known], score[known]
        error = self.pose_error(predicted, wanted)
        losses["rotation"] = (error * score).sum() / global_mean(score.sum()) * self.rotation_gain
        return losses

    def pose_error(self, predicted: Tensor, wanted: Tensor) -> Tensor:
        """(..., channels) raw predictions and (..., 3, 3) rotations to (...) errors."""
        if self.representation == "6d":
            found = from_columns(predicted)
            error = geodesic(found, wanted) + COLUMNS * columns_error(predicted, wanted)
            if self.angles_gain:
                error = error + self.angles_gain * angles_error(found, wanted)
            return error
        angles = torch.from_numpy(to_euler(wanted.cpu().numpy(), "directmhp")).to(predicted)
        shares = angles / predicted.new_tensor(EULER_RANGE) + 0.5
        return euler_error(predicted.sigmoid(), shares.clamp(0, 1))
