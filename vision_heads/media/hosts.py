"""Names of hosts and their addresses."""

from __future__ import annotations

import os
import socket
import threading
from urllib.parse import urlsplit

LONGEST = 2.0
"""Seconds that `why_not_found` looks for an address; the system itself may take a minute."""


def look_up(host: str, port: int) -> list[str]:
    """Return the addresses of a host; may take as long as the system likes.

    Raises:
        OSError: it has none.
        UnicodeError: it cannot be a host's name.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({str(entry[4][0]) for entry in found})


def why_not_found(url: str, seconds: float = LONGEST) -> str:
    """Say why a URL's host has no address, without naming it; "" where it has one, or who knows.

    Args:
        url: any; with a proxy between, its host is the proxy's business.
        seconds: most that this takes.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:  # [ without ]
        return ""
    if not host or (parts.scheme in ("http", "https") and "http_proxy" in os.environ):
        return ""
    reasons = [f"its host is not found in {seconds:g} s"]

    def look() -> None:
        try:
            look_up(host, 0)
            reasons.append("")
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "not a host name"
            reasons.append(f"host not found ({reason[:1].lower()}{reason[1:]})")

    thread = threading.Thread(target=look, name="vh-look-up", daemon=True)
    thread.start()
    thread.join(seconds)
    return reasons[-1]
