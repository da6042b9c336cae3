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
_BINS = {"entropy": 512, "percentile": 2048}

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

    chosen = {
        "minmax": ort.CalibrationMethod.MinMax,
        "entropy": ort.CalibrationMethod.Entropy,
        "percentile": ort.CalibrationMethod.Percentile,
    }[method]
    options: dict[str, Any] = {"percentile": PERCENTILE} if method == "percentile" else {}
    if method in _BINS:
        options["num_bins"] = _BINS[method]
    calibrator = ort.create_calibrator(
        source, list(QUANTIZED), str(folder / "watched.onnx"), chosen, extra_options=options
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
        found = calibrator.compute_data().data
    seen = {} if method == "minmax" else calibrator.collector.histogram_dict
    return {name: _within(value.range_value, seen.get(name)) for name, value in found.items()}


def _within(cut: tuple[Any, Any], histogram: Any) -> Range:
    """Return a range as two numbers, not wider than what was seen.

    The entropy method cuts symmetrically about zero, which would waste half of the steps on the
    negative side of an activation that hardly has one.
    """
    low, high = (float(np.min(cut[0])), float(np.max(cut[1])))
    if histogram is not None:
        low, high = max(low, float(histogram[2])), min(high, float(histogram[3]))
    return low, high


class _OnePicture:
    """A calibrator's source of pictures that holds a single one: nothing piles up behind it."""

    def __init__(self, feed: dict[str, Floats]) -> None:
        self._feed: dict[str, Floats] | None = feed

    def get_next(self) -> dict[str, Floats] | None:
        """Return the picture the first time."""
        feed, self._feed = self._feed, None
        return feed
