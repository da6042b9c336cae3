"""Routes of streams: what there is, adding and removing, what was counted."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from vision_heads.serve.schemas import (
    Analysed,
    CountHistory,
    Key,
    StreamAdd,
    StreamInfo,
    StreamList,
    errors,
)
from vision_heads.serve.streams import Streams


def manage_routes(streams: Streams) -> APIRouter:
    """Return the routes of whoever looks after the streams."""
    router = APIRouter(prefix="/v1", tags=["streams"])

    @router.get("/streams", summary="List the streams", response_model=StreamList)
    async def list_streams() -> Any:
        """All streams and how they fare."""
        return {"streams": streams.infos()}

    @router.post(
        "/streams",
        summary="Add a stream",
        status_code=201,
        response_model=StreamInfo,
        responses={
            201: {"headers": {"Location": {"schema": {"type": "string"}}}},
            **errors(400, 408, 409, 413, 422),
        },
    )
    async def add_stream(wanted: StreamAdd, response: Response) -> Any:
        """Open a camera. It is tried again and again when it is lost; `state` says how it fares."""
        key = await streams.add(wanted.url, wanted.name)
        response.headers["Location"] = f"/v1/streams/{key}"
        return streams.info(key)

    @router.get(
        "/streams/{key}",
        summary="Describe a stream",
        response_model=StreamInfo,
        responses=errors(404, 422),
    )
    async def describe_stream(key: Key) -> Any:
        """One stream and how it fares."""
        return streams.info(key)

    @router.delete(
        "/streams/{key}",
        summary="Remove a stream",
        status_code=204,
        response_class=Response,
        responses=errors(404, 409, 422),
    )
    async def remove_stream(key: Key) -> Response:
        """End a stream; its watchers are let go."""
        await streams.remove(key)
        return Response(status_code=204)

    @router.get(
        "/streams/{key}/counts",
        summary="Counts over time",
        response_model=CountHistory,
        responses=errors(404, 422),
    )
    async def counts(
        key: Key,
        seconds: Annotated[int, Query(ge=1, le=600, description="How far back.")] = 120,
    ) -> Any:
        """Objects of each class, second by second."""
        return streams.channel(key).history.series(seconds)

    @router.get(
        "/streams/{key}/analytics",
        summary="Tracks, lines and zones",
        response_model=Analysed,
        responses=errors(404, 409, 422),
    )
    async def analysed(key: Key) -> Any:
        """What was counted since the stream was added."""
        return streams.analysed(key)

    return router
