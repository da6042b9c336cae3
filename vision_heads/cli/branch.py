"""`vh branch`: which heads should share which stages of the neck."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_heads.cli.messages import printing
from vision_heads.errors import UserError, require

if TYPE_CHECKING:
    from rich.console import Console

    from vision_heads.branching.found import Found

branch_app = typer.Typer(
    name="branch",
    help="Branch plans: which heads share which stages of the neck.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

SEARCH = """
Find out from trained single-head models which of them should share what, and what it costs.

Every stage of every model looks at probe pictures of all data sets; stages that see them alike can
be shared (CerberusDet, arXiv 2407.12632). Without a budget the plan at the knee is chosen: the one
that gets rid of most dissimilarity for what it costs. With budgets, the best plan within all of
them. docs/branches.md says what a plan is and how it is scored.

Writes OUT/plan.yaml (`branches:` for a training config), OUT/report.json and
OUT/dissimilarity.png. The models must have one head each and the same size, fusion and activation.

[bold]Examples[/bold]

  vh branch search animals.safetensors indoor.safetensors --data animals.yaml --data indoor.yaml

  vh branch search a=run1/best.safetensors b=run2/best.safetensors --data voc --data coco
  --max-params 4.5M --method rsa --out runs/plan

  vh branch search a.safetensors b.safetensors --data a.yaml --data b.yaml --max-ms 60 --threads 2
