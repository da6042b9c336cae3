"""`vh eval --data HEAD=CARD ...`: several heads of a model in one go."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vision_heads.cli.eval_notes import note, note_data, note_run, pictures_done, show, write_json
from vision_heads.errors import UserError, require

if TYPE_CHECKING:
    from rich.console import Console

    from vision_heads.data.sample import DataSplit
    from vision_heads.evaluation.heads import Exam
    from vision_heads.evaluation.protocols import Protocol
    from vision_heads.evaluation.records import Found
    from vision_heads.evaluation.scores import Scores
    from vision_heads.runtime.predictor import Predictor
    from vision_heads.spec import ModelSpec

_BY_HEAD = re.compile(r"(?P<head>[A-Za-z][A-Za-z0-9_-]*)=(?P<value>.+)")


@dataclass(frozen=True, slots=True)
class ByHead:
    """An option that may be given for all heads, for single ones, or both.

    Attributes:
        every: what holds for heads that are not named; None where nothing is said.
        heads: the others, by name.
    """

    every: str | None
    heads: dict[str, str]

    def of(self, head: str, default: str) -> str:
        """Return what holds for a head."""
        return self.heads.get(head, self.every or default)


def by_head(option: str, given: Sequence[str]) -> ByHead:
    """Parse VALUE and HEAD=VALUE; a file of that very name is a value.

    Raises:
        UserError: something is said twice.
    """
    every: list[str] = []
    heads: dict[str, str] = {}
    for text in given:
        match = None if Path(text).exists() else _BY_HEAD.fullmatch(text)
        if match is None:
            every.append(text)
            continue
        require(match["head"] not in heads, f"{option} {match['head']}: is given twice")
        heads[match["head"]] = match["value"]
    require(len(every) <= 1, f"{option}: {' and '.join(every)}: which one? write HEAD=... for each")
    return ByHead(every[0] if every else None, heads)


@dataclass(frozen=True, slots=True)
class Files:
    """Where to write what; None for nowhere."""

    json: Path | None
    plots: Path | None
    predictions: Path | None

    def of(self, head: str) -> Files:
        """Return a head's own: its folder in the folder, or its file beside the file."""
        place = self.predictions
        if place is not None:
            one = f"{place.stem}-{head}{place.suffix}"
            place = place.with_name(one) if place.suffix.lower() == ".json" else place / head
        return Files(None, None if self.plots is None else self.plots / head, place)

    def check(self) -> None:
        """Raise `UserError` if a place cannot be written to; asked before the work."""
        from vision_heads.cli.places import require_writable  # noqa: PLC0415

        kept = self.predictions
        require_writable("--json", self.json)
        require_writable("--plots", self.plots, folder=True)
        folder = kept is not None and kept.suffix.lower() != ".json"
        require_writable("--save-predictions", kept, folder=folder)

    def write(
        self, scores: Scores, truth: DataSplit, found: Sequence[Found], notes: Console
    ) -> None:
        """Write results and plots."""
        from vision_heads.evaluation.predictions import write_predictions  # noqa: PLC0415

        if self.predictions is not None:
            write_predictions(self.predictions, truth, found)
            note(notes, f"results are in {self.predictions}")
            posed = any(picture.euler is not None for picture in found)
            if posed and self.predictions.suffix.lower() != ".json":
                note(notes, "submission files hold no head poses; a .json keeps them")
        if self.plots is not None:
            from vision_heads.evaluation.plots import write_plots  # noqa: PLC0415

            drawn = ", ".join(file.name for file in write_plots(scores, self.plots, truth))
            note(notes, f"plots are in {self.plots}: {drawn}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked for, beside the model.

    Attributes:
        data, split, protocol: cards, splits and protocols by head.
        sizes: of pictures, by name; see `load_split`.
        files: where to write what.
        conf, iou, max_det: of the results.
        pose_conf: operating point of protocols that judge poses, None for the protocol's own.
    """

    data: ByHead
    split: ByHead
    protocol: ByHead
    sizes: dict[str, tuple[int, int]] | None
    files: Files
    conf: float | None
    iou: float | None
    max_det: int | None
    pose_conf: float | None

    def rules(self, name: str, *, several: bool = False) -> Protocol:
        """Return a protocol as it is wanted; of `several`, only those of poses are asked."""
        from vision_heads.cli.eval_mot import MOT  # noqa: PLC0415
        from vision_heads.evaluation.headpose import CONFIDENCE  # noqa: PLC0415
        from vision_heads.evaluation.protocols import at_confidence, protocol_of  # noqa: PLC0415

        require(name != MOT, "--protocol mot: scores tracks only, not a head's results")
        rules = protocol_of(name, (MOT,))
        judged = CONFIDENCE if self.pose_conf is None else self.pose_conf
        require(
            not rules.poses or self.conf is None or self.conf <= judged,
            f"--conf {self.conf}: hides heads whose poses are judged, from {judged} on; "
            "--pose-conf sets that",
        )
        if self.pose_conf is None or (several and not rules.poses):
            return rules
        return at_confidence(rules, self.pose_conf)


def evaluate_heads(predictor: Predictor, model: str, wanted: Wanted, notes: Console) -> None:
    """Score the heads and show one table; a folder or file a head for everything else.

    A model of one head is shown and written as if its card had been given without the head.
    """
    from rich.console import Console  # noqa: PLC0415

    from vision_heads.evaluation.heads import records, score_heads  # noqa: PLC0415
    from vision_heads.evaluation.tables import heads_table  # noqa: PLC0415

    exams = _exams(predictor.spec, wanted, notes)
    alone = len(predictor.spec.heads) == 1
    with pictures_done(notes) as step:
        marked = score_heads(
            predictor,
            exams,
            conf=wanted.conf,
            iou=wanted.iou,
            max_det=wanted.max_det,
            progress=step,
        )
    for name, one in marked.items():
        note_run(notes, one.run, one.exam.truth, "" if alone else f"{name}: ")
    if alone:
        (only,) = marked.values()
        finish(only.scores, only.exam.truth, only.found, model, wanted.files, notes)
        return
    if wanted.files.json is not None:
        write_json(records(marked, model), wanted.files.json)
    for name, one in marked.items():
        wanted.files.of(name).write(one.scores, one.exam.truth, one.found, notes)
    # Last: the files must not be lacking because nobody reads the table to its end.
    if wanted.files.json is None:
        note(notes, "every number of each head, by class too: --json FILE")
    else:
        note(notes, f"numbers are in {wanted.files.json}")
    show(Console(), heads_table(marked))


def finish(
    scores: Scores,
    truth: DataSplit,
    found: Sequence[Found],
    source: str,
    files: Files,
    notes: Console,
) -> None:
    """Show and write what came of one head by itself."""
    from rich.console import Console  # noqa: PLC0415

    from vision_heads.evaluation.heads import record  # noqa: PLC0415
    from vision_heads.evaluation.tables import tables_of  # noqa: PLC0415

    if files.json is not None:
        write_json(record(scores, truth, source), files.json)
        note(notes, f"numbers are in {files.json}")
    files.write(scores, truth, found, notes)
    show(Console(), *tables_of(scores))


def _exams(spec: ModelSpec, wanted: Wanted, notes: Console) -> list[Exam]:
    """Read every card once; heads come in the model's order."""
    from vision_heads.data.card import load_split  # noqa: PLC0415
    from vision_heads.evaluation.heads import Exam  # noqa: PLC0415
    from vision_heads.heads.base import kind_of  # noqa: PLC0415

    for name in wanted.data.heads:
        spec.head(name)
    for option, given in (("--split", wanted.split), ("--protocol", wanted.protocol)):
        for name, value in given.heads.items():
            require(
                name in wanted.data.heads,
                f"{option} {name}={value}: no --data {name}=CARD is given",
            )
    loaded: dict[tuple[str, str], DataSplit] = {}
    exams = []
    for head in spec.heads:
        if head.name not in wanted.data.heads:
            continue
        card = wanted.data.heads[head.name]
        key = card, wanted.split.of(head.name, "val")
        name = wanted.protocol.of(head.name, kind_of(head.kind).protocol)
        rules = wanted.rules(name, several=True)
        if head.kind not in rules.kinds:
            raise UserError(
                f"head {head.name!r} is of kind {head.kind}; {rules.name} scores "
                f"{', '.join(rules.kinds)}; give it its own: --protocol {head.name}=..."
            )
        if key not in loaded:
            loaded[key] = load_split(*key, images_needed=True, sizes=wanted.sizes)
            require(loaded[key].samples, f"{card}: the split {key[1]!r} holds no pictures")
            note_data(notes, loaded[key], wanted.sizes or {})
        exams.append(Exam(head, rules, loaded[key]))
    require(
        wanted.pose_conf is None or any(exam.rules.poses for exam in exams),
        "--pose-conf: none of these heads' poses are judged",
    )
    return exams
