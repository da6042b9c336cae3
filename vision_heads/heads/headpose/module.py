"""The head-pose head: a detect head with a rotation branch beside box and class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vision_heads.heads.detect.module import DetectHead, narrow_branch
from vision_heads.heads.detect.options import options_of
from vision_heads.heads.headpose.distil import distil_rotation
from vision_heads.heads.headpose.loss import HeadPoseLoss
from vision_heads.heads.headpose.options import HeadPoseOptions
from vision_heads.heads.headpose.rotate import averaged_columns, from_columns, from_euler_shares
from vision_heads.spec import HeadSpec

FRONTAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""The two columns of a face that looks straight at the camera."""


class HeadPoseHead(DetectHead):
    """Raw predictions are a detect head's and `rotation/<level>` (B, 6 or 3, H, W).

    Args:
        spec: of this head.
        channels: of the pyramid's maps by level.
    """

    criterion: HeadPoseLoss

    def __init__(self, spec: HeadSpec, channels: Mapping[int, int]) -> None:
        options = options_of(spec, HeadPoseOptions)
        super().__init__(spec, channels, options)
        self.pose_options = options
        self.representation = options.representation
        outputs = 6 if self.representation == "6d" else 3
        self.rotation_branches = nn.ModuleDict(
            {
                f"p{level}": narrow_branch(channels[level], options.rotation_width, outputs)
                for level in self.levels
            }
        )
        self.criterion = HeadPoseLoss(self.classes, self.levels, options)
        self._start_frontal()

    def _start_frontal(self) -> None:
        """Start from the frontal pose: columns of length 1 at right angles."""
        for level in self.levels:
            last: Any = self.rotation_branches.get_submodule(f"p{level}.2")
            with torch.no_grad():
                if self.representation == "6d":
                    last.bias.copy_(torch.tensor(FRONTAL))
                else:
                    last.bias.zero_()

    def forward(self, features: Mapping[int, Tensor]) -> dict[str, Tensor]:
        """Pyramid maps to raw predictions by level."""
        raw = super().forward(features)
        for level in self.levels:
            raw[f"rotation/{level}"] = self.rotation_branches[f"p{level}"](features[level])
        return raw

    def distil(self, raw: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a detect head's losses and "rotation", against a teacher's raw predictions."""
        losses = super().distil(raw, teacher)
        losses["rotation"] = distil_rotation(raw, teacher, self.levels, self.pose_options)
        return losses

    def export(self, raw: Mapping[str, Tensor], candidates: int) -> dict[str, Tensor]:
        """Choose candidates by score, then decode the boxes and rotations of those alone.

        What a cell says of a rotation in 6D is averaged with its neighbours' first: they see the
        same head from other places (docs/decisions.md has the figures).

        Returns:
            A detect head's "boxes" and "scores", and "rotation" (B, K, 3, 3), orthonormal, FP32.
        """
        chosen = self.choose(raw, candidates)
        out = self.decode_chosen(raw, chosen)
        if self.representation == "6d":
            out["rotation"] = from_columns(self.take(self._averaged(raw), "rotation", chosen))
        else:
            shares = self.take(raw, "rotation", chosen).sigmoid()
            out["rotation"] = from_euler_shares(shares)
        return out

    def _averaged(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # From all levels' scores at once, as they are there to choose by.
        scores, start = self.best_scores(raw).sigmoid(), 0
        averaged = {}
        for level in self.levels:
            values = raw[f"rotation/{level}"]
            height, width = values.shape[2:]
            own = scores[:, start : start + height * width].reshape(-1, 1, height, width)
            averaged[f"rotation/{level}"] = averaged_columns(values, own)
            start += height * width
        return averaged
