"""`POST /v1/detect`: what is in a picture."""

from __future__ import annotations

import asyncio
import time as clock
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from vision_heads.heads.base import DecodeOptions
from vision_heads.results import Result
from vision_heads.runtime.engines import Engine
from vision_heads.runtime.request import Request as Wanted
from vision_heads.runtime.request import make_request
from vision_heads.serve.batching import Batcher
from vision_heads.serve.limits import Limits
from vision_heads.serve.pictures import FIELD, decode_upload, read_upload, wants_picture
from vision_heads.serve.render import encode
from vision_heads.serve.replies import ApiError, busy
from vision_heads.serve.schemas import Detected, JsonPicture, errors

_GREY_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAAAAABWESUoAAAAGElEQV"
    "Q4y2NsYMAPmBhGFYwqGFUwQhUAAJe+AMBAh9/0AAAAAElFTkSuQmCC"
)
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {
                        FIELD: {
                            "type": "string",
                            "format": "binary",
                            "description": "A JPEG, PNG, WebP or BMP file.",
                        }
                    },
                }
            },
            "application/json": {
                "schema": JsonPicture.model_json_schema(),
                "examples": {"a grey picture": {"value": {FIELD: _GREY_PNG}}},
            },
        },
    }
}
_EXAMPLE = {
    "source": "",
    "width": 1360,
    "height": 765,
    "heads": {
        "aerial": [
            {"class": "car", "category_id": 4, "score": 0.87, "box": [512.25, 101.5, 540.75, 130]}
        ]
    },
}


class Desk:
    """Takes pictures of requests through the network, so many at a time.

    Args:
        engine: what executes the network.
        batcher: of this engine.
        limits: of one request and of all together.
        pool: threads that decode and draw.
    """

    def __init__(self, engine: Engine, batcher: Batcher, limits: Limits, pool: Executor) -> None:
        self.engine = engine
        self.limits = limits
        self._batcher = batcher
        self._pool = pool
        self._inside = 0
        self._decoded = asyncio.Semaphore(limits.decoded)

    @property
    def inside(self) -> int:
        """Requests in work."""
        return self._inside

    @property
    def waiting(self) -> int:
        """Pictures that no call of the network has taken yet."""
        return self._batcher.waiting

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places for requests; `ApiError` 503 when all are taken."""
        if self._inside >= self.limits.requests:
            raise busy(f"{self._inside} pictures are in work already")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def detect(self, data: bytes, wanted: Wanted) -> Result:
        """Return what is in an image file; `ApiError` says why not."""
        loop = asyncio.get_running_loop()
        try:
            with anyio.fail_after(self.limits.wait):
                async with self._decoded:
                    image = await loop.run_in_executor(self._pool, decode_upload, data, self.limits)
                    submit = self._batcher.submit
                    job = await loop.run_in_executor(self._pool, submit, image, wanted)
                    return await asyncio.wrap_future(job)
        except TimeoutError:
            raise busy(f"the picture waited for more than {self.limits.wait:g} s") from None

    async def draw(self, result: Result) -> bytes:
        """Return a result's picture, drawn, as JPEG."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: encode(result.draw(), 90))


def detect_routes(desk: Desk) -> APIRouter:
    """Return the routes of detection in single pictures."""
    router = APIRouter(prefix="/v1", tags=["pictures"])

    @router.post(
        "/detect",
        summary="Find objects in a picture",
        response_class=Response,
        openapi_extra=_BODY,
        responses={
            200: {
                "model": Detected,
                "description": "What was found; or the picture with it drawn, where Accept asks "
                "for image/jpeg or `draw` is true. Server-Timing tells how long it took.",
                "content": {
                    "application/json": {"example": _EXAMPLE},
                    "image/jpeg": {"schema": {"type": "string", "format": "binary"}},
                },
            },
            **errors(400, 408, 413, 415, 422, 503),
        },
    )
    async def detect(
        request: Request,
        conf: Annotated[float, Query(ge=0, le=1, description="Lowest score that counts.")] = 0.25,
        iou: Annotated[
            float, Query(ge=0, le=1, description="Boxes of a class that overlap more are one.")
        ] = 0.6,
        max_det: Annotated[int, Query(ge=1, le=3000, description="Most results a head.")] = 1000,
        heads: Annotated[
            str | None, Query(max_length=500, description="Comma-separated; all by default.")
        ] = None,
        classes: Annotated[
            str | None, Query(max_length=2000, description="Comma-separated; all by default.")
        ] = None,
        draw: Annotated[
            bool | None, Query(description="Answer with the drawn picture, whatever Accept says.")
        ] = None,
    ) -> Response:
        """One picture, as multipart upload or base64 in JSON, through the network."""
        picture = wants_picture(request.headers.get("accept", "")) if draw is None else draw
        wanted = make_request(
            desk.engine,
            DecodeOptions(conf, iou, max_det),
            classes=_listed(classes),
            heads=_listed(heads),
            keep_image=picture,
        )
        with desk.place():
            data = await read_upload(request)
            begin = clock.perf_counter()
            result = await desk.detect(data, wanted)
            timing = {"Server-Timing": f"detect;dur={1000 * (clock.perf_counter() - begin):.1f}"}
            if picture:
                return Response(await desk.draw(result), 200, timing, "image/jpeg")
        return JSONResponse(result.to_dict(), headers=timing)

    return router


def _listed(text: str | None) -> list[Any] | None:
    if text is None:
        return None
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise ApiError(422, "heads and classes: name at least one, or leave them out")
    return names
