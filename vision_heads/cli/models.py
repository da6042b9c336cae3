"""What commands that read models share."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_heads.cli.messages import say
from vision_heads.errors import UserError, missing_package, require
from vision_heads.runtime.engines import (
    describe_run,
    open_engine,
    shares_cores,
)
from vision_heads.spec import MAX_SIDE, near_sizes

if TYPE_CHECKING:
    from vision_heads.measure import Measures
    from vision_heads.runtime.engines import Engine
    from vision_heads.spec import ModelSpec

EXPORTED = (".onnx", ".engine", ".xml")
"""Endings of files that say themselves what they are, and need neither torch nor their runtime."""


def read_exported(file: Path) -> tuple[ModelSpec, Measures | None]:
    """Return what an exported file, one of `EXPORTED`, says about itself.

    Raises:
        UserError: it is damaged, or `vh export` did not write it.
    """
    from vision_heads.export.inspect import read_onnx, read_openvino  # noqa: PLC0415
    from vision_heads.measure import METADATA_KEY as MEASURES_KEY  # noqa: PLC0415
    from vision_heads.measure import Measures  # noqa: PLC0415
    from vision_heads.runtime.tensorrt_file import read_facts  # noqa: PLC0415
    from vision_heads.spec import METADATA_KEY, ModelSpec  # noqa: PLC0415

    if file.suffix == ".engine":
        return read_facts(file).spec, None
    if file.suffix == ".xml":
        texts, about, cost = read_openvino(file), "spec", "measures"
    else:
        texts, about, cost = read_onnx(file).metadata, METADATA_KEY, MEASURES_KEY
    require(about in texts, f"{file}: carries no model description; write it with vh export")
    spec = ModelSpec.from_json(texts[about], str(file))
    try:
        return spec, Measures.from_json(texts[cost]) if texts.get(cost) else None
    except ValueError as error:
        raise UserError(f"{file}: {cost} in its metadata: {error}") from error


def open_model(
    file: Path,
    calls: int | None,
    threads: int | None,
    provider: str | None,
    *,
    verbose: bool = False,
) -> tuple[Engine, int]:
    """Open a model file and say what is to be known of where it runs.

    Args:
        file: as `resolve_weights` gives it.
        calls: how many calls there will be, each with work for all cores; None if unknown.
        threads, provider: as the options of that name.
        verbose: say what it runs on also where that is what anybody would expect.

    Returns:
        The engine, and how many calls of it shall run at the same time.
    """
    from vision_heads.runtime.pipeline import plan_threads  # noqa: PLC0415

    plan = plan_threads(threads, calls, share=shares_cores(file, provider))
    engine = open_engine(file, threads=plan.threads, provider=provider)
    for line in describe_run(engine, always=verbose):
        say(line)
    return engine, plan.parallel


def torch_module(name: str, otherwise: str = "") -> Any:
    """Import a module that needs torch; `UserError` says what to install when it is missing.

    Args:
        name: of the module.
        otherwise: what goes without, as the error's end.
    """
    try:
        return import_module(name)
    except ImportError as error:
        needs = f"this needs {missing_package(error)}"
        raise UserError(f'{needs}: pip install "vision-heads[train]"{otherwise}') from error


def comma_separated(text: str | None) -> list[str] | None:
    """Split an option's list; None stays None."""
    if text is None:
        return None
    return [part.strip() for part in text.split(",") if part.strip()]


def class_list(text: str | None) -> list[int | str] | None:
    """Split a list of classes by name or number; None stays None."""
    names = comma_separated(text)
    if names is None:
        return None
    return [int(name) if name.isdecimal() else name for name in names]


def pixels(text: str | None) -> tuple[int, int] | None:
    """Parse an `--imgsz`: a side, or HEIGHTxWIDTH; returns height and width.

    Raises:
        UserError: it is neither, or no size of a network; the message says which are near.
    """
    if text is None:
        return None
    sides = text.lower().split("x")
    require(
        len(sides) in (1, 2) and all(side.isdecimal() for side in sides),
        f"--imgsz {text}: must be a number of pixels or HEIGHTxWIDTH",
    )
    numbers = [int(side) for side in sides]
    require(
        all(32 <= number <= MAX_SIDE and number % 32 == 0 for number in numbers),
        f"--imgsz {text}: must be multiples of 32 up to {MAX_SIDE}, such as {near_sizes(numbers)}",
    )
    return numbers[0], numbers[-1]
