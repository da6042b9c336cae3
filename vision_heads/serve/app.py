"""The service as an ASGI application: its parts put together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware import Middleware
from starlette.responses import Response

from vision_heads.heads.base import DecodeOptions, kind_of
from vision_heads.media.draw import class_color
from vision_heads.media.video import OpenOptions, VideoSpec
from vision_heads.runtime.engines import Engine
from vision_heads.runtime.request import Request, make_request
from vision_heads.serve.access import Access
from vision_heads.serve.batching import LARGEST, Batcher
from vision_heads.serve.detect import Desk, detect_routes
from vision_heads.serve.guard import Guard
from vision_heads.serve.limits import Limits
from vision_heads.serve.manage import manage_routes
from vision_heads.serve.metrics import MEDIA_TYPE, Meter, Metrics, Sample
from vision_heads.serve.pages import page_routes
from vision_heads.serve.replies import error_reply, install_errors
from vision_heads.serve.schemas import ErrorBody, Health, ModelInfo
from vision_heads.serve.streams import Streams, stream_samples
from vision_heads.serve.urls import StreamRules
from vision_heads.serve.watch import watch_routes
from vision_heads.spec import MERGED
from vision_heads.stream.analytics import Analytics
from vision_heads.stream.pipeline import Pipeline
from vision_heads.stream.settings import Settings
from vision_heads.version import __version__

_ABOUT = """Finds objects in pictures and in live streams.

Errors are `{"error": {"code", "message"}}`, `message` one line. Boxes are x1, y1, x2, y2 in pixels
of the upright picture. Options go into the URL, pictures into the body."""


@dataclass(frozen=True)
class Plan:
    """What to serve, and to whom.

    Attributes:
        engine: executes the network; requests and streams share it.
        name: of the model, for people.
        sources: streams that are there from the start and stay.
        token: see `Access`; None lets everybody in.
        hosts: names under which the service is reached, besides addresses and localhost.
        limits, rules, options, settings: bounds of requests; what may be added; how streams are
            opened and run.
        request: what is looked for in streams; everything when None.
        analytics: of streams: tracks, smooth poses, lines and zones.
        parallel: calls of the network at the same time.
        largest: most pictures of requests a call, where the model file allows any.
        report: takes lines about streams for whoever runs the service.
        cookie: name of the session's cookie; servers on one host need different ones.
    """

    engine: Engine
    name: str
    sources: Sequence[VideoSpec] = ()
    token: str | None = None
    hosts: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    rules: StreamRules = field(default_factory=StreamRules)
    options: OpenOptions = field(default_factory=OpenOptions)
    settings: Settings = field(default_factory=Settings)
    request: Request | None = None
    analytics: Analytics | None = None
    parallel: int = 1
    largest: int = LARGEST
    report: Callable[[str], None] = lambda line: None
    cookie: str = "vh_session"


def make_app(plan: Plan) -> FastAPI:
    """Return the service; threads start with its lifespan and end with it.

    Its `state.streams.let_go()` must be called before a server waits for connections to end.
    """
    access = Access(plan.token)
    metrics = Metrics()
    streams = Streams(plan.limits, plan.rules, plan.options, plan.analytics)
    pool = ThreadPoolExecutor(max(os.cpu_count() or 1, 2), thread_name_prefix="vh-serve")
    batcher = Batcher(
        plan.engine,
        largest=plan.largest,
        runners=plan.parallel,
        called=metrics.pictures.add,
    )
    desk = Desk(plan.engine, batcher, plan.limits, pool)
    metrics.samples = lambda: _samples(streams, desk)
    wanted = plan.request or make_request(plan.engine, DecodeOptions())
    pipeline = Pipeline(
        plan.engine,
        wanted,
        hooks=[plan.analytics] if plan.analytics else [],
        outputs=[streams],
        settings=plan.settings,
        parallel=plan.parallel,
        report=plan.report,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        streams.start(pipeline, plan.sources)
        try:
            yield
        finally:
            streams.let_go()
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, streams.stop)
            await loop.run_in_executor(None, batcher.close)
            pool.shutdown(wait=True, cancel_futures=True)

    app = _bare_app(plan, access, metrics, lifespan)
    app.state.streams, app.state.desk, app.state.metrics = streams, desk, metrics
    install_errors(app)
    app.include_router(detect_routes(desk))
    app.include_router(manage_routes(streams))
    app.include_router(watch_routes(streams, plan.limits, metrics, pool))
    _add_service_routes(app, streams, metrics, _describe(plan))
    app.include_router(page_routes(access, plan.cookie))
    app.openapi = lambda: _openapi(app, access)  # type: ignore[method-assign]
    return app


def _bare_app(
    plan: Plan,
    access: Access,
    metrics: Metrics,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
) -> FastAPI:
    """Return the service without its routes: who may ask, what is counted, what it says of it."""
    return FastAPI(
        title="vision_heads",
        version=__version__,
        description=_ABOUT,
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        # Newer versions of FastAPI would report requests and errors where OpenTelemetry is set up.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        redirect_slashes=False,
        responses={} if access.open else {401: {"model": ErrorBody, "description": "No token."}},
        middleware=[
            Middleware(Meter, metrics=metrics),
            Middleware(
                Guard, access=access, limits=plan.limits, hosts=plan.hosts, cookie=plan.cookie
            ),
        ],
    )


def _add_service_routes(
    app: FastAPI, streams: Streams, metrics: Metrics, about: dict[str, Any]
) -> None:
    @app.get(
        "/healthz",
        tags=["service"],
        summary="Is it well?",
        response_model=Health,
        responses={500: {"model": ErrorBody, "description": "Streams do not run any more."}},
    )
    async def health() -> Any:
        """Needs no token."""
        try:
            streams.check()
        except Exception:  # whatever it is, the pipeline is down
            return error_reply(500, "streams do not run any more; the service must be restarted")
        return {"status": "ok"}

    @app.get(
        "/metrics",
        tags=["service"],
        summary="Figures for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def figures() -> Response:
        """Prometheus' text format."""
        return Response(metrics.text(), media_type=MEDIA_TYPE)

    @app.get("/v1/model", tags=["service"], summary="What it finds", response_model=ModelInfo)
    async def model() -> Any:
        """Heads, classes and the colours they are drawn in."""
        return about


