"""What `vh export` prints and writes: the FP32 file and its proof, and what the gate found."""

from __future__ import annotations

import json
import math
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_heads.cli.messages import say
from vision_heads.paths import write_text

if TYPE_CHECKING:
    from rich.table import Table

    from vision_heads.cli.export_run import Outcome
    from vision_heads.export.gate import HeadChange, Verdict
    from vision_heads.export.gate_truth import Figures
    from vision_heads.export.onnx import OnnxFile
    from vision_heads.export.parity import Parity

WIDTH = 140
SHOWN = 10
"""Layers of a sensitivity report that are printed; the JSON file has all."""


def report(outcome: Outcome) -> None:
    """Print everything about an export to standard output; refusals to standard error."""
    from rich.console import Console  # noqa: PLC0415

    console = Console(highlight=False)
    console.print(_file_table(outcome.file), soft_wrap=True)
    verdicts = list(outcome.verdicts.values())
    if verdicts:
        console.print()
        # A table cut off at the terminal's edge would hide what it is there for.
        wide = Console(highlight=False, width=max(console.width, WIDTH))
        wide.print(_gate_table(verdicts), crop=False)
        for verdict in verdicts:
            _print_precision(console, verdict)
    _print_sensitivity(console, outcome)
    for name, made in outcome.made.items():
        notes = outcome.verdicts[name].notes if name in outcome.verdicts else made.notes
        for note in dict.fromkeys(notes):
            console.print(f"{name}: {note}", soft_wrap=True, markup=False)
    for paths in outcome.written.values():
        for path in paths:
            console.print(f"written: {path}", soft_wrap=True, markup=False)
    for verdict in verdicts:
        for problem in verdict.problems:
            say(f"{verdict.format}: not written: {problem}")


def write_json(path: Path, outcome: Outcome, model: str) -> None:
    """Write everything the gate found, and what was written where."""
    files = {}
    for name, made in outcome.made.items():
        verdict = outcome.verdicts.get(name)
        record: dict[str, Any] = {} if verdict is None else verdict.to_dict()
        record.pop("path", None)
        record["files"] = [str(file) for file in outcome.written.get(name, ())]
        record["details"] = made.details
        files[name] = record
    parity = outcome.file.parity
    content = {
        "model": model,
        "input": outcome.file.spec.input.model_dump(),
        "opset": outcome.file.opset,
        "proof": None
        if parity is None
        else {"pictures": parity.pictures, "differences": parity.differences},
        "machine": {
            "system": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
        },
        "gated": bool(outcome.verdicts),
        "passed": outcome.passed,
        "formats": files,
    }
    write_text(path, json.dumps(_finite(content), indent=2, default=str) + "\n")


def _finite(value: Any) -> Any:
    """Replace what JSON has no word for by None."""
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _file_table(file: OnnxFile) -> Table:
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
    return table


def _add_proof(table: Table, proof: Parity) -> None:
    from vision_heads.export.parity import tolerance  # noqa: PLC0415

    table.add_row("proved on", f"{proof.pictures} pictures, {proof.candidates} candidates")
    for name, difference in proof.differences.items():
        unit = " px" if name == "boxes" else ""
        table.add_row(
            f"largest {name} difference", f"{difference:.2g}{unit} of {tolerance(name):g} allowed"
        )


def _gate_table(verdicts: list[Verdict]) -> Table:
    from rich.table import Table  # noqa: PLC0415

    heads = verdicts[0].heads
    poses = any(not math.isnan(one.torch.mae) for one in heads)
    several = len(heads) > 1
    titles = ["format", *(["head"] if several else []), "AP50", "change", "AP", "change"]
    titles += ["MAE", "change"] if poses else []
    titles += ["MB", "ms", "x FP32", "computed in", ""]
    table = Table(*titles, box=None, pad_edge=False)
    for column in table.columns:
        column.justify = "left" if column.header in ("format", "head", "") else "right"
        column.no_wrap = True
    for one in heads:
        cells = _figures(one.torch, None, poses)
        table.add_row("torch", *([one.head] if several else []), *cells, *[""] * 5)
    for verdict in verdicts:
        for number, one in enumerate(verdict.heads):
            last = _measures(verdict) if number == 0 else [""] * 5
            row = [verdict.format, *([one.head] if several else [])]
            table.add_row(*row, *_figures(one.file, one, poses), *last)
    return table


def _figures(figures: Figures, change: HeadChange | None, poses: bool) -> list[str]:
    names = ("ap50", "ap", "mae") if poses else ("ap50", "ap")
    cells = []
    for name in names:
        cells.append(_number(getattr(figures, name), "{:.2f}"))
        cells.append(_number(getattr(change.change, name), "{:+.2f}") if change else "")
    return cells


def _measures(verdict: Verdict) -> list[str]:
    from vision_heads.export.gate_precision import share_in  # noqa: PLC0415

    time = verdict.latency
    done, layers = share_in(verdict.executed, verdict.precision)
    return [
        f"{verdict.size / 1e6:.2f}",
        f"{time.file_ms:.1f}" if time else f"{verdict.own_ms:.1f}",
        f"{time.ratio:.2f}" if time else "1",
        f"{done} of {layers} {verdict.precision}",
        "passed" if verdict.passed else "REFUSED",
    ]


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else form.format(value)


def _print_precision(console: Any, verdict: Verdict) -> None:
    from vision_heads.export.gate_precision import describe  # noqa: PLC0415

    if verdict.stored:
        console.print(
            f"{verdict.format} in the file: {describe(verdict.stored)}", soft_wrap=True, style="dim"
        )
    console.print(
        f"{verdict.format} computed by {verdict.provider}: {describe(verdict.executed)}",
        soft_wrap=True,
        style="dim",
    )


def _print_sensitivity(console: Any, outcome: Outcome) -> None:
    """Print what layers lose in INT8, the most sensitive first, where it was measured."""
    from rich.table import Table  # noqa: PLC0415

    for name, made in outcome.made.items():
        rows = made.details.get("sensitivity")
        if not rows:
            continue
        kept = set(made.details["kept_float"])
        console.print(f"{name}: layers by signal to noise in INT8, the {SHOWN} most sensitive")
        table = Table("layer", "kind", "dB", "", box=None, pad_edge=False)
        for row in rows[:SHOWN]:
            decibels = f"{row['sqnr']:.1f}"
            table.add_row(
                row["name"], row["kind"], decibels, "float" if row["name"] in kept else ""
            )
        console.print(table)
