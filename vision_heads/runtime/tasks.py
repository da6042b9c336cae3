"""The two ways through the network: pictures as they are, and one picture in tiles.

A task is split where the work changes hands: its parts are the network and may run in other
threads; `finish` turns what they return into results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vision_heads.geometry.letterbox import Letterbox
from vision_heads.geometry.pairs import TooManyPairsError
from vision_heads.heads.base import kind_of
from vision_heads.media.images import ImageError
from vision_heads.results import Detections, Result
from vision_heads.runtime.engines import Engine
from vision_heads.runtime.inputs import Buffers, Loaded, fill
from vision_heads.runtime.request import Request
from vision_heads.runtime.slicing import (
    MAX_TILES,
    MOST_PAIRS,
    WHOLE,
    Slicing,
    TileBoxes,
    count_tiles,
    cut_sides,
    merge,
    plan_tiles,
)
from vision_heads.runtime.suppressed import arrays_of
from vision_heads.spec import ModelSpec

Floats = NDArray[np.float32]


class Task(Protocol):
    """Some pictures' way through the network."""

    def parts(self) -> list[Callable[[], Any]]:
        """Split the long work: calls of the network, in any order, each in any thread."""
        ...

    def finish(self, outputs: Sequence[Any]) -> list[Result]:
        """Make one result a picture of what the parts returned, in their order."""
        ...


@dataclass(slots=True)
class Prepared:
    """A picture and its network input (3, H, W)."""

    loaded: Loaded
    tensor: Floats
    fit: Letterbox


def prepare(loaded: Loaded, engine: Engine, buffers: Buffers) -> Prepared:
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

    def parts(self) -> list[Callable[[], Any]]:
        """Return one call for all pictures."""
        return [self._infer]

    def finish(self, outputs: Sequence[Mapping[str, Floats]]) -> list[Result]:
        """Decode each picture's row and map its boxes back."""
        return [
            _result(
                picture.loaded,
                self.request,
                {
                    name: _place(
                        _decode(self.engine.spec, name, outputs[0], row, self.request),
                        picture.fit,
                    )
                    for name in self.request.options
                },
            )
            for row, picture in enumerate(self.pictures)
        ]

    def _infer(self) -> dict[str, Floats]:
        tensors = [picture.tensor for picture in self.pictures]
        return _run(self.engine, self.request, tensors, self.buffers)


@dataclass(slots=True)
class Tiled:
    """A picture and the views (V, 4) xyxy of it that the network sees."""

    loaded: Loaded
    views: NDArray[np.int64]


def cut_up(loaded: Loaded, slicing: Slicing) -> Tiled:
    """Plan a picture's tiles, and the whole picture behind them.

    Raises:
        ImageError: there would be more than `MAX_TILES`.
    """
    height, width = loaded.image.shape[:2]
    count = count_tiles(width, height, slicing.size, slicing.overlap)
    if count > MAX_TILES:
        raise ImageError(
            f"{loaded.source or 'image'}: {width} x {height} pixels make {count} tiles of "
            f"{slicing.size} pixels with overlap {slicing.overlap}, more than the limit of "
            f"{MAX_TILES}"
        )
    whole = np.array([[0, 0, width, height]])
    if count == 1:  # also where the size is beyond what arrays can count
        return Tiled(loaded, whole)
    tiles = plan_tiles(width, height, slicing.size, slicing.overlap)
    return Tiled(loaded, np.concatenate([tiles, whole]) if slicing.whole else tiles)


_Found = dict[str, Detections]
"""What the heads found in one view, in the picture's pixels."""


