"""`vh detect`: run a model on pictures."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_heads.cli import options as opt
from vision_heads.cli.detect_report import (
    Report,
    print_attention,
    print_report,
    say_what_is_left_out,
)
from vision_heads.cli.messages import printing, say
from vision_heads.cli.places import require_apart, stdout_is_for
from vision_heads.cli.progress import progress
from vision_heads.errors import UserError, require
from vision_heads.signals import as_interrupts

if TYPE_CHECKING:
    from vision_heads.media.attention import AttentionSink
    from vision_heads.media.sinks import Sink
    from vision_heads.media.sources import PictureFile, Pictures
    from vision_heads.results import Failure, Result
    from vision_heads.runtime.slicing import Slicing
    from vision_heads.spec import Merge, ModelSpec

_HELP = """Detect objects in pictures: files, folders (searched through), glob patterns, or .txt
lists with one path a line.

Without SOURCES, the model runs on the shipped demo pictures of its kind and the drawn results are
saved. A picture that cannot be read is reported and the others are done; the exit code is then 2.
docs/detect.md describes the files that are written.

[b]Examples[/b]

  vh detect

  vh detect flight/ --save-images --json found.json

  vh detect "flight/**/*.jpg" --classes car,van --conf 0.4 --csv found.csv

  vh detect huge.jpg --slice 640 --overlap 0.2 --save-images --out huge

  vh detect list.txt --weights runs/street/best.onnx --save-txt --crops

  vh detect street.jpg --weights joint.onnx --heads aerial,vehicles --merge-classes cars.yaml

  vh detect class.jpg --weights heads.onnx --attention --within 20 --save-images
"""

WITHIN = 15.0
"""Degrees within which a head is turned to something, where none are given."""
MOST_OVERLAP = 0.9
"""Beyond it, more than 100 tiles see each object: one that is not much larger than a tile may
need gigabytes to merge what they found."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("detect", help=_HELP)(detect)


