"""A run from start to report: settings, data, training, what it leaves behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vision_heads.data.card import load_card, load_split
from vision_heads.data.fixes import apply_fixes, doubts, overlooked
from vision_heads.data.sample import DataSplit
from vision_heads.errors import UserError, explain_no_room
from vision_heads.training.config import TrainConfig, make_config, read_settings
from vision_heads.training.describe import pose_note
from vision_heads.training.explain import explain_dead_worker, explain_gone
from vision_heads.training.seen import Seen, count_seen, write_seen
from vision_heads.training.trainer import Trainer
from vision_heads.training.validate import check_scorable

_OWN = ("state", "weights", "tensorboard")
"""Folders of a run, which --overwrite empties."""
_MAKE_ROOM = "; make room, and --resume goes on from the last state"


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line said.

    Attributes:
        config: YAML of settings, or None.
        settings: nested settings that override it.
        out: the run's folder.
        command: as typed, for provenance.
        resume: continue the run in `out`.
        overwrite: start anew though `out` holds a run.
    """

    config: Path | None
    settings: dict[str, Any]
    out: Path
    command: str
    resume: bool = False
    overwrite: bool = False


def resolve(flags: Flags) -> TrainConfig:
    """Merge the YAML and the flags and validate the result.

    A resumed run keeps its own settings: other ones would not end where it was going.

    Raises:
        UserError: names the field.
    """
    if flags.resume:
        if flags.overwrite:
            raise UserError("--resume continues a run, --overwrite replaces it: give one of them")
        saved = flags.out / "config.yaml"
        if not saved.is_file():
            raise UserError(f"{saved}: no such file; there is no run to resume in {flags.out}")
        if flags.config or flags.settings:
            raise UserError("--resume continues with the run's own settings; give only --out")
        return make_config(read_settings(saved), str(saved))
    settings = read_settings(flags.config) if flags.config else {}
    merge(settings, flags.settings)
    if not settings.get("heads"):
        raise UserError("nothing to train: give a YAML with `heads`, or --head NAME=KIND:CARD")
    return make_config(settings, str(flags.config or "command line"))


def merge(settings: dict[str, Any], over: dict[str, Any]) -> None:
    """Lay nested settings over others, in place."""
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(settings.get(key), dict):
            merge(settings[key], value)
        else:
            settings[key] = value


def start_run(flags: Flags) -> dict[str, float]:
    """Train as the flags say and write the run's report.

    Returns:
        Figures of the last validation, as `<head>/<number>`.
    """
    config = resolve(flags)
    # The other processes of a distributed run would delete what the first has begun to write.
    if not flags.resume and os.environ.get("RANK", "0") == "0":
        _claim(flags.out, flags.overwrite, config)
    parts = {n: read_parts(head.data, head.train, config) for n, head in config.heads.items()}
    train = {name: join_parts(splits) for name, splits in parts.items()}
    _check_labelled(config, train)
    val = {n: _read_val(n, config) for n, head in config.heads.items() if head.val}
    notes = check_scorable(config, train, val)
    no_room = explain_no_room(flags.out, _MAKE_ROOM)  # a resumed run writes at once
    with no_room, explain_gone(flags.out), explain_dead_worker(config):
        trainer = Trainer(config, train, val, flags.out, flags.command, resume=flags.resume)
        for name, note in notes.items():
            trainer.journal.say(f"{name}: {val[name].name} ({val[name].split}): {note}")
        return _train(flags, trainer, parts, train, val)


def _train(
    flags: Flags,
    trainer: Trainer,
    parts: Mapping[str, Sequence[DataSplit]],
    train: dict[str, DataSplit],
    val: dict[str, DataSplit],
) -> dict[str, float]:
    config = trainer.config
    if trainer.main:
        if not flags.resume:  # a resumed run's own settings stay as they are
            _empty(flags.out)
            (flags.out / "config.yaml").write_text(config.to_yaml())
        _announce(trainer, train, val)
    figures = trainer.run()
    if trainer.main:
        from vision_heads.training.report import write_report  # noqa: PLC0415

        seen = _seen(trainer, parts)
        protocols = {name: config.protocol_of(name) for name in val}
        page = write_report(flags.out, val, protocols, seen, str(trainer.accelerator.device))
        trainer.journal.say(f"weights in {flags.out / 'weights'}; report: {page}")
    return figures


def _claim(out: Path, overwrite: bool, config: TrainConfig) -> None:
    """Refuse to mix two runs in one folder, or to empty folders that are no run's."""
    run = (out / "config.yaml").exists()
    if run and not overwrite:
        raise UserError(f"{out} holds a run: --resume continues it, --overwrite replaces it")
    for folder in (out / name for name in _OWN):
        if not run and folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder}: is there, but {out} holds no run; use another --out")
    for setting, file in _weights_read(config).items():
        if run and any((out / name).resolve() in Path(file).resolve().parents for name in _OWN):
            raise UserError(f"{setting}: {file} is part of the run that --overwrite would replace")
    try:
        (out / "weights").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot make this folder ({error.strerror})") from error


