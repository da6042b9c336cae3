"""`vh eval`: score a model, or any program's results, against a data set."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_heads.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import Console

    from vision_heads.data.sample import DataSplit
    from vision_heads.evaluation.protocols import Protocol
    from vision_heads.evaluation.records import Found
    from vision_heads.evaluation.scores import Scores
    from vision_heads.heads.base import DecodeOptions

_HELP = """Score a model, or any program's results, against a data set.

The protocol [b]coco[/b] gives COCO's twelve numbers and a bin for objects under 16 px;
[b]visdrone[/b] gives exactly what the official VisDrone2018-DET toolkit does; [b]headpose[/b] gives
detection AP, recall, and DirectMHP's errors of pitch, yaw and roll. docs/evaluation.md and
docs/head-pose.md say what each number means.

[b]Examples[/b]

  vh eval aerial-n --data visdrone

  vh eval runs/street/best.safetensors --data visdrone --protocol visdrone --plots plots

  vh eval --predictions results.json --data card.yaml --json scores.json

  vh eval --predictions poses.json --data agora-hpe --protocol headpose --json scores.json

  vh eval --predictions submission/ --data card.yaml --sizes sizes.csv --protocol visdrone
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("eval", help=_HELP)(evaluate)


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(help="Weights: a .safetensors or .onnx file, or a shipped name."),
    ] = None,
    *,
    data: Annotated[str, typer.Option(help="Data-set card: a YAML file or a shipped name.")],
    split: Annotated[str, typer.Option(help="Which split of the card.")] = "val",
    protocol: Annotated[
        str, typer.Option(help="Rules to score by: coco, visdrone or headpose.")
    ] = "coco",
    head: Annotated[
        str | None, typer.Option(help="Head to score, when the model has several.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Score these results instead of a model's: a COCO results JSON (with pitch, yaw "
            "and roll for headpose), or a folder of VisDrone submission txt files."
        ),
    ] = None,
    sizes: Annotated[
        Path | None,
        typer.Option(help="CSV of name,width,height; the pictures then need not be there."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every number to this file.")
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            help="Draw pr.png, f1.png and confusion.png into this folder; for headpose also "
            "yaw.png, angles.png and worst.png."
        ),
    ] = None,
    save_predictions: Annotated[
        Path | None,
        typer.Option(
            help="Keep the scored results: a .json file (COCO results), or else a folder of "
            "VisDrone submission files."
        ),
    ] = None,
    conf: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, show_default="0.001", help="Lowest score of a model's result."
        ),
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, show_default="0.7", help="NMS threshold of a model's results."
        ),
    ] = None,
    max_det: Annotated[
        int | None,
        typer.Option(min=1, show_default="1000, visdrone 500", help="Most results a picture."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, show_default="all cores", help="Threads of the network.")
    ] = None,
) -> None:
    """Score a model, or any program's results, against a data set."""
    from rich.console import Console  # noqa: PLC0415

    from vision_heads.data.card import load_split  # noqa: PLC0415
    from vision_heads.evaluation.predictions import read_sizes, write_predictions  # noqa: PLC0415
    from vision_heads.evaluation.protocols import protocol_of  # noqa: PLC0415

    if (model is None) == (predictions is None):
        raise UserError("give either a model or --predictions PATH")
    rules = protocol_of(protocol)
    notes = Console(stderr=True)
    given = None if sizes is None else read_sizes(sizes)
    truth = load_split(
        data,
        split,
        images_needed=predictions is None,
        sizes=given,
    )
    if not truth.samples:
        raise UserError(f"{data}: the split {split!r} holds no pictures")
    _note_data(notes, truth, given or {})
    if predictions is not None:
        found = _read(predictions, truth, rules, notes)
    else:
        from vision_heads.evaluation.runner import options_for  # noqa: PLC0415

        options = options_for(protocol, conf=conf, iou=iou, max_det=max_det)
        found = _run(str(model), truth, rules, notes, head=head, options=options, threads=threads)
    scores = rules.score(truth, found)
    _report(scores, Console())
    if save_predictions is not None:
        write_predictions(save_predictions, truth, found)
        _note(notes, f"results are in {save_predictions}")
    if json_file is not None:
        _write_json(scores, json_file, truth, str(model or predictions))
        _note(notes, f"numbers are in {json_file}")
    if plots is not None:
        from vision_heads.evaluation.plots import write_plots  # noqa: PLC0415

        drawn = ", ".join(file.name for file in write_plots(scores, plots, truth))
        _note(notes, f"plots are in {plots}: {drawn}")


