"""What looks at every frame of one source in order: trackers, line counters, smoothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from vision_heads.stream.seen import Event, Seen


class Hook(Protocol):
    """State of one source. Its methods are called by one thread, frames in order.

    Example of a tracker's `update`: match `seen.result.heads[name]` with its tracks, then put
    `replace(found, track=ids)` in its place, and append what happened to `seen.events`.
    """

    def update(self, seen: Seen) -> None:
        """Look at a frame; may change `seen.result.heads`, `seen.events` and `seen.overlay`."""
        ...

    def gap(self, seconds: float) -> None:
        """The source was away for that long and is back: the next frame is a fresh start."""
        ...

    def end(self) -> Iterable[Event]:
        """The source has ended: return what is left to say, e.g. who is still in a zone."""
        ...


HookMaker = Callable[[str], Hook]
"""Makes the hook of the source with this id: state is never shared between cameras."""
