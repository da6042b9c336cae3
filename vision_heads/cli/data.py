"""`vh data`: check a data set, convert it to another label format."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from vision_heads.cli.messages import tell
from vision_heads.cli.places import require_apart, require_writable, stdout_is_for
from vision_heads.errors import UserError
from vision_heads.paths import writing_mode
from vision_heads.terminal import unread_stderr

if TYPE_CHECKING:
    from rich.console import Console

    from vision_heads.data.check import CheckReport, SplitReport
    from vision_heads.data.sample import DataSplit

data_app = typer.Typer(
    name="data",
    help="Look after data sets: check, convert, make.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

CardArgument = Annotated[
    str,
    typer.Argument(
        metavar="CARD",
        help="Name of a shipped card (visdrone, voc, coco, ...), a card file, or ultralytics' "
        "data.yaml.",
    ),
]
SplitOption = Annotated[
    list[str] | None,
    typer.Option("--split", "-s", help="Only this split; may be given several times."),
]
TRAIN = "train"
FOUND_CONF = 0.2
_EVERY = 500  # pictures between two progress lines when the output is no terminal


class _Bars(Protocol):
    """Shows the progress of one pass over a split; what it returns is called at each step."""

    def __call__(self, split: str, total: int, verb: str = ...) -> Callable[[], None]: ...


@data_app.command()
@stdout_is_for("json_file")
def check(
    card: CardArgument,
    split: SplitOption = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the whole report as JSON.")
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Write a contact sheet with the boxes drawn."),
    ] = None,
    examples: Annotated[
        int, typer.Option(min=0, help="How many problems of each kind to name on screen.")
    ] = 5,
) -> None:
    """Report what is in a data set and everything wrong with it.

    Decodes every picture. Counts and names missing, corrupt and duplicate pictures, boxes that
    are empty or reach more than 1 px out of the picture, unknown classes, unreadable lines, and
    training pictures that are also in another split. Changes nothing.

    Exit code 0: clean (duplicates within a split are only reported). 2: something is broken;
    training refuses it unless told --fix clip,drop.

    Examples:

        vh data check visdrone

        vh data check my/data.yaml --split val --json report.json --sheet sheet.png
    """
    from rich.console import Console  # noqa: PLC0415

    from vision_heads.data.card import load_card  # noqa: PLC0415
    from vision_heads.data.check import check_card  # noqa: PLC0415
    from vision_heads.data.fixes import broken  # noqa: PLC0415

    require_apart({"--json": json_file, "--sheet": sheet}, (card,))
    require_writable("--json", json_file)
    require_writable("--sheet", sheet)
    console = Console()
    with _progress("checking") as progress:
        report, read = check_card(load_card(card), split or (), progress)
    _print_report(console, report, examples)
    if json_file:
        _write(json_file, json.dumps(report.to_dict(), indent=1).encode() + b"\n")
        console.print(f"report: {json_file}", soft_wrap=True, highlight=False, markup=False)
    if sheet:
        _write_sheet(sheet, read)
        console.print(f"contact sheet: {sheet}", soft_wrap=True, highlight=False, markup=False)
    if not report.clean:
        console.print(
            "broken: mend the above, or train with --fix clip,drop (docs/data.md says what it does)"
            if any(broken(s.problems) for s in report.splits)
            else "broken: mend the above",
            soft_wrap=True,
            highlight=False,
        )
        raise typer.Exit(2)
    console.print("clean")


@data_app.command()
def convert(
    card: CardArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder.")],
    *,
    to: Annotated[str, typer.Option("--to", metavar="coco|yolo|voc", help="The new format.")],
    split: SplitOption = None,
    link: Annotated[
        bool, typer.Option("--link/--copy", help="Link to the pictures, or copy them.")
    ] = False,
    fix: Annotated[
        str,
        typer.Option(
            metavar="clip,drop",
            help="clip: cut boxes off at the border. drop: leave out what is broken.",
        ),
    ] = "",
    ignore_found: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS",
            help="In the split train, add an ignored area wherever this model finds what no label "
            "has: a set that labels only some of its objects teaches to overlook the others.",
        ),
    ] = None,
    found_conf: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, show_default="0.2", help="Least score of such a find."),
    ] = None,
) -> None:
    """Write a data set in another label format, with a card beside it.

    Reads every format that training reads. Boxes are written exactly as labelled, unless --fix
    is given. What the new format cannot hold is counted. The card that is written works with
    every command; for yolo it is a data.yaml that ultralytics reads too.

    Examples:

        vh data convert visdrone visdrone-coco --to coco

        vh data convert my/card.yaml out --to yolo --split train --split val --link

        vh data convert my/faces.yaml faces --to coco --link --ignore-found headpose-n
    """
    from vision_heads.data.card import load_card  # noqa: PLC0415
    from vision_heads.data.convert import TARGETS  # noqa: PLC0415
    from vision_heads.data.convert import convert as run  # noqa: PLC0415
    from vision_heads.data.fixes import parse_fixes  # noqa: PLC0415
    from vision_heads.paths import printable  # noqa: PLC0415

    target = next((name for name in TARGETS if name == to), None)
    if target is None:
        raise UserError(f"--to: unknown format {to!r}; known: {', '.join(TARGETS)}")
    source = load_card(card)
    if ignore_found is not None:
        _check_ignoring(target, split or source.splits)
    elif found_conf is not None:
        raise UserError("--found-conf: goes with --ignore-found WEIGHTS")
    with _progress("writing") as progress:
        change = None
        if ignore_found is not None:
            conf = FOUND_CONF if found_conf is None else found_conf
            change = _ignoring(ignore_found, conf, progress)
        report = run(
            source,
            out,
            target,
            split or (),
            link=link,
            fixes=parse_fixes(fix),
            change=change,
            progress=progress,
        )
    for name, pictures in report.pictures.items():
        areas = f", {report.ignored[name]} ignored areas" if report.ignored[name] else ""
        typer.echo(f"{name}: {pictures} pictures, {report.boxes[name]} boxes{areas}")
        if name in report.fixed:
            typer.echo(f"{name}: {printable(report.fixed[name])}")
        for line in report.doubts[name]:
            typer.echo(f"{name}: {printable(line)}")
    for what, count in report.lost.items():
        typer.echo(f"not kept, since {to} cannot hold them: {count} {what}")
    for what, count in report.unread.items():
        typer.echo(f"not read, so not in the copy: {count} {what}")
    typer.echo(f"card: {report.card}")


def _check_ignoring(target: str, splits: Collection[str]) -> None:
    """Refuse --ignore-found where it could do nothing."""
    if target == "yolo":
        raise UserError("--ignore-found: yolo cannot hold ignored areas; use --to coco or voc")
    if TRAIN not in splits:
        raise UserError(f"--ignore-found: changes the split {TRAIN} alone, and it is not converted")


def _ignoring(weights: str, conf: float, progress: _Bars) -> Callable[[DataSplit], DataSplit]:
    """Return what adds to the split train the areas of a model's finds, and counts them."""
    from vision_heads.evaluation.unlabelled import ignore_found  # noqa: PLC0415
    from vision_heads.runtime.predictor import load  # noqa: PLC0415

    predictor = load(weights)

    def change(split: DataSplit) -> DataSplit:
        # What is measured on stays as it was labelled.
        if split.split != TRAIN:
            return split
        step = progress(split.split, len(split.samples), "searching")
        marked, unread = ignore_found(split, predictor, conf, progress=lambda *_: step())
        before, after = (sum(len(s.ignore_boxes) for s in d.samples) for d in (split, marked))
        typer.echo(f"{TRAIN}: {after - before} finds of {weights} that no label has are ignored")
        if unread:
            tell(f"{len(unread)} pictures cannot be read: {unread[0]}")
        return marked

    return change