@stdout_is_for("json_file", "csv_file")
def detect(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pictures: files, folders, glob patterns, .txt lists.", show_default="the demo set"
        ),
    ] = None,
    *,
    weights: opt.Weights = "aerial-n",
    conf: opt.Conf = 0.25,
    iou: opt.Iou = 0.6,
    classes: opt.Classes = None,
    max_det: Annotated[int, typer.Option(min=1, help="Most results a picture and head.")] = 1000,
    heads: opt.Heads = None,
    merge_classes: Annotated[
        str | None,
        typer.Option(
            help="YAML file that says which classes of which heads are one, like "
            "'car: \\[aerial:car, street:auto]'; 'off' for none.",
            show_default="as the model says",
        ),
    ] = None,
    imgsz: opt.RunSide = None,
    slice_size: Annotated[
        int | None,
        typer.Option("--slice", help="Cut larger pictures into tiles of this many pixels."),
    ] = None,
    overlap: Annotated[
        float, typer.Option(help="With --slice: share of a tile its neighbours see too.")
    ] = 0.2,
    merge: Annotated[
        str, typer.Option(help="With --slice: nms keeps one box, nmm joins boxes of one object.")
    ] = "nms",
    metric: Annotated[
        str, typer.Option(help="With --slice: boxes of two tiles are compared by iou or ios.")
    ] = "ios",
    save_images: Annotated[
        bool, typer.Option("--save-images", help="Save drawn pictures to OUT/images.")
    ] = False,
    save_txt: Annotated[
        bool, typer.Option("--save-txt", help="Save YOLO label files to OUT/labels.")
    ] = False,
    crops: Annotated[
        bool, typer.Option("--crops", help="Save every detection to OUT/crops.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all results to this JSON file.")
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write a row a detection to this CSV file.")
    ] = None,
    attention: Annotated[
        bool,
        typer.Option(
            "--attention",
            help="Report which heads are turned to the camera or to each other (the direction of "
            "heads, not of eyes) and write OUT/attention.csv.",
        ),
    ] = False,
    within: Annotated[
        float, typer.Option(min=0.1, max=180.0, help="With --attention: degrees that count as to.")
    ] = WITHIN,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of saved files; drawn pictures where nothing else is to be saved.",
            show_default="runs/detect, numbered if it exists",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures a call of the network.", show_default="model's, or 1"),
    ] = None,
    threads: opt.Threads = None,
    provider: opt.Provider = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say what the network is computed by.")
    ] = False,
) -> None:
    """Detect objects in pictures."""
    # Decoders report damaged files by themselves, across the progress bar; so do we, by name.
    # OpenCV looks for this when it is imported; a call for it is not in every version.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    import cv2  # noqa: PLC0415

    from vision_heads.cli.models import class_list, comma_separated, open_model  # noqa: PLC0415
    from vision_heads.heads.base import DecodeOptions  # noqa: PLC0415
    from vision_heads.runtime.predictor import Predictor  # noqa: PLC0415

    slicing = _slicing(slice_size, overlap, merge, metric)
    # Whoever names a folder and not what to save there wants to see what was found.
    shown = out is not None and not (save_txt or crops or attention)
    saves = {"labels": save_txt, "images": save_images or not sources or shown, "crops": crops}
    require(attention or within == WITHIN, "--within does nothing without --attention")
    pictures, file = _find(sources, weights)

    cv2.setNumThreads(1)  # pictures are read side by side already
    # Tiles of a picture are calls of their own: even a single one keeps all cores busy.
    calls = None if slicing else len(pictures.files)
    engine, parallel = open_model(file, calls, threads, provider, verbose=verbose)
    predictor = Predictor(engine)
    if attention:
        _require_poses(predictor.spec, comma_separated(heads), weights)
    results = predictor.stream(
        (picture.path for picture in pictures.files),
        DecodeOptions(conf, iou, max_det),
        classes=class_list(classes),
        heads=comma_separated(heads),
        slicing=slicing,
        imgsz=imgsz,
        batch=batch,
        keep_image=saves["images"] or crops,
        merge=_merge(merge_classes),
        parallel=parallel,
    )
    folder = out or _free_folder(Path("runs/detect"))
    tables = {"--json": json_file, "--csv": csv_file}
    tables["--attention"] = folder / "attention.csv" if attention else None
    read = [*(sources or ()), file, merge_classes]
    require_apart(tables, [*read, *_oddly_named(pictures)])
    with as_interrupts(), contextlib.ExitStack() as stack:
        sinks = _open_sinks(stack, folder, saves, json_file, csv_file)
        watch = _open_attention(stack, folder, within) if attention else None
        report = _run(pictures.files, results, [*sinks, watch] if watch else sinks)
    with printing():
        print_report(report)
        if watch:
            print_attention(watch, within, folder)
        if any(saves.values()):
            what = "Saved files" if sources else "Drawn demo pictures"
            typer.echo(f"{what}: {_shown(folder, saves)}")
    if report.failures or pictures.unreadable:
        raise typer.Exit(2)


def _find(sources: list[str] | None, weights: str) -> tuple[Pictures, Path]:
    """Return the pictures, without SOURCES the shipped ones, and the model file."""
    from vision_heads.media.sources import find_pictures  # noqa: PLC0415
    from vision_heads.runtime.engines import resolve_weights  # noqa: PLC0415

    if not sources:
        file = resolve_weights(weights)
        return find_pictures(_demo_folders(file)), file
    pictures = find_pictures(sources)
    say_what_is_left_out(pictures)
    return pictures, resolve_weights(weights)


def _run(
    files: Sequence[PictureFile],
    results: Generator[Result | Failure, None, None],
    sinks: Sequence[Sink],
) -> Report:
    from vision_heads.results import Failure  # noqa: PLC0415

    report = Report()
    begin = time.perf_counter()
    try:
        with contextlib.closing(results), progress(len(files), "pictures") as step:
            for file, result in zip(files, results, strict=True):
                report.add(result)
                if isinstance(result, Failure):
                    say(result.message)
                for sink in sinks:
                    sink.write(file.name, result)
                step()
    except KeyboardInterrupt:
        done = f"{report.pictures} of {len(files)} pictures"
        say(f"interrupted; results of {done} are written")
        raise
    report.seconds = time.perf_counter() - begin
    return report


