"""The formats of `vh export`: their names, where their files go, and who makes them.

Every format starts from the FP32 ONNX, which has been proved against the network cell by cell.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import UserError, require
from vision_heads.spec import NmsSpec

if TYPE_CHECKING:
    from vision_heads.export.calibration import Method

FORMATS = ("onnx", "onnx-fp16", "onnx-int8", "engine", "openvino", "triton")

ENDINGS = {
    "onnx": ".onnx",
    "onnx-fp16": "-fp16.onnx",
    "onnx-int8": "-int8.onnx",
    "engine": ".engine",
    "openvino": ".xml",
    "triton": "-triton",
}
"""What a file's name ends in when none is given; triton is a folder."""

PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}
"""Names that `--precision` takes."""
CHOICE = {"engine": ("fp16", "fp32", "int8"), "openvino": ("fp32", "fp16", "bf16", "int8")}
"""Precisions of the formats that have several, the usual one first."""

METHODS: tuple[Method, ...] = ("minmax", "entropy", "percentile")

NAMED = 3
"""Layers that a note names; the JSON file has all."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How files are made.

    Attributes:
        precision: of engine and openvino, as `--precision` names it; their usual one when None.
        nms: NMS to put into the files; None for candidates.
        images: network inputs on which the range of activations is tried.
        calibration: pictures to choose from for INT8.
        count: of them to use.
        method: of calibration.
        seed: of the choice of calibration pictures; recorded.
        exclude: layers that stay float in INT8.
        sensitivity: report what each layer loses in INT8 even where none is left out.
        engine: settings of TensorRT's builder by name, as `EngineOptions` has them.
        max_batch: of a Triton configuration; 0: batches as the file has them.
        log: told what is done, a line each.
    """

    precision: str | None = None
    nms: NmsSpec | None = None
    images: Sequence[Floats] = ()
    calibration: Sequence[Path] = ()
    count: int = 128
    method: Method = "minmax"
    seed: int = 0
    exclude: Sequence[str] = ()
    sensitivity: bool = False
    engine: dict[str, Any] = field(default_factory=dict)
    max_batch: int = 0
    log: Callable[[str], None] = lambda _: None


@dataclass(slots=True)
class Made:
    """What has been made of one format.

    Attributes:
        format: its name.
        main: the file that a runtime opens; of triton, the one in its folder.
        files: all files and folders that belong to it.
        precision: that was asked for, e.g. "float16".
        details: what the maker reports, for JSON.
        notes: what is worth a line.
    """

    format: str
    main: Path
    files: list[Path]
    precision: str
    details: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        inner = (file for path in self.files for file in (path, *path.rglob("*")))
        return sum(file.stat().st_size for file in inner if file.is_file())


def parse_formats(given: Sequence[str]) -> tuple[str, ...]:
    """Return the formats named, each once, in the order of `FORMATS`.

    Args:
        given: values of `--format`, each one or several with commas.

    Raises:
        UserError: a name is unknown, or there is none.
    """
    names = [name.strip().lower() for text in given for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in FORMATS]
    require(not unknown, f"--format {', '.join(unknown)}: unknown; there are {', '.join(FORMATS)}")
    require(names, f"--format: none given; there are {', '.join(FORMATS)}")
    return tuple(name for name in FORMATS if name in names)


def precision_of(format: str, asked: str | None) -> str:
    """Return the precision a format is to have, e.g. "float16".

    Raises:
        UserError: the format has no such precision.
    """
    fixed = {"onnx": "fp32", "onnx-fp16": "fp16", "onnx-int8": "int8", "triton": "fp32"}
    if format in fixed:
        return PRECISIONS[fixed[format]]
    known = CHOICE[format]
    name = asked or known[0]
    require(name in known, f"--precision {name}: {format} takes {', '.join(known)}")
    return PRECISIONS[name]


def place_of(format: str, stem: Path) -> Path:
    """Return where a format's file goes, beside the others of the same stem."""
    return stem.with_name(stem.name + ENDINGS[format])


def needs_int8(formats: Sequence[str], precision: str | None) -> bool:
    """Whether some of the files need calibration."""
    return any(precision_of(name, precision) == "int8" for name in formats)


