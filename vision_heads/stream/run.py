"""A run of a pipeline from a command line: signals, progress, counts."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_heads.errors import UserError, require
from vision_heads.media.sinks import named_errors
from vision_heads.media.video import OpenOptions, VideoSpec, open_video
from vision_heads.paths import write_whole
from vision_heads.signals import collected
from vision_heads.stream.lane import Report
from vision_heads.stream.pipeline import Pipeline

if TYPE_CHECKING:
    from vision_heads.stream.window import Windows

Counts = Callable[[str], dict[str, Any] | None]
"""What was counted in a source, by its id; see `Analytics.counts`."""

FIRST_LINE, LONGEST_PAUSE = 10.0, 600.0
"""Seconds until the first line of progress, and most between two; each pause doubles the last."""
STATS_EVERY = 10.0


def run(
    pipeline: Pipeline,
    sources: Sequence[VideoSpec],
    options: OpenOptions,
    *,
    say: Report,
    window: Windows | None = None,
    stats: Path | None = None,
    counts: Counts | None = None,
) -> int | None:
    """Run all sources to their end, or until a signal, and finish every output.

    Call it in the main thread. The first SIGINT, SIGTERM or SIGHUP (the terminal was closed) lets
    what is in the network come out and closes the files; the second ends the process at once.

    Args:
        pipeline: not started.
        sources: to add.
        options: how they are opened.
        say: takes lines for the user.
        window: refreshed meanwhile; closing it ends the run.
        stats: file of the counts, written anew now and then.
        counts: gives what hooks counted, for that file.

    Returns:
        The signal that ended the run, None where it ended by itself.

    Raises:
        UserError: no output can be written any more; or a source cannot be worked on.
    """
    with collected() as received:
        pipeline.start()
        try:
            if stats is not None and not _is_device(stats):
                # Finds out now, not after hours, that nothing can be written there.
                write_stats(stats, pipeline, counts)
            for spec in sources:
                pipeline.add(spec.name, spec.live, partial(open_video, spec, options))
            _watch(pipeline, received, say, window, stats, counts)
        finally:
            pipeline.stop()
            if stats is not None:
                write_stats(stats, pipeline, counts)
    return received[0] if received else None


def write_stats(path: Path, pipeline: Pipeline, counts: Counts | None = None) -> None:
    """Write the counts as JSON: sources by name, and what each output missed; in one step.

    With `counts`, also what hooks counted in each source, as "objects".

    Raises:
        UserError: the file cannot be written.
    """
    sources = pipeline.stats()
    record = {
        "sources": sources,
        "outputs": [
            {"name": guard.output.name, "failed": guard.failed, "missed": guard.missed}
            for guard in pipeline.guards
        ],
    }
    if counts is not None:
        record["objects"] = {name: counts(name) for name in sources}
    require(not path.is_dir(), f"{path}: cannot be written: is a folder")
    with named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(record, indent=1) + "\n").encode())


def _is_device(path: Path) -> bool:
    """Tell whether this is /dev/stdout or the like, which takes the counts as they come."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _watch(
    pipeline: Pipeline,
    received: list[int],
    say: Report,
    window: Windows | None,
    stats: Path | None,
    counts: Counts | None,
) -> None:
    begin = time.monotonic()
    pause, next_line, next_stats = FIRST_LINE, begin + FIRST_LINE, begin + STATS_EVERY
    while not received and not pipeline.wait(0.02 if window else 0.2):
        if window is not None and not window.refresh():
            return
        if pipeline.guards and all(guard.broken for guard in pipeline.guards):
            raise UserError("no output can be written any more; the run ends")
        now = time.monotonic()
        if stats is not None and now >= next_stats:
            next_stats = now + STATS_EVERY
            # A full disk is reported at the end; until then it may be cleared.
            with contextlib.suppress(UserError):
                write_stats(stats, pipeline, counts)
        if now >= next_line:
            pause = min(pause * 2, LONGEST_PAUSE)
            next_line = now + pause
            for name, record in pipeline.stats().items():
                say(f"{name}: {progress_line(record)}")


def progress_line(record: dict[str, Any]) -> str:
    """Say in a line how a source does; `record` is one of `Pipeline.stats`."""
    parts = [record["state"], f"{record['shown']} frames", f"{record['fps']:.1f} a second"]
    if record["live"] and record["latency_ms"]["p50"] is not None:
        parts.append(f"{record['latency_ms']['p50']:.0f} ms behind")
    for what in ("dropped", "damaged", "failed", "reconnects"):
        if record[what]:
            parts.append(f"{record[what]} {what}")
    return ", ".join(parts)
