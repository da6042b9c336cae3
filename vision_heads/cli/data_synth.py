"""`vh data synth`: pictures of our own making, with labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vision_heads.errors import UserError, explain_no_room

_EXAMPLES = """
Render pictures with exact labels, as a data set of their own: drone-like scenes of streets, or
people whose heads are turned any way (boxes, and rotations as euler_angles).

Writes OUT/train (and OUT/val with --val), each with images and a COCO annotations.json, and
OUT/card.yaml, which every command takes as --data. The same seed gives the same pictures.

Figures measured on such pictures say nothing about real ones.

[bold]Examples[/bold]

  vh data synth scenes --count 300

  vh data synth scenes --count 600 --val 60 --size 640x360 --seed 7 --workers 4

  vh data synth lots --count 50 --kind parking --altitude 60 --tilt 0

  vh data synth people --what heads --count 500 --val 60 --size 640x360

  vh data check scenes/card.yaml
"""


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise UserError(f"--size: must be WIDTHxHEIGHT as in 960x540, got {text!r}")
    return int(parts[0]), int(parts[1])


def register(app: typer.Typer) -> None:
    """Add the command `synth` to the group `vh data`."""

    @app.command("synth", help=_EXAMPLES, no_args_is_help=True)
    def synth(
        out: Annotated[Path, typer.Argument(help="Folder to write; made if it is not there.")],
        *,
        count: Annotated[int, typer.Option(help="Pictures in OUT/train.")] = 300,
        val: Annotated[int, typer.Option(help="Pictures in OUT/val.", min=0)] = 0,
        size: Annotated[str, typer.Option(help="Width x height in pixels.")] = "960x540",
        seed: Annotated[int, typer.Option(help="0..20000.")] = 0,
        what: Annotated[str, typer.Option(help="streets or heads.")] = "streets",
        kind: Annotated[
            str | None,
            typer.Option(
                help="Of streets: street, crossing, parking, square, suburb or highway; of heads: "
                "portrait, few, group, rows or crowd; mixed if not given."
            ),
        ] = None,
        altitude: Annotated[
            float | None, typer.Option(help="Of streets: metres above ground; mixed if not given.")
        ] = None,
        tilt: Annotated[
            float | None,
            typer.Option(help="Of streets: degrees away from straight down; mixed if not given."),
        ] = None,
        workers: Annotated[int, typer.Option(help="Processes that render.")] = 1,
    ) -> None:
        from vision_heads.data.synthetic import GROUPS, KINDS, View  # noqa: PLC0415

        kinds: dict[str, tuple[str, ...]] = {"streets": KINDS, "heads": GROUPS}
        if what not in kinds:
            raise UserError(f"--what: one of {', '.join(kinds)}, got {what!r}")
        if kind is not None and kind not in kinds[what]:
            raise UserError(f"--kind: one of {', '.join(kinds[what])}, got {kind!r}")
        if what == "heads" and (altitude is not None or tilt is not None):
            raise UserError("--altitude, --tilt: only of --what streets")
        _write(
            out,
            {"train": count, "val": val},
            size=_size(size),
            seed=seed,
            what=what,
            kind=kind,
            view=View(altitude=altitude, tilt=tilt),
            workers=workers,
        )


def _write(out: Path, counts: dict[Literal["train", "val"], int], **settings: Any) -> None:
    """Render the splits asked for, showing progress, and say what was written."""
    from vision_heads.cli.progress import progress  # noqa: PLC0415
    from vision_heads.data.synthetic import synthetic_split  # noqa: PLC0415

    for split, count in counts.items():
        if split == "val" and not count:
            continue
        with progress(count, "pictures") as step, explain_no_room(out):
            made = synthetic_split(
                count, folder=out, split=split, progress=_ignoring_count(step), **settings
            )
        boxes = sum(len(sample.boxes) for sample in made.samples)
        aside = sum(len(sample.ignore_boxes) for sample in made.samples)
        typer.echo(f"{split}: {count} pictures, {boxes} boxes, {aside} ignore areas")
    typer.echo(f"card: {out / 'card.yaml'}")


def _ignoring_count(step: Callable[[], None]) -> Callable[[int], None]:
    def done(_: int) -> None:
        step()

    return done
