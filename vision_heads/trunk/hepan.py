"""HEPAN, the neck of HierLight-YOLO (arXiv 2509.22365), as stages that groups of heads share.

Top-down P5 -> P4 -> P3 -> P2, each step compressing with a 1x1 before it upsamples (hierarchical
channel compression); bottom-up back to P5; at P3 and P4 the bottom-up fusion also takes the
backbone's map of that level (hierarchical cross-level connection).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vision_heads._ultralytics import Conv
from vision_heads.spec import LEVELS, ModelSpec
from vision_heads.trunk.backbone import Scale
from vision_heads.trunk.blocks import LDown, fusion_block
from vision_heads.trunk.flow import Flow, rows_of

TOP = LEVELS[-1]
CROSS_LEVEL = (3, 4)
"""Levels whose bottom-up fusion takes the backbone's map too."""


class TopDown(nn.Module):
    """One step down the pyramid: compress the upper map, upsample it, fuse with the backbone's."""

    def __init__(self, upper: int, lateral: int, repeats: int, fusion: str) -> None:
        super().__init__()
        self.compress = Conv(upper, lateral, 1)
        self.fuse = fusion_block(fusion)(2 * lateral, lateral, repeats)

    def forward(self, upper: Tensor, lateral: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fused map and the compressed upper map, which the way up takes again."""
        slim = self.compress(upper)
        large = functional.interpolate(slim, scale_factor=2.0, mode="nearest")
        return self.fuse(torch.cat((large, lateral), 1)), slim


class BottomUp(nn.Module):
    """One step up the pyramid: downsample the lower map and fuse it with this level's."""

    def __init__(self, lower: int, inputs: int, out: int, repeats: int, fusion: str) -> None:
        super().__init__()
        self.down = LDown(lower, lower)
        self.fuse = fusion_block(fusion)(lower + inputs, out, repeats)

    def forward(self, lower: Tensor, same: list[Tensor]) -> Tensor:
        """(B, lower, 2H, 2W) and maps of (B, ., H, W) to (B, out, H, W)."""
        fused: Tensor = self.fuse(torch.cat((self.down(lower), *same), 1))
        return fused


class Hepan(nn.Module):
    """The neck: its stages, one copy for each group of heads that shares it.

    Only stages that some head needs are built, and a pass runs only the copies its heads need,
    each once, on the rows of its heads.

    Args:
        scale: channel counts; the maps keep the backbone's channels.
        spec: its heads' levels, branches, lowest level and fusion decide what is built.
    """

    def __init__(self, scale: Scale, spec: ModelSpec) -> None:
        super().__init__()
        self.low = spec.low
        self.levels = {head.name: head.levels for head in spec.heads}
        self.groups = {stage: spec.groups(stage) for stage in spec.stages}
        self.down_stages, self.up_stages = nn.ModuleDict(), nn.ModuleDict()
        for stage, groups in self.groups.items():
            for copy, group in enumerate(groups):
                if self._users(stage, group):
                    stages, key = self._place(stage, copy)
                    stages[key] = _build(stage, scale, spec.fusion)

    def copy_of(self, stage: str, copy: int) -> nn.Module:
        """Return the copy of a stage that belongs to group number `copy` of it."""
        stages, key = self._place(stage, copy)
        return stages[key]

    def forward(
        self,
        maps: Mapping[int, Tensor],
        heads: Sequence[str] | None = None,
        routes: Mapping[str, Tensor] | None = None,
    ) -> dict[str, dict[int, Tensor]]:
        """Fuse.

        Args:
            maps: the backbone's, (B, C, H, W) by level.
            heads: names to compute maps for; all when None.
            routes: rows that each of these heads sees, sorted; every row when None.

        Returns:
            For each head, the fused maps of its levels, rows of that head.
        """
        names = [name for name in self.levels if heads is None or name in heads]
        root = Flow(names, None)
        root.maps = {f"backbone{level}": value for level, value in maps.items()}
        root.maps[f"down{TOP}"] = maps[TOP]
        flows = dict.fromkeys(names, root)
        for stage, groups in self.groups.items():
            for copy, group in enumerate(groups):
                active = [name for name in self._users(stage, group) if name in flows]
                if not active:
                    continue
                flow = flows[active[0]].part(active, rows_of(active, routes, len(maps[TOP])))
                flows.update(dict.fromkeys(active, flow))
                self._run(stage, copy, flow)
        fused: dict[str, dict[int, Tensor]] = {}
        for name, flow in flows.items():
            own = flow.part([name], rows_of([name], routes, len(maps[TOP])))
            fused[name] = {level: own[self._map(level)] for level in self.levels[name]}
        return fused

    def _run(self, stage: str, copy: int, flow: Flow) -> None:
        """Compute `down<level>` and `slim<level>`, or `up<level>`, from the group's maps."""
        module, (way, number) = self.copy_of(stage, copy), stage.split("_p")
        level = int(number)
        if way == "down":
            results = module(flow[f"down{level + 1}"], flow[f"backbone{level}"])
            flow[f"down{level}"], flow[f"slim{level + 1}"] = results
            return
        same = [flow[f"slim{level}"]]
        if level in CROSS_LEVEL:
            same.append(flow[f"backbone{level}"])
        flow[f"up{level}"] = module(flow[self._map(level - 1)], same)

    def _users(self, stage: str, group: Sequence[str]) -> list[str]:
        """Return those of the group that need the stage: a way up ends where its heads do."""
        way, level = stage.split("_p")
        return [n for n in group if way == "down" or self.levels[n][-1] >= int(level)]

    def _map(self, level: int) -> str:
        return f"up{level}" if level > self.low else f"down{level}"

    def _place(self, stage: str, copy: int) -> tuple[nn.ModuleDict, str]:
        attribute, key = place_of(stage, copy)
        stages: nn.ModuleDict = getattr(self, attribute)
        return stages, key


def place_of(stage: str, copy: int) -> tuple[str, str]:
    """Return where `Hepan` keeps a copy of a stage: the attribute and the key in it."""
    way, level = stage.split("_")
    return f"{way}_stages", level if copy == 0 else f"{level}_{copy}"


def _build(stage: str, scale: Scale, fusion: str) -> nn.Module:
    width, repeats = scale.channels, scale.neck_repeats
    way, number = stage.split("_p")
    level = int(number)
    if way == "down":
        return TopDown(width[level + 1], width[level], repeats, fusion)
    # The compressed map of this level is as wide as the level below.
    inputs = width[level - 1] + (width[level] if level in CROSS_LEVEL else 0)
    return BottomUp(width[level - 1], inputs, width[level], repeats, fusion)
