"""What `vh stream` and `vh serve` make of options of tracking; how `vh stream` tells the counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_heads.cli.messages import say
from vision_heads.errors import require

if TYPE_CHECKING:
    from vision_heads.media.video import VideoSpec
    from vision_heads.runtime.request import Request
    from vision_heads.spec import ModelSpec
    from vision_heads.stream.analytics import Analytics

OFF = "off"
START, LOST = 0.4, 1.0
"""Of `TrackSettings`, where nothing else is said: score that begins a track, seconds it waits."""


def open_analytics(
    track: str,
    shapes: Path | None,
    classes: Mapping[str, Sequence[str]],
    *,
    start: float = START,
    lost: float = LOST,
    mix: bool = False,
    smooth: bool = True,
) -> Analytics | None:
    """Return what makes the hooks of every source; None where nothing is tracked.

    Args:
        track: a tracker's name, or "off".
        shapes: file of lines and zones.
        classes: class names of the heads that run, by head.
        start, lost, mix: see `TrackSettings`; `mix` lets tracks change their class.
        smooth: whether poses of tracked heads are smoothed.

    Raises:
        UserError: an option or the file is wrong, or a package is missing.
    """
    from vision_heads.geometry.filters import OneEuro  # noqa: PLC0415
    from vision_heads.stream.analytics import AnalyticsSettings, make_hooks  # noqa: PLC0415
    from vision_heads.stream.shapes import read_shapes  # noqa: PLC0415
    from vision_heads.stream.tracking import LONGEST, TRACKERS, TrackSettings  # noqa: PLC0415

    known = ", ".join((OFF, *TRACKERS))
    require(track == OFF or track in TRACKERS, f"--track {track}: unknown; known: {known}")
    if track == OFF:
        require(shapes is None, "--shapes: lines and zones count tracked objects; add --track")
        given = {
            "--track-start": start != START,
            "--track-lost": lost != LOST,
            "--track-mixed": mix,
            "--no-smooth": not smooth,
        }
        idle = ", ".join(option for option, is_given in given.items() if is_given)
        require(not idle, f"{idle}: of --track, which is not asked for")
        return None
    require(
        0 < lost <= LONGEST,
        f"--track-lost must be above 0 seconds and at most {LONGEST:g}, got {lost:g}",
    )
    settings = TrackSettings(track, start=start, lost=lost, per_class=not mix)
    read = None
    if shapes is not None:
        read = read_shapes(shapes)
        read.check(classes, str(shapes))
    return make_hooks(AnalyticsSettings(settings, OneEuro() if smooth else None, read))


def say_strangers(
    analytics: Analytics | None, file: Path | None, sources: Sequence[VideoSpec]
) -> None:
    """Name sources in the file of lines and zones that are none of this run's."""
    if analytics and analytics.settings.shapes:
        for line in analytics.settings.shapes.strangers([spec.name for spec in sources]):
            say(f"{file}: {line}")


def class_names(spec: ModelSpec, request: Request) -> dict[str, tuple[str, ...]]:
    """Return the classes that results of a request can have, by head.

    Classes that are merged are not in their heads any more but under `spec.MERGED`.
    """
    from vision_heads.spec import MERGED  # noqa: PLC0415

    merging = request.merging
    names = {head.name: head.classes for head in spec.heads if head.name in request.options}
    if merging is None:
        return names
    for head, labels in merging.labels.items():
        left = zip(names[head], labels.tolist(), strict=True)
        names[head] = tuple(name for name, label in left if label < 0)
    return names | {MERGED: merging.names}


def count_lines(source: str, counts: Mapping[str, Any]) -> list[str]:
    """Say in lines what was counted in a source; `counts` is `Counting.snapshot`."""
    lines = [
        f"{source}: {head}: {_each(classes)} tracked"
        for head, classes in counts["tracked"].items()
        if classes
    ]
    for name, record in counts["lines"].items():
        lines.append(f"{source}: line {name}: in {_each(record['in'])}; out {_each(record['out'])}")
    for name, record in counts["zones"].items():
        mean = "" if record["dwell_mean"] is None else f"; {record['dwell_mean']:.1f} s on average"
        lines.append(f"{source}: zone {name}: {_each(record['entered'])} came in{mean}")
    return lines


def _each(classes: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(classes.items())) or "0"
