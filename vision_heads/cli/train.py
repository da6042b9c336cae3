"""`vh train`: from a data-set card to weights."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from vision_heads.cli import options as opt
from vision_heads.errors import UserError
from vision_heads.yaml_file import parse_yaml

_HEAD = re.compile(r"(?P<name>[^=:]+)=(?P<kind>[^:]+):(?P<data>.+)")

EXAMPLES = """
Train heads on data sets, from a YAML of settings, from flags, or both (flags win).

[bold]Examples[/bold]

  vh train --size n --head aerial=detect:visdrone --epochs 100 --imgsz 640

  vh train aerial.yaml --batch 8 --set optimizer.lr=0.001 --set augment.copy_paste=0.3

  vh train --resume --out runs/aerial

  accelerate launch --num_processes 2 -m vision_heads train aerial.yaml

The run's folder holds config.yaml (all settings, resolved), results.csv, curves, pictures of
the first batches, TensorBoard events, report.html, weights/best and weights/last (.safetensors),
and state/ to resume from. Every setting is explained in docs/train.md.
"""


def parse_head(text: str) -> tuple[str, dict[str, str]]:
    """Parse NAME=KIND:CARD, e.g. aerial=detect:visdrone."""
    match = _HEAD.fullmatch(text)
    if not match:
        raise UserError(f"--head {text}: must be NAME=KIND:CARD, e.g. aerial=detect:visdrone")
    return match["name"], {"kind": match["kind"], "data": match["data"]}


def parse_heads(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """Parse several; a name that comes twice would leave the first one out."""
    heads: dict[str, dict[str, str]] = {}
    for name, settings in map(parse_head, texts):
        if name in heads:
            raise UserError(
                f"--head {name}: is given twice; of one head on several cards, "
                f"--set heads.{name}.data=[CARD,CARD]"
            )
        heads[name] = settings
    return heads


def assign(settings: dict[str, Any], text: str) -> None:
    """Apply KEY.SUBKEY=VALUE to nested settings; the value is read as YAML."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UserError(f"--set {text}: must be KEY=VALUE, e.g. optimizer.lr=0.001")
    *parents, last = key.split(".")
    place = settings
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise UserError(f"--set {text}: {parent} holds a value, not settings")
    place[last] = parse_yaml(value, f"--set {text}")


def train(
    config: Annotated[
        Path | None,
        typer.Argument(help="YAML of settings; flags below override it.", show_default=False),
    ] = None,
    *,
    head: Annotated[
        list[str] | None,
        typer.Option(help="A head, NAME=KIND:CARD; repeat for several.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/train"),
    size: Annotated[str | None, typer.Option(help="n, s or m.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    imgsz: Annotated[
        str | None,
        typer.Option(help="Network size in pixels: 640, or HEIGHTxWIDTH."),
    ] = None,
    batch: opt.TrainBatch = None,
    accumulate: Annotated[
        int | None,
        typer.Option(help="Steps whose gradients are averaged before the weights move."),
    ] = None,
    amp: opt.Amp = None,
    device: opt.Device = None,
    workers: opt.Workers = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order, augmentation.")] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from, a file or a shipped name: whatever matches is loaded."
        ),
    ] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Let --init unpickle a file you trust.")
    ] = False,
    fix: opt.Fix = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="Rules of validation: coco, visdrone or headpose."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting, KEY=VALUE; repeat for several."),
    ] = None,
    resume: opt.Resume = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """See EXAMPLES."""
    from vision_heads.cli.models import pixels, torch_module  # noqa: PLC0415

    run = torch_module("vision_heads.training.run")
    sides = pixels(imgsz)
    flags: dict[str, Any] = {
        key: value
        for key, value in {
            "size": size,
            "epochs": epochs,
            "imgsz": list(sides) if sides else None,
            "batch": batch,
            "accumulate": accumulate,
            "amp": amp,
            "device": device,
            "workers": workers,
            "seed": seed,
            "init": init,
            "trust_pickle": trust_pickle or None,
            "fix": fix.split(",") if fix else None,
            "protocol": protocol,
        }.items()
        if value is not None
    }
    if head:
        flags["heads"] = parse_heads(head)
    for text in set_ or ():
        assign(flags, text)
    command = "vh " + shlex.join(sys.argv[1:])
    run.start_run(run.Flags(config, flags, out, command, resume=resume, overwrite=overwrite))


def register(app: typer.Typer) -> None:
    """Add the command to `vh`."""
    app.command("train", help=EXAMPLES)(train)
