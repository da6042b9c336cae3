"""What the service answers: errors of one shape, and answers that never end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Mapping
from typing import Any

import anyio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from vision_heads.errors import UserError
from vision_heads.media.urls import redact

CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media",
    421: "wrong_host",
    422: "invalid",
    500: "internal",
    503: "busy",
}
"""Status -> the word that programs can look at."""


class ApiError(HTTPException):
    """An answer that is no success: a status of `CODES` and one line that says why."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, redact(" ".join(message.split())), dict(headers or {}))


def busy(message: str) -> ApiError:
    """Return the answer of a service that has enough to do."""
    return ApiError(503, message, {"Retry-After": "2"})


def error_reply(
    status: int, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return {"error": {"code", "message"}}."""
    code = CODES.get(status, "error")
    return JSONResponse({"error": {"code": code, "message": message}}, status, dict(headers or {}))


def install_errors(app: FastAPI) -> None:
    """Give every error of `app` the one shape; no answer repeats what was sent."""

    async def on_http(_: Request, error: Any) -> Response:
        return error_reply(error.status_code, str(error.detail), error.headers)

    async def on_user(_: Request, error: Any) -> Response:
        return error_reply(422, redact(" ".join(str(error).split())))

    async def on_validation(_: Request, error: Any) -> Response:
        problem = error.errors()[0]
        # Only names and reasons: the values themselves may be URLs with passwords.
        field = ".".join(str(part) for part in problem["loc"] if part != "body")
        status = 400 if problem["type"] == "json_invalid" else 422
        message = problem["msg"].removeprefix("Value error, ")
        # Names of unknown fields are the client's, too.
        return error_reply(status, redact(f"{field}: {message}" if field else message))

    async def on_fault(_: Request, error: Any) -> Response:
        return error_reply(500, "a fault of the service; its log has more")

    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(UserError, on_user)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(Exception, on_fault)


Parts = AsyncGenerator[bytes, None]


class Endless(Response):
    """An answer of parts that come as they are made, until either side has enough.

    Args:
        parts: what to send.
        media_type: of the whole.
        patience: seconds the client may take for a part before it is cut off.
    """

    def __init__(self, parts: Parts, media_type: str, patience: float) -> None:
        super().__init__(None, media_type=media_type)
        del self.headers["content-length"]
        # Proxies that collect answers would hold these back.
        self.headers["X-Accel-Buffering"] = "no"
        self.headers["Cache-Control"] = "no-store"
        self._parts = parts
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the parts end, the client goes, or takes too long."""
        async with anyio.create_task_group() as group:

            async def either(work: Awaitable[None]) -> None:
                with contextlib.suppress(OSError):  # a TimeoutError is one too
                    await work
                group.cancel_scope.cancel()

            group.start_soon(either, _gone(receive))
            await either(self._send(send))

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        async with contextlib.aclosing(self._parts) as parts:
            async for part in parts:
                message = {"type": "http.response.body", "body": part, "more_body": True}
                # Not asyncio.wait_for: before Python 3.12 it may swallow that we are cancelled.
                with anyio.fail_after(self._patience):
                    await send(message)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    with contextlib.suppress(ApiError):  # its body is too large, or does not come
        while (await receive())["type"] != "http.disconnect":
            pass
