"""`vh export MODEL.onnx --format engine`: on the device itself, without torch."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from vision_heads.cli.messages import say
from vision_heads.errors import require


def build(
    source: Path,
    output: Path | None,
    *,
    precision: str | None,
    batch: int,
    dynamic_batch: bool,
    calibration: tuple[str | None, str | None, int],
    method: str,
    settings: dict[str, Any],
) -> None:
    """Build an engine of an exported ONNX file and say what it computes in.

    It is not judged against the torch model, which is not there; `vh eval` scores it.

    Args:
        source: the ONNX file.
        output: the engine; beside `source` if None.
        precision: "fp16", "fp32" or "int8"; fp16 if None.
        batch: where the file leaves the batch open, the best and most pictures a call.
        dynamic_batch: whether the file must leave it open.
        calibration: card, its split and the most pictures, for int8; instead of a card, a folder
            of pictures without labels.
        method: of calibration.
        settings: further ones of `EngineOptions`.
    """
    from vision_heads.export.tensorrt import EngineOptions, build_engine  # noqa: PLC0415
    from vision_heads.runtime.tensorrt_file import precisions  # noqa: PLC0415

    precision = precision or "fp16"
    if precision == "int8":
        settings |= {"pictures": _pictures(*calibration), "method": method}
    fixed = _fixed_batch(source) if batch > 1 or dynamic_batch else 0
    require(
        not (fixed and dynamic_batch),
        f"--dynamic-batch: {source} takes {fixed} pictures a call; export it with --dynamic-batch",
    )
    if batch > 1:
        settings["batch"] = (batch if fixed else 1, batch, batch)
    options = EngineOptions(precision=precision, rebuild=command(), **settings)  # type: ignore[arg-type]
    report = build_engine(source, output or source.with_suffix(".engine"), options, _say)
    for name, row in precisions(report.facts.layers).items():
        numbers = ", ".join(f"{number} {kind}" for kind, number in row.items())
        typer.echo(f"{name:20} {numbers}")
    if report.facts.on_gpu:
        typer.echo(f"on the GPU, not the DLA: {', '.join(report.facts.on_gpu)}")
    typer.echo(f"written: {report.path} and {report.json_path.name}")
    typer.echo(f"not judged against the torch model; score it: vh eval {report.path} --data CARD")
    require(
        report.used,
        f"{report.path}: was to be {precision}, but no convolution is; see the lines above",
    )


def command() -> str:
    """Return the command that is being run, to be run again elsewhere."""
    return shlex.join(["vh", *sys.argv[1:]])


def _pictures(card: str | None, split: str | None, count: int) -> Sequence[Path]:
    from vision_heads.data.card import load_card, load_split  # noqa: PLC0415
    from vision_heads.media.sources import find_pictures  # noqa: PLC0415

    if card is None:
        require(split is None, "--calib-split: of --calib-data, which is not given")
        return ()  # a calibration cache or a quantized graph may do
    if Path(card).is_dir():
        require(split is None, f"--calib-split {split}: the folder {card} has no splits")
        files = [Path(found.path) for found in find_pictures([card]).files]
        return _spread(files, count)
    split = split or ("train" if "train" in load_card(card).splits else "val")
    files = [sample.image for sample in load_split(card, split).samples]
    require(files, f"{card}: the split {split!r} holds no pictures to calibrate on")
    return _spread(files, count)


def _spread(files: Sequence[Path], count: int) -> list[Path]:
    """Return at most so many, over the whole set: its beginning may be one flight."""
    number = min(count, len(files))
    return [files[place * len(files) // number] for place in range(number)]


def _fixed_batch(source: Path) -> int:
    """Return how many pictures a call the file takes; 0 where it leaves that open."""
    from vision_heads.export.nodes import read_graph  # noqa: PLC0415

    (_, shape) = next(iter(read_graph(source).inputs.values()), ("", (1,)))
    return max(shape[0], 0) if shape else 1


def _say(line: str) -> None:
    say(line)
