"""Ranges of a network's activations on real pictures, which fix the scales of INT8.

Pictures are prepared exactly as the runtime does, and looked at one after the other: memory
does not grow with their number.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import UserError, require
from vision_heads.export.quantize_graph import QUANTIZED, OnnxGraph, open_float
from vision_heads.media.images import ImageError, read_image
from vision_heads.runtime.inputs import fill
from vision_heads.spec import METADATA_KEY, InputSpec, ModelSpec

Method = Literal["minmax", "entropy", "percentile"]
"""How a range is chosen: all that was seen; the cut that loses least information; or the share
`PERCENTILE` of the values."""
PERCENTILE = 99.999
_BINS, _LEVELS = 2048, 256
_NARROWEST = 2.0**-10
_CUTS = 64
"""Ranges that the entropy method tries."""

Floats = NDArray[np.float32]
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Ranges of activations, and what they were measured on.

    Attributes:
        ranges: lowest and highest value by the name of the tensor.
        method: how they were chosen.
        seed: of the choice of pictures.
        asked: pictures that were wanted.
        files: the pictures that were used, in order.
        unreadable: messages about pictures that could not be read; others took their places.
    """

    ranges: dict[str, Range]
    method: Method
    seed: int
    asked: int
    files: tuple[Path, ...]
    unreadable: tuple[str, ...] = field(default=())

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know: unreadable pictures, and too few."""
        notes = []
        if self.unreadable:
            notes.append(
                f"{len(self.unreadable)} calibration pictures cannot be read, "
                f"first: {self.unreadable[0]}"
            )
        if len(self.files) < self.asked:
            notes.append(f"calibrated on {len(self.files)} pictures; {self.asked} were asked for")
        return tuple(notes)


def calibrate(
    source: Path,
    pictures: Sequence[Path],
    *,
    method: Method = "minmax",
    seed: int = 0,
    count: int = 128,
    step: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Measure the ranges of an FP32 ONNX file's activations.

    Args:
        source: written by `vh export`.
        pictures: files to choose from.
        method: see `Method`.
        seed: pictures are chosen by it.
        count: pictures to use; fewer where there are not as many that can be read.
        step: called with (pictures done, pictures wanted).

    Raises:
        UserError: no picture can be read, or `source` or an argument is wrong.
    """
    require(method in get_args(Method), f"calibration method {method!r}: {get_args(Method)}")
    require(count >= 1, f"calibration pictures: must be at least 1, got {count}")
    require(pictures, "calibration: no pictures")
    graph = open_float(source)
    metadata = {entry.key: entry.value for entry in graph.model.metadata_props}
    spec = ModelSpec.from_json(metadata[METADATA_KEY], str(source))
    order = random.Random(seed).sample(list(pictures), len(pictures))
    stock = PictureStock(order, spec.input, count, step)
    ranges = _measure(graph, method, stock)
    return Calibration(ranges, method, seed, count, tuple(stock.files), tuple(stock.unreadable))


class PictureStock:
    """Yields network inputs of up to `count` files and keeps account of them.

    Args:
        files: tried in order.
        size: of the network's input, with scale and border.
        count: most pictures to yield.
        step: as in `calibrate`.
    """

    def __init__(
        self,
        files: Sequence[Path],
        size: InputSpec,
        count: int,
        step: Callable[[int, int], None] | None = None,
    ) -> None:
        self._waiting, self._size, self._count, self._step = files, size, count, step
        self.files: list[Path] = []
        self.unreadable: list[str] = []

    def __iter__(self) -> Iterator[Floats]:
        """Yield arrays (1, 3, height, width), RGB / 255, letterboxed."""
        wanted = min(self._count, len(self._waiting))
        for file in self._waiting:
            if len(self.files) == self._count:
                return
            try:
                image = read_image(file)
            except ImageError as error:
                self.unreadable.append(str(error))
                continue
            out = np.empty((1, 3, self._size.height, self._size.width), np.float32)
            fill(image, self._size, out[0])
            self.files.append(file)
            yield out
            if self._step:
                self._step(len(self.files), wanted)


def _measure(graph: OnnxGraph, method: Method, stock: PictureStock) -> dict[str, Range]:
    """Run the pictures; return the range of every tensor that INT8 could need."""
    names = _watched(graph)
    session = _session(graph, names)
    (given,) = session.get_inputs()
    batch = given.shape[0] if isinstance(given.shape[0], int) else 1
    tallies = {name: Tally(method != "minmax") for name in (given.name, *names)}
    for images in stock:
        tallies[given.name].add(images)
        feed = {given.name: np.repeat(images, batch, 0)}
        for name, values in zip(names, session.run(names, feed), strict=True):
            tallies[name].add(values)
    if not stock.files:
        raise UserError(
            f"calibration: none of {len(stock.unreadable)} pictures can be read, "
            f"first: {stock.unreadable[0]}"
        )
    choose = {"minmax": Tally.widest, "percentile": Tally.usual, "entropy": Tally.telling}[method]
    return {name: choose(tally) for name, tally in tallies.items()}


