"""`vh stream`: run a model on videos, cameras and live streams."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_heads.cli import options as opt
from vision_heads.cli.messages import printing, say
from vision_heads.cli.stream_track import LOST, OFF, START
from vision_heads.errors import require

if TYPE_CHECKING:
    from vision_heads.media.video import OpenOptions, VideoSpec
    from vision_heads.runtime.engines import Engine
    from vision_heads.runtime.request import Request
    from vision_heads.stream.analytics import Analytics
    from vision_heads.stream.pipeline import Pipeline
    from vision_heads.stream.plan import OutputPlan
    from vision_heads.stream.run import Counts
    from vision_heads.stream.settings import Settings

_HELP = """Detect in videos and live streams: video files, GIFs, folders or patterns of pictures,
webcams (0, /dev/video0), URLs (rtsp, http, udp, rtp, ...), .sdp files, or .txt lists of these with
one a line. name=SOURCE gives a source a name of your choice.

Files are worked through frame by frame. Of live streams the newest frame counts, so that delay
never grows; when one is lost it is opened again until it is back. Ctrl-C (or SIGTERM, or closing
the terminal) ends the run and finishes its files. Needs PyAV for all but pictures and webcams:
pip install "vision-heads\\[stream]". docs/stream.md describes sources, files and events.

[b]Examples[/b]

  vh stream drive.mp4 --video drawn.mp4 --jsonl seen.jsonl

  vh stream gate=rtsp://user:password@10.0.0.5/live --jsonl seen.jsonl --max-fps 5

  vh stream cameras.txt --video out.mp4 --csv seen.csv --stats stats.json

  vh stream 0 --show --weights runs/street/best.onnx --conf 0.4

  vh stream gate=rtsp://10.0.0.5/live --track bytetrack --shapes gate.yaml --events events.jsonl

  vh stream cameras.txt --track bytetrack --shapes doors.yaml --webhook https://example.org/events
  --snapshots shots/
"""
SPOOL = Path("runs/spool")
"""Where events wait for their receiver, where no place is given."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("stream", help=_HELP)(stream)


