"""Events sent to an HTTP receiver, one POST each, in order, until it has taken them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import re
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from vision_heads.errors import UserError, require
from vision_heads.media.frames import Pixels
from vision_heads.media.urls import Secrets, host_of, scheme_of
from vision_heads.stream.lane import Report
from vision_heads.stream.lines import LineFile
from vision_heads.stream.seen import Event, Seen
from vision_heads.stream.settings import Backoff
from vision_heads.stream.snapshots import snapshot_name
from vision_heads.stream.spool import DAMAGED, Spool
from vision_heads.version import __version__

_LATER = frozenset({408, 425, 429})
"""Answers of the 400s that mean "again later"; the others mean "never"."""


def spool_name(url: str) -> str:
    """Return the name of the folder of a receiver's events: its host, and a digest of the URL.

    Of one receiver it is the same in every run, whatever other webhooks there are. A new password
    changes nothing. What is secret in the URL cannot be told from the digest: a slow one, as a
    secret may be short.

    Raises:
        UserError: the URL is none that anything can be sent to.
    """
    name = host_of(url)
    _check(url, name)
    parts = urlsplit(url)
    host = f"{parts.hostname}:{parts.port}" if parts.port else f"{parts.hostname}"
    receiver = [parts.scheme, parts.username or "", host, parts.path or "/", parts.query]
    digest = hashlib.pbkdf2_hmac("sha256", "\n".join(receiver).encode(), host.encode(), 100_000)
    plain = re.sub("[^a-z0-9.-]+", "-", host)[:60].strip("-.")
    return f"{plain}-{digest.hex()[:16]}"


class Webhook:
    """Puts events into a spool, and a thread sends them from there.

    An event counts as delivered when the receiver answers with 2xx. While it does not answer, or
    answers with 5xx, 408, 425 or 429, the event is sent again with growing pauses and the others
    wait behind it. What a receiver refuses for good (any other answer) goes to `refused.jsonl` in
    the spool. An event may arrive twice, after a crash or a late answer: its "id" tells.

    Args:
        url: http or https; user and password in it become an Authorization header.
        folder: of the spool.
        snapshots: name the event's picture too, as `Snapshots` saves it.
        report: takes a line when the receiver is away, back, or refuses.
        timeout: seconds for an answer.
        first, most: seconds between attempts.

    Raises:
        UserError: the URL is none, or the spool cannot be used.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        snapshots: bool = False,
        report: Report = lambda line: None,
        timeout: float = 10.0,
        first: float = 1.0,
        most: float = 60.0,
    ) -> None:
        self.name = host_of(url)
        _check(url, self.name)
        self._secrets = Secrets(url)
        self._url, self._headers = _without_user(url)
        self._snapshots, self._report, self._timeout = snapshots, report, timeout
        self._spool = Spool(folder)
        if self._spool.torn:
            report(f"{self.name}: {folder}: the last event was cut off by a crash and is left out")
        if len(self._spool):
            report(f"{self.name}: {len(self._spool)} events of an earlier run are sent first")
        self.delivered = self.refused = 0
        self._backoff = Backoff(first, most)
        self._away = self._damage_told = False
        self._closing = threading.Event()
        self._sender = threading.Thread(target=self._send_all, name="vh-webhook", daemon=True)
        self._sender.start()

    def frame(self, seen: Seen) -> None:
        """Leave frames out."""

    def event(self, event: Event, image: Pixels | None) -> None:
        """Put an event into the spool."""
        record = event.to_dict()
        if self._snapshots and image is not None:
            record["snapshot"] = snapshot_name(event)
        self._spool.append(record)

    def end(self, source: str) -> None:
        """Nothing belongs to one source alone."""

    def close(self, patience: float = 3.0) -> None:
        """Send what is left as long as the receiver takes it; the rest stays in the spool."""
        if self._closing.is_set():
            return
        until = time.monotonic() + patience
        while len(self._spool) and not self._away and time.monotonic() < until:
            time.sleep(0.02)
        self._closing.set()
        self._sender.join(self._timeout + 1)
        if len(self._spool):
            self._report(
                f"{self.name}: {len(self._spool)} events wait in {self._spool.folder}; they are "
                "sent by the next run with this spool"
            )
        if self._spool.damaged:
            self._report(f"{self.name}: {self._spool.damaged} damaged events were left out")
        self._spool.close()

    def _send_all(self) -> None:
        while not self._closing.is_set():
            self._spool.wait(0.2)
            try:
                record = self._spool.first()
                self._tell_damage()
                if record is not None:
                    self._send(record)
            except UserError as error:  # the spool's disk
                self._report(str(error))
                self._closing.wait(self._backoff.wait())

    def _tell_damage(self) -> None:
        if self._spool.damaged and not self._damage_told:
            self._damage_told = True
            kept = self._spool.folder / DAMAGED
            self._report(f"{self.name}: damaged events in the spool are left out; kept in {kept}")

    def _send(self, record: dict[str, Any]) -> None:
        problem, final = self._post(record)
        if problem and not final:
            if not self._away:
                self._report(f"{self.name}: takes no events: {problem}; they wait on the disk")
            self._away = True
            self._closing.wait(self._backoff.wait())
            return
        if self._away:
            self._report(f"{self.name}: takes events again")
        self._away = False
        self._backoff.reset()
        if problem:
            self._refuse(record, problem)
        else:
            self.delivered += 1
        self._spool.taken()

    def _refuse(self, record: dict[str, Any], problem: str) -> None:
        file = LineFile(self._spool.folder / "refused.jsonl", append=True)
        file.add(f"{json.dumps(record)}\n")
        file.close()
        self.refused += 1
        if self.refused == 1:
            self._report(f"{self.name}: refuses an event: {problem}; kept in {file.path}")

    def _post(self, record: dict[str, Any]) -> tuple[str, bool]:
        """Send one event; return what went wrong ("" if nothing), and whether for good."""
        request = urllib.request.Request(
            self._url, json.dumps(record).encode(), self._headers, method="POST"
        )
        try:
            with (
                _opener.open(request, timeout=self._timeout) as answer,
                # The status says it all; some receivers never end what they write behind it.
                contextlib.suppress(OSError, http.client.HTTPException),
            ):
                answer.read1(65536)
            return "", False
        except urllib.error.HTTPError as error:
            error.close()
            later = error.code >= 500 or error.code in _LATER
            return f"answers with {error.code}", not later
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            words = " ".join(str(reason).split())  # the receiver's own, if it speaks no HTTP
            return self._secrets.clean(words) or type(error).__name__, False


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without the event, and count as delivered."""

    def redirect_request(self, *args: Any, **options: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def _check(url: str, name: str) -> None:
    """Raise `UserError` for a URL that nothing could ever be sent to; tells no more than `name`."""
    require(scheme_of(url) in ("http", "https"), f"{name}: webhooks are http or https")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:  # also of idna; its own text may repeat what is secret
        raise UserError(f"{name}: the host or port of this webhook is not valid") from None
    require(host, f"{name}: the webhook names no host")
    require(
        url.isprintable() and " " not in url and f"{parts.path}{parts.query}".isascii(),
        f"{name}: the webhook has spaces or letters that URLs cannot have; write them as %20, %C3",
    )


def _without_user(url: str) -> tuple[str, dict[str, str]]:
    """Move user and password of a URL into a header: urllib would look for a host of that name."""
    headers = {"Content-Type": "application/json", "User-Agent": f"vision_heads/{__version__}"}
    parts = urlsplit(url)
    user, found, address = parts.netloc.rpartition("@")
    if found:
        headers["Authorization"] = "Basic " + base64.b64encode(unquote(user).encode()).decode()
    return urlunsplit(parts._replace(netloc=address)), headers
