"""Who may use the service: a token for programs, a session for browsers.

A browser cannot send headers with `<img>`, `EventSource` or a WebSocket, and a token in a URL
ends up in logs and histories. So a person types the token once, into a form, and gets a cookie
with a random session number: it cannot be read by scripts, is not sent from other sites
(SameSite=Strict) and is worth nothing after signing out, twelve hours, or a restart.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

from vision_heads.errors import require

MIN_TOKEN = 16
"""Characters of a token: shorter ones can be guessed."""
SESSION_SECONDS = 12 * 3600
MAX_SESSIONS = 1000


class Access:
    """Checks tokens and keeps sessions; any thread.

    Args:
        token: what programs and people must show, None to let everybody in.
        clock: seconds, for tests.

    Raises:
        UserError: the token is too short, or holds what a header cannot.
    """

    def __init__(
        self, token: str | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if token is not None:
            require(
                len(token) >= MIN_TOKEN,
                f"token: has {len(token)} characters, must have at least {MIN_TOKEN}",
            )
            require(
                token.isascii() and token.isprintable() and " " not in token,
                "token: must be printable ASCII without spaces, as HTTP headers are",
            )
        self._token = None if token is None else token.encode()
        self._clock = clock
        self._ends: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def open(self) -> bool:
        """Whether everybody is let in."""
        return self._token is None

    def knows(self, token: str) -> bool:
        """Tell whether this is the token; how long that takes says nothing about it."""
        # As bytes: compare_digest refuses text that is not ASCII.
        given = token.encode("utf-8", "surrogatepass")
        return self._token is not None and hmac.compare_digest(given, self._token)

    def begin(self) -> str:
        """Return the number of a new session; beyond `MAX_SESSIONS` the oldest one ends."""
        number = secrets.token_urlsafe(32)
        with self._lock:
            self._ends[_key(number)] = self._clock() + SESSION_SECONDS
            while len(self._ends) > MAX_SESSIONS:
                self._ends.popitem(last=False)
        return number

    def end(self, number: str) -> None:
        """End a session, if it is one."""
        with self._lock:
            self._ends.pop(_key(number), None)

    def has(self, number: str) -> bool:
        """Tell whether a session of this number is going on."""
        with self._lock:
            return self._ends.get(_key(number), 0.0) > self._clock()

    def admits(self, authorization: str, session: str) -> bool:
        """Tell whether a request may pass.

        Args:
            authorization: its Authorization header, "" for none.
            session: its session cookie, "" for none.
        """
        if self.open:
            return True
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return self.knows(token.strip())
        return bool(session) and self.has(session)


def _key(number: str) -> str:
    """What is kept of a session: looking up a digest tells nothing about the number."""
    return sha256(number.encode("utf-8", "surrogatepass")).hexdigest()
