"""A service on loopback, cameras made of files, and a network small enough to write by hand."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.runtime.tiny_onnx import picture, write_model
from vision_heads.runtime.engines import OnnxEngine
from vision_heads.spec import ModelSpec

pytest.importorskip("fastapi", reason="the serve extra is not installed")
pytest.importorskip("websockets", reason="the serve extra is not installed")

from starlette.testclient import TestClient

from vision_heads.serve.app import Plan, make_app
from vision_heads.serve.server import make_server, open_socket

USER, PASSWORD = "gatekeeper7", "S3cret-pa55word"


class CountingEngine:
    """An engine that counts its calls and can be held back."""

    def __init__(self, inner: OnnxEngine) -> None:
        self.inner = inner
        self.spec: ModelSpec = inner.spec
        self.batch = inner.batch
        self.any_size = inner.any_size
        self.calls: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def run(
        self, images: NDArray[np.float32], heads: list[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        self.calls.append(len(images))
        self.entered.set()
        assert self.gate.wait(30), "the test forgot to let the engine go"
        return self.inner.run(images, heads)


@pytest.fixture
def engine(tmp_path: Path) -> CountingEngine:
    write_model(tmp_path / "tiny.onnx", batch=None)
    return CountingEngine(OnnxEngine(tmp_path / "tiny.onnx", threads=1))


def jpeg(image: NDArray[np.uint8], suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def red_square(x: int = 16, y: int = 32, size: int = 128) -> NDArray[np.uint8]:
    return picture(size, size, {"red": [(x, y, 16)]})


ClientMaker = Callable[..., TestClient]


@pytest.fixture
def client_of(engine: CountingEngine) -> Iterator[ClientMaker]:
    """Return what starts a service in this process; keywords are those of `Plan`."""
    open_clients = []

    def start(base_url: str = "http://127.0.0.1:8000", **settings: Any) -> TestClient:
        plan = replace(Plan(engine, "tiny"), **settings)
        client = TestClient(make_app(plan), base_url=base_url, raise_server_exceptions=False)
        client.__enter__()
        open_clients.append(client)
        return client

    yield start
    engine.gate.set()
    for client in open_clients:
        client.__exit__(None, None, None)


@dataclass
class Running:
    """A service with a socket."""

    url: str
    port: int
    app: Any

    def client(self, **more: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=15, **more)


@contextmanager
def running(plan: Plan) -> Iterator[Running]:
    app = make_app(plan)
    server = make_server(app, 200)
    opened = open_socket("127.0.0.1", 0)
    port = opened.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    until(lambda: server.started, "the service does not start")
    try:
        yield Running(f"http://127.0.0.1:{port}", port, app)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the service does not end"


@pytest.fixture
def service_of(engine: CountingEngine) -> Iterator[Callable[..., Running]]:
    """Return what starts a service with a socket; keywords are those of `Plan`."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            running(replace(Plan(engine, "tiny"), **settings))
        )
        engine.gate.set()


def until(done: Callable[[], Any], message: str, seconds: float = 20.0) -> Any:
    """Wait for something to be so, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := done():
            return value
        time.sleep(0.02)
    raise AssertionError(message)


class Camera:
    """An MJPEG camera on loopback that wants a password and shows some pictures for ever."""

    def __init__(self, frames: list[bytes], fps: float = 15.0) -> None:
        authorization = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self.stopped = threading.Event()
        self.connections = 0
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.headers.get("Authorization") != authorization:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                    self.end_headers()
                    return
                camera.connections += 1
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
                self.end_headers()
                number = 0
                try:
                    while not camera.stopped.wait(1 / fps):
                        data = frames[number % len(frames)]
                        number += 1
                        head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}"
                        self.wfile.write(f"{head}\r\n\r\n".encode() + data + b"\r\n")
                except OSError:
                    return  # the service has gone

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://{USER}:{PASSWORD}@127.0.0.1:{self.port}/live"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


CameraMaker = Callable[[list[NDArray[np.uint8]]], Camera]


@pytest.fixture
def camera_of() -> Iterator[CameraMaker]:
    """Return what makes a camera of BGR pictures; needs PyAV to be watched."""
    pytest.importorskip("av", reason="the stream extra is not installed")
    cameras: list[Camera] = []

    def make(frames: list[NDArray[np.uint8]]) -> Camera:
        cameras.append(Camera([jpeg(frame) for frame in frames]))
        return cameras[-1]

    yield make
    for camera in cameras:
        camera.close()


@pytest.fixture
def moving_square(camera_of: CameraMaker) -> Camera:
    """Return a camera in which a red square goes from left to right."""
    return camera_of([red_square(x) for x in range(0, 112, 8)])
