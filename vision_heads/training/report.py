"""The page a run leaves behind: curves, figures, plots and the worst pictures, in one file."""

from __future__ import annotations

import base64
import csv
import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2

from vision_heads.data.sample import DataSplit
from vision_heads.evaluation.plots import write_plots
from vision_heads.evaluation.protocols import protocol_of, score
from vision_heads.evaluation.runner import describe, options_for, predict_split, said_unread
from vision_heads.evaluation.scores import COUNTS, Scores
from vision_heads.media.draw import contact_sheet
from vision_heads.network import load_network
from vision_heads.runtime.predictor import Predictor
from vision_heads.spec import ModelSpec
from vision_heads.torch_engine import TorchEngine
from vision_heads.training.seen import Seen
from vision_heads.training.worst import drawn, worst

_WORST = 12
"""Most pictures on the sheet of the worst."""
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}
img{max-width:100%;height:auto}table{border-collapse:collapse;margin:1em 0}
td,th{border-bottom:1px solid #ddd;padding:.25em .8em;text-align:right}
td:first-child,th:first-child{text-align:left}pre{background:#f5f5f5;padding:1em;overflow:auto}.wide{overflow-x:auto}
"""


def write_report(
    out: Path,
    splits: Mapping[str, DataSplit],
    protocols: Mapping[str, str],
    seen: Sequence[Seen],
    device: str = "cpu",
) -> Path:
    """Score the run's best weights once more and write everything a reader wants to see.

    Args:
        out: the run's folder, with results.csv and weights/.
        splits: validation split of each head that has one.
        protocols: rules of the scoring of each of these heads.
        seen: how often the pictures of each head and card had their turn.
        device: where the network runs.

    Returns:
        `out`/report.html; it needs no other file. The pictures lie beside it too.
    """
    curves = out / "curves.png"
    rows = _rows(out / "results.csv")
    if rows:
        draw_curves(rows, curves)
    weights = out / "weights" / ("best.safetensors" if splits else "last.safetensors")
    network = load_network(weights)
    spec = network.spec
    sections = [_head_line(spec, out), *([_figure("Training", curves)] if rows else [])]
    sections += [_seen_table(seen), _conflict_table(rows)]
    predictor = Predictor(TorchEngine(network, device=device))
    for name, split in splits.items():
        sections += _head_section(predictor, name, split, protocols[name], out)
    sections.append(f"<h2>Settings</h2><pre>{_settings(out)}</pre>")
    page = out / "report.html"
    title = html.escape(out.name)
    page.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<style>{_STYLE}</style><body><h1>{title}</h1>{''.join(sections)}</body></html>\n",
        encoding="utf-8",
    )
    return page


def _head_section(
    predictor: Predictor, name: str, split: DataSplit, protocol: str, out: Path
) -> list[str]:
    head = predictor.spec.head(name)
    lone = protocol_of(protocol).lone_class
    run = predict_split(predictor, split, options_for(protocol), head=head, lone=lone)
    scores = score(split, run.detections, protocol)
    folder = out / "plots" / name
    plots = write_plots(scores, folder)
    confidence = scores.curves.best_confidence
    found = drawn(worst(split, run, confidence, len(split.samples)), _WORST)
    uncompared = describe(run.classes, split.names)
    parts = [
        f"<h2>Head {html.escape(name)}</h2>",
        f"<p>{len(split.samples)} pictures of {html.escape(split.name)}, {split.split}, "
        f"protocol {protocol}; best F1 at confidence {confidence:.2f}.</p>",
        *([f"<p>{html.escape(said_unread(run))}</p>"] if run.unread else []),
        *([f"<p>{html.escape(uncompared)}</p>"] if uncompared else []),
        _numbers(scores),
        *(_figure(plot.stem, plot) for plot in plots),
    ]
    if found:
        sheet = folder / "worst.jpg"
        cv2.imwrite(str(sheet), contact_sheet([picture for _, picture in found], 2, 720))
        parts.append(_figure("Worst pictures: missed red, invented amber, right green", sheet))
        names = "".join(
            f"<li>{html.escape(str(m.sample.image))}: {len(m.missed)} missed, "
            f"{len(m.invented)} invented, {len(m.right)} right</li>"
            for m, _ in found
        )
        parts.append(f"<ol>{names}</ol>")
    return parts


def _head_line(spec: ModelSpec, out: Path) -> str:
    facts = {"size": spec.size, "input": f"{spec.input.height}x{spec.input.width}"}
    facts |= spec.provenance
    rows = "".join(
        f"<tr><td>{html.escape(key)}<td style='text-align:left'>{html.escape(str(value))}"
        for key, value in facts.items()
    )
    return f"<table>{rows}</table><p>Weights: {html.escape(str(out / 'weights'))}</p>"


def _numbers(scores: Scores) -> str:
    return _table("", {"all": scores.numbers}) + _table("class", scores.classes)


def _table(first: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    columns = list(dict.fromkeys(column for numbers in rows.values() for column in numbers))
    heads = "".join(f"<th>{html.escape(column)}" for column in columns)
    body = ""
    for name, numbers in rows.items():
        cells = "".join(f"<td>{_cell(c, numbers.get(c, math.nan))}" for c in columns)
        body += f"<tr><td>{html.escape(name)}{cells}"
    return f"<div class=wide><table><tr><th>{first}{heads}{body}</table></div>"


def _seen_table(seen: Sequence[Seen]) -> str:
    """Say how often pictures had their turn; nothing is repeated or left out unseen."""
    rows = "".join(
        f"<tr><td>{html.escape(row.head)}<td style='text-align:left'>{html.escape(row.card)}"
        f"<td>{row.pictures}<td>{row.least}<td>{row.median:g}<td>{row.most}<td>{row.total}"
        f"<td>{row.never}"
        for row in seen
    )
    return (
        "<h2>How often each picture was seen</h2><p>Turns of its own; what mosaics and mixtures "
        "add to other pictures is not counted.</p><div class=wide><table><tr><th>head"
        "<th style='text-align:left'>card<th>pictures<th>min<th>median<th>max<th>total"
        f"<th>never seen{rows}</table></div>"
    )


def _conflict_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Show the mean cosine of each pair of heads in each stage, where it was measured."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for column, value in row.items():
            if column.startswith("conflict/") and value:
                _, stage, pair = column.split("/")
                found.setdefault(stage, {}).setdefault(pair, []).append(float(value))
    if not found:
        return ""
    means = {
        stage: {pair: sum(values) / len(values) for pair, values in pairs.items()}
        for stage, pairs in found.items()
    }
    return (
        "<h2>Gradient conflict</h2><p>Cosine between the heads' gradients of each stage, mean "
        "over the epochs: below 0, what helps one head harms the other.</p>"
        + _table("stage", means)
    )


def _cell(column: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if column in COUNTS else f"{value:.2f}"


def _figure(title: str, file: Path) -> str:
    kind = "png" if file.suffix == ".png" else "jpeg"
    data = base64.b64encode(file.read_bytes()).decode()
    name = html.escape(title)
    return f'<h3>{name}</h3><img alt="{name}" src="data:image/{kind};base64,{data}">'


def _settings(out: Path) -> str:
    file = out / "config.yaml"
    return html.escape(file.read_text()) if file.is_file() else "(none saved)"


def _rows(table: Path) -> list[dict[str, str]]:
    if not table.is_file():  # its owner may remove it, and resume a run that has ended
        return []
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def draw_curves(rows: list[dict[str, str]], file: Path) -> None:
    """Draw losses, learning rate and validation figures over epochs, one panel each, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    names = list(dict.fromkeys(n for row in rows for n in row if n != "epoch"))
    wanted = [
        n
        for n in names
        if n == "lr" or n.startswith(("loss/", "weight/")) or n.endswith(("/AP50", "/AP"))
    ]
    columns = 3
    lines = math.ceil(len(wanted) / columns)
    figure = Figure(figsize=(4 * columns, 2.8 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    for place, name in enumerate(wanted):
        axes: Any = figure.add_subplot(lines, columns, place + 1)
        points = [(float(r["epoch"]), float(r[name])) for r in rows if r.get(name)]
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 40 else "")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("epoch", fontsize=8)
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=110)