def _watched(graph: OnnxGraph) -> list[str]:
    """Return the tensors that nodes which can be quantized make or read."""
    end = graph.end()
    names: dict[str, None] = {}
    for node in graph.model.graph.node:
        if node.op_type in QUANTIZED and node.name not in end:
            read = [name for name in node.input if name in graph.producers]
            names |= dict.fromkeys((*read, *node.output))
    return list(names)


def _session(graph: OnnxGraph, names: Sequence[str]) -> Any:
    import onnxruntime  # noqa: PLC0415
    from onnx import TensorProto, helper  # noqa: PLC0415

    del graph.model.graph.output[:]
    graph.model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        graph.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


class Tally:
    """Counts a tensor's values in bins that grow with what is seen, about zero.

    Args:
        counting: False where the lowest and the highest value are enough.
    """

    def __init__(self, counting: bool) -> None:
        self.low = self.high = 0.0
        self.limit = _NARROWEST
        self.counts: NDArray[np.int64] | None = np.zeros(_BINS, np.int64) if counting else None
        self._empty = True

    def add(self, values: Floats) -> None:
        """Count values of any shape."""
        low, high = float(values.min()), float(values.max())
        self.low = low if self._empty else min(self.low, low)
        self.high = high if self._empty else max(self.high, high)
        self._empty = False
        if self.counts is None:
            return
        while max(-low, high) > self.limit:
            # Twice as wide: two bins become one, in the middle half.
            pairs = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.pad(pairs, _BINS // 4)
            self.limit *= 2
        self.counts = self.counts + np.histogram(values, _BINS, (-self.limit, self.limit))[0]

    @property
    def edges(self) -> NDArray[np.float64]:
        """Edges of the bins, one more than bins."""
        return np.linspace(-self.limit, self.limit, _BINS + 1)

    def widest(self) -> Range:
        """Return the lowest and the highest value."""
        return self.low, self.high

    def usual(self) -> Range:
        """Return the range of `PERCENTILE` of the values, as much cut off at both sides."""
        assert self.counts is not None
        share = np.cumsum(self.counts) / max(self.counts.sum(), 1)
        cut = (100 - PERCENTILE) / 200
        first = int(np.searchsorted(share, cut, side="right"))
        last = int(np.searchsorted(share, 1 - cut)) + 1
        return self._within(self.edges[first], self.edges[min(last, _BINS)])

    def telling(self) -> Range:
        """Return the range that `least_loss` finds."""
        assert self.counts is not None
        return least_loss(self.counts, self.edges, self.low, self.high)

    def _within(self, low: float, high: float) -> Range:
        return max(float(low), self.low), min(float(high), self.high)


def least_loss(
    counts: NDArray[np.int64], edges: NDArray[np.floating], lowest: float, highest: float
) -> Range:
    """Return the range whose 256 steps tell most of a tensor's distribution.

    Of ranges cut at the same distance on both sides of zero, the one with the least
    Kullback-Leibler divergence between the values as they are, those outside moved to the ends,
    and as the steps show them (S. Migacz, "8-bit inference with TensorRT", GTC 2017). What
    lies outside of what was seen is never part of it: an activation such as SiLU hardly goes
    below zero, and a symmetric range would waste half of the steps there.

    Args:
        counts: values in each bin.
        edges: of the bins, one more.
        lowest, highest: value that was seen.
    """
    widest = (float(lowest), float(highest))
    best, least = widest, np.inf
    for share in np.linspace(1, 1 / _CUTS, _CUTS):
        limit = share * max(abs(widest[0]), abs(widest[1]))
        low, high = max(widest[0], -limit), min(widest[1], limit)
        first = int(np.searchsorted(edges, low, side="right")) - 1
        last = int(np.searchsorted(edges, high, side="left"))
        if last - first < _LEVELS:
            break
        lost = _divergence(counts, max(first, 0), last)
        if lost < least:
            best, least = (low, high), lost
    return best


def _divergence(counts: NDArray[np.int64], first: int, last: int) -> float:
    """Return what is lost by showing bins `first` up to `last` in 256 steps, cut off at both."""
    inside = counts[first:last].astype(np.float64)
    true = inside.copy()
    true[0] += counts[:first].sum()
    true[-1] += counts[last:].sum()
    if not inside.any():
        return np.inf
    starts = np.linspace(0, len(inside), _LEVELS, endpoint=False).astype(int)
    sums = np.add.reduceat(inside, starts)
    filled = np.maximum(np.add.reduceat((true > 0).astype(int), starts), 1)
    lengths = np.diff(np.append(starts, len(inside)))
    shown = np.where(true > 0, np.repeat(sums / filled, lengths), 0.0)
    true, shown = true / true.sum(), shown / shown.sum()
    at = true > 0
    return float((true[at] * np.log(true[at] / np.maximum(shown[at], 1e-12))).sum())
