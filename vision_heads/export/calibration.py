"""Ranges of a network's activations on real pictures, which fix the scales of INT8.

Pictures are prepared exactly as the runtime does, and looked at one after the other: memory
does not grow with their number.
"""

from __future__ import annotations

import contextlib
import io
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import UserError, require
from vision_heads.export.quantize_graph import QUANTIZED, open_float
from vision_heads.media.images import ImageError, read_image
from vision_heads.runtime.inputs import fill
from vision_heads.spec import METADATA_KEY, InputSpec, ModelSpec

Method = Literal["minmax", "entropy", "percentile"]
"""How a range is chosen: all that was seen; the cut that loses least information; or the share
`PERCENTILE` of the values."""
PERCENTILE = 99.999
_BINS, _LEVELS = 2048, 256
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
    metadata = {entry.key: entry.value for entry in open_float(source).model.metadata_props}
    spec = ModelSpec.from_json(metadata[METADATA_KEY], str(source))
    order = random.Random(seed).sample(list(pictures), len(pictures))
    stock = PictureStock(order, spec.input, count, step)
    with tempfile.TemporaryDirectory(prefix="vh-calibrate-") as folder:
        ranges = _measure(source, method, stock, Path(folder))
    return Calibration(
        ranges, method, seed, count, tuple(stock.files), tuple(stock.unreadable)
    )  # fmt: skip


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


def _measure(source: Path, method: Method, stock: PictureStock, folder: Path) -> dict[str, Range]:
    from onnxruntime.quantization import calibrate as ort  # noqa: PLC0415

    minmax = method == "minmax"
    kind = ort.CalibrationMethod.MinMax if minmax else ort.CalibrationMethod.Percentile
    options: dict[str, Any] = {} if minmax else {"percentile": PERCENTILE, "num_bins": _BINS}
    calibrator = ort.create_calibrator(
        source, list(QUANTIZED), str(folder / "watched.onnx"), kind, extra_options=options
    )
    (given,) = calibrator.infer_session.get_inputs()
    batch = given.shape[0] if isinstance(given.shape[0], int) else 1
    # It prints what it does.
    with contextlib.redirect_stdout(io.StringIO()):
        for images in stock:
            calibrator.collect_data(_OnePicture({given.name: np.repeat(images, batch, 0)}))
        if not stock.files:
            raise UserError(
                f"calibration: none of {len(stock.unreadable)} pictures can be read, "
                f"first: {stock.unreadable[0]}"
            )
        if method == "entropy":
            seen = calibrator.collector.histogram_dict
            return {name: least_loss(*histogram[:4]) for name, histogram in seen.items()}
        found = calibrator.compute_data().data
    return {
        name: (float(np.min(value.range_value[0])), float(np.max(value.range_value[1])))
        for name, value in found.items()
    }


def least_loss(
    counts: NDArray[np.int64], edges: NDArray[np.floating], lowest: float, highest: float
) -> Range:
    """Return the range whose 256 steps tell most of a tensor's distribution.

    Of ranges cut at the same distance on both sides of zero, the one with the least
    Kullback-Leibler divergence between the values as they are, those outside moved to the ends,
    and as the steps show them (S. Migacz, "8-bit inference with TensorRT", GTC 2017). ONNX Runtime
    has this too, in loops that take minutes, and without the lowest and highest value as limits.

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


class _OnePicture:
    """A calibrator's source of pictures that holds a single one: nothing piles up behind it."""

    def __init__(self, feed: dict[str, Floats]) -> None:
        self._feed: dict[str, Floats] | None = feed

    def get_next(self) -> dict[str, Floats] | None:
        """Return the picture the first time."""
        feed, self._feed = self._feed, None
        return feed
