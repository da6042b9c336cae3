"""The one protocol of everything that moves: an iterator of frames, and why it ended.

Files, image sequences, webcams and network streams are all a `FrameSource`. `media/video.py`
opens them; `stream/` runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

Reason = Literal["finished", "truncated", "stopped", "failed"]
"""Why a source ended: all there is was read; it was damaged from some point on; somebody asked;
it could not be opened or read."""


class Frame:
    """One picture of a source.

    Args:
        source: id of the source, unique in a run and free of credentials.
        index: number in the source, from 0; counts frames that nobody looked at, too, and goes on
            over reconnects.
        time: seconds in the stream: the container's timestamp less that of its start. Of a live
            source, seconds since its first frame, whatever connections lay between.
        received: Unix time at which it was decoded.
        pixels: BGR uint8 (H, W, 3), upright, or what makes it. Converting a decoded picture to
            BGR costs more than decoding it, so frames that are dropped never pay for it.
    """

    __slots__ = ("_pixels", "index", "received", "source", "time")

    def __init__(
        self,
        source: str,
        index: int,
        time: float,
        received: float,
        pixels: Pixels | Callable[[], Pixels],
    ) -> None:
        self.source = source
        self.index = index
        self.time = time
        self.received = received
        self._pixels = pixels

    @property
    def image(self) -> Pixels:
        """BGR uint8 (H, W, 3), upright; made when first asked for, by one thread at a time."""
        if not isinstance(self._pixels, np.ndarray):
            self._pixels = self._pixels()
        return self._pixels

    def __repr__(self) -> str:
        return f"Frame({self.source!r}, {self.index}, {self.time:.3f} s)"


@dataclass(frozen=True, slots=True)
class End:
    """Why there are no more frames.

    Attributes:
        reason: see `Reason`.
        message: one line without credentials, "" when all was well; of a truncated source, it
            says at which second.
    """

    reason: Reason
    message: str = ""


class FrameSource(Protocol):
    """Frames in order, once. Iterate in one thread; `stop` may be called from any.

    Attributes:
        name: id of its frames.
        live: frames come by themselves, whether anybody takes them or not.
        damaged: frames so far that could not be decoded and were left out.
        end: None while there may be more frames; set before the iterator ends. Errors of the
            source end the iterator and stand here: iterating raises nothing a user could mend.
    """

    name: str
    live: bool
    damaged: int
    end: End | None

    def __iter__(self) -> Iterator[Frame]:
        """Open the source and yield its frames; closes it at the end or when abandoned."""
        ...

    def stop(self) -> None:
        """Let the iterator end soon: after the frame, or the timeout, that it is waiting for."""
        ...
