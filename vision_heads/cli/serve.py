"""`vh serve`: detection over HTTP, and a page to watch cameras on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_heads.cli import options as opt
from vision_heads.cli.messages import say
from vision_heads.cli.stream_track import OFF
from vision_heads.errors import UserError, missing_package, require
from vision_heads.paths import read_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vision_heads.serve.app import Plan

_HELP = """Serve detection over HTTP, and a page to watch cameras on.

The page is at the address that is printed. On it, cameras are added and removed, pictures tried,
heads switched on and off. Programs post pictures to /v1/detect; /openapi.json describes the rest,
docs/serve.md explains it. Ctrl-C or SIGTERM ends it.

It listens on this machine only (127.0.0.1). To be reached from others it needs a token, in a file
or in the variable VH_TOKEN: programs send it as a header, people type it once.

[b]Examples[/b]

  vh serve

  vh serve --source gate=rtsp://user:password@10.0.0.5/live --source drive.mp4

  vh serve --weights runs/street/best.onnx --port 9000 --conf 0.4 --max-fps 10

  vh serve --host 0.0.0.0 --token-file token.txt --allow-host cameras.example.org

  curl -F image=@street.jpg http://127.0.0.1:8000/v1/detect
"""
_TOKEN = "VH_TOKEN"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("serve", help=_HELP)(serve)


def serve(
    *,
    weights: opt.Weights = "aerial-n",
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="A stream to show from the start, as vh stream takes them, also name=...; files "
            "are played over and over. May be given several times.",
            show_default="none",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine's.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help=f"File with the token that clients must show, on its first line; or {_TOKEN}.",
            show_default="none needed on this machine",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name under which the service is reached; addresses and localhost always work.",
            show_default="this machine's name",
        ),
    ] = None,
    allow_camera: Annotated[
        list[str] | None,
        typer.Option(
            help="Pattern of hosts that may be added as streams, e.g. '10.0.7.*'; only these.",
            show_default="any network camera",
        ),
    ] = None,
    adding: Annotated[
        bool, typer.Option("--adding/--no-adding", help="Whether streams may be added at all.")
    ] = True,
    conf: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="In streams: lowest score that counts.")
    ] = 0.25,
    iou: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="In streams: NMS drops boxes that overlap by more."),
    ] = 0.6,
    heads: Annotated[
        str | None,
        typer.Option(help="In streams: heads to run, comma-separated.", show_default="all"),
    ] = None,
    track: Annotated[
        str | None,
        typer.Option(
            help="Follow objects in streams: bytetrack, ocsort or botsort.", show_default="off"
        ),
    ] = None,
    shapes: Annotated[
        Path | None,
        typer.Option(
            help="With --track: file of lines and zones to count at.", show_default="none"
        ),
    ] = None,
    max_fps: Annotated[
        float | None,
        typer.Option(help="Look at no more frames a second of a stream.", show_default="all"),
    ] = None,
    transport: Annotated[str, typer.Option(help="How RTSP cameras send: tcp or udp.")] = "tcp",
    max_streams: Annotated[int, typer.Option(min=1, help="Most streams at once.")] = 16,
    max_upload: Annotated[
        float, typer.Option(min=0.1, max=1000, help="Largest picture that is taken, in MiB.")
    ] = 20.0,
    max_pixels: Annotated[
        float, typer.Option(min=0.1, max=268, help="Largest picture that is taken, in megapixels.")
    ] = 32.0,
    batch: Annotated[
        int,
        typer.Option(min=1, help="Most pictures of requests a call, if the model file allows it."),
    ] = 8,
    threads: opt.Threads = None,
    provider: opt.Provider = None,
) -> None:
    """Serve detection over HTTP."""
    # FFmpeg and OpenCV report by themselves, also URLs with passwords; we do, without.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    require(adding or not allow_camera, "--allow-camera: with --no-adding no stream may be added")
    _require_hosts("--allow-host", allow_host or ())
    _require_hosts("--allow-camera", allow_camera or ())
    server, service = _modules()
    token = _token(token_file)
    local = server.is_local(host)
    require(
        token is not None or local,
        f"--host {host}: others can reach it, so it needs a token: --token-file FILE or {_TOKEN}; "
        "python -c 'import secrets; print(secrets.token_urlsafe())' makes one",
    )
    opened = server.open_socket(host, port)
    try:
        plan = _plan(
            service,
            weights,
            source or [],
            token=token,
            hosts=allow_host or [],
            cookie=f"vh_session_{opened.getsockname()[1]}",
            rules={
                "hosts": allow_camera or [],
                "only_hosts": bool(allow_camera) or not adding,
                "loopback": local,
            },
            limits={
                "streams": max_streams,
                "upload": int(max_upload * 2**20),
                "pixels": int(max_pixels * 1e6),
            },
            conf=conf,
            iou=iou,
            heads=heads,
            track=track,
            shapes=shapes,
            max_fps=max_fps,
            transport=transport,
            batch=batch,
            threads=threads,
            provider=provider,
        )
        app = service.make_app(plan)
        typer.echo(f"vh: {plan.name} at {server.address_of(opened)} (Ctrl-C ends it)")
        limits = plan.limits
        connections = limits.watchers + limits.requests + 32
        server.run(server.make_server(app, connections), opened)
    finally:
        opened.close()


def _require_hosts(option: str, names: Sequence[str]) -> None:
    """Refuse what no host is ever called: it would allow nothing, and nobody would know why."""
    for name in names:
        # An IPv6 address has several colons, host and port one.
        alone = name and "/" not in name and name.count(":") != 1
        require(alone, f"{option} {name}: must be a host alone, without scheme, port or path")


def _modules() -> tuple[Any, Any]:
    """Return `serve.server` and `serve.app`, which need what the extra brings."""
    try:
        import python_multipart  # noqa: F401, PLC0415
        import websockets  # noqa: F401, PLC0415

        from vision_heads.serve import app, server  # noqa: PLC0415
    except ImportError as error:
        needs = f"serving needs {missing_package(error)}"
        raise UserError(f'{needs}: pip install "vision-heads[serve]"') from error
    return server, app


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(_TOKEN) or None
    try:
        lines = read_text(file).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        raise UserError(f"{file}: cannot be read as a token: {reason}") from error
    token = lines[0].strip() if lines else ""
    require(token, f"{file}: its first line is empty; it should be the token")
    return token


def _plan(
    service: Any,
    weights: str,
    sources: Sequence[str],
    *,
    token: str | None,
    hosts: Sequence[str],
    cookie: str,
    rules: dict[str, Any],
    limits: dict[str, Any],
    conf: float,
    iou: float,
    heads: str | None,
    track: str | None,
    shapes: Path | None,
    max_fps: float | None,
    transport: str,
    batch: int,
    threads: int | None,
    provider: str | None,
) -> Plan:
    import cv2  # noqa: PLC0415

    from vision_heads.cli.models import comma_separated, open_model  # noqa: PLC0415
    from vision_heads.cli.stream_track import (  # noqa: PLC0415
        class_names,
        open_analytics,
        say_strangers,
    )
    from vision_heads.heads.base import DecodeOptions  # noqa: PLC0415
    from vision_heads.media.video import OpenOptions, find_videos  # noqa: PLC0415
    from vision_heads.runtime.engines import resolve_weights  # noqa: PLC0415
    from vision_heads.runtime.request import make_request  # noqa: PLC0415
    from vision_heads.serve.access import Access  # noqa: PLC0415
    from vision_heads.serve.limits import Limits  # noqa: PLC0415
    from vision_heads.serve.urls import StreamRules  # noqa: PLC0415
    from vision_heads.stream.settings import Settings  # noqa: PLC0415

    cv2.setNumThreads(1)  # pictures are worked on side by side already
    Access(token)  # a bad one is found out before the model is loaded
    videos = find_videos(sources)
    require(
        len(videos) <= limits["streams"],
        f"--source: names {len(videos)} streams, more than --max-streams {limits['streams']}",
    )
    file = resolve_weights(weights)
    engine, parallel = open_model(file, None, threads, provider)
    request = make_request(engine, DecodeOptions(conf, iou), heads=comma_separated(heads))
    analytics = open_analytics(track or OFF, shapes, class_names(engine.spec, request))
    if videos:
        say_strangers(analytics, shapes, videos)
    return service.Plan(  # type: ignore[no-any-return]
        engine,
        service.model_name(str(file)),
        sources=videos,
        token=token,
        hosts=hosts,
        limits=Limits(**limits),
        rules=StreamRules(**rules),
        options=OpenOptions(transport=transport),  # type: ignore[arg-type]
        settings=Settings(max_fps=max_fps),
        request=request,
        analytics=analytics,
        parallel=parallel,
        largest=batch,
        report=say,
        cookie=cookie,
    )
