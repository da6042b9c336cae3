"""The public way to run a model: `load` one, call it on pictures, or stream many through it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import overload

from vision_heads.heads.base import DecodeOptions
from vision_heads.results import Failure, Result
from vision_heads.runtime.engines import Engine, describe_run, open_engine, provider_of
from vision_heads.runtime.inputs import Buffers, Picture, load_picture
from vision_heads.runtime.pipeline import stream
from vision_heads.runtime.request import Request, make_request
from vision_heads.runtime.slicing import Slicing
from vision_heads.runtime.tasks import SlicedTask, Task, WholeTask, cut_up, prepare
from vision_heads.spec import ModelSpec

Size = int | tuple[int, int]
Merge = Mapping[str, Sequence[str]]


def load(path: str | Path, *, threads: int | None = None, provider: str | None = None) -> Predictor:
    """Open a model.

    Args:
        path: a `.onnx` file, one of TensorRT (`.engine`), OpenVINO (`.xml`) or torch
            (`.safetensors`), which must be installed then, or the name of shipped weights such as
            "aerial-n".
        threads: CPU threads the network uses, None for all cores.
        provider: where ONNX Runtime computes a `.onnx` file: "tensorrt", "cuda", "migraphx",
            "openvino", "coreml", "directml" or "cpu"; an error if it cannot. None: the first
            that works.

    Raises:
        UserError: the file is missing, of an unknown sort, or none of this package's.

    Example:
        >>> import vision_heads
        >>> predictor = vision_heads.load("aerial-n")
        >>> result = predictor("street.jpg", conf=0.3)
        >>> for box, score, name in result["aerial"]:
        ...     print(name, round(score, 2), box)
    """
    return Predictor(open_engine(path, threads=threads, provider=provider))


class Predictor:
    """A model ready to run. Holds no state between calls: any number of threads may share it.

    Args:
        engine: what executes the network.

    Attributes:
        spec: the model's description: heads, classes, input size, provenance.
        provider: what the network is computed by.
        notes: which provider did not come up, if any.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def spec(self) -> ModelSpec:
        """The model's description."""
        return self._engine.spec

    @property
    def provider(self) -> str:
        """What the network is computed by: "cpu", "cuda", "tensorrt", ..., or "torch"."""
        return provider_of(self._engine)

    @property
    def notes(self) -> list[str]:
        """Lines for people: which provider did not come up, and what is used instead."""
        return describe_run(self._engine)

    @overload
    def __call__(
        self,
        image: Picture,
        *,
        conf: float = ...,
        iou: float = ...,
        max_det: int = ...,
        classes: Sequence[int | str] | None = ...,
        heads: Sequence[str] | None = ...,
        multi_label: bool = ...,
        slicing: Slicing | int | None = ...,
        imgsz: Size | None = ...,
        batch: int | None = ...,
        keep_image: bool = ...,
        merge: Merge | None = ...,
    ) -> Result: ...

    @overload
    def __call__(
        self,
        image: list[Picture] | tuple[Picture, ...],
        *,
        conf: float = ...,
        iou: float = ...,
        max_det: int = ...,
        classes: Sequence[int | str] | None = ...,
        heads: Sequence[str] | None = ...,
        multi_label: bool = ...,
        slicing: Slicing | int | None = ...,
        imgsz: Size | None = ...,
        batch: int | None = ...,
        keep_image: bool = ...,
        merge: Merge | None = ...,
    ) -> list[Result]: ...

    def __call__(
        self,
        image: Picture | list[Picture] | tuple[Picture, ...],
        *,
        conf: float = 0.25,
        iou: float = 0.6,
        max_det: int = 1000,
        classes: Sequence[int | str] | None = None,
        heads: Sequence[str] | None = None,
        multi_label: bool = False,
        slicing: Slicing | int | None = None,
        imgsz: Size | None = None,
        batch: int | None = None,
        keep_image: bool = True,
        merge: Merge | None = None,
    ) -> Result | list[Result]:
        """Detect in a picture or a list of them.

        Args:
            image: a path, a BGR uint8 array (H, W, 3), a PIL image (taken as it is, without
                its EXIF orientation), or a list or tuple of these.
            conf: lowest score that counts, 0..1.
            iou: NMS drops a box that overlaps a better one of its class by more, 0..1.
            max_det: most results a picture and head; up to 3000 is usual.
            classes: names or indices to keep; a head without any of them gives nothing.
            heads: names of the heads to run, None for all.
            multi_label: count a candidate once for each class above `conf`.
            slicing: cut large pictures into tiles; a number is the tile's side in pixels.
            imgsz: network size (side, or height and width) where the model file allows any.
            batch: pictures or tiles a call of the network; what the file fixes, else 1.
            keep_image: let results hold their picture, so that `result.draw()` works.
            merge: classes to unite across heads, e.g. {"car": ["aerial:car", "street:auto"]};
                they leave their heads for `result["merged"]`, each object once. None: as the
                model's description says (usually nothing), {}: nothing.

        Returns:
            A `Result`, or a list of them in the order of the pictures.

        Raises:
            ImageError: a file that cannot be read, or a picture that makes too many tiles, or
                boxes in them, to be sliced (`stream` reports and goes on instead).
            UserError: an argument is wrong; the message names it.

        Example:
            >>> result = predictor("street.jpg", slicing=640)
            >>> cv2.imwrite("drawn.jpg", result.draw())
        """
        request = make_request(
            self._engine,
            DecodeOptions(conf, iou, max_det, None, multi_label),
            classes=classes,
            heads=heads,
            imgsz=imgsz,
            batch=batch,
            slicing=slicing,
            keep_image=keep_image,
            merge=merge,
        )
        if not isinstance(image, (list, tuple)):
            return self._run([image], request)[0]
        size = 1 if request.slicing else request.batch
        return [
            result
            for start in range(0, len(image), size)
            for result in self._run(image[start : start + size], request)
        ]

    def stream(
        self,
        images: Iterable[Picture],
        options: DecodeOptions | Mapping[str, DecodeOptions] | None = None,
        *,
        classes: Sequence[int | str] | None = None,
        heads: Sequence[str] | None = None,
        slicing: Slicing | int | None = None,
        imgsz: Size | None = None,
        batch: int | None = None,
        keep_image: bool = False,
        merge: Merge | None = None,
        readers: int = 2,
        parallel: int = 1,
    ) -> Generator[Result | Failure, None, None]:
        """Detect in any number of pictures, in order, in constant memory.

        Files are read and resized ahead in other threads while the network runs.

        Args:
            images: paths, arrays or PIL images; read only as far as needed. An array must stay as
                it is until its result has come: a buffer for all frames of a camera needs a copy.
            options: thresholds and limits; its `classes` are indices. A mapping gives each of
                the heads to run its own, without `classes` and `heads`.
            classes, heads, slicing, imgsz, batch, keep_image, merge: as in a call.
            readers: threads that read pictures.
            parallel: calls of the network at the same time. With many pictures, n calls of one
                thread each (`load(..., threads=1)`) get more done than one call of n threads.

        Yields:
            A `Result`, or a `Failure` for a file that cannot be read, or that makes too many
            tiles, or boxes in them, to be sliced.

        Raises:
            UserError: an argument is wrong (at once), or an item is no picture.

        Example:
            >>> for result in predictor.stream(sorted(Path("flight").glob("*.jpg"))):
            ...     print(result.source, len(result) if result else result.message)
        """
        request = make_request(
            self._engine,
            DecodeOptions() if options is None else options,
            classes=classes,
            heads=heads,
            imgsz=imgsz,
            batch=batch,
            slicing=slicing,
            keep_image=keep_image,
            merge=merge,
        )
        return stream(self._engine, request, images, readers=readers, parallel=parallel)

    def _run(self, pictures: Sequence[Picture], request: Request) -> list[Result]:
        loaded = [load_picture(picture) for picture in pictures]
        buffers = Buffers(request.height, request.width)
        task: Task
        if request.slicing is not None:
            picture = cut_up(loaded[0], request.slicing)
            task = SlicedTask(self._engine, request, request.slicing, picture, buffers)
        else:
            prepared = [prepare(one, self._engine, buffers) for one in loaded]
            task = WholeTask(self._engine, request, prepared, buffers)
        return task.finish([part() for part in task.parts()])
