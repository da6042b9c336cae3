"""`vh eval`: score a model, or any program's results, against a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_heads.cli import options as opt
from vision_heads.cli.places import require_apart, require_writable, stdout_is_for
from vision_heads.errors import UserError, require
from vision_heads.terminal import unread_stderr

if TYPE_CHECKING:
    from rich.console import Console

    from vision_heads.cli.eval_heads import Wanted
    from vision_heads.data.sample import DataSplit
    from vision_heads.evaluation.heads import Marked
    from vision_heads.evaluation.protocols import Protocol
    from vision_heads.evaluation.records import Found
    from vision_heads.runtime.predictor import Predictor

_HELP = """Score a model, or any program's results, against a data set.

The protocol [b]coco[/b] gives COCO's twelve numbers and a bin for objects under 16 px;
[b]visdrone[/b] gives exactly what the official VisDrone2018-DET toolkit does; [b]headpose[/b] gives
detection AP, recall, and DirectMHP's errors of pitch, yaw and roll. docs/evaluation.md and
docs/head-pose.md say what each number means. [b]mot[/b] gives HOTA, MOTA and IDF1 of tracks in
MOTChallenge's format; docs/tracking.md.

[b]Examples[/b]

  vh eval aerial-n --data visdrone

  vh eval runs/street/best.safetensors --data visdrone --protocol visdrone --plots plots

  vh eval joint.onnx --data animals=animals.yaml --data street=visdrone --protocol street=visdrone

  vh eval --predictions results.json --data card.yaml --json scores.json

  vh eval --predictions poses.json --data agora-hpe --protocol headpose --json scores.json

  vh eval --predictions submission/ --data card.yaml --sizes sizes.csv --protocol visdrone

  vh eval --protocol mot --predictions tracks/ --truth MOT17/train --json scores.json
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("eval", help=_HELP)(evaluate)


@stdout_is_for("json_file")
def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Weights: a .onnx, .engine, .xml or .safetensors file, or a shipped name."
        ),
    ] = None,
    *,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Data-set card: a YAML file or a shipped name; or HEAD=CARD, once for each head "
            "to score. Needed by all rules but mot.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="Which split of the card, or HEAD=SPLIT.", show_default="val"),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="Rules to score by: coco, visdrone, headpose or mot; or HEAD=RULES.",
            show_default="what suits the head; of --predictions, coco",
        ),
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="Head to score, when the model has several.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Score these results instead of a model's: a COCO results JSON (with pitch, yaw "
            "and roll for headpose), or a folder of VisDrone submission txt files. For mot, a "
            "file of tracks, or a folder with SEQUENCE.txt for each."
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="For mot: ground truth: a gt.txt, or a folder of SEQUENCE/gt/gt.txt or "
            "SEQUENCE.txt."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="For mot: class numbers of the truth that count, comma-separated.",
            show_default="all",
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
            "yaw.png, size.png, angles.png and worst.png. A sub-folder a head where there are "
            "several."
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
    pose_conf: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            show_default="0.7, DirectMHP's",
            help="For headpose: lowest score of the heads whose recall and poses are judged.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, show_default="all cores", help="Threads of the network.")
    ] = None,
    provider: opt.Provider = None,
) -> None:
    """Score a model, or any program's results, against a data set."""
    given = opt.by_option(locals(), model="a model", json_file="--json")
    from rich.console import Console  # noqa: PLC0415

    from vision_heads.cli.eval_heads import Files, Wanted, by_head, evaluate_heads  # noqa: PLC0415
    from vision_heads.cli.eval_mot import check_options, evaluate_mot  # noqa: PLC0415
    from vision_heads.evaluation.predictions import read_sizes  # noqa: PLC0415

    if check_options(given):
        require_apart({"--json": json_file}, (predictions, truth))
        require_writable("--json", json_file)
        evaluate_mot(predictions, truth, classes, json_file, Console(file=unread_stderr()))
        return
    _require_one_source(given)
    wanted = Wanted(
        by_head("--data", data or ()),
        by_head("--split", split or ()),
        by_head("--protocol", protocol or ()),
        None if sizes is None else read_sizes(sizes),
        Files(json_file, plots, save_predictions),
        conf,
        iou,
        max_det,
        pose_conf,
    )
    require_apart(
        {"--json": json_file, "--save-predictions": save_predictions},
        (model, predictions, sizes, wanted.data.every, *wanted.data.heads.values()),
    )
    wanted.files.check()
    notes = Console(file=unread_stderr())
    if not wanted.data.heads:
        opened = None if model is None else _open(model, threads, provider, notes)
        _evaluate_one(opened, str(model), predictions, wanted, head, notes)
        return
    if wanted.data.every is not None:
        raise UserError(f"--data {wanted.data.every}: whose? write HEAD=CARD for each head")
    if model is None:
        raise UserError("--data HEAD=CARD goes with a model; results are scored with --data CARD")
    if head is not None:
        raise UserError("--head goes with --data CARD; --data HEAD=CARD names its head")
    evaluate_heads(_open(model, threads, provider, notes), model, wanted, notes)


