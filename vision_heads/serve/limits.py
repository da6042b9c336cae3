"""How much one client may ask for. Each limit is one number; docs/serve.md lists them."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vision_heads.errors import require
from vision_heads.runtime.checks import is_real


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of requests, streams and watchers.

    Attributes:
        upload: bytes of a picture's request, in whatever form the picture comes.
        body: bytes of any other request.
        pixels: of a picture, by its header, before it is decoded.
        requests: pictures in work at once; more are turned away with 503.
        decoded: pictures held decoded at once: with `pixels`, this bounds the memory.
        streams: that run at once, those of the command line included.
        watchers: connections that never end (live pages, events, MJPEG) at once.
        backlog: frames that wait for a slow reader of events; the oldest go first.
        seconds: a client may take to send its request, or to take what it is sent.
        wait: seconds a picture may wait for the network.
    """

    upload: int = 20 * 2**20
    body: int = 64 * 2**10
    pixels: int = 32_000_000
    requests: int = 64
    decoded: int = 8
    streams: int = 16
    watchers: int = 64
    backlog: int = 64
    seconds: float = 20.0
    wait: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            require(
                is_real(value) and value > 0,
                f"limit {field.name}: must be a number above 0, got {value!r}",
            )