def _open_sinks(
    stack: contextlib.ExitStack,
    folder: Path,
    saves: dict[str, bool],
    json_file: Path | None,
    csv_file: Path | None,
) -> list[Sink]:
    """Open everything before the first picture, so that a wrong place is found out at once."""
    from vision_heads.media import sinks as kinds  # noqa: PLC0415

    opened: list[Sink] = []
    for kind, place in (
        (kinds.JsonSink, json_file),
        (kinds.CsvSink, csv_file),
        (kinds.TextSink, folder / "labels" if saves["labels"] else None),
        (kinds.ImageSink, folder / "images" if saves["images"] else None),
        (kinds.CropSink, folder / "crops" if saves["crops"] else None),
    ):
        if place is not None:
            sink = kind(place)
            stack.callback(sink.close)
            opened.append(sink)
    return opened


def _oddly_named(pictures: Pictures) -> Iterator[str]:
    """Yield pictures without a picture's ending; the usual ones are refused by it alone."""
    from vision_heads.media.images import IMAGE_SUFFIXES  # noqa: PLC0415

    usual = tuple(IMAGE_SUFFIXES)
    return (one.path for one in pictures.files if not one.path.lower().endswith(usual))


def _require_poses(spec: ModelSpec, heads: list[str] | None, weights: str) -> None:
    from vision_heads.heads.base import kind_of  # noqa: PLC0415

    wanted = [spec.head(name) for name in heads] if heads else spec.heads
    which = f" among {', '.join(heads)}" if heads else ""
    if not any("rotation" in kind_of(head.kind).outputs for head in wanted):
        raise UserError(f"--attention: {weights} has no head that finds poses{which}")


def _open_attention(stack: contextlib.ExitStack, folder: Path, within: float) -> AttentionSink:
    from vision_heads.media.attention import AttentionSink  # noqa: PLC0415

    sink = AttentionSink(folder / "attention.csv", within)
    stack.callback(sink.close)
    return sink


def _slicing(size: int | None, overlap: float, merge: str, metric: str) -> Slicing | None:
    from vision_heads.runtime.slicing import Slicing  # noqa: PLC0415

    require(
        merge in ("nms", "nmm"),
        f"--merge {merge}: tiles are merged by nms or nmm; --merge-classes takes files",
    )
    side = Slicing().size if size is None else size
    wanted = Slicing(side, overlap, merge=merge, metric=metric)  # type: ignore[arg-type]
    if size is not None:
        if overlap > MOST_OVERLAP:
            seen = round(min(1 / (1 - overlap), size) ** 2)
            line = f"--overlap {overlap:g}: up to {seen:,} tiles see each object, and memory grows"
            say(f"{line} with the square of that")
        return wanted
    require(wanted == Slicing(), "--overlap, --merge and --metric do nothing without --slice")
    return None


def _merge(text: str | None) -> Merge | None:
    from vision_heads.runtime.merging import read_merge  # noqa: PLC0415

    if text is None:
        return None
    return {} if text == "off" else read_merge(text)


def _demo_folders(weights: Path) -> list[str]:
    """Return the shipped pictures that show what the model's heads look for."""
    from vision_heads.paths import DEMO, assets  # noqa: PLC0415
    from vision_heads.runtime.engines import open_engine  # noqa: PLC0415

    kinds = dict.fromkeys(head.kind for head in open_engine(weights).spec.heads)
    folders = [assets("datasets") / DEMO[kind] / "images" for kind in kinds]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"the demo pictures are not installed ({folder}); give SOURCES")
    return [str(folder) for folder in folders]


def _free_folder(folder: Path) -> Path:
    """Return `folder`, or the first of folder-2, folder-3, ... that does not exist."""
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def _shown(folder: Path, saves: dict[str, bool]) -> str:
    wanted = [name for name, on in saves.items() if on]
    return str((folder / wanted[0] if len(wanted) == 1 else folder).resolve())
