"""What every request passes before anything else looks at it.

- **Host**: a page on the web can give its own name this machine's address (DNS rebinding), and
  the browser then takes the service for part of that page. So names must be known ones;
  addresses cannot be rebound.
- **Origin**: other sites may not make a signed-in browser change things here (CSRF), nor open
  WebSockets, which no other rule of browsers prevents.
- **Token or session**: see `access.py`.
- **Size and time** of what is sent.

Everything that is answered carries headers that keep the page to its own scripts.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vision_heads.serve.access import Access
from vision_heads.serve.limits import Limits
from vision_heads.serve.replies import ApiError, error_reply

OPEN_PATHS = frozenset({"/healthz", "/login", "/page/style.css", "/page/icon.svg"})
"""Paths that need no token; nothing about cameras is told there."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    # With no-referrer, browsers would also hide the origin of our own forms.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """The outermost layer of the service.

    Args:
        app: what lies behind.
        access: who may pass.
        limits: how much they may send.
        hosts: names, besides addresses and localhost, under which the service is reached.
        cookie: name of the session's cookie.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        limits: Limits,
        hosts: Sequence[str] = (),
        cookie: str = "vh_session",
    ) -> None:
        self._app = app
        self._access = access
        self._limits = limits
        self._hosts = {"localhost", socket.gethostname().lower(), *(h.lower() for h in hosts)}
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer why not."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope, Headers(scope=scope))
        if scope["type"] == "websocket":
            if refusal is None:
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        send = _with_headers(send)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, self._measured(scope, receive), send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if not self._knows(headers.get("host", "")):
            return error_reply(
                421, "this name is not one of the service's; allow it with --allow-host"
            )
        if _is_foreign(scope, headers):
            return error_reply(403, "requests from other sites are not answered")
        path = scope["path"]
        cookies = cookie_parser(headers.get("cookie", ""))
        session = cookies.get(self._cookie, "")
        known = self._access.admits(headers.get("authorization", ""), session)
        if not known and path not in OPEN_PATHS:
            if path == "/" and scope.get("method") == "GET":
                return RedirectResponse("/login", 303)
            return error_reply(
                401,
                "needs the service's token: Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._allowed(scope):
            return error_reply(413, self._too_large(scope))
        return None

    def _knows(self, host: str) -> bool:
        name = _name_of(host)
        if not name:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts or name.endswith(".localhost")
        return True

    def _allowed(self, scope: Scope) -> int:
        return self._limits.upload if scope["path"] == "/v1/detect" else self._limits.body

    def _too_large(self, scope: Scope) -> str:
        return f"the request is larger than the limit of {self._allowed(scope)} bytes"

    def _measured(self, scope: Scope, receive: Receive) -> Receive:
        """Count what arrives, whatever its headers said, and wait for it no longer than allowed."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._limits.seconds
        size, complete = 0, False

        async def measured() -> Message:
            nonlocal size, complete
            if complete:  # from here on, only the client's leaving is waited for
                return await receive()
            try:
                with anyio.fail_after(max(end - loop.time(), 0.001)):
                    message = await receive()
            except TimeoutError:
                seconds = self._limits.seconds
                raise ApiError(408, f"the request took longer than {seconds:g} s") from None
            size += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if size > self._allowed(scope):
                raise ApiError(413, self._too_large(scope))
            return message

        return measured


def _name_of(host: str) -> str:
    """Return the name or address in a Host header, lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _is_foreign(scope: Scope, headers: Headers) -> bool:
    """Tell whether another site makes a browser ask; programs send neither of these headers."""
    if scope["type"] == "http" and scope["method"] in _SAFE:
        site = headers.get("sec-fetch-site", "none")
        # Following a link to the page is fine; taking pictures from it into another is not.
        return site in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate"
    origin = headers.get("origin")
    if origin is not None:
        # A proxy may end TLS before us, so only host and port are compared.
        return origin.partition("://")[2].lower() != headers.get("host", "").lower()
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin")


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
