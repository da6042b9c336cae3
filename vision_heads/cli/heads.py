"""`vh heads`: add heads to a trained model, cut them out, put models together, rename, list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_heads.cli import heads_add
from vision_heads.errors import require

if TYPE_CHECKING:
    from vision_heads.measure import Measures
    from vision_heads.spec import ModelSpec

heads_app = typer.Typer(
    name="heads",
    help="Look after a model's heads: add, extract, merge, list, rename, drop.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

heads_add.register(heads_app)

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Weights (.safetensors), or a shipped name.")
]
HeadsArgument = Annotated[list[str], typer.Argument(metavar="HEAD...", help="Names of heads.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="The new file (.safetensors).")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")]


@heads_app.command()
def extract(
    model: ModelArgument, heads: HeadsArgument, out: OutOption, force: ForceOption = False
) -> None:
    """Cut heads out as a smaller model whose outputs are equal, bit by bit.

    What only the other heads need is left out. Terms and data of the whole model still hold, as
    the trunk has learned from all of it.

    Examples:

        vh heads extract joint.safetensors pose --out pose.safetensors

        vh heads extract runs/joint/weights/best.safetensors animals vehicles -o two.safetensors
    """
    _write(out, force, [model], lambda cut, models: cut.extract(models[0], heads))


@heads_app.command()
def drop(
    model: ModelArgument, heads: HeadsArgument, out: OutOption, force: ForceOption = False
) -> None:
    """Leave heads out; the outputs of the others stay equal, bit by bit.

    Examples:

        vh heads drop joint.safetensors pose --out without-pose.safetensors
    """
    _write(out, force, [model], lambda cut, models: cut.drop(models[0], heads))


@heads_app.command()
def rename(
    model: ModelArgument,
    names: Annotated[
        list[str], typer.Argument(metavar="OLD=NEW...", help="Heads and their new names.")
    ],
    out: OutOption,
    force: ForceOption = False,
) -> None:
    """Give heads other names, also in branches and in the classes that results unite.

    All at once, so that a=b b=a lets two heads change names.

    Examples:

        vh heads rename aerial-n aerial=traffic --out traffic-n.safetensors
    """
    pairs = dict(_pair(text) for text in names)
    require(len(pairs) == len(names), f"a head is renamed twice in {' '.join(names)}")
    _write(out, force, [model], lambda cut, models: cut.rename(models[0], pairs))


@heads_app.command()
def merge(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Two or more (.safetensors or shipped).")
    ],
    out: OutOption,
    imgsz: Annotated[
        str | None,
        typer.Option(help="Input size, 640 or HEIGHTxWIDTH; needed where the models' differ."),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(min=1, help="Boxes a head exports; needed where the models' differ."),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Put models that share a trunk together; every head's outputs stay equal, bit by bit.

    The backbones must be the same, number for number: the models were trained together, or grown
    from one another by vh heads add. Where the necks differ they become branches.

    Examples:

        vh heads merge animals.safetensors vehicles.safetensors --out both.safetensors
    """
    from vision_heads.cli.models import pixels, torch_module  # noqa: PLC0415

    size = pixels(imgsz)
    join = torch_module("vision_heads.surgery.join")
    _write(out, force, models, lambda _, m: join.merge(m, imgsz=size, candidates=candidates))


@heads_app.command("list")
def list_heads(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Model (.onnx, .engine, .xml, .safetensors) or shipped name.",
        ),
    ],
) -> None:
    """Show each head's kind, classes, levels, cost, and whom it shares the neck with.

    Parameters and GFLOPs are the head's own, at the model's input size; the neck's and the
    backbone's come on top, and are shown below. Exported files need no torch.

    Examples:

        vh heads list aerial-n
    """
    from rich.console import Console  # noqa: PLC0415

    from vision_heads.cli.models import EXPORTED, read_exported, torch_module  # noqa: PLC0415
    from vision_heads.runtime.engines import resolve_weights  # noqa: PLC0415

    file = resolve_weights(model)
    if file.suffix in EXPORTED:
        spec, measures = read_exported(file)
    else:
        spec = torch_module("vision_heads.network").read_spec(file)
        measures = torch_module("vision_heads.measure").measure(spec)
    console = Console(highlight=False)
    console.print(str(file), soft_wrap=True, markup=False)
    console.print(_table(spec, measures))


def _pair(text: str) -> tuple[str, str]:
    old, sign, new = text.partition("=")
    require(old and sign and new, f"{text}: must be OLD=NEW, e.g. aerial=traffic")
    return old, new


def _write(out: Path, force: bool, models: list[str], make: Any) -> None:
    """Read models, make one of them, write it and say what it is."""
    from vision_heads.cli.models import torch_module  # noqa: PLC0415
    from vision_heads.runtime.engines import safetensors_of  # noqa: PLC0415

    files = torch_module("vision_heads.surgery.model")
    files.check_target(out, force=force)
    read = [files.read_model(safetensors_of(model)) for model in models]
    spec, state = make(torch_module("vision_heads.surgery.cut"), read)
    half = all(model.half for model in read)
    files.write_model(out, spec, state, half=half, force=force)
    heads = ", ".join(head.name for head in spec.heads)
    typer.echo(f"written: {out} ({heads}; {'FP16' if half else 'FP32'})")


def _table(spec: ModelSpec, measures: Measures | None) -> Any:
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for title in ("head", "kind", "classes", "levels", "parameters", "GFLOPs", "neck"):
        right = title in ("classes", "parameters", "GFLOPs")
        table.add_column(title, justify="right" if right else "left", no_wrap=title == "head")
    costs = {
        part.name: (f"{part.parameters:,}", f"{part.flops / 1e9:.2f}")
        for part in (measures.parts if measures else ())
    }
    for head in spec.heads:
        levels = " ".join(f"P{level}" for level in head.levels)
        cost = costs.pop(head.name, ("-", "-"))
        classes = str(len(head.classes))
        table.add_row(
            escape(head.name), head.kind, classes, levels, *cost, sharing(spec, head.name)
        )
    for name, cost in costs.items():
        table.add_row(f"({name})", "", "", "", *cost, "")
    return table


def sharing(spec: ModelSpec, head: str) -> str:
    """Say with whom a head shares the neck, and from which stages on with fewer."""
    others = {other.name for other in spec.heads} - {head}
    steps: list[str] = []
    for stage in spec.route(head) if others else ():
        group = next(set(group) for group in spec.groups(stage) if head in group) - {head}
        if group != others:
            named = [name for name in (h.name for h in spec.heads) if name in group]
            steps.append(f"from {stage} " + (f"with {', '.join(named)}" if named else "alone"))
            others = group
    return ", ".join(steps) or ("shared by all" if len(spec.heads) > 1 else "-")


def register(app: typer.Typer) -> None:
    """Add the commands to `vh`."""
    app.add_typer(heads_app)