def _describe(plan: Plan) -> dict[str, Any]:
    spec = plan.engine.spec
    heads: list[dict[str, Any]] = []
    parts = [(head.name, head.kind, head.classes) for head in spec.heads]
    if spec.merge:
        parts.append((MERGED, "detect", tuple(spec.merge)))
    first = 0
    for head, kind, classes in parts:
        colors = [class_color(first + index) for index in range(len(classes))]
        heads.append(
            {
                "name": head,
                "kind": kind,
                "classes": list(classes),
                "colors": [f"#{red:02x}{green:02x}{blue:02x}" for blue, green, red in colors],
                "poses": "rotation" in kind_of(kind).outputs,
            }
        )
        first += len(classes)
    return {
        "name": plan.name,
        "version": __version__,
        "height": spec.input.height,
        "width": spec.input.width,
        "heads": heads,
        "tracks": plan.analytics is not None and plan.analytics.settings.track is not None,
        "terms": spec.provenance.get("terms", ""),
    }


def _samples(streams: Streams, desk: Desk) -> Iterable[Sample]:
    yield Sample(
        "vh_pictures_in_work", "gauge", "Pictures of requests in work.", [((), desk.inside)]
    )
    yield Sample("vh_pictures_waiting", "gauge", "Those that no call took.", [((), desk.waiting)])
    yield Sample("vh_watchers", "gauge", "Connections that stay open.", [((), streams.watchers)])
    yield from stream_samples(streams.infos())


def _openapi(app: FastAPI, access: Access) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=_ABOUT, routes=app.routes
        )
        # Validation errors have our shape, not FastAPI's.
        for unused in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(unused, None)
        if not access.open:
            schema["components"]["securitySchemes"] = {
                "token": {"type": "http", "scheme": "bearer"}
            }
            schema["security"] = [{"token": []}]
            schema["paths"]["/healthz"]["get"]["security"] = []
        app.openapi_schema = schema
    return app.openapi_schema


def model_name(weights: str) -> str:
    """Return what people call a model: its file's name without suffix, no folders."""
    return Path(weights).stem
