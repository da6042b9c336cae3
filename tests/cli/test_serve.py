"""`vh serve`: starts, tells where, ends by signals; refuses what would be careless."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the serve extra is not installed")
pytest.importorskip("websockets", reason="the serve extra is not installed")

import httpx
from typer.testing import CliRunner

from tests.runtime.tiny_onnx import write_model
from vision_heads.cli.main import app
from vision_heads.cli.messages import say
from vision_heads.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "correct-horse-battery"


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **more}


@pytest.fixture(autouse=True)
def no_token_around(monkeypatch):
    monkeypatch.delenv("VH_TOKEN", raising=False)


def refused(*words: str) -> str:
    """Run a command that must not start to serve; return its one line."""
    done = CliRunner().invoke(app, ["serve", *words])
    assert isinstance(done.exception, UserError), (done.output, done.exception)
    assert "\n" not in str(done.exception)
    return str(done.exception)


class Service:
    """`vh serve` in a process of its own."""

    def __init__(self, *words: str, **more: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vision_heads", "serve", "--port", "0", *words],
            env=environment(PYTHONUNBUFFERED="1", **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self.ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self.ready.wait(60), self.lines
        (self.url,) = re.findall(r"http://\S+", "\n".join(self.lines))

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line)
            if "http://" in line:
                self.ready.set()

    def get(self, path: str, **more) -> httpx.Response:
        transport = httpx.HTTPTransport(retries=20)  # the socket is open before it is served
        with httpx.Client(base_url=self.url, transport=transport, timeout=30) as client:
            return client.get(path, **more)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self._reader.join(5)


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    write_model(tmp_path / "tiny.onnx")
    return str(tmp_path / "tiny.onnx")


def test_it_tells_where_it_is_and_ends_by_ctrl_c(tiny):
    service = Service("--weights", tiny)
    assert service.get("/healthz").json() == {"status": "ok"}
    assert service.get("/v1/model").json()["name"] == "tiny"
    assert service.end(signal.SIGINT) == 0, service.lines
    assert "Traceback" not in "".join(service.lines)


def test_rude_clients_neither_fill_the_log_nor_hold_up_the_end(tiny):
    service = Service("--weights", tiny)
    host, _, port = service.url.partition("//")[2].strip("/").partition(":")
    assert service.get("/healthz").status_code == 200
    with socket.create_connection((host, int(port)), 10) as page:
        head = f"GET /v1/live HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
        head += "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        page.sendall(f"{head}{'A' * 22}==\r\n\r\n".encode())
        assert b"101" in page.recv(100)
        page.sendall(b"\x81\x81\0\0\0\0\xff")  # a text that is no UTF-8
        while page.recv(65536):
            pass
    with socket.create_connection((host, int(port)), 10) as upload:
        head = f"POST /v1/detect HTTP/1.1\r\nHost: {host}\r\nContent-Length: 999\r\n"
        upload.sendall(f"{head}Content-Type: application/json\r\n\r\n{{".encode())
        time.sleep(0.5)
        assert service.end(signal.SIGTERM) == 0, service.lines
    assert len(service.lines) == 1, service.lines  # which tells where it is


def test_sources_of_the_command_line_and_a_token_of_a_file(tiny, tmp_path):
    pytest.importorskip("av", reason="the stream extra is not installed")
    (tmp_path / "token.txt").write_text(f"{TOKEN}\n", encoding="utf-16")
    source = "http://admin:hunter2hunter2@127.0.0.1:9/x"
    service = Service(
        *("--weights", tiny, "--token-file", str(tmp_path / "token.txt")),
        *("--source", f"gate={source}"),
    )
    assert service.get("/v1/streams").status_code == 401
    headers = {"Authorization": f"Bearer {TOKEN}"}
    (stream,) = service.get("/v1/streams", headers=headers).json()["streams"]
    assert stream["id"] == "gate" and stream["fixed"] is True
    assert service.end(signal.SIGTERM) == 0
    said = "".join(service.lines)
    assert "hunter2" not in said and TOKEN not in said and "Traceback" not in said


def test_a_camera_that_hangs_does_not_crash_the_end(tiny):
    """It accepts and never answers; FFmpeg's thread is still there when Python ends."""
    pytest.importorskip("av", reason="the stream extra is not installed")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/live"
        service = Service("--weights", tiny, "--source", url)
        connection, _ = server.accept()
        assert service.end(signal.SIGTERM) == 0, service.lines
        connection.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_others_are_served_with_a_token_only(host):
    line = refused("--host", host)
    assert "needs a token" in line and "VH_TOKEN" in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--source", "none.mp4"), "none.mp4: no such file"),
        (("--weights", "none.onnx"), "none.onnx: no such file"),
        (("--token-file", "none.txt"), "none.txt: cannot be read"),
        (("--heads", "nothing"), "nothing"),
        (("--track", "nothing"), "--track nothing: unknown; known: off, bytetrack"),
        (("--shapes", "zones.yaml"), "add --track"),
        (("--shapes", "zones.yaml", "--track", "off"), "add --track"),
        (("--transport", "pigeon"), "transport"),
        (("--source", "none.mp4", "--allow-host", "gate.example.org:8000"), "without scheme, port"),
        (("--source", "none.mp4", "--allow-host", ""), "--allow-host : must be a host alone"),
        (
            ("--source", "none.mp4", "--allow-camera", "rtsp://10.0.7.1/live"),
            "must be a host alone",
        ),
        (
            ("--source", "none.mp4", "--no-adding", "--allow-camera", "10.0.7.*"),
            "with --no-adding no stream may be added",
        ),
        (("--host", "192.0.2.1", "--token-file", "TOKEN"), "cannot listen"),
        (
            ("--source", "a=rtsp://h/x", "--source", "b=rtsp://h/y", "--max-streams", "1"),
            "2 streams",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_told_in_a_line(words, says, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    words = [str(tmp_path / "token") if word == "TOKEN" else word for word in words]
    assert says in refused("--port", "0", *words)


def test_a_short_token_is_none(monkeypatch):
    monkeypatch.setenv("VH_TOKEN", "short")
    assert "at least 16" in refused("--port", "0")


def test_a_port_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "cannot listen" in refused("--port", str(taken.getsockname()[1]))


def test_two_services_that_start_at_once_do_not_get_one_port():
    """The second one is told so before it loads its model, and not by a traceback after that."""
    from vision_heads.serve.server import open_socket

    with (
        open_socket("127.0.0.1", 0) as first,
        pytest.raises(UserError, match="cannot listen: Address already in use"),
    ):
        open_socket("127.0.0.1", first.getsockname()[1])


def test_lines_at_heads_that_do_not_run_would_count_nothing(tmp_path):
    pytest.importorskip("trackers", reason="the track extra is not installed")
    write_model(tmp_path / "two.onnx", heads=("low", "high"))
    shapes = tmp_path / "shapes.yaml"
    shapes.write_text("lines: [{name: a, points: [[0, 0], [9, 9]], heads: [high]}]")
    words = ("--weights", str(tmp_path / "two.onnx"), "--heads", "low", "--track", "bytetrack")
    says = refused("--port", "0", *words, "--shapes", str(shapes))
    assert says == f"{shapes}: lines.0.heads: no head 'high'; there are: low"


def test_lines_of_a_source_that_is_not_there_are_told(tiny, tmp_path, monkeypatch):
    pytest.importorskip("trackers", reason="the track extra is not installed")
    monkeypatch.setattr("vision_heads.serve.server.run", lambda *_: None)
    shapes = tmp_path / "shapes.yaml"
    shapes.write_text("lines: [{name: a, points: [[0, 0], [9, 9]], sources: [gaet, gate]}]")
    words = ["--weights", tiny, "--track", "bytetrack", "--shapes", str(shapes), "--port", "0"]
    told = f"vh: {shapes}: lines.0.sources: 'gaet' is none of the sources: gate\n"
    done = CliRunner().invoke(app, ["serve", *words, "--source", "gate=rtsp://127.0.0.1:9/x"])
    assert done.exit_code == 0 and told in done.output, done.output
    # Without any, all of them come later.
    assert "none of the sources" not in CliRunner().invoke(app, ["serve", *words]).output


def test_what_nobody_can_read_ends_nothing(monkeypatch):
    """The terminal of a service was closed, and a camera is lost."""

    def gone(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("vision_heads.cli.messages.typer.echo", gone)
    say("gate: lost")


@pytest.mark.parametrize("missing", ["python_multipart", "websockets"])
def test_without_a_part_of_the_extra_it_says_what_to_install(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    line = refused()
    assert 'pip install "vision-heads[serve]"' in line and missing in line


def test_without_the_extra_it_says_what_to_install(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['fastapi'] = None\n")
    done = subprocess.run(
        [sys.executable, "-m", "vision_heads", "serve"],
        env=environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert 'fastapi: pip install "vision-heads[serve]"' in done.stderr