def check_ready(formats: Sequence[str], precision: str | None) -> None:
    """Find out what is missing before any long work.

    Raises:
        UserError: a package is not installed, or there is no GPU for an engine; a precision is
            asked for, and no format has several.
    """
    require(
        precision is None or CHOICE.keys() & set(formats),
        f"--precision {precision}: is of {' and '.join(CHOICE)}; {', '.join(formats)} has one only",
    )
    for name in formats:
        precision_of(name, precision)
    if "openvino" in formats:
        from vision_heads._openvino import openvino  # noqa: PLC0415

        openvino()
    if "engine" in formats:
        from vision_heads.export.tensorrt import check_ready as check_builder  # noqa: PLC0415

        check_builder()


def make(
    format: str,
    fp32: Path,
    folder: Path,
    name: str,
    recipe: Recipe,
    accept: Callable[[Path], bool],
) -> Made:
    """Make one format's files out of the FP32 ONNX.

    Args:
        format: one of `FORMATS`.
        fp32: without NMS in its graph.
        folder: where to; the caller moves the files on when they have passed.
        name: of the main file.
        recipe: how.
        accept: whether an INT8 ONNX file is accurate enough; layers are left in float until
            it is.

    Raises:
        UserError: what is needed is missing, or a setting is wrong.
    """
    target = folder / name
    made = _MAKERS[format](fp32, target, recipe, accept)
    made.format = format
    return made


def _onnx(fp32: Path, target: Path, recipe: Recipe, accept: Callable[[Path], bool]) -> Made:
    _finish(fp32, target, recipe)
    return Made("", target, [target], "float32")


def _fp16(fp32: Path, target: Path, recipe: Recipe, accept: Callable[[Path], bool]) -> Made:
    from vision_heads.export.fp16 import to_fp16  # noqa: PLC0415

    half = target.with_name(f"half-{target.name}")
    report = to_fp16(fp32, half, images=recipe.images)
    _finish(half, target, recipe)
    notes = [f"{layer} stays float32: {reason}" for layer, reason in report.kept.items()]
    if report.flushed:
        notes.append(f"{report.flushed} of {report.weights} weights are too small and become 0")
    details = {
        "kept_float32": report.kept,
        "weights": report.weights,
        "subnormal_weights": report.subnormal,
        "weights_become_zero": report.flushed,
        "largest_relative_rounding": report.largest_rounding,
        "casts": report.casts,
    }
    return Made("", target, [target], "float16", details, notes)


def _int8(fp32: Path, target: Path, recipe: Recipe, accept: Callable[[Path], bool]) -> Made:
    quantised = target.with_name(f"int8-{target.name}")
    details, notes = _quantize(fp32, quantised, recipe, accept)
    _finish(quantised, target, recipe)
    return Made("", target, [target], "int8", details, notes)


def _openvino(fp32: Path, target: Path, recipe: Recipe, accept: Callable[[Path], bool]) -> Made:
    from vision_heads.export.openvino import write_openvino  # noqa: PLC0415

    precision = precision_of("openvino", recipe.precision)
    details: dict[str, Any] = {}
    notes: list[str] = []
    source = fp32
    if precision == "int8":
        source = target.with_name(f"int8-{target.stem}.onnx")
        details, notes = _quantize(fp32, source, recipe, accept)
    finished = target.with_name(f"source-{target.stem}.onnx")
    _finish(source, finished, recipe)
    files = write_openvino(finished, target, precision)
    return Made("", target, files, precision, details, notes)


def _engine(fp32: Path, target: Path, recipe: Recipe, accept: Callable[[Path], bool]) -> Made:
    from vision_heads.export.tensorrt import (  # noqa: PLC0415
        EngineOptions,
        build_engine,
        check_ready,
    )

    asked = recipe.precision or CHOICE["engine"][0]
    options = EngineOptions(precision=asked, **recipe.engine)  # type: ignore[arg-type]
    details: dict[str, Any] = {}
    notes: list[str] = []
    source = fp32
    # Up to TensorRT 10 its own calibrator reads the pictures; 11 has none, and neither has seen
    # NMS behind a network to be quantised: then the graph itself is quantised.
    by_graph = recipe.nms is not None or int(check_ready().tensorrt.partition(".")[0]) >= 11
    if asked == "int8" and by_graph:
        source = target.with_name(f"int8-{target.stem}.onnx")
        details, notes = _quantize(fp32, source, recipe, accept, scheme="tensorrt")
    elif asked == "int8":
        require(recipe.method != "percentile", "--calib-method percentile: not in TensorRT 10")
        require(
            not recipe.exclude and not recipe.sensitivity,
            "--exclude, --sensitivity: not in TensorRT 10, whose calibrator takes no layers out",
        )
        # Chosen as `calibrate` does.
        files = random.Random(recipe.seed).sample(recipe.calibration, len(recipe.calibration))
        pictures = files[: recipe.count]
        options = replace(options, pictures=pictures, method=recipe.method)  # type: ignore[arg-type]
    finished = target.with_name(f"source-{target.stem}.onnx")
    _finish(source, finished, recipe, way="tensorrt")
    report = build_engine(finished, target, options, recipe.log)
    details |= {
        "seconds": report.seconds,
        "tensorrt": report.facts.tensorrt,
        "gpu": report.facts.gpu,
        "kept_fp32": report.kept_fp32,
        "off_the_dla": list(report.facts.on_gpu),
    }
    if report.facts.on_gpu:
        names = ", ".join(report.facts.on_gpu)
        notes.append(f"{len(report.facts.on_gpu)} layers run on the GPU, not the DLA: {names}")
    files = [target, report.json_path]
    return Made("", target, files, PRECISIONS[asked], details, notes)


