"""`vh info`: what a model is, what it costs and where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_heads.errors import UserError, require

if TYPE_CHECKING:
    from rich.console import Console

    from vision_heads.measure import Measures
    from vision_heads.spec import ModelSpec

EXAMPLES = """
Show a model's parts, parameters, GFLOPs, strides, classes and provenance.

Parameters are those of training (batch norms not yet folded); a GFLOP is 10^9 floating-point
operations, two for each multiply-add of a convolution, for one picture of the input size.
Weights (.safetensors) need torch; exported files (.onnx, .engine, .xml) do not.

Of a model of several heads, the tree shows which heads share each stage of the neck, what every
copy of a stage costs, and what sharing saves against a model of each head alone. How to plan such
a tree: docs/branches.md.

[bold]Examples[/bold]

  vh info aerial-n

  vh info runs/aerial/weights/best.safetensors --imgsz 960

  vh info --size s --classes 10 --levels 3,4,5
"""


def info(
    model: Annotated[
        str | None,
        typer.Argument(help="Model file (.onnx, .engine, .xml, .safetensors) or shipped name."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Without MODEL: size of a model to describe, n, s or m."),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(min=1, help="Without MODEL: number of classes.", show_default="10"),
    ] = None,
    levels: Annotated[
        str | None,
        typer.Option(
            help="Without MODEL: pyramid levels of its one head, out of 2,3,4,5.",
            show_default="2,3,4,5",
        ),
    ] = None,
    fusion: Annotated[
        str | None,
        typer.Option(
            help="Without MODEL: block of the neck's fusion stages, c2f or irdcb.",
            show_default="c2f",
        ),
    ] = None,
    imgsz: Annotated[
        str | None,
        typer.Option(help="Input size the GFLOPs are for: 640, or HEIGHTxWIDTH."),
    ] = None,
) -> None:
    """See EXAMPLES."""
    from rich.console import Console  # noqa: PLC0415

    from vision_heads.cli.models import EXPORTED, read_exported, torch_module  # noqa: PLC0415
    from vision_heads.runtime.engines import resolve_weights  # noqa: PLC0415

    require((model is None) != (size is None), "give a MODEL, or --size of one to describe")
    console = Console(highlight=False, soft_wrap=True)
    if model is None:
        spec = _planned(str(size), classes, levels, fusion)
        _show(console, "a new model", spec, _measured(spec, imgsz))
        return
    planned = {"--classes": classes, "--levels": levels, "--fusion": fusion}
    given = ", ".join(option for option, value in planned.items() if value is not None)
    require(not given, f"{given}: of a model to describe by --size; {model} has its own")
    file = resolve_weights(model)
    if file.suffix in EXPORTED:
        require(imgsz is None, f"{file}: its input size is fixed; --imgsz is for .safetensors")
        _show(console, str(file), *read_exported(file))
        kinds = {".onnx": _show_onnx, ".engine": _show_engine, ".xml": _show_openvino}
        kinds[file.suffix](console, file)
        return
    spec = torch_module("vision_heads.network").read_spec(file)
    _show(console, str(file), spec, _measured(spec, imgsz))
    console.print(f"file         {file.stat().st_size / 1e6:.2f} MB")


def _planned(size: str, classes: int | None, levels: str | None, fusion: str | None) -> ModelSpec:
    from pydantic import ValidationError  # noqa: PLC0415

    from vision_heads.spec import ModelSpec, first_problem  # noqa: PLC0415

    numbers = ("2,3,4,5" if levels is None else levels).split(",")
    require(all(number.isdecimal() for number in numbers), f"--levels {levels}: must be like 3,4,5")
    head: dict[str, Any] = {
        "name": "detect",
        "classes": tuple(f"class {number}" for number in range(classes or 10)),
        "levels": tuple(map(int, numbers)),
    }
    try:
        return ModelSpec.model_validate({"size": size, "fusion": fusion or "c2f", "heads": (head,)})
    except ValidationError as error:
        raise UserError(f"vh info: {first_problem(error)}") from error


def _measured(spec: ModelSpec, imgsz: str | None) -> Measures:
    from vision_heads.cli.models import pixels, torch_module  # noqa: PLC0415

    height, width = pixels(imgsz) or (spec.input.height, spec.input.width)
    torch_module("torch")
    from vision_heads.measure import measure  # noqa: PLC0415

    return measure(spec, height, width)


def _show_onnx(console: Console, file: Path) -> None:
    from vision_heads.export.inspect import read_onnx  # noqa: PLC0415

    content = read_onnx(file)
    console.print(f"file         {content.size / 1e6:.2f} MB, ONNX operator set {content.opset}")
    nodes = ", ".join(f"{count} {name}" for name, count in content.operators.items())
    console.print(f"nodes        {sum(content.operators.values())}: {nodes}")
    console.print(f"constants    {content.numbers:,} numbers, batch norms folded")


def _show_openvino(console: Console, file: Path) -> None:
    from vision_heads.export.inspect import read_openvino  # noqa: PLC0415

    weights = file.with_suffix(".bin")
    size = sum(one.stat().st_size for one in (file, weights) if one.is_file())
    held = "with its .bin" if weights.is_file() else f"without its weights {weights.name}"
    precision = read_openvino(file).get("precision", "a precision it does not say")
    console.print(f"file         {size / 1e6:.2f} MB {held}, computed in {precision}")


def _show_engine(console: Console, file: Path) -> None:
    from vision_heads.runtime.tensorrt_file import precisions, read_facts  # noqa: PLC0415

    facts = read_facts(file)
    size = f"{file.stat().st_size / 1e6:.2f} MB"
    console.print(f"file         {size}, built from {facts.source}", markup=False)
    console.print(
        f"for          {facts.gpu} (compute capability {facts.capability}), TensorRT "
        f"{facts.tensorrt}, CUDA {facts.cuda} (driver {facts.driver})"
    )
    batch = "-".join(map(str, dict.fromkeys(facts.batch)))
    dla = "" if facts.dla is None else f", DLA core {facts.dla} ({len(facts.on_gpu)} nodes off it)"
    console.print(f"precision    {facts.precision}, batch {batch}{dla}")
    for operator, row in precisions(facts.layers).items():
        numbers = ", ".join(f"{number} {name}" for name, number in row.items())
        console.print(f"layers       {operator}: {numbers}", markup=False)
    console.print(f"rebuild      {facts.rebuild}", markup=False)


def _show(console: Console, title: str, spec: ModelSpec, measures: Measures | None) -> None:
    console.print(title, style="bold", markup=False)
    console.print(
        f"network      size {spec.size}, {spec.fusion} fusion, {spec.activation}, "
        f"{spec.candidates} candidates"
    )
    console.print(f"input        {spec.input.height} x {spec.input.width} (height x width), RGB")
    for head in spec.heads:
        strides = ", ".join(f"P{level} stride {2**level}" for level in head.levels)
        console.print(f"head         {head.name} ({head.kind}): {strides}")
        console.print(f"classes      {len(head.classes)}: {', '.join(head.classes)}", markup=False)
    if spec.nms is not None:
        limits = f"conf {spec.nms.conf:g}, iou {spec.nms.iou:g}"
        console.print(f"nms          in the file: {limits}, at most {spec.nms.max_det} a head")
    for name, members in spec.merge.items():
        console.print(f"merged       {name}: {', '.join(members)}", markup=False)
    if measures:
        console.print(_parts_table(measures))
    if len(spec.heads) > 1:
        _show_tree(console, spec, measures)
    for key, value in spec.provenance.items():
        console.print(f"{key:12} {value}", markup=False)


def _parts_table(measures: Measures) -> Any:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    table.add_column("part")
    for title in ("layers", "parameters", f"GFLOPs at {measures.height} x {measures.width}"):
        table.add_column(title, justify="right")
    for part in (*measures.parts, measures.total):
        table.add_row(
            part.name, str(part.layers), f"{part.parameters:,}", f"{part.flops / 1e9:.2f}"
        )
    return table


def _show_tree(console: Console, spec: ModelSpec, measures: Measures | None) -> None:
    from vision_heads.branching.tree import tree_table  # noqa: PLC0415
    from vision_heads.measure import separate  # noqa: PLC0415

    table = tree_table(spec, measures)
    console.print()
    console.print(table, crop=False)
    alone = separate(spec, measures) if measures else None
    if measures is None or alone is None:
        return
    total = measures.total
    parameters = sum(part.parameters for part in alone)
    flops = sum(part.flops for part in alone)
    console.print(
        f"sharing      {total.parameters:,} parameters instead of {parameters:,} of "
        f"{len(alone)} separate models ({1 - total.parameters / parameters:.0%} saved), "
        f"{total.flops / 1e9:.2f} GFLOPs instead of {flops / 1e9:.2f} "
        f"({1 - total.flops / flops:.0%} saved)"
    )


def register(app: typer.Typer) -> None:
    """Add the command to `vh`."""
    app.command("info", help=EXAMPLES)(info)
