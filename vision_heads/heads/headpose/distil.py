"""What a head-pose head learns from another's answers besides a detect head's: rotations."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vision_heads.heads.detect.distil import certainty
from vision_heads.heads.detect.loss import flat_cells
from vision_heads.heads.headpose.options import HeadPoseOptions
from vision_heads.heads.headpose.rotate import from_columns


def distil_rotation(
    raw: Mapping[str, Tensor],
    teacher: Mapping[str, Tensor],
    levels: tuple[int, ...],
    options: HeadPoseOptions,
) -> Tensor:
    """Return the squared difference of rotations, where the teacher sees a head.

    Of the matrices' nine entries with "6d"; of the shares of the range with "euler".

    Args:
        raw, teacher: of the same pictures, see `HeadPoseHead`.
        levels: of both.
        options: representation and gain of both.
    """
    best, total = certainty(teacher, levels)
    ours, theirs = (flat_cells(side, "rotation", levels) for side in (raw, teacher))
    if options.representation == "6d":
        error = (from_columns(ours) - from_columns(theirs)).square().sum((2, 3))
    else:
        error = (ours.sigmoid() - theirs.sigmoid()).square().sum(2)
    return (error * best).sum() / total * options.gain