def _weights_read(config: TrainConfig) -> dict[str, str]:
    """Return the weight files that a run starts from or learns from, by setting."""
    files = {f"heads.{name}.teacher": head.teacher for name, head in config.heads.items()}
    files |= {"init": config.init, "add_to": config.add_to.model if config.add_to else None}
    return {setting: file for setting, file in files.items() if file}


def _empty(out: Path) -> None:
    """Remove what a run before has left; only when nothing can stop the new one from beginning.

    The folders stay: they may be links to another disk.

    Raises:
        UserError: something cannot be removed. The next --resume might go on from an old state.
    """
    for folder in (out / name for name in _OWN):
        for old in folder.iterdir() if folder.is_dir() else ():
            with suppress(OSError):
                if old.is_dir() and not old.is_symlink():
                    shutil.rmtree(old)
                else:
                    old.unlink()
        left = sorted(folder.iterdir()) if folder.is_dir() and folder.name != "tensorboard" else []
        if left:
            raise UserError(f"{left[0]}: cannot be removed; remove it, or use another --out")
    (out / "weights").mkdir(exist_ok=True)


def read_parts(cards: Sequence[str], split: str, config: TrainConfig) -> list[DataSplit]:
    """Read a split of each of a head's cards, mended as the settings say.

    Raises:
        UserError: broken labels remain, or the cards' classes differ.
    """
    parts = [apply_fixes(load_split(card, split), config.fix) for card in cards]
    for card, part in zip(cards, parts, strict=True):
        if part.names != parts[0].names:
            raise UserError(f"{card}: its classes {list(part.names)} are not those of {cards[0]}")
    return parts


def _read_val(name: str, config: TrainConfig) -> DataSplit:
    """Read what a head is validated on: a split of its first card."""
    head = config.heads[name]
    card = load_card(head.data[0])
    if head.val not in card.splits:
        raise UserError(
            f"heads.{name}.val: {card.file} has no split {head.val!r}, only "
            f"{', '.join(card.splits)}; name one with --set heads.{name}.val=SPLIT, or train "
            f"without validation by --set heads.{name}.val=null"
        )
    return read_parts(head.data[:1], head.val, config)[0]


def join_parts(parts: Sequence[DataSplit]) -> DataSplit:
    """Make one data set of several with the same classes, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[0],
        name=" + ".join(part.name for part in parts),
        samples=[sample for part in parts for sample in part.samples],
        problems=[problem for part in parts for problem in part.problems],
        terms="; ".join(dict.fromkeys(part.terms for part in parts if part.terms)),
        unlabelled=sum(part.unlabelled for part in parts),
        emptied=sum(part.emptied for part in parts),
    )


def _check_labelled(config: TrainConfig, train: Mapping[str, DataSplit]) -> None:
    """Refuse heads that no label teaches; a teacher does without."""
    for name, split in train.items():
        taught = config.heads[name].teacher or any(len(sample.boxes) for sample in split.samples)
        if split.samples and not taught:
            raise UserError(
                f"heads.{name}.data: none of the {len(split.samples)} pictures of {split.name} "
                f"({split.split}) has a box to learn from"
            )


def _seen(trainer: Trainer, parts: Mapping[str, Sequence[DataSplit]]) -> list[Seen]:
    """Count, print and write how often each head and card was seen."""
    cards = {
        name: [
            (card, len(part.samples))
            for card, part in zip(trainer.config.heads[name].data, splits, strict=True)
        ]
        for name, splits in parts.items()
    }
    rows = count_seen(trainer.loader.turns(trainer.epoch), cards)
    write_seen(rows, trainer.out / "seen.csv")
    for row in rows:
        trainer.journal.say(str(row))
    return rows


def _announce(trainer: Trainer, train: dict[str, DataSplit], val: dict[str, DataSplit]) -> None:
    """Say what is trained on and on which terms; draw the first batches."""
    from vision_heads.data.preview import save_batch_preview  # noqa: PLC0415

    say = trainer.journal.say
    for name, split in train.items():
        scored = f", {len(val[name].samples)} to validate" if name in val else ""
        pictures = f"{len(split.samples)} pictures{scored}"
        say(f"{name}: {split.name}, {pictures}, {len(split.names)} classes")
        if note := pose_note(trainer.config.heads[name], split):
            say(f"{name}: {note}")
        if split.terms:
            say(f"  terms of {split.name}: {split.terms}")
        for each in (split, *([val[name]] if name in val else [])):
            for what in filter(None, [overlooked(each), *doubts(each)]):
                say(f"  {each.split} of {each.name}: {what}")
    for number, batch in zip(range(2), trainer.loader.epoch(trainer.epoch), strict=False):
        names = {name: split.names for name, split in train.items()}
        save_batch_preview(batch, names, trainer.out / f"batch{number}.png")
