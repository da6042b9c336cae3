"""What travels from the network to hooks and outputs: frames with results, and events."""

from __future__ import annotations

import time as clock
import uuid
from dataclasses import dataclass, field
from typing import Any

from vision_heads.media.frames import Frame, Pixels
from vision_heads.results import Result

SOURCE_LOST = "source_lost"
SOURCE_RESUMED = "source_resumed"
SOURCE_ENDED = "source_ended"
LINE_CROSSED = "line_crossed"
ZONE_ENTERED = "zone_entered"
ZONE_LEFT = "zone_left"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, as opposed to something that is there in every frame.

    Attributes:
        kind: one of this module's constants, or a hook's own word.
        source: id of the source.
        received: Unix time of the frame it was seen in, or of the event itself.
        time: seconds in the stream, None without a frame.
        frame: index of the frame, None without one.
        head, label, track, box: the object it is about: head name, class name, track id, xyxy
            pixels; "" or None where it is about none.
        data: anything else, in plain JSON values: name of the line, direction, dwell time.
        id: unique; receivers that get an event twice can tell by it.
    """

    kind: str
    source: str
    received: float = field(default_factory=clock.time)
    time: float | None = None
    frame: int | None = None
    head: str = ""
    label: str = ""
    track: int | None = None
    box: tuple[float, float, float, float] | None = None
    data: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def at(cls, kind: str, frame: Frame, **more: Any) -> Event:
        """Return an event of a frame; `more` are the other attributes."""
        return cls(kind, frame.source, frame.received, frame.time, frame.index, **more)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain record for JSON, without what does not apply."""
        record: dict[str, Any] = {
            "id": self.id,
            "event": self.kind,
            "source": self.source,
            "received": round(self.received, 6),
        }
        if self.time is not None:
            record |= {"time": round(self.time, 6), "frame": self.frame}
        if self.head:
            record["head"] = self.head
        if self.label:
            record["class"] = self.label
        if self.track is not None:
            record["track"] = self.track
        if self.box is not None:
            record["box"] = [round(float(value), 2) for value in self.box]
        return record | self.data


@dataclass(slots=True)
class Seen:
    """A frame and what was found in it. Hooks change it, outputs read it.

    Attributes:
        frame: the picture and its times.
        result: detections by head; hooks may put others in their place, e.g. with track ids.
        events: what hooks noticed in this frame, in order.
        overlay: drawings that hooks want on top, each a function that paints on a BGR picture
            in place: lines, zones, counts.
    """

    frame: Frame
    result: Result
    events: list[Event] = field(default_factory=list)
    overlay: list[Any] = field(default_factory=list)
    _drawn: Pixels | None = field(default=None, repr=False)

    def drawn(self) -> Pixels:
        """Return the picture with everything drawn, BGR; made once, however many ask.

        The array is shared: outputs must not change it.
        """
        if self._drawn is None:
            self._drawn = self.result.draw(self.frame.image)
            for paint in self.overlay:
                paint(self._drawn)
        return self._drawn

    def to_dict(self) -> dict[str, Any]:
        """Return a plain record for JSON: source, frame, time, received, heads.

        A detection has class, score, box (xyxy pixels), track (null without a tracker) and, of
        heads that find poses, euler ([pitch, yaw, roll] in degrees, DirectMHP's convention; null
        where unknown).
        """
        return {
            "source": self.frame.source,
            "frame": self.frame.index,
            "time": round(self.frame.time, 6),
            "received": round(self.frame.received, 6),
            "heads": {
                name: [_plain(record) for record in found.to_dicts()]
                for name, found in self.result.heads.items()
            },
        }


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    kept = {
        "class": record["class"],
        "score": record["score"],
        "box": record["box"],
        "track": record.get("track"),
    }
    if "pitch" in record:
        angles = [record["pitch"], record["yaw"], record["roll"]]
        kept["euler"] = None if angles[0] is None else angles
    return kept
