"""The anchor-free detect head: decoupled box and class branches on each level.

Box sides are distributions over distances from the cell's centre (DFL, arXiv 2006.04388).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vision_heads._ultralytics import Conv, DWConv
from vision_heads.heads.base import Targets
from vision_heads.heads.detect.anchors import Grid, centers_and_strides, distances_to_boxes
from vision_heads.heads.detect.distil import distil_detect
from vision_heads.heads.detect.loss import DetectLoss
from vision_heads.heads.detect.options import DetectOptions, options_of
from vision_heads.spec import HeadSpec


class DetectHead(nn.Module):
    """Raw predictions are `boxes/<level>` (B, 4 * reg_max, H, W) and `scores/<level>` logits.

    Args:
        spec: of this head.
        channels: of the pyramid's maps by level.
        options: validated ones, of a kind that adds to this one; the spec's own when None.
    """

    def __init__(
        self, spec: HeadSpec, channels: Mapping[int, int], options: DetectOptions | None = None
    ) -> None:
        super().__init__()
        options = options or options_of(spec, DetectOptions)
        self.options = options
        self.levels = spec.levels
        self.reg_max = options.reg_max
        self.classes = len(spec.classes)
        # Depthwise, so that width is cheap (docs/decisions.md has the table).
        usual = max(64, channels[self.levels[0]], min(self.classes, 100))
        class_width = options.class_width or usual
        self.box_branches = nn.ModuleDict()
        self.class_branches = nn.ModuleDict()
        for level in self.levels:
            self.box_branches[f"p{level}"] = _box_branch(
                channels[level], options.box_width, self.reg_max
            )
            self.class_branches[f"p{level}"] = narrow_branch(
                channels[level], class_width, self.classes
            )
        self.criterion = DetectLoss(self.classes, self.levels, options)
        self.bins: Tensor
        self.register_buffer("bins", torch.arange(float(self.reg_max)), persistent=False)
        self._start_biases()

    def _start_biases(self) -> None:
        """Start from few objects, and small ones.

        Scores: a few objects a 640-pixel picture, so that early losses stay small. Sides: a
        geometric spread with a mean of 1.5 cells. Flat spreads would start with boxes of 15
        cells, whose CIoU with an object of a few pixels is negative: such objects would be
        assigned nothing until something else has taught the sides to shrink.
        """
        for level in self.levels:
            box: Any = self.box_branches.get_submodule(f"p{level}.2")
            score: Any = self.class_branches.get_submodule(f"p{level}.2")
            with torch.no_grad():
                box.bias.copy_(-0.5 * self.bins.repeat(4))
            cells = (640 / 2**level) ** 2
            nn.init.constant_(score.bias, math.log(5 / self.classes / cells))

    def forward(self, features: Mapping[int, Tensor]) -> dict[str, Tensor]:
        """Pyramid maps to raw predictions by level."""
        raw: dict[str, Tensor] = {}
        for level in self.levels:
            raw[f"boxes/{level}"] = self.box_branches[f"p{level}"](features[level])
            raw[f"scores/{level}"] = self.class_branches[f"p{level}"](features[level])
        return raw

    def loss(self, raw: Mapping[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Raw predictions and targets to weighted losses "box", "class" and "dfl"."""
        losses: dict[str, Tensor] = self.criterion(raw, targets)
        return losses

    def distil(self, raw: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weighted losses "class" and "dfl" against a teacher's raw predictions."""
        return distil_detect(raw, teacher, self.levels, self.options)

    def export(self, raw: Mapping[str, Tensor], candidates: int) -> dict[str, Tensor]:
        """Choose the candidates by their best class, then decode only those.

        Decoding 1000 boxes instead of all 34,000 of a 640-pixel picture with P2 is most of the
        difference between this graph's time and that of the usual one. FP32 throughout: FP16
        would round coordinates beyond 1024 to whole pixels.

        Returns:
            "boxes" (B, K, 4) xyxy in network pixels, "scores" (B, K, classes) probabilities,
            best first; K is `candidates` or the number of cells if that is less.
        """
        return self.decode_chosen(raw, self.choose(raw, candidates))

    def decode_chosen(self, raw: Mapping[str, Tensor], chosen: Tensor) -> dict[str, Tensor]:
        """Decode the chosen cells (B, K); see `export`."""
        scores = self.take(raw, "scores", chosen).sigmoid()
        distances = self._expected(self.take(raw, "boxes", chosen))
        grids = [Grid.of(level, raw[f"scores/{level}"]) for level in self.levels]
        centers, strides = centers_and_strides(grids, distances.device)
        boxes = distances_to_boxes(distances, centers[chosen], strides[chosen])
        return {"boxes": boxes, "scores": scores}

    def choose(self, raw: Mapping[str, Tensor], candidates: int) -> Tensor:
        """Return the cells (B, K) of the best class scores, best first."""
        best = self.best_scores(raw)
        return best.topk(min(candidates, best.shape[1]), dim=1).indices

    def best_scores(self, raw: Mapping[str, Tensor]) -> Tensor:
        """Return the logits (B, cells) of each cell's best class, level after level."""
        return self._cells(raw, "scores").float().amax(1)

    def take(self, raw: Mapping[str, Tensor], name: str, chosen: Tensor) -> Tensor:
        """Return prediction `name` of the chosen cells (B, K) as FP32 (B, K, C)."""
        values = self._cells(raw, name)
        index = chosen.unsqueeze(1).expand(-1, values.shape[1], -1)
        return values.gather(2, index).transpose(1, 2).float()

    def _cells(self, raw: Mapping[str, Tensor], name: str) -> Tensor:
        """All levels of a prediction, (B, C, cells)."""
        return torch.cat([raw[f"{name}/{level}"].flatten(2) for level in self.levels], 2)

    def _expected(self, logits: Tensor) -> Tensor:
        """(B, K, 4 * reg_max) logits to (B, K, 4) expected distances in cells."""
        batch, count, _ = logits.shape
        spread = logits.view(batch, count, 4, self.reg_max).softmax(3)
        # A matrix product with a vector costs ONNX Runtime ten times this sum.
        out: Tensor = (spread * self.bins).sum(3)
        return out


def _box_branch(channels: int, wanted: int | None, reg_max: int) -> nn.Sequential:
    # As wide as the level's map, within bounds: on P2, where most of the cells are, the usual 64
    # channels would cost more than all of the backbone's stages.
    width = wanted or max(16, min(channels, 4 * reg_max))
    return nn.Sequential(
        Conv(channels, width, 3), Conv(width, width, 3), nn.Conv2d(width, 4 * reg_max, 1)
    )


def narrow_branch(channels: int, width: int, outputs: int) -> nn.Sequential:
    """Return a depthwise branch: two stages `width` wide, then 1x1 to `outputs` channels."""
    return nn.Sequential(
        nn.Sequential(DWConv(channels, channels, 3), Conv(channels, width, 1)),
        nn.Sequential(DWConv(width, width, 3), Conv(width, width, 1)),
        nn.Conv2d(width, outputs, 1),
    )
