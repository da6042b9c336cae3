"""The proof against a real RTSP server: it is killed in the middle and comes back."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.tiny_onnx import write_model
from tests.stream.fakes import Collect, FakeEngine, request, until
from vision_heads.media.video import OpenOptions, VideoSpec, open_video
from vision_heads.stream.lines import JsonLines
from vision_heads.stream.pipeline import Pipeline
from vision_heads.stream.seen import SOURCE_LOST, SOURCE_RESUMED

pytest.importorskip("av")
PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).with_name("rtsp_server.py")
ROOT = Path(__file__).resolve().parents[2]
NEEDS = "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,bad,ugly}"
_CHECK = (
    "import gi; gi.require_version('GstRtspServer', '1.0');"
    "from gi.repository import Gst, GstRtspServer; Gst.init(None);"
    "assert all(Gst.ElementFactory.find(n) for n in "
    "('rtph264pay', 'h264parse', 'qtdemux', 'appsrc', 'appsink'))"
)


@pytest.fixture(scope="module")
def video(shared_data):
    """The video to serve; skips where it, or GStreamer, is missing."""
    if not Path(PYTHON).exists():
        pytest.skip(f"there is no {PYTHON}")
    there = subprocess.run([PYTHON, "-c", _CHECK], capture_output=True, text=True, check=False)
    if there.returncode:
        pytest.skip(f"GStreamer's RTSP server is not installed (apt-get install {NEEDS})")
    return shared_data / "video" / "car-detection.mp4"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def serving(video: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """Run the server until it is killed or the test ends; it listens when this begins."""
    environment = {key: value for key, value in os.environ.items() if "PYTHON" not in key}
    server = subprocess.Popen(
        [PYTHON, str(SERVER), str(video), str(port)],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        assert server.stdout is not None and server.stdout.readline().strip() == "ready"
        yield server
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_both_transports(video, transport):
    port = free_port()
    with serving(video, port):
        where = f"rtsp://127.0.0.1:{port}/live"
        spec = VideoSpec("cam", "network", True, where)
        source = open_video(spec, OpenOptions(timeout=8, transport=transport))
        frames = []
        for frame in source:
            frames.append((frame.index, frame.time, frame.image.shape))
            if len(frames) == 20:
                source.stop()
    assert [index for index, _, _ in frames] == list(range(20)), source.end
    assert {shape for _, _, shape in frames} == {(432, 768, 3)}
    steps = [b - a for (_, a, _), (_, b, _) in itertools.pairwise(frames)]
    assert sorted(steps)[len(steps) // 2] == pytest.approx(0.08, abs=0.01)  # 12.5 a second


def test_a_killed_server_is_found_again_without_a_stale_frame_or_a_lost_line(video, tmp_path):
    port = free_port()
    spec = VideoSpec("cam", "network", True, f"rtsp://me:hidden@127.0.0.1:{port}/live?key=hidden")
    out, lines, engine = Collect(), [], FakeEngine(0.01)
    pipeline = Pipeline(
        engine,
        request(engine),
        outputs=[out, JsonLines(tmp_path / "a.jsonl")],
        report=lines.append,
    )
    pipeline.start()
    try:
        with serving(video, port):
            pipeline.add("cam", True, lambda: open_video(spec, OpenOptions(timeout=3)))
            until(lambda: len(out.indices("cam")) > 15, 20)
        killed = time.time()
        until(lambda: SOURCE_LOST in out.kinds("cam"))
        time.sleep(max(killed + 5 - time.time(), 0))
        before = out.indices("cam")
        with serving(video, port):
            back = time.time()
            until(lambda: out.indices("cam")[-1] > before[-1], 20)
            resumed = out.seen["cam"][len(before)]
            took = time.time() - back
            until(lambda: len(out.indices("cam")) > len(before) + 15, 20)
    finally:
        pipeline.stop()
    assert took < 3, f"it took {took:.1f} s"
    # Nothing of before the reconnect is shown after it, and the stream's time went on.
    (event,) = [event for event, _ in out.events if event.kind == SOURCE_RESUMED]
    after = out.seen["cam"][len(before) :]
    assert all(seen.frame.received >= event.received >= back for seen in after)
    assert all(seen.frame.received < killed + 1 for seen in out.seen["cam"][: len(before)])
    times = [seen.frame.time for seen in out.seen["cam"]]
    assert times == sorted(times) and resumed.frame.time - times[len(before) - 1] > 4
    # Every frame that came out has its line, in order, and the counts agree.
    written = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [record["frame"] for record in written] == out.indices("cam")
    stats = pipeline.stats()["cam"]
    assert stats["shown"] == len(written) and stats["reconnects"] == 1
    assert stats["received"] == stats["shown"] + stats["dropped"]
    assert "hidden" not in json.dumps(written) + "".join(lines) + json.dumps(stats)
    assert "hidden" not in "".join(json.dumps(event.to_dict()) for event, _ in out.events)


def test_a_server_that_stops_sending_is_given_up_after_the_timeout(video):
    port = free_port()
    spec = VideoSpec("cam", "network", True, f"rtsp://127.0.0.1:{port}/live")
    out, engine = Collect(), FakeEngine()
    pipeline = Pipeline(engine, request(engine), outputs=[out])
    pipeline.start()
    try:
        with serving(video, port) as server:
            pipeline.add("cam", True, lambda: open_video(spec, OpenOptions(timeout=1.5)))
            until(lambda: len(out.indices("cam")) > 5, 20)
            server.send_signal(signal.SIGSTOP)
            begin = time.monotonic()
            until(lambda: SOURCE_LOST in out.kinds("cam"), 20)
            assert 1 < time.monotonic() - begin < 4
            server.send_signal(signal.SIGCONT)
            until(lambda: SOURCE_RESUMED in out.kinds("cam"), 20)
    finally:
        pipeline.stop()
    lost = next(event for event, _ in out.events if event.kind == SOURCE_LOST)
    assert "for 1.5 s" in lost.data["reason"]


def test_the_command_writes_a_live_stream_that_plays(video, tmp_path):
    write_model(tmp_path / "m.onnx")
    port = free_port()
    with serving(video, port):
        run = subprocess.Popen(
            [sys.executable, "-m", "vision_heads", "stream", f"gate=rtsp://127.0.0.1:{port}/live",
             "--weights", "m.onnx", "--video", "o.mp4", "--jsonl", "o.jsonl", "--stats", "s.json"],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        target = tmp_path / "o.jsonl"
        until(lambda: target.exists() and target.read_text().count("\n") > 20, 40)
        run.send_signal(signal.SIGINT)
        message = run.communicate(timeout=30)[1]
    assert run.returncode == 0, message
    records = [json.loads(line) for line in target.read_text().splitlines()]
    drawn = open_video(VideoSpec("o", "file", False, str(tmp_path / "o.mp4")))
    times = [frame.time for frame in drawn]
    assert drawn.end is not None and drawn.end.reason == "finished"
    assert len(times) == len(records)
    first = records[0]["time"]
    assert times == pytest.approx([record["time"] - first for record in records], abs=0.002)
    stats = json.loads((tmp_path / "s.json").read_text())["sources"]["gate"]
    assert stats["live"] and stats["shown"] == len(records)