"""


@branch_app.callback()
def _group() -> None:
    # Keeps `search` a word of its own although it is the only command.
    pass


@branch_app.command("search", help=SEARCH)
def search(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Weights (.safetensors) of one head each, 2 to 8; NAME=FILE renames the head.",
        ),
    ],
    *,
    data: Annotated[
        list[str],
        typer.Option(help="Data-set card of each model, in their order: give it once a model."),
    ],
    split: Annotated[str, typer.Option(help="Split of the cards to take probes from.")] = "val",
    probes: Annotated[int, typer.Option(min=4, help="Probe pictures of each data set.")] = 100,
    method: Annotated[
        str, typer.Option(help="How stages are compared: dds, or rsa (RDM + Spearman).")
    ] = "dds",
    kernel: Annotated[str, typer.Option(help="Of dds: rbf or linear.")] = "rbf",
    max_params: Annotated[
        str | None, typer.Option(help="Most parameters, as 4500000, 4500k or 4.5M.")
    ] = None,
    max_gflops: Annotated[
        float | None, typer.Option(min=0, help="Most GFLOPs at the input size.")
    ] = None,
    max_ms: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Most milliseconds a picture by ONNX Runtime on this machine's CPU; measures "
            "every stage, so let nothing else run.",
        ),
    ] = None,
    imgsz: Annotated[
        str | None,
        typer.Option(help="Input size: 640, or HEIGHTxWIDTH.", show_default="the models'"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of probes.")] = 0,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="With --max-ms: threads of ONNX Runtime.", show_default="all"),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the models run: cpu or cuda.")] = "cpu",
    out: Annotated[
        Path, typer.Option(help="Folder of the files; those of a search before are replaced.")
    ] = Path("runs/branches"),
) -> None:
    """See SEARCH."""
    from rich.console import Console  # noqa: PLC0415

    from vision_heads.cli.models import pixels, torch_module  # noqa: PLC0415
    from vision_heads.cli.progress import progress  # noqa: PLC0415

    require(
        len(data) == len(models),
        f"--data: {len(data)} given for {len(models)} models; give one for each, in their order",
    )
    settings = _settings(
        probes=probes,
        method=method,
        kernel=kernel,
        seed=seed,
        threads=threads,
        max_params=max_params,
        max_gflops=max_gflops,
        max_ms=max_ms,
    )
    _check_folder(out)
    sources = [_source(model) for model in models]
    singles_module = torch_module("vision_heads.branching.singles")
    from vision_heads.branching.found import search_branches, write_found  # noqa: PLC0415
    from vision_heads.data.card import load_split  # noqa: PLC0415

    singles = singles_module.read_singles(sources)
    spec = singles_module.together_spec(singles, pixels(imgsz))
    splits = [load_split(card, split) for card in data]
    target = _device(device)
    for single in singles:
        single.network.to(target)
    found = search_branches(singles, splits, spec, settings, progress)
    written = write_found(found, out)
    with printing():  # not before: a table that nobody reads must not cost the files
        _report(found, Console(highlight=False, soft_wrap=True))
        for file in written:
            typer.echo(f"written: {file}")


def _settings(
    *, max_params: str | None, max_gflops: float | None, max_ms: float | None, **others: Any
) -> Any:
    from vision_heads.branching.similarity import KERNELS, METHODS  # noqa: PLC0415

    for option, known in (("method", METHODS), ("kernel", KERNELS)):
        given = others[option]
        require(given in known, f"--{option} {given}: must be {' or '.join(known)}")
    for option, limit in (("max-gflops", max_gflops), ("max-ms", max_ms)):
        require(
            limit is None or math.isfinite(limit), f"--{option} {limit}: must be a finite number"
        )
    from vision_heads.cli.models import torch_module  # noqa: PLC0415

    found = torch_module("vision_heads.branching.found")
    limits = found.Budget(
        parameters=None if max_params is None else _number(max_params),
        flops=None if max_gflops is None else int(max_gflops * 1e9),
        ms=max_ms,
    )
    return found.Settings(budget=limits, **others)


def _number(text: str) -> int:
    """Parse 4500000, 4500k or 4.5M."""
    factor = {"k": 1e3, "m": 1e6}.get(text[-1:].lower(), 1)
    digits = text if factor == 1 else text[:-1]
    try:
        return round(float(digits.replace(",", "")) * factor)
    except (ValueError, OverflowError) as error:
        raise UserError(f"--max-params {text}: must be a number such as 4.5M") from error


def _source(model: str) -> tuple[str | None, Path]:
    """Split NAME=FILE; a file whose name holds a '=' is a file."""
    from vision_heads.runtime.engines import safetensors_of  # noqa: PLC0415

    name, sign, file = model.partition("=")
    if not sign or Path(model).exists() or "/" in name:
        return None, safetensors_of(model)
    return name, safetensors_of(file)


def _check_folder(out: Path) -> None:
    """Refuse a folder that could not be written, before the long work."""
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    require(there.is_dir(), f"--out {out}: {there} is no folder")
    require(os.access(there, os.W_OK), f"--out {out}: {there} cannot be written to")


def _device(name: str) -> Any:
    import torch  # noqa: PLC0415

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name}: no such device") from error
    require(device.type in ("cpu", "cuda"), f"--device {name}: must be cpu or cuda")
    require(
        device.type == "cpu" or torch.cuda.is_available(),
        f"--device {name}: asked for, but torch sees no GPU",
    )
    return device


def _report(found: Found, console: Console) -> None:
    from vision_heads.branching.plans import describe  # noqa: PLC0415
    from vision_heads.branching.tables import matrix_tables, plans_table  # noqa: PLC0415

    def say(text: str) -> None:
        console.print(text, markup=False)

    for single, probes in zip(found.singles, found.probes, strict=True):
        lacks = [s for s in found.matrices if s not in single.network.spec.stages]
        say(
            f"{single.name}: {len(probes.samples)} probes out of {len(probes.split.samples)} "
            f"pictures of {probes.split.name} ({probes.split.split})"
            + (f"; its own model has no {', '.join(lacks)}" if lacks else "")
        )
        if probes.unread:
            say(f"{len(probes.unread)} pictures cannot be read; first {probes.unread[0]}")
    console.print(matrix_tables(found), crop=False)
    looked = "all scored" if found.exact else "searched by beam"
    say(f"{found.count:,} monotone plans, {looked}; {len(found.plans):,} kept")
    console.print(plans_table(found), crop=False)
    say(f"chosen: {describe(found.branches(found.chosen))} ({found.rule()})")
    if found.measured_ms is not None:
        say(
            f"its network takes {found.measured_ms:.1f} ms, put together from its parts "
            f"{found.chosen.cost.ms:.1f} ms"
        )


def register(app: typer.Typer) -> None:
    """Add the commands to `vh`."""
    app.add_typer(branch_app)
