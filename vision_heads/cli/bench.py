"""`vh bench`: how fast models are on this machine, by stage and side by side."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vision_heads.cli import options as opt
from vision_heads.cli.places import require_apart, stdout_is_for
from vision_heads.errors import UserError, require
from vision_heads.paths import write_text

HELP = """
Time models on this machine: by stage and end to end, side by side, with memory and energy.

Stages: decoding the picture or video frame, preprocessing, the network, decoding the heads, NMS;
each as median, 5th and 95th percentile and pictures a second. Several files run in turns on the
same pictures, so that whatever else the machine does meets them all alike; ratios are against the
first. What disturbed the measurement (a busy machine, throttling) is said. docs/bench.md has the
details.

[bold]Examples[/bold]

  vh bench aerial-n

  vh bench model.onnx model-int8.onnx model.engine --runs 100 --threads 2

  vh bench aerial-n --source flight/ --conf 0.1 --markdown speed.md --plot speed.png

  vh bench dynamic.onnx --batch 1,4,8 --json speed.json
"""


@stdout_is_for("markdown_file", "json_file")
def bench(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Model files (.onnx, .engine, .xml, .safetensors) or shipped names.",
        ),
    ],
    *,
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="Pictures (file, folder, pattern, .txt list; may be repeated) or one video.",
            show_default="the demo pictures of the heads' kind",
        ),
    ] = None,
    runs: Annotated[int, typer.Option(help="Runs of each model that count, at least 10.")] = 50,
    warm_up: Annotated[
        int, typer.Option(min=0, help="Runs of each model before those, which do not count.")
    ] = 5,
    batch: Annotated[
        str | None,
        typer.Option(help="Pictures a call, e.g. 1,4,8.", show_default="what the file fixes, or 1"),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads of the network.", show_default="all cores"),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            help="Where ONNX Runtime runs .onnx files: cpu, cuda, tensorrt, openvino, ...",
            show_default="the best there is",
        ),
    ] = None,
    imgsz: Annotated[
        str | None,
        typer.Option(
            help="Input size where the file allows any: 640, or HEIGHTxWIDTH.",
            show_default="model's",
        ),
    ] = None,
    heads: opt.Heads = None,
    conf: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Lowest score that counts; lower leaves more to NMS."),
    ] = 0.25,
    memory: Annotated[
        bool,
        typer.Option(
            "--memory/--no-memory", help="Measure memory, of each model in a process of its own."
        ),
    ] = True,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="Write the tables to this file.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all figures to this JSON file.")
    ] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", help="Draw the stages to this picture, e.g. speed.png.")
    ] = None,
) -> None:
    """See HELP."""
    from vision_heads.benchmark import bench as benching  # noqa: PLC0415
    from vision_heads.benchmark.feeds import find_source  # noqa: PLC0415
    from vision_heads.cli.models import comma_separated, pixels  # noqa: PLC0415
    from vision_heads.cli.progress import progress  # noqa: PLC0415

    _check_places(
        {"--markdown": markdown_file, "--json": json_file, "--plot": plot_file},
        (*models, *(source or ())),
    )
    names = comma_separated(heads)
    settings = benching.Settings(
        runs=runs,
        warm_up=warm_up,
        batches=_batches(batch),
        threads=threads,
        provider=provider,
        imgsz=pixels(imgsz),
        heads=None if names is None else tuple(names),
        conf=conf,
        memory=memory,
    )
    report = benching.bench(models, find_source(source) if source else None, settings, progress)
    text = report.to_markdown()
    typer.echo(text, nl=False)
    if markdown_file is not None:
        write_text(markdown_file, text)
    if json_file is not None:
        write_text(json_file, json.dumps(report.to_dict(), indent=1) + "\n")
    if plot_file is not None:
        from vision_heads.benchmark import plot  # noqa: PLC0415

        plot.save(report, plot_file)


def _batches(text: str | None) -> tuple[int, ...]:
    from vision_heads.cli.models import comma_separated  # noqa: PLC0415

    numbers = comma_separated(text)
    if numbers is None:
        return ()
    require(
        numbers and all(number.isdecimal() and int(number) >= 1 for number in numbers),
        f"--batch {text}: must be whole numbers of at least 1, like 1,4,8",
    )
    return tuple(dict.fromkeys(map(int, numbers)))


def _check_places(outputs: dict[str, Path | None], inputs: Sequence[str]) -> None:
    """Refuse files that cannot be written, or that would replace another, before the work."""
    from vision_heads.runtime.engines import SUFFIXES  # noqa: PLC0415

    require_apart(outputs, inputs)
    for option, file in outputs.items():
        if file is None:
            continue
        # An option without its value takes the next word, which often is a model.
        require(file.suffix not in SUFFIXES, f"{option} {file}: is the name of a model file")
        if option == "--plot":
            _check_picture(file)
        _check_place(option, file)


def _check_picture(file: Path) -> None:
    import numpy as np  # noqa: PLC0415

    from vision_heads.benchmark import plot  # noqa: PLC0415

    plot.encoded(np.zeros((8, 8, 3), np.uint8), file)


def _check_place(option: str, file: Path) -> None:
    """Find out whether a file can be written, and leave none behind that was not there."""
    new = not os.path.lexists(file)
    try:
        with file.open("ab"):
            pass
        if new:
            file.unlink()
    except OSError as error:
        raise UserError(f"{option} {file}: {error.strerror}") from error


def register(app: typer.Typer) -> None:
    """Add the command to `vh`."""
    app.command("bench", help=HELP)(bench)