def _triton(fp32: Path, target: Path, recipe: Recipe, accept: Callable[[Path], bool]) -> Made:
    from vision_heads.export.triton import write_repository  # noqa: PLC0415

    finished = target.with_name(f"source-{target.name}") / fp32.name  # which names the model
    finished.parent.mkdir()
    _finish(fp32, finished, recipe)
    folder = write_repository(finished, target, max_batch=recipe.max_batch)
    return Made("", folder / "1" / "model.onnx", [target], "float32")


_MAKERS: dict[str, Callable[[Path, Path, Recipe, Callable[[Path], bool]], Made]] = {
    "onnx": _onnx,
    "onnx-fp16": _fp16,
    "onnx-int8": _int8,
    "engine": _engine,
    "openvino": _openvino,
    "triton": _triton,
}


def _finish(
    source: Path, target: Path, recipe: Recipe, way: Literal["onnx", "tensorrt"] = "onnx"
) -> None:
    """Put NMS in where it is asked for: last, so that no conversion meets it."""
    if recipe.nms is None:
        target.write_bytes(source.read_bytes())
        return
    from vision_heads.export.nms import add_nms  # noqa: PLC0415

    add_nms(source, target, recipe.nms, way=way)


def _quantize(
    fp32: Path,
    target: Path,
    recipe: Recipe,
    accept: Callable[[Path], bool],
    scheme: Literal["cpu", "tensorrt"] = "cpu",
) -> tuple[dict[str, Any], list[str]]:
    from vision_heads.export.quantize import quantize_until  # noqa: PLC0415

    if not recipe.calibration:
        raise UserError("INT8 needs calibration pictures: --calib-data CARD")
    recipe.log(f"int8: ranges by {recipe.method} on up to {recipe.count} pictures")
    report = quantize_until(
        fp32,
        target,
        recipe.calibration,
        accept=accept,
        method=recipe.method,
        seed=recipe.seed,
        exclude=recipe.exclude,
        count=recipe.count,
        scheme=scheme,
    )
    sensitivity = [asdict(one) for one in report.sensitivity]
    if recipe.sensitivity and not sensitivity:
        sensitivity = _sensitivity(fp32, recipe)
    notes = [*report.notes]
    if report.excluded:
        first = ", ".join(report.excluded[:NAMED])
        more = ", ..." if len(report.excluded) > NAMED else ""
        notes.append(
            f"{len(report.excluded)} of {report.layers} layers stay float, after {report.tries} "
            f"tries: {first}{more}"
        )
    details = {
        "calibration": {
            "method": report.method,
            "seed": report.seed,
            "pictures": report.used,
            "unreadable": list(report.unreadable),
        },
        "layers": report.layers,
        "kept_float": list(report.excluded),
        "tries": report.tries,
        "sensitivity": sensitivity,
    }
    return details, notes


def _sensitivity(fp32: Path, recipe: Recipe) -> list[dict[str, Any]]:
    """Return what every layer loses in INT8, most sensitive first."""
    from vision_heads.export.calibration import calibrate  # noqa: PLC0415
    from vision_heads.export.sensitivity import layers  # noqa: PLC0415

    recipe.log("int8: looking at every layer")
    ranges = calibrate(
        fp32, recipe.calibration, method=recipe.method, seed=recipe.seed, count=recipe.count
    )
    return [asdict(one) for one in layers(fp32, ranges)]