def stream(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Videos, folders of pictures, webcams, URLs, .txt lists.", show_default=False
        ),
    ],
    *,
    weights: opt.Weights = "aerial-n",
    conf: opt.Conf = 0.25,
    iou: opt.Iou = 0.6,
    classes: opt.Classes = None,
    max_det: Annotated[int, typer.Option(min=1, help="Most results a frame and head.")] = 1000,
    heads: opt.Heads = None,
    imgsz: opt.RunSide = None,
    slice_size: Annotated[
        int | None, typer.Option("--slice", help="Cut frames into tiles of this many pixels.")
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(
            help="Write what was seen, drawn, as .mp4, .mov or .mkv; several sources: a file each, "
            "with the source's name in it."
        ),
    ] = None,
    jsonl: Annotated[
        Path | None, typer.Option(help="Write a JSON object a frame and line to this file.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write a line a detection to this CSV file.")
    ] = None,
    mot: Annotated[
        Path | None,
        typer.Option(help="Write MOTChallenge text, a file a source and head, named after FILE."),
    ] = None,
    events: Annotated[
        Path | None, typer.Option(help="Write a JSON object an event and line to this file.")
    ] = None,
    snapshots: Annotated[
        Path | None,
        typer.Option(help="With --shapes: folder for pictures of what events are about."),
    ] = None,
    webhook: Annotated[
        list[str] | None,
        typer.Option(
            help="POST every event to this URL; may be given several times.", show_default="none"
        ),
    ] = None,
    spool: Annotated[
        Path, typer.Option(help="Folder where events wait for their receiver, also over restarts.")
    ] = SPOOL,
    append: Annotated[
        bool, typer.Option("--append", help="Go on behind what text files hold already.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Show a window a source; q or Escape ends the run.")
    ] = False,
    track: Annotated[
        str,
        typer.Option(help="Follow objects: off, bytetrack, ocsort, or botsort (moving cameras)."),
    ] = OFF,
    shapes: Annotated[
        Path | None,
        typer.Option(
            "--shapes",
            "--lines",
            "--zones",
            help="With --track: YAML file of lines and zones to count at; docs/tracking.md.",
        ),
    ] = None,
    track_start: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Score that begins a track; lower ones only continue tracks."
        ),
    ] = START,
    track_lost: Annotated[
        float, typer.Option(help="Seconds for which a track waits for its object to come back.")
    ] = LOST,
    track_mixed: Annotated[
        bool, typer.Option("--track-mixed", help="Tracks may change their class, as car and van.")
    ] = False,
    smooth: Annotated[
        bool, typer.Option("--smooth/--no-smooth", help="Smooth the poses of tracked heads.")
    ] = True,
    stride: Annotated[int, typer.Option(min=1, help="Look at every n-th frame.")] = 1,
    max_fps: Annotated[
        float | None,
        typer.Option(help="Look at no more frames a second of a source.", show_default="all"),
    ] = None,
    fps: Annotated[
        float, typer.Option(help="Frames a second of folders and patterns of pictures.")
    ] = 25.0,
    transport: Annotated[
        str, typer.Option(help="How RTSP cameras send: tcp, or udp (less delay, may lose parts).")
    ] = "tcp",
    timeout: Annotated[
        float, typer.Option(help="Seconds without data after which a live stream counts as lost.")
    ] = 5.0,
    reconnect: Annotated[
        bool, typer.Option("--reconnect/--no-reconnect", help="Open lost streams again.")
    ] = True,
    stats: Annotated[
        Path | None,
        typer.Option(help="Write counts and latencies of each source to this JSON file."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most frames a call of the network, over cameras.",
            show_default="model's, or 1",
        ),
    ] = None,
    threads: opt.Threads = None,
    provider: opt.Provider = None,
) -> None:
    """Detect in videos and live streams."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    import cv2  # noqa: PLC0415

    from vision_heads.cli.models import class_list, comma_separated, open_model  # noqa: PLC0415
    from vision_heads.cli.stream_track import (  # noqa: PLC0415
        class_names,
        open_analytics,
        say_strangers,
    )
    from vision_heads.heads.base import DecodeOptions  # noqa: PLC0415
    from vision_heads.media.video import OpenOptions, find_videos  # noqa: PLC0415
    from vision_heads.runtime.engines import resolve_weights  # noqa: PLC0415
    from vision_heads.runtime.request import make_request  # noqa: PLC0415
    from vision_heads.stream.plan import OutputPlan  # noqa: PLC0415
    from vision_heads.stream.settings import Settings  # noqa: PLC0415

    require(webhook or spool == SPOOL, "--spool: of --webhook, which is not asked for")
    require(
        shapes or not snapshots,
        "--snapshots: are taken at lines and zones; add --track and --shapes",
    )
    options = OpenOptions(fps, transport, timeout)  # type: ignore[arg-type]
    settings = Settings(stride=stride, max_fps=max_fps, reconnect=reconnect)
    found = find_videos(sources)
    _require_decoders(found, options)
    cv2.setNumThreads(1)  # frames are decoded and drawn side by side already
    file = resolve_weights(weights)
    # One live source alone: all cores for one frame give less delay than a frame a core.
    calls = 1 if len(found) == 1 and found[0].live else None
    engine, parallel = open_model(file, calls, threads, provider)
    request = make_request(
        engine,
        DecodeOptions(conf, iou, max_det),
        classes=class_list(classes),
        heads=comma_separated(heads),
        imgsz=imgsz,
        batch=batch,
        slicing=slice_size,
    )
    analytics = open_analytics(
        track,
        shapes,
        class_names(engine.spec, request),
        start=track_start,
        lost=track_lost,
        mix=track_mixed,
        smooth=smooth,
    )
    say_strangers(analytics, shapes, found)
    plan = OutputPlan(
        video=video,
        jsonl=jsonl,
        csv=csv,
        mot=mot,
        events=events,
        snapshots=snapshots,
        webhooks=webhook or (),
        spool=spool,
        append=append,
        stats=stats,
        inputs=[file, *_lists(sources), *([shapes] if shapes else [])],
    )
    code = _run(engine, request, analytics, plan, found, options, settings, parallel, show)
    if code:
        raise typer.Exit(code)


def _run(
    engine: Engine,
    request: Request,
    analytics: Analytics | None,
    plan: OutputPlan,
    sources: Sequence[VideoSpec],
    options: OpenOptions,
    settings: Settings,
    parallel: int,
    show: bool,
) -> int:
    """Run everything to its end, print what came of it, and return the exit code."""
    from vision_heads.stream.pipeline import Pipeline  # noqa: PLC0415
    from vision_heads.stream.run import run  # noqa: PLC0415
    from vision_heads.stream.window import Windows  # noqa: PLC0415

    window = Windows() if show else None
    outputs = plan.open(sources, list(request.options), say)
    pipeline = Pipeline(
        engine,
        request,
        outputs=[*outputs, window] if window else outputs,
        hooks=[analytics] if analytics else [],
        settings=settings,
        parallel=parallel,
        report=say,
    )
    counts = analytics.counts if analytics else None
    stopped = run(
        pipeline, sources, options, say=say, window=window, stats=plan.stats, counts=counts
    )
    _print_report(pipeline, counts)
    return _exit_code(pipeline, sources, stopped)


def _require_decoders(sources: Sequence[VideoSpec], options: OpenOptions) -> None:
    """Find out before any work that a package is missing."""
    from vision_heads.media.video import open_video  # noqa: PLC0415

    for spec in sources:
        open_video(spec, options)


def _lists(sources: Sequence[str]) -> list[Path]:
    """Return the lists of sources among what the user named."""
    return [Path(source) for source in sources if source.lower().endswith(".txt")]


def _print_report(pipeline: Pipeline, counts: Counts | None) -> None:
    from vision_heads.cli.stream_track import count_lines  # noqa: PLC0415

    records = pipeline.stats()
    counted = {} if counts is None else {name: counts(name) for name in records}
    with printing():
        _print_table(records)
        for name, found in counted.items():
            for line in [] if found is None else count_lines(name, found):
                typer.echo(line)
    for name, record in records.items():
        if record["failed"]:
            say(f"{name}: {record['failed']} frames are left out: not enough memory for them")
        if record["message"]:
            say(f"{name}: {record['end']}: {record['message']}")


def _print_table(records: Mapping[str, dict[str, Any]]) -> None:
    """Print `Pipeline.stats`, a line a source."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    columns = ("received", "shown", "skipped", "dropped", "damaged", "reconnects")
    titles = ("source", "in", *columns[1:], "a second", "ms p50", "p90", "p99")
    table = Table(*titles, box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for name, record in records.items():
        # A file's frames wait for their turn: how long is nobody's delay.
        delays = record["latency_ms"].values() if record["live"] else [None] * 3
        table.add_row(
            name,
            *(str(record[column]) for column in columns),
            f"{record['fps']:.1f}",
            *("-" if value is None else f"{value:.0f}" for value in delays),
        )
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160  # lines in a log are not cut
    console.print(table)


def _exit_code(pipeline: Pipeline, sources: Sequence[VideoSpec], stopped: int | None) -> int:
    """2 for what could not be read or written, 128 + signal for files that were cut short."""
    records = pipeline.stats()
    ends = {name: record["end"] for name, record in records.items()}
    if any(guard.failed for guard in pipeline.guards):
        return 2
    if any(end in ("failed", "truncated") for end in ends.values()):
        return 2
    if any(record["failed"] for record in records.values()):
        return 2
    if any(records[s.name]["damaged"] for s in sources if s.kind == "sequence"):
        return 2
    if stopped is not None and any(ends[s.name] == "stopped" for s in sources if not s.live):
        return 128 + signal.Signals(stopped)
    return 0
