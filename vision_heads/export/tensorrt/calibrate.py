"""INT8 calibration by TensorRT up to 10: real pictures through the network, ranges in a cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vision_heads.errors import UserError, require
from vision_heads.runtime.inputs import fill, load_picture
from vision_heads.runtime.tensorrt_cuda import Buffer, Stream
from vision_heads.spec import ModelSpec


class CalibrationCache:
    """A file of calibrated ranges: a line of JSON that says what they are of, then TensorRT's own.

    TensorRT would take ranges of any network; those of another model, other pictures or another
    method are not handed to it.

    Args:
        path: the file; None keeps nothing.
        source_sha256: of the ONNX file.
        pictures: that are calibrated on.
        method: of calibration.
        tensorrt: version.
        log: told why a cache is not used.
    """

    def __init__(
        self,
        path: Path | None,
        source_sha256: str,
        pictures: Sequence[Path],
        method: str,
        tensorrt: str,
        log: Callable[[str], None],
    ) -> None:
        names = "\n".join(picture.name for picture in pictures)
        self.path = path
        self._log = log
        self._about = {
            "source": source_sha256,
            "pictures": hashlib.sha256(names.encode()).hexdigest() if pictures else "",
            "method": method,
            "tensorrt": tensorrt,
        }

    def read(self) -> bytes | None:
        """Return the ranges, None if there are none for this model, method and these pictures."""
        if self.path is None or not self.path.is_file():
            return None
        line, _, ranges = self.path.read_bytes().partition(b"\n")
        try:
            about = json.loads(line)
        except ValueError:
            about = None
        wanted = dict(self._about)
        if not wanted["pictures"] and isinstance(about, dict):
            wanted["pictures"] = about.get("pictures", "")  # the cache is all there is
        if about != wanted or not ranges:
            self._log(f"{self.path}: of another model, pictures, method or TensorRT; not used")
            return None
        return ranges

    def write(self, ranges: bytes) -> None:
        """Keep the ranges."""
        if self.path is None:
            return
        part = self.path.with_name(f".{self.path.name}.part")
        part.write_bytes(json.dumps(self._about).encode() + b"\n" + ranges)
        part.replace(self.path)


def make_calibrator(
    trt: Any,
    cuda: Any,
    spec: ModelSpec,
    pictures: Sequence[Path],
    batch: int,
    method: str,
    cache: CalibrationCache,
) -> Any:
    """Return a calibrator for `IBuilderConfig.int8_calibrator`.

    Its `used` counts the pictures TensorRT has asked for; its `failure` is what went wrong while
    it did, None if nothing: an exception cannot pass through TensorRT.

    Args:
        trt, cuda: the modules.
        spec: of the model: size and scale of its input.
        pictures: files; the last batch is filled up from the first.
        batch: pictures a batch.
        method: "minmax" or "entropy".
        cache: read before, and written after.

    Raises:
        UserError: neither pictures nor a cache that fits.
    """
    known = cache.read()
    require(
        pictures or known is not None,
        "int8: needs calibration pictures, a calibration cache that fits, or a quantized ONNX file",
    )
    base = trt.IInt8MinMaxCalibrator if method == "minmax" else trt.IInt8EntropyCalibrator2

    class Calibrator(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)
            self.used = 0
            self.failure: Exception | None = None
            self._stream: Stream | None = None
            self._buffer: Buffer | None = None

        def get_batch_size(self) -> int:
            return batch

        def get_batch(self, names: Sequence[str]) -> list[int] | None:
            if self.used >= len(pictures):
                return None
            try:
                address = self._upload()
            except (UserError, RuntimeError, OSError) as error:
                self.failure = error
                return None
            self.used += batch
            return [address]

        def read_calibration_cache(self) -> bytes | None:
            return known

        def write_calibration_cache(self, ranges: Any) -> None:
            try:
                cache.write(bytes(ranges))
            except OSError as error:
                self.failure = error

        def _upload(self) -> int:
            size = spec.input
            count = batch * 3 * size.height * size.width
            if self._buffer is None or self._stream is None:
                self._stream = Stream(cuda)
                self._buffer = Buffer(cuda, count, "float32")
            images = self._buffer.host.reshape(batch, 3, size.height, size.width)
            for row in range(batch):
                picture = pictures[(self.used + row) % len(pictures)]
                fill(load_picture(picture).image, size, images[row])
            self._buffer.upload(count, self._stream)
            self._stream.wait()
            return self._buffer.device

    return Calibrator()
