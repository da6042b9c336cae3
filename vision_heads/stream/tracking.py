"""Tracking: which detection of this frame is which object of the frames before.

A small adapter over the package `trackers` (ByteTrack, OC-SORT, BoT-SORT), which is imported when
the first tracker is made. State is held for each source, head and class, so that a van never
takes over a car's track and nothing leaks between cameras.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import UserError, require
from vision_heads.media.frames import Pixels
from vision_heads.results import Detections
from vision_heads.stream.clock import Clock
from vision_heads.stream.seen import Event, Seen

TRACKERS = ("bytetrack", "ocsort", "botsort")
"""Names of the trackers. Only botsort looks at the picture: it makes up for a moving camera."""

Numbers = NDArray[np.int64]

_RATE = 30.0
"""Frames a second that the trackers' motion models are tuned for. They get true times, so this
is a unit of time and not a guess about the source."""
LONGEST = 1e6
"""Seconds for which a track may wait; trackers count whole frames, of which there are not inf."""
_ALL = -1
"""Stands for all classes where they share their tracks."""


@dataclass(frozen=True, slots=True)
class TrackSettings:
    """How objects are followed.

    Attributes:
        kind: one of `TRACKERS`.
        start: score from which a detection begins a track; lower ones only continue tracks.
        confirm: frames in which an object must be seen in a row before it gets an id.
        lost: seconds for which a track that is not seen waits to be found again; at least three
            frames, however slow the source is.
        reset: seconds of absence of a whole source after which all its tracks end.
        per_class: tracks keep to one class. False where a model is unsure which of two classes
            an object is of, and the object matters more than the class.

    Raises:
        UserError: a value makes no sense.
    """

    kind: str = "bytetrack"
    start: float = 0.4
    confirm: int = 2
    lost: float = 1.0
    reset: float = 2.0
    per_class: bool = True

    def __post_init__(self) -> None:
        known = ", ".join(TRACKERS)
        require(self.kind in TRACKERS, f"unknown tracker {self.kind!r}; known: {known}")
        require(0 <= self.start <= 1, f"track start: must be 0..1, got {self.start}")
        require(self.confirm >= 1, f"track confirm: must be at least 1, got {self.confirm}")
        require(
            0 < self.lost <= LONGEST,
            f"track lost: must be above 0 and at most {LONGEST:g} seconds, got {self.lost}",
        )
        require(self.reset >= 0, f"track reset: must be at least 0 seconds, got {self.reset}")


class Ids:
    """Gives out track ids: 1, 2, 3, ... Shared by all that must not use an id twice."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def __call__(self) -> int:
        """Return the next id; safe to be called from several threads."""
        return next(self._numbers)


class Tracking:
    """A `Hook` that gives every detection of one source its track.

    Args:
        settings: how objects are followed.
        new_id: gives the next free id. Share one among all sources of a run: then no two
            cameras, and no two heads, ever use the same id.

    Raises:
        UserError: the package is not installed.
    """

    def __init__(self, settings: TrackSettings, new_id: Callable[[], int]) -> None:
        _trackers()
        self.settings = settings
        self._new_id = new_id
        self._size = (0, 0)
        self._reset()

    def update(self, seen: Seen) -> None:
        """Put the track of each detection into the result of every head."""
        size = (seen.result.width, seen.result.height)
        if self._clock.restarts(seen.frame.time) or size != self._size:
            self._reset()  # in a picture of another size, nothing is where it was
        self._size = size
        time = self._clock.moment(seen.frame.time)
        if self._motion is not None:
            self._motion.see(seen.frame.image)
        for name, found in seen.result.heads.items():
            if name not in self._heads:
                self._heads[name] = _Head(self.settings, self._new_id, self._motion)
            track = self._heads[name].update(found, time, self._clock.patience)
            seen.result.heads[name] = replace(found, track=track)

    def gap(self, seconds: float) -> None:
        """End all tracks where the source was away for longer than `settings.reset`."""
        if seconds > self.settings.reset:
            self._reset()

    def end(self) -> Iterable[Event]:
        """Return nothing: that a track is over is no event of its own."""
        return ()

    def _reset(self) -> None:
        self._heads: dict[str, _Head] = {}
        self._motion = _Motion() if self.settings.kind == "botsort" else None
        self._clock = Clock(self.settings.lost, self.settings.reset)


