"""`vh train`: from a data-set card to weights."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
import yaml

from vision_heads.errors import UserError

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
    try:
        place[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"--set {text}: {value!r} is not readable as YAML") from error


def train(
    config: Annotated[
        Optional[Path],  # noqa: UP045  (typer on Python 3.10 needs Optional)
        typer.Argument(help="YAML of settings; flags below override it.", show_default=False),
    ] = None,
    head: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="A head, NAME=KIND:CARD; repeat for several.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/train"),
    size: Annotated[Optional[str], typer.Option(help="n, s or m.")] = None,  # noqa: UP045
    epochs: Annotated[Optional[int], typer.Option(help="Passes over the data.")] = None,  # noqa: UP045
    imgsz: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Network size in pixels: 640, or HEIGHTxWIDTH."),
    ] = None,
    batch: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Pictures a step, over all processes."),
    ] = None,
    accumulate: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Steps whose gradients are averaged before the weights move."),
    ] = None,
    amp: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Arithmetic: auto, off, bf16 or fp16."),
    ] = None,
    device: Annotated[Optional[str], typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,  # noqa: UP045
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Processes that load pictures; 0 loads in the training process."),
    ] = None,
    seed: Annotated[Optional[int], typer.Option(help="Of weights, order, augmentation.")] = None,  # noqa: UP045
    init: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Weights to start from: whatever matches is loaded and reported."),
    ] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Let --init unpickle a file you trust.")
    ] = False,
    fix: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Mend broken labels: clip, drop, or clip,drop. Without it they refuse."),
    ] = None,
    protocol: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Rules of validation: coco, visdrone or headpose."),
    ] = None,
    set_: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", help="Any other setting, KEY=VALUE; repeat for several."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out exactly where it was.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew in a folder that holds a run.")
    ] = False,
) -> None:
    """See EXAMPLES."""
    from vision_heads.cli.models import torch_module  # noqa: PLC0415

    run = torch_module("vision_heads.training.run")

    flags: dict[str, Any] = {
        key: value
        for key, value in {
            "size": size,
            "epochs": epochs,
            "imgsz": _pixels(imgsz),
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
        flags["heads"] = dict(parse_head(text) for text in head)
    for text in set_ or ():
        assign(flags, text)
    command = "vh " + shlex.join(sys.argv[1:])
    run.start_run(run.Flags(config, flags, out, command, resume=resume, overwrite=overwrite))


def _pixels(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2):
        raise UserError(f"--imgsz {text}: must be a number of pixels or HEIGHTxWIDTH")
    return sides * 2 if len(sides) == 1 else sides


def register(app: typer.Typer) -> None:
    """Add the command to `vh`."""
    app.command("train", help=EXAMPLES)(train)
