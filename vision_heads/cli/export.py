"""`vh export`: weights to a file that runs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from vision_heads.export.onnx import OnnxFile
    from vision_heads.export.parity import Parity

EXAMPLES = """
Write weights as ONNX, to run without torch, and prove that both compute the same.

The file carries the model's description, and the best candidates are chosen before their boxes
are decoded. It appears only after network and file have run the same pictures and agreed: boxes
within 0.05 pixels, scores within 0.001. Exit code 1 and no file if they do not.

[bold]Examples[/bold]

  vh export runs/aerial/weights/best.safetensors

  vh export best.safetensors --output best-960.onnx --imgsz 960 --candidates 3000

  vh export best.safetensors --dynamic-batch --data visdrone --split val

  vh export joint.safetensors --heads animals,vehicles --output two.onnx
"""


def export(
    model: Annotated[str, typer.Argument(help="Weights (.safetensors), or a shipped name.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file; beside MODEL, ending in .onnx, if none."),
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option(help="Heads the file gets, comma-separated.", show_default="all"),
    ] = None,
    imgsz: Annotated[
        str | None,
        typer.Option(help="Network size: 640, or HEIGHTxWIDTH. The model's own if none."),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(help="Best candidates each head gives. The model's own number if none."),
    ] = None,
    dynamic_batch: Annotated[
        bool, typer.Option("--dynamic-batch", help="Take any number of pictures a call, not one.")
    ] = False,
    opset: Annotated[int, typer.Option(help="ONNX operator set, 14 to 20.")] = 17,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Picture or folder to prove the file on; the demo set if none."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Data-set card whose pictures to prove the file on."),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of --data.")] = "val",
    count: Annotated[int, typer.Option(min=1, help="Pictures to prove the file on.")] = 4,
) -> None:
    """See EXAMPLES."""
    from vision_heads.cli.models import (  # noqa: PLC0415
        comma_separated,
        pixels,
        safetensors_of,
        torch_module,
    )

    weights = safetensors_of(model)
    chosen = comma_separated(heads)
    target = output or _beside(model, weights, chosen)
    network = torch_module("vision_heads.network").load_network(weights)
    exporter = torch_module("vision_heads.export.onnx")
    from vision_heads.export.parity import ParityError  # noqa: PLC0415
    from vision_heads.export.pictures import proof_pictures  # noqa: PLC0415

    try:
        file = exporter.export_onnx(
            network,
            target,
            heads=chosen,
            imgsz=pixels(imgsz),
            candidates=candidates,
            dynamic_batch=dynamic_batch,
            opset=opset,
            pictures=proof_pictures(pictures, data, split, count),
        )
    except ParityError as error:
        typer.echo(f"vh: {weights}: {error}; nothing was written", err=True)
        raise typer.Exit(1) from error
    _report(file)


def _beside(model: str, weights: Path, heads: list[str] | None) -> Path:
    """Beside the weights; shipped ones are not ours to write beside, so the current folder.

    A part of the heads is named after them, so that it does not replace the whole.
    """
    folder = weights.parent if Path(model).suffix else Path()
    return folder / f"{'-'.join([weights.stem, *(heads or ())])}.onnx"


def _report(file: OnnxFile) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    size = file.spec.input
    batch: Any = next(iter(file.outputs.values()))[0]
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("input", f"images ({batch}, 3, {size.height}, {size.width}) float32, RGB / 255")
    for name, shape in file.outputs.items():
        table.add_row("output", f"{name} ({', '.join(map(str, shape))})")
    table.add_row("opset", str(file.opset))
    table.add_row("size", f"{file.size / 1e6:.2f} MB")
    nodes = ", ".join(f"{count} {name}" for name, count in file.operators.items())
    table.add_row("nodes", f"{sum(file.operators.values())}: {nodes}")
    if file.parity:
        _add_proof(table, file.parity)
    console = Console(highlight=False)
    console.print(table, soft_wrap=True)
    console.print(f"written: {file.path}", soft_wrap=True)


def _add_proof(table: Table, proof: Parity) -> None:
    from vision_heads.export.parity import tolerance  # noqa: PLC0415

    table.add_row("proved on", f"{proof.pictures} pictures, {proof.candidates} candidates")
    for name, difference in proof.differences.items():
        unit = " px" if name == "boxes" else ""
        table.add_row(
            f"largest {name} difference", f"{difference:.2g}{unit} of {tolerance(name):g} allowed"
        )


def register(app: typer.Typer) -> None:
    """Add the command to `vh`."""
    app.command("export", help=EXAMPLES)(export)