class _Head:
    """Tracks of one head of one source."""

    def __init__(
        self, settings: TrackSettings, new_id: Callable[[], int], motion: _Motion | None
    ) -> None:
        self._settings = settings
        self._new_id = new_id
        self._motion = motion
        self._trackers: dict[int, Any] = {}
        self._ids: dict[int, dict[int, int]] = {}

    def update(self, found: Detections, time: float, patience: float) -> Numbers:
        """Return the track of each row, -1 where it has none yet."""
        classes = found.class_id if self._settings.per_class else np.full(len(found), _ALL)
        track = np.full(len(found), -1, np.int64)
        for label in sorted({*classes.tolist(), *self._trackers}):
            if label not in self._trackers:
                self._trackers[label] = _make(self._settings, self._motion)
                self._ids[label] = {}
            tracker = self._trackers[label]
            tracker.maximum_time_without_update = patience
            rows = np.flatnonzero(classes == label)
            own = _step(tracker, found, rows, time, self._motion)
            track[rows] = self._public(label, own)
        return track

    def _public(self, label: int, own: Numbers) -> list[int]:
        """Ids of the run for ids that only one class's tracker knows."""
        known = self._ids[label]
        for number in own.tolist():
            if number >= 0 and number not in known:
                known[number] = self._new_id()
        alive = {int(one.tracker_id) for one in self._trackers[label].tracks}
        public = [known.get(number, -1) for number in own.tolist()]
        self._ids[label] = {number: name for number, name in known.items() if number in alive}
        return public


class _Motion:
    """The camera's motion between frames, estimated once for the trackers of all classes.

    Takes the place of each tracker's own estimator.
    """

    def __init__(self) -> None:
        # A dark picture would otherwise print a line for every frame.
        logging.getLogger("trackers.cmc").setLevel(logging.ERROR)
        self._estimator = _trackers().CMC()
        self._step: NDArray[np.float32] = np.eye(2, 3, dtype=np.float32)

    def see(self, image: Pixels) -> None:
        """Take the next picture, BGR."""
        self._step = self._estimator.estimate(image)

    def estimate(self, _image: Pixels, _boxes: object = None) -> NDArray[np.float32]:
        """Return the (2, 3) affine map of pixels of the last picture to this one's."""
        return self._step


def _trackers() -> Any:
    try:
        import trackers  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            f'tracking needs more packages ({error}): pip install "vision-heads[track]"'
        ) from error
    return trackers


def _make(settings: TrackSettings, motion: _Motion | None) -> Any:
    """Return a tracker of the package, for one class."""
    package = _trackers()
    common = {
        "lost_track_buffer": max(1, round(settings.lost * _RATE)),
        "frame_rate": _RATE,
        "minimum_consecutive_frames": settings.confirm,
        "high_conf_det_threshold": settings.start,
    }
    if settings.kind == "ocsort":
        return package.OCSORTTracker(**common)
    common["track_activation_threshold"] = settings.start
    if settings.kind == "bytetrack":
        return package.ByteTrackTracker(**common)
    tracker = package.BoTSORTTracker(**common, instant_first_frame_activation=False)
    tracker.cmc = motion
    return tracker


def _step(
    tracker: Any, found: Detections, rows: Numbers, time: float, motion: _Motion | None
) -> Numbers:
    """Give rows of `found` to a tracker of the package; return its ids for them, or -1."""
    import supervision as sv  # noqa: PLC0415

    given = sv.Detections(
        xyxy=found.xyxy[rows].astype(np.float64),
        confidence=found.score[rows],
        class_id=found.class_id[rows].astype(int),
        data={"row": np.arange(len(rows))},
    )
    # The picture itself is not needed: `motion` has seen it.
    picture = None if motion is None else np.empty(0)
    got = tracker.update(given, frame=picture, timestamp=time)
    ids = np.full(len(rows), -1, np.int64)
    if len(got):
        # Trackers change the order, and some leave out rows of low scores.
        ids[got.data["row"]] = got.tracker_id
    return ids