@dataclass(slots=True)
class SlicedTask:
    """One picture, in overlapping tiles and as a whole.

    Its parts are batches of tiles, so that several threads can share one picture, and each
    decodes what it found: raw outputs of thousands of tiles would fill the memory.
    """

    engine: Engine
    request: Request
    slicing: Slicing
    picture: Tiled
    buffers: Buffers

    def parts(self) -> list[Callable[[], Any]]:
        """Return one call a batch of views, the whole picture in the last."""
        size, count = self.request.batch, len(self.picture.views)
        return [
            partial(self._look, self.picture.views[start : start + size])
            for start in range(0, count, size)
        ]

    def finish(self, outputs: Sequence[list[_Found]]) -> list[Result]:
        """Make one result of all views; `ImageError` when too many boxes overlap."""
        found = [view for part in outputs for view in part]
        heads = {name: self._merged(name, found) for name in self.request.options}
        return [_result(self.picture.loaded, self.request, heads)]

    def _look(self, views: NDArray[np.int64]) -> list[_Found]:
        image, spec = self.picture.loaded.image, self.engine.spec
        tensors = [self.buffers.take() for _ in views]
        fits = [
            fill(image[y1:y2, x1:x2], spec.input, tensor)
            for (x1, y1, x2, y2), tensor in zip(views.tolist(), tensors, strict=True)
        ]
        outputs = _run(self.engine, self.request, tensors, self.buffers)
        return [
            {
                name: _moved(_place(_decode(spec, name, outputs, row, self.request), fit), view)
                for name in self.request.options
            }
            for row, (view, fit) in enumerate(zip(views, fits, strict=True))
        ]

    def _merged(self, name: str, found: Sequence[_Found]) -> Detections:
        height, width = self.picture.loaded.image.shape[:2]
        parts = [view[name] for view in found]
        cuts, numbers = [], []
        for number, (view, part) in enumerate(zip(self.picture.views, parts, strict=True)):
            cuts.append(cut_sides(part.xyxy, view, width, height))
            is_whole = view.tolist() == [0, 0, width, height]
            numbers.append(np.full(len(part), WHOLE if is_whole else number))
        joined = _concatenate(parts)
        boxes = TileBoxes(
            joined.xyxy,
            joined.score,
            joined.class_id,
            np.concatenate(numbers),
            np.concatenate(cuts),
        )
        try:
            index, xyxy, score = merge(boxes, self.slicing)
        except TooManyPairsError as error:
            raise ImageError(
                f"{self.picture.loaded.source or 'image'}: {len(joined)} boxes of {name} in "
                f"{len(parts)} tiles overlap in more than {MOST_PAIRS:,} pairs, too many to be "
                "merged; a smaller overlap or a higher conf makes fewer"
            ) from error
        limit = self.request.options[name].max_det
        return replace(joined[index], xyxy=xyxy, score=score)[:limit]


def _run(
    engine: Engine, request: Request, tensors: Sequence[Floats], buffers: Buffers
) -> dict[str, Floats]:
    """Run inputs (3, H, W) in one call and hand them back."""
    images = tensors[0][None] if len(tensors) == 1 else np.stack(tensors)
    outputs = engine.run(images, list(request.options))
    for tensor in tensors:
        buffers.give(tensor)
    return outputs


def _decode(
    spec: ModelSpec, name: str, outputs: Mapping[str, Floats], row: int, request: Request
) -> Detections:
    """One picture's candidates of one head to detections in network pixels."""
    head = spec.head(name)
    arrays, options = arrays_of(spec, head, outputs, row, request.options[name])
    return kind_of(head.kind).decode(arrays, head, options)


def _place(detections: Detections, fit: Letterbox) -> Detections:
    """Map boxes to the picture; those that lie in the border alone are none."""
    boxes = fit.to_original(detections.xyxy)
    real = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    placed = replace(detections, xyxy=boxes)
    return placed if real.all() else placed[real]


def _moved(detections: Detections, view: NDArray[np.int64]) -> Detections:
    """Shift boxes of a view to where it lies in the picture."""
    corner = np.array([view[0], view[1], view[0], view[1]], np.float32)
    return replace(detections, xyxy=detections.xyxy + corner)


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


def _result(loaded: Loaded, request: Request, heads: dict[str, Detections]) -> Result:
    height, width = loaded.image.shape[:2]
    image = loaded.image if request.keep_image else None
    if request.merging is not None:
        heads = request.merging.apply(heads)
    return Result(heads, width, height, loaded.source, image)
