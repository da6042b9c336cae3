"""The two ways through the network: pictures as they are, and one picture in tiles.

A task is split where the work changes hands: `infer` is the network and may run in another
thread; `finish` turns its output into results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vision_heads.geometry.letterbox import Letterbox, plan
from vision_heads.heads.base import kind_of
from vision_heads.results import Detections, Result
from vision_heads.runtime.engines import Engine
from vision_heads.runtime.inputs import Buffers, Loaded, fill
from vision_heads.runtime.request import Request
from vision_heads.runtime.slicing import (
    WHOLE,
    Slicing,
    TileBoxes,
    cut_sides,
    merge,
    plan_tiles,
)
from vision_heads.spec import HeadSpec

Floats = NDArray[np.float32]


class Task(Protocol):
    """Some pictures' way through the network."""

    def infer(self) -> dict[str, Floats]:
        """Run the network; the long part, which lets other threads run."""
        ...

    def finish(self, outputs: Mapping[str, Floats]) -> list[Result]:
        """Decode what `infer` gave, one result a picture."""
        ...


@dataclass(slots=True)
class Prepared:
    """A picture and its network input (3, H, W)."""

    loaded: Loaded
    tensor: Floats
    fit: Letterbox


def prepare(loaded: Loaded, engine: Engine, request: Request, buffers: Buffers) -> Prepared:
    """Letterbox a picture into an input of its own."""
    tensor = buffers.take()
    return Prepared(loaded, tensor, fill(loaded.image, engine.spec.input, tensor))


@dataclass(slots=True)
class WholeTask:
    """A batch of pictures, each looked at as a whole."""

    engine: Engine
    request: Request
    pictures: Sequence[Prepared]
    buffers: Buffers

    def infer(self) -> dict[str, Floats]:
        """Run all pictures in one call."""
        tensors = [picture.tensor for picture in self.pictures]
        images = tensors[0][None] if len(tensors) == 1 else np.stack(tensors)
        outputs = self.engine.run(images, list(self.request.options))
        for tensor in tensors:
            self.buffers.give(tensor)
        return outputs

    def finish(self, outputs: Mapping[str, Floats]) -> list[Result]:
        """Decode each picture's row and map its boxes back."""
        return [
            _result(
                picture.loaded,
                self.request,
                {
                    name: _decode(self.engine.spec.head(name), outputs, row, self.request)
                    for name in self.request.options
                },
                picture.fit,
            )
            for row, picture in enumerate(self.pictures)
        ]


@dataclass(slots=True)
class SlicedTask:
    """One picture, in overlapping tiles and as a whole."""

    engine: Engine
    request: Request
    slicing: Slicing
    loaded: Loaded

    def infer(self) -> dict[str, Floats]:
        """Run the tiles in batches, the whole picture last."""
        crops = self._views()
        parts = []
        size = self.request.batch
        images = np.empty((size, 3, self.request.height, self.request.width), np.float32)
        for start in range(0, len(crops), size):
            group = crops[start : start + size]
            for (x1, y1, x2, y2), out in zip(group.tolist(), images, strict=False):
                fill(self.loaded.image[y1:y2, x1:x2], self.engine.spec.input, out)
            parts.append(self.engine.run(images[: len(group)], list(self.request.options)))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def finish(self, outputs: Mapping[str, Floats]) -> list[Result]:
        """Decode every tile and make one result of them."""
        heads = {name: self._merged(name, outputs) for name in self.request.options}
        return [_result(self.loaded, self.request, heads, None)]

    def _views(self) -> NDArray[np.int64]:
        """The tiles, and the whole picture behind them: (V, 4) xyxy."""
        height, width = self.loaded.image.shape[:2]
        tiles = plan_tiles(width, height, self.slicing.size, self.slicing.overlap)
        whole = np.array([[0, 0, width, height]])
        if len(tiles) == 1:
            return whole
        return np.concatenate([tiles, whole]) if self.slicing.whole else tiles

    def _merged(self, name: str, outputs: Mapping[str, Floats]) -> Detections:
        head = self.engine.spec.head(name)
        height, width = self.loaded.image.shape[:2]
        views = self._views()
        found: list[Detections] = []
        cuts, numbers = [], []
        for row, view in enumerate(views):
            detections = _decode(head, outputs, row, self.request)
            x1, y1, x2, y2 = view.tolist()
            fit = plan(x2 - x1, y2 - y1, self.request.height, self.request.width)
            detections = _place(detections, fit)
            detections.xyxy += np.array([x1, y1, x1, y1], np.float32)
            found.append(detections)
            cuts.append(cut_sides(detections.xyxy, view, width, height))
            is_whole = (x1, y1, x2, y2) == (0, 0, width, height)
            numbers.append(np.full(len(detections), WHOLE if is_whole else row))
        joined = _concatenate(found)
        boxes = TileBoxes(
            joined.xyxy,
            joined.score,
            joined.class_id,
            np.concatenate(numbers),
            np.concatenate(cuts),
        )
        index, xyxy, score = merge(boxes, self.slicing)
        limit = self.request.options[name].max_det
        return replace(joined[index], xyxy=xyxy, score=score)[:limit]


def _decode(
    head: HeadSpec, outputs: Mapping[str, Floats], row: int, request: Request
) -> Detections:
    """One picture's candidates of one head to detections in network pixels."""
    kind = kind_of(head.kind)
    arrays = {suffix: outputs[f"{head.name}/{suffix}"][row] for suffix in kind.outputs}
    return kind.decode(arrays, head, request.options[head.name])


def _place(detections: Detections, fit: Letterbox) -> Detections:
    """Map boxes to the picture; those that lie in the border alone are none."""
    boxes = fit.to_original(detections.xyxy)
    real = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    placed = replace(detections, xyxy=boxes)
    return placed if real.all() else placed[real]


def _concatenate(found: Sequence[Detections]) -> Detections:
    rotations = [part.rotation for part in found if part.rotation is not None]
    return Detections(
        np.concatenate([part.xyxy for part in found]),
        np.concatenate([part.score for part in found]),
        np.concatenate([part.class_id for part in found]),
        found[0].names,
        found[0].category_ids,
        np.concatenate(rotations) if rotations else None,
    )


def _result(
    loaded: Loaded, request: Request, heads: dict[str, Detections], fit: Letterbox | None
) -> Result:
    height, width = loaded.image.shape[:2]
    if fit is not None:
        heads = {name: _place(found, fit) for name, found in heads.items()}
    image = loaded.image if request.keep_image else None
    return Result(heads, width, height, loaded.source, image)
