"""`vh heads add`: train new heads on a trunk that stays as it is."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from vision_heads.cli import options as opt
from vision_heads.errors import require

EXAMPLES = """
Train new heads on a trained model; what its heads find stays the same, bit by bit.

Everything in MODEL is frozen: backbone, neck, heads, and their batch norms' statistics. With
--branch the new head also gets copies of the neck's stages from that one on, which start as the
shared ones are and learn. It is a training like any other: the settings of vh train hold, the
run's folder is the same, --resume goes on. Size, input size and precision are the model's own.

[bold]Examples[/bold]

  vh heads add aerial-n --head boats=detect:boats.yaml --epochs 30 --out runs/boats

  vh heads add aerial-n --head boats=detect:boats.yaml --branch up_p3 --out runs/boats

  vh heads add joint.safetensors --head boats=boats-head.yaml --like vehicles --out runs/boats

  vh heads add --resume --out runs/boats
"""


def add(
    model: Annotated[
        str | None,
        typer.Argument(help="Weights (.safetensors), or a shipped name.", show_default=False),
    ] = None,
    *,
    head: Annotated[
        list[str] | None,
        typer.Option(
            help="A new head, NAME=KIND:CARD, or NAME=FILE.yaml with the head's settings "
            "(kind, data, levels, options); repeat for several.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/add"),
    config: Annotated[
        Path | None, typer.Option(help="YAML of settings, as vh train reads it; flags override it.")
    ] = None,
    branch: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE",
            help="Neck stage from which each new head has copies of its own: down_p4, down_p3, "
            "down_p2, up_p3, up_p4 or up_p5. Without it the neck is shared and frozen.",
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="HEAD", help="In a model with branches: the head whose branches to follow."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Times every picture is seen.")] = None,
    imgsz: Annotated[
        str | None,
        typer.Option(help="Size to train at, 640 or HEIGHTxWIDTH; the model's own if none."),
    ] = None,
    batch: opt.TrainBatch = None,
    amp: opt.Amp = None,
    device: opt.Device = None,
    workers: opt.Workers = None,
    seed: Annotated[int | None, typer.Option(help="Of new weights, order, augmentation.")] = None,
    fix: opt.Fix = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting of vh train, KEY=VALUE; repeatable."),
    ] = None,
    resume: opt.Resume = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """See EXAMPLES."""
    from vision_heads.cli.models import pixels, torch_module  # noqa: PLC0415
    from vision_heads.cli.train import assign  # noqa: PLC0415
    from vision_heads.runtime.engines import safetensors_of  # noqa: PLC0415

    run = torch_module("vision_heads.training.run")
    size = pixels(imgsz)
    given = {
        "epochs": epochs,
        "imgsz": list(size) if size else None,
        "batch": batch,
        "amp": amp,
        "device": device,
        "workers": workers,
        "seed": seed,
        "fix": fix.split(",") if fix else None,
    }
    flags: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if head:
        flags["heads"] = _heads(head)
    add_to = {"branch": branch, "like": like}
    flags |= {"add_to": {k: v for k, v in add_to.items() if v}} if branch or like else {}
    for text in set_ or ():
        assign(flags, text)
    if resume:
        require(model is None and config is None, "--resume continues with the run's own settings")
        settings = flags
    else:
        require(model, "name the MODEL that gets the heads")
        partial = torch_module("vision_heads.training.partial")
        settings = run.read_settings(config) if config else {}
        run.merge(settings, flags)
        partial.complete(settings, safetensors_of(str(model)))
    command = "vh " + shlex.join(sys.argv[1:])
    run.start_run(run.Flags(config, settings, out, command, resume=resume, overwrite=overwrite))


def _heads(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parse several; a name that comes twice would leave the first one out."""
    heads: dict[str, dict[str, Any]] = {}
    for name, settings in map(_head, texts):
        require(name not in heads, f"--head {name}: is given twice")
        heads[name] = settings
    return heads


def _head(text: str) -> tuple[str, dict[str, Any]]:
    """Parse NAME=KIND:CARD, or NAME=FILE.yaml."""
    from vision_heads.cli.models import torch_module  # noqa: PLC0415
    from vision_heads.cli.train import parse_head  # noqa: PLC0415

    name, _, value = text.partition("=")
    if name and ":" not in value and value.endswith((".yaml", ".yml")):
        settings = torch_module("vision_heads.training.config").read_settings(Path(value))
        return name, settings
    found: tuple[str, dict[str, Any]] = parse_head(text)
    return found


def register(app: typer.Typer) -> None:
    """Add the command to `vh heads`."""
    app.command("add", help=EXAMPLES)(add)
