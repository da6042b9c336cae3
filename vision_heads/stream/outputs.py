"""What takes everything that was seen: files, webhooks, a window, a web page."""

from __future__ import annotations

from typing import Protocol

from vision_heads.media.frames import Pixels
from vision_heads.stream.seen import Event, Seen


class Output(Protocol):
    """Takes frames and events of all sources.

    Called from one thread a source, hence from several at once; of each source, in order.
    An output that raises `UserError` is reported and left alone from then on (see `guard.py`);
    the others go on.

    Attributes:
        name: what messages call it, without credentials.
    """

    name: str

    def frame(self, seen: Seen) -> None:
        """Take a frame and what was found in it."""
        ...

    def event(self, event: Event, image: Pixels | None) -> None:
        """Take an event, with the picture it was seen in, if any (BGR, not to be changed)."""
        ...

    def end(self, source: str) -> None:
        """A source has ended: finish what belongs to it alone."""
        ...

    def close(self) -> None:
        """Finish everything; harmless when called twice."""
        ...