def _require_one_source(given: Mapping[str, Any]) -> None:
    """Refuse options that do not go together, where pictures are scored."""
    for option in ("--truth", "--classes"):
        require(given[option] is None, f"{option} goes with --protocol mot")
    require(given["--data"], "give --data CARD")
    if (given["a model"] is None) == (given["--predictions"] is None):
        raise UserError("give either a model or --predictions PATH")
    if given["a model"] is None:
        for option in ("--head", "--conf", "--iou", "--max-det", "--threads", "--provider"):
            free = given[option] is None
            require(free, f"{option} goes with a model: results are scored as they are")


def _open(model: str, threads: int | None, provider: str | None, notes: Console) -> Predictor:
    from vision_heads.cli.eval_notes import note  # noqa: PLC0415
    from vision_heads.runtime.predictor import load  # noqa: PLC0415

    predictor = load(model, threads=threads, provider=provider)
    for line in predictor.notes:
        note(notes, line)
    return predictor


def _evaluate_one(
    predictor: Predictor | None,
    model: str,
    predictions: Path | None,
    wanted: Wanted,
    head: str | None,
    notes: Console,
) -> None:
    """Score one head, or results that are not a model's, on one card."""
    from vision_heads.cli.eval_heads import finish  # noqa: PLC0415
    from vision_heads.cli.eval_notes import note_data  # noqa: PLC0415
    from vision_heads.data.card import load_split  # noqa: PLC0415

    card = str(wanted.data.every)
    for option, given in (("--split", wanted.split), ("--protocol", wanted.protocol)):
        if given.heads:
            raise UserError(f"{option} HEAD=... goes with --data HEAD=CARD")
    rules = wanted.rules(wanted.protocol.every or _usual(predictor, head))
    split = wanted.split.every or "val"
    truth = load_split(card, split, images_needed=predictions is None, sizes=wanted.sizes)
    if not truth.samples:
        raise UserError(f"{card}: the split {split!r} holds no pictures")
    note_data(notes, truth, wanted.sizes or {})
    if predictions is not None:
        found = _read(predictions, truth, rules, notes)
        finish(rules.score(truth, found), truth, found, str(predictions), wanted.files, notes)
        return
    assert predictor is not None
    marked = _run(predictor, truth, rules, wanted, head, notes)
    finish(marked.scores, truth, marked.found, model, wanted.files, notes)


def _read(path: Path, truth: DataSplit, rules: Protocol, notes: Console) -> list[Found]:
    from vision_heads.cli.eval_notes import note  # noqa: PLC0415
    from vision_heads.evaluation.predictions import read_predictions  # noqa: PLC0415
    from vision_heads.evaluation.visdrone import UNSCORED_CATEGORIES  # noqa: PLC0415

    # A submission may name them whatever it is scored by.
    unscored = UNSCORED_CATEGORIES if path.is_dir() else rules.unscored
    poses = rules.poses and any(sample.rotations is not None for sample in truth.samples)
    read = read_predictions(path, truth, unscored=unscored, poses=poses)
    number = sum(len(found) for found in read.found)
    note(notes, f"{number} results for {len(read.found)} pictures in {path}")
    if read.missing:
        note(
            notes,
            f"{len(read.missing)} pictures have no results and count as empty, "
            f"first {read.missing[0]}",
        )
    if read.unscored:
        note(notes, f"{read.unscored} results are of no evaluated class")
    if read.other_files:
        note(
            notes,
            f"{len(read.other_files)} files are not read, as they are no .txt of a picture of "
            f"the split, first {read.other_files[0]}",
        )
    flat = sum(int((found.xywh[:, 2:] <= 0).any(axis=1).sum()) for found in read.found)
    if flat:
        note(notes, f"{flat} results have no area (width or height not above 0): false ones")
    odd = sum(int(((found.score < 0) | (found.score > 1)).sum()) for found in read.found)
    if odd:
        note(notes, f"{odd} results have a score outside 0..1; only its order counts")
    return read.found


def _usual(predictor: Predictor | None, head: str | None) -> str:
    """Return the rules that suit the head to be scored, as far as it is known which."""
    from vision_heads.heads.base import kind_of  # noqa: PLC0415

    if predictor is None or (head is None and len(predictor.spec.heads) > 1):
        return "coco"
    chosen = predictor.spec.heads[0] if head is None else predictor.spec.head(head)
    return kind_of(chosen.kind).protocol


def _run(
    predictor: Predictor,
    truth: DataSplit,
    rules: Protocol,
    wanted: Wanted,
    head: str | None,
    notes: Console,
) -> Marked:
    from vision_heads.cli.eval_notes import note_run, pictures_done  # noqa: PLC0415
    from vision_heads.evaluation.heads import Exam, score_heads  # noqa: PLC0415
    from vision_heads.evaluation.runner import choose_head  # noqa: PLC0415

    exam = Exam(choose_head(predictor.spec, rules.name, head), rules, truth)
    with pictures_done(notes) as step:
        (marked,) = score_heads(
            predictor,
            [exam],
            conf=wanted.conf,
            iou=wanted.iou,
            max_det=wanted.max_det,
            progress=step,
        ).values()
    note_run(notes, marked.run, truth)
    return marked
