"""How a run treats its sources."""

from __future__ import annotations

import random
from dataclasses import dataclass

from vision_heads.errors import require


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of every source of a run.

    Attributes:
        stride: look at every n-th frame of a source.
        max_fps: look at no more frames a second of a source, by its own times; None for all.
        reconnect: open live sources again when they are lost.
        retry_first, retry_most: seconds before the first new attempt and most between two. With
            2 seconds at most, a camera is back within 3 s of its return, however long it was
            away, and an attempt at a dead host costs next to nothing.
        waiting: decoded frames of a file that may wait for the network.
    """

    stride: int = 1
    max_fps: float | None = None
    reconnect: bool = True
    retry_first: float = 0.25
    retry_most: float = 2.0
    waiting: int = 4

    def __post_init__(self) -> None:
        require(self.stride >= 1, f"stride must be at least 1, got {self.stride}")
        require(
            self.max_fps is None or self.max_fps > 0, f"max_fps must be above 0, got {self.max_fps}"
        )
        require(
            0 < self.retry_first <= self.retry_most,
            f"retry_most must be at least {self.retry_first} seconds, got {self.retry_most}",
        )
        require(self.waiting >= 1, f"waiting must be at least 1, got {self.waiting}")


class Backoff:
    """Growing waits between attempts, each somewhere in the upper half of what it may be.

    Without the chance in it, cameras behind one switch would all come back in the same instant.

    Args:
        first, most: seconds, as in `Settings`.
        chance: random numbers; a seeded one in tests.
    """

    def __init__(self, first: float, most: float, chance: random.Random | None = None) -> None:
        self._first, self._most = first, most
        self._chance = chance or random.Random()
        self._next = first

    def reset(self) -> None:
        """Start small again: the source was there."""
        self._next = self._first

    def wait(self) -> float:
        """Return the seconds to wait before the next attempt."""
        longest, self._next = self._next, min(self._next * 2, self._most)
        return longest * self._chance.uniform(0.5, 1.0)


class Pace:
    """Decides which frames of one source are looked at: every n-th, and not too many a second."""

    def __init__(self, settings: Settings) -> None:
        self._stride = settings.stride
        self._interval = 1 / settings.max_fps if settings.max_fps else 0.0
        self._due: float | None = None

    def takes(self, index: int, seconds: float) -> bool:
        """Tell whether to look at the frame `index` at `seconds` in the stream."""
        if index % self._stride:
            return False
        if not self._interval:
            return True
        # A clock that went back (recordings put together): nothing is due there any more.
        if self._due is not None and self._due - seconds > 2 * self._interval:
            self._due = None
        # Half a millisecond: times are rounded, and 25 of 50 frames a second are every other one.
        if self._due is not None and seconds < self._due - 5e-4:
            return False
        due = seconds if self._due is None else self._due
        # Due times stay on their grid as long as frames keep up with it.
        late = seconds - due > self._interval
        self._due = (seconds if late else due) + self._interval
        return True