@contextlib.contextmanager
def _progress(verb: str) -> Iterator[_Bars]:
    """Give a maker of progress bars on stderr, or of plain lines when that is no terminal."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    console = Console(file=unread_stderr())
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:

        def start(split: str, total: int, verb: str = verb) -> Callable[[], None]:
            task = bars.add_task(f"{verb} {split}", total=total)
            done = 0

            def step() -> None:
                nonlocal done
                done += 1
                bars.advance(task)
                if not console.is_terminal and done % _EVERY == 0:
                    typer.echo(f"{verb} {split}: {done}/{total}", file=console.file)

            return step

        yield start


def _print_report(console: Console, report: CheckReport, examples: int) -> None:
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=escape(report.name), title_justify="left")
    table.add_column("")
    for split in report.splits:
        table.add_column(escape(split.split), justify="right")
    for title, rows in _sections(report.splits):
        table.add_section()
        if title:
            table.add_row(f"[bold]{title}[/bold]")
        for name, numbers in rows:
            table.add_row(escape(name), *(str(number) for number in numbers))
    console.print(table)
    for split in report.splits:
        _print_problems(console, split, examples)
    if report.leaks:
        lines = [
            f"{leak.other_file} = {leak.train} {leak.train_file}"
            for leak in report.leaks[:examples]
        ]
        _print_group(console, f"leakage: {len(report.leaks)} train pictures in other splits", lines)
    if report.disagreements:
        _print_group(console, "the splits disagree", report.disagreements)


def _sections(
    splits: list[SplitReport],
) -> Iterator[tuple[str, list[tuple[str, list[int]]]]]:
    plain = {
        "pictures": "pictures",
        "negatives": "  without an object",
        "unlabelled": "  without a label file",
        "boxes": "boxes",
        "ignored": "ignored areas",
        "overhanging": "boxes up to 1 px over the border",
    }
    yield "", [(text, [getattr(s, key) for s in splits]) for key, text in plain.items()]
    for title, key in (("objects by class", "classes"), ("by size", "sizes")):
        names = dict.fromkeys(name for split in splits for name in getattr(split, key))
        text = {"tiny": "tiny, under 16 px", "small": "small, under 32 px"}
        text |= {"medium": "medium, under 96 px"}
        yield (
            title,
            [
                (text.get(name, name), [getattr(s, key).get(name, 0) for s in splits])
                for name in names
            ],
        )


def _print_problems(console: Console, split: SplitReport, examples: int) -> None:
    if not split.pictures:
        _print_group(console, f"{split.split}: not a single picture", [])
    for kind, count in split.counts().items():
        lines = [f"{p.file}: {p.detail}" for p in split.problems if p.kind == kind][:examples]
        more = [f"... and {count - examples} more"] if count > examples else []
        _print_group(console, f"{split.split}: {count} {kind}", lines + more)


def _print_group(console: Console, title: str, lines: list[str]) -> None:
    from vision_heads.paths import printable  # noqa: PLC0415

    console.print(title, style="bold", highlight=False, markup=False, soft_wrap=True)
    for line in lines:
        console.print(f"  {printable(line)}", highlight=False, markup=False, soft_wrap=True)


def _write_sheet(file: Path, splits: list[DataSplit]) -> None:
    import cv2  # noqa: PLC0415

    from vision_heads.data.check import split_sheet  # noqa: PLC0415
    from vision_heads.media.draw import contact_sheet  # noqa: PLC0415

    images = [image for split in splits for image in split_sheet(split)]
    if not images:
        raise UserError(f"{file}: no picture with labels to draw")
    done, data = cv2.imencode(".png", contact_sheet(images, 3, 640))
    if not done:
        raise RuntimeError("OpenCV could not encode the contact sheet")
    _write(file, data.tobytes())


def _write(file: Path, data: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open(writing_mode(file)) as target:
            target.write(data)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error


def register(app: typer.Typer) -> None:
    """Add `vh data` to the command line."""
    from vision_heads.cli import data_synth  # noqa: PLC0415

    data_synth.register(data_app)
    app.add_typer(data_app, name="data")
