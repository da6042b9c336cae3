"""Everything that looks at the frames of a run in order: tracks, smooth poses, counts.

hooks = make_hooks(AnalyticsSettings(track=TrackSettings("bytetrack")))
hook = hooks("camera-1")        # what the pipeline asks for, once a source
hooks.counts("camera-1")        # what a page asks for, whenever it likes
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vision_heads.errors import require
from vision_heads.geometry.filters import OneEuro
from vision_heads.stream.counting import Counting
from vision_heads.stream.hooks import Hook
from vision_heads.stream.seen import Event, Seen
from vision_heads.stream.shapes import Shapes
from vision_heads.stream.smoothing import PoseSmoothing
from vision_heads.stream.tracking import Ids, Tracking, TrackSettings


@dataclass(frozen=True, slots=True)
class AnalyticsSettings:
    """What is made of the detections of a run.

    Attributes:
        track: how objects are followed; None follows none.
        smooth: how head poses are smoothed; None leaves them as found.
        shapes: lines and zones; they count tracked objects.

    Raises:
        UserError: lines and zones without a tracker.
    """

    track: TrackSettings | None = None
    smooth: OneEuro | None = field(default_factory=OneEuro)
    shapes: Shapes | None = None

    def __post_init__(self) -> None:
        require(
            self.track is not None or self.shapes is None,
            "lines and zones count tracked objects: they need a tracker",
        )


class Chain:
    """A `Hook` made of hooks that run one after the other."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._hooks = tuple(hooks)

    def update(self, seen: Seen) -> None:
        """Let every hook look at the frame."""
        for hook in self._hooks:
            hook.update(seen)

    def gap(self, seconds: float) -> None:
        """Tell every hook that the source was away."""
        for hook in self._hooks:
            hook.gap(seconds)

    def end(self) -> Iterable[Event]:
        """Return what all hooks have left to say."""
        return [event for hook in self._hooks for event in hook.end()]


class Analytics:
    """A `HookMaker` that also knows the counts of every source it made a hook for.

    Track ids are unique over all its sources and heads.

    Args:
        settings: what is made of the detections.

    Raises:
        UserError: the tracker's package is not installed.
    """

    def __init__(self, settings: AnalyticsSettings) -> None:
        self.settings = settings
        self._new_id = Ids()
        self._counting: dict[str, Counting] = {}
        self._lock = threading.Lock()
        if settings.track is not None:
            Tracking(settings.track, self._new_id)  # what is not installed is said before a run

    def __call__(self, source: str) -> Hook:
        """Return the hook of a source; one of the same id starts its counts anew."""
        track = self.settings.track
        limits = {} if track is None else {"lost": track.lost, "reset": track.reset}
        counting = Counting(source, self.settings.shapes, **limits)
        with self._lock:
            self._counting[source] = counting
        hooks: list[Hook] = []
        if track is not None:
            hooks.append(Tracking(track, self._new_id))
            if self.settings.smooth is not None:
                hooks.append(PoseSmoothing(self.settings.smooth))
        return Chain([*hooks, counting])

    def counts(self, source: str) -> dict[str, Any] | None:
        """Return a source's counts, see `Counting.snapshot`; None where it is unknown."""
        with self._lock:
            counting = self._counting.get(source)
        return None if counting is None else counting.snapshot()

    def forget(self, source: str) -> None:
        """Drop the counts of a source that was removed."""
        with self._lock:
            self._counting.pop(source, None)


def make_hooks(settings: AnalyticsSettings) -> Analytics:
    """Return what makes the hook of each source, and keeps their counts.

    Raises:
        UserError: the tracker's package is not installed.
    """
    return Analytics(settings)
