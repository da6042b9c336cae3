"""Runs the service by uvicorn: addresses, signals, an end that does not wait for watchers."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
import time
from typing import Any

import uvicorn
from fastapi import FastAPI

from vision_heads.errors import UserError
from vision_heads.serve.limits import Limits

GRACE = 5
"""Seconds that open connections get to end."""
PATIENCE = Limits().seconds
"""Seconds that clients get to send the headers of a request."""


class Server(uvicorn.Server):
    """Lets watchers go before it waits for connections to end: theirs never would.

    It also cuts off connections by which no request comes: uvicorn waits for the first one, and
    for the rest of its headers, for ever, while such connections take the places of others.

    Args:
        config: of uvicorn.
        patience: seconds for which a request is waited for.
    """

    def __init__(self, config: uvicorn.Config, patience: float) -> None:
        super().__init__(config)
        self._patience = patience
        self._idle: dict[tuple[Any, Any], float] = {}

    async def on_tick(self, counter: int) -> bool:
        """Look after connections now and then."""
        if counter % 5 == 0:  # ticks are 0.1 s apart
            self._cut_off(time.monotonic())
        return await super().on_tick(counter)

    def _cut_off(self, now: float) -> None:
        # `cycle` is a connection's last request, None before the first; WebSockets have none.
        cycles = [(one, getattr(one, "cycle", one)) for one in self.server_state.connections]
        waiting = [
            (one, cycle)
            for one, cycle in cycles
            if cycle is None or getattr(cycle, "response_complete", False)
        ]
        self._idle = {each: self._idle.get(each, now) for each in waiting}
        for (one, _), since in self._idle.items():
            if now - since > self._patience:
                one.transport.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        app: Any = self.config.app
        app.state.streams.let_go()
        for one in list(self.server_state.connections):
            cycle = getattr(one, "cycle", None)
            # An upload that is not complete would be waited for, and cancelled with a traceback.
            if getattr(cycle, "more_body", False) and not getattr(cycle, "response_started", True):
                one.transport.close()
        await super().shutdown(sockets)


def is_local(host: str) -> bool:
    """Tell whether an address to bind to can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_socket(host: str, port: int) -> socket.socket:
    """Bind; port 0 takes a free one.

    Raises:
        UserError: the address is in use, not this machine's, or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
            # At once: until somebody listens, another service could bind the same port, too.
            opened.listen()
        except OSError:
            opened.close()
            raise
    except OSError as error:
        raise UserError(f"{host}:{port}: cannot listen: {error.strerror or error}") from error
    return opened


def address_of(opened: socket.socket) -> str:
    """Return the URL of a bound socket, with a name that can be asked."""
    host, port = opened.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class _OnPurpose(logging.Filter):
    """Leaves out lines about clients that were cut off: for taking too long, for nonsense."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        # The second is a traceback for each text in a WebSocket that is no UTF-8.
        return "without completing response" not in message and "Invalid UTF-8" not in message


_ON_PURPOSE = _OnPurpose()


def make_server(
    app: FastAPI, connections: int, level: str = "warning", patience: float = PATIENCE
) -> Server:
    """Return a server that is not running yet.

    Args:
        app: from `make_app`.
        connections: beyond this many at once, requests are answered 503.
        patience: seconds after which a connection by which no request comes is closed.
        level: of uvicorn's own log; requests are not logged, `/metrics` counts them.
    """
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level=level,
        server_header=False,
        limit_concurrency=connections,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=GRACE,
        ws="websockets-sansio",
        ws_max_size=64 * 2**10,
        ws_per_message_deflate=False,  # JPEG does not get smaller
        h11_max_incomplete_event_size=32 * 2**10,
    )
    logging.getLogger("uvicorn.error").addFilter(_ON_PURPOSE)
    return Server(config, patience)


def run(server: Server, opened: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM, both of which are how a service ends."""

    def end(*_: object) -> None:
        server.should_exit = True

    # uvicorn hands the signal on when it is done; here it has done its work.
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[opened])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