def _note(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _note_data(notes: Console, truth: DataSplit, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Say what is wrong with the ground truth, for it is scored against without it."""
    from vision_heads.data.fixes import summary  # noqa: PLC0415
    from vision_heads.evaluation.predictions import other_sizes  # noqa: PLC0415

    if truth.problems:
        _note(notes, f"problems in the data: {summary(truth.problems, 1)}; see: vh data check")
    if truth.unlabelled:
        _note(notes, f"{truth.unlabelled} pictures have no label file and count as negatives")
    other = other_sizes(truth, sizes)
    if other:
        _note(
            notes,
            f"{len(other)} pictures are of another size than --sizes says, and theirs is used: "
            f"first {other[0]}",
        )


def _read(path: Path, truth: DataSplit, rules: Protocol, notes: Console) -> list[Found]:
    from vision_heads.evaluation.predictions import read_predictions  # noqa: PLC0415
    from vision_heads.evaluation.visdrone import UNSCORED_CATEGORIES  # noqa: PLC0415

    # A submission may name them whatever it is scored by.
    unscored = UNSCORED_CATEGORIES if path.is_dir() else rules.unscored
    poses = rules.poses and any(sample.rotations is not None for sample in truth.samples)
    read = read_predictions(path, truth, unscored=unscored, poses=poses)
    number = sum(len(found) for found in read.found)
    _note(notes, f"{number} results for {len(read.found)} pictures in {path}")
    if read.missing:
        _note(
            notes,
            f"{len(read.missing)} pictures have no results and count as empty, "
            f"first {read.missing[0]}",
        )
    if read.unscored:
        _note(notes, f"{read.unscored} results are of no evaluated class")
    if read.other_files:
        _note(
            notes,
            f"{len(read.other_files)} files are not read, as they are no .txt of a picture of "
            f"the split, first {read.other_files[0]}",
        )
    flat = sum(int((found.xywh[:, 2:] <= 0).any(axis=1).sum()) for found in read.found)
    if flat:
        _note(notes, f"{flat} results have no area (width or height not above 0): false ones")
    odd = sum(int(((found.score < 0) | (found.score > 1)).sum()) for found in read.found)
    if odd:
        _note(notes, f"{odd} results have a score outside 0..1; only its order counts")
    return read.found


def _run(
    model: str,
    truth: DataSplit,
    rules: Protocol,
    notes: Console,
    *,
    head: str | None,
    options: DecodeOptions,
    threads: int | None,
) -> list[Found]:
    from vision_heads.evaluation import runner  # noqa: PLC0415
    from vision_heads.evaluation.records import as_found  # noqa: PLC0415
    from vision_heads.runtime.predictor import load  # noqa: PLC0415

    predictor = load(model, threads=threads)
    chosen = runner.choose_head(predictor.spec, rules.name, head)
    with _progress(notes) as step:
        run = runner.predict_split(
            predictor, truth, options, head=chosen, lone=rules.lone_class, progress=step
        )
    differing = runner.describe(run.classes, truth.names)
    if differing:
        _note(notes, differing)
    if run.unread:
        _note(
            notes,
            f"{len(run.unread)} pictures cannot be read and count as empty: {run.unread[0]}",
        )
    return as_found(truth, run.detections, lone=rules.lone_class)


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    """Give a callback (done, all): a bar on a terminal, else a line at every tenth."""
    from rich import progress  # noqa: PLC0415

    if not console.is_terminal:
        yield lambda done, every: _plain_step(console, done, every)
        return
    columns = (progress.BarColumn(), progress.MofNCompleteColumn(), progress.TimeRemainingColumn())
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("pictures", total=None)
        yield lambda done, every: bar.update(task, completed=done, total=every)


def _plain_step(console: Console, done: int, every: int) -> None:
    if done == every or done * 10 // every != (done - 1) * 10 // every:
        _note(console, f"{done} of {every} pictures")


def _report(scores: Scores, console: Console) -> None:
    from vision_heads.evaluation.tables import (  # noqa: PLC0415
        classes_table,
        numbers_table,
        pose_table,
        table_width,
    )

    poses = [] if scores.pose is None else [pose_table(scores.pose)]
    for table in (numbers_table(scores), *poses, classes_table(scores)):
        # A figure cut short would be worse than a line that runs over.
        console.width = max(console.width, table_width(table))
        console.print(table, crop=False)


def _write_json(scores: Scores, file: Path, truth: DataSplit, source: str) -> None:
    import json  # noqa: PLC0415

    record = {**scores.to_dict(), "data": truth.name, "split": truth.split, "source": source}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file}: cannot be written: {error.strerror}") from error
