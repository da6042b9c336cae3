"""Videos from the network: what comes, what stalls, what is refused and what is said of it."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import pytest

from tests.media.clips import frames_of, number_in, numbered, odd_words, write_clip
from vision_heads.media.video import OpenOptions, find_videos, open_video

pytest.importorskip("av")


class _Camera(BaseHTTPRequestHandler):
    """MJPEG as cameras send it: 8 pictures, then it stalls (/stall), ends, or refuses."""

    def do_GET(self):
        if "secret" not in (self.headers.get("Authorization") or "") + self.path:
            self.send_error(401)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in range(8):
            data = cv2.imencode(".jpg", numbered(number))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")
            time.sleep(0.03)
        if "stall" in self.path:
            time.sleep(3)

    def log_message(self, *args):
        pass


@pytest.fixture
def camera():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Camera)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_mjpeg_over_http(camera):
    frames, source = frames_of(f"http://{camera}/live.mjpg?token=secret", timeout=2)
    assert [number_in(frame.image) for frame in frames] == list(range(8))
    assert 0.1 < frames[-1].time < 2  # by their arrival, as MJPEG has no timestamps
    assert source.end.reason != "stopped" and source.end.message
    assert "secret" not in repr(frames) + repr(source.end)


def test_a_stalled_read_is_cut_off(camera):
    begin = time.monotonic()
    frames, source = frames_of(f"http://{camera}/stall?secret", timeout=0.7)
    assert 7 <= len(frames) <= 8 and time.monotonic() - begin < 2.5
    assert source.end.reason == "failed" and "no data for 0.7 s" in source.end.message


def test_errors_hide_credentials(camera):
    for url in (f"http://user:hidden@{camera}/x?key=hidden", "rtsp://user:hidden@127.0.0.1:9/x"):
        frames, source = frames_of(url, timeout=1)
        assert frames == [] and source.end.reason == "failed"
        assert "hidden" not in source.end.message and "127.0.0.1" in source.end.message


def test_streams_cannot_read_local_files(tmp_path, camera):
    """A playlist from the network that names a file of this machine."""
    write_clip(tmp_path / "private.mp4", [0, 0.04])
    lines = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/private.mp4\n#EXT-X-ENDLIST\n"
    )

    class Playlist(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.apple.mpegurl")
            self.end_headers()
            self.wfile.write(lines.encode())

        log_message = _Camera.log_message

    server = ThreadingHTTPServer(("127.0.0.1", 0), Playlist)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    frames, source = frames_of(f"http://127.0.0.1:{server.server_port}/x.m3u8", timeout=2)
    server.shutdown()
    server.server_close()
    assert frames == [] and source.end.reason == "failed"


_SENDER = """
import sys, time, av, numpy as np
url, form, codec = sys.argv[1:]
out = av.open(url, "w", format=form)
s = out.add_stream(codec, rate=25)
s.width, s.height, s.pix_fmt = 128, 96, "yuv420p"
s.codec_context.gop_size = 5
s.options = {"preset": "ultrafast", "tune": "zerolatency"} if codec == "libx264" else {}
for n in range(400):
    f = av.VideoFrame.from_ndarray(np.full((96, 128, 3), n % 200, np.uint8), "bgr24")
    out.mux(s.encode(f))
    time.sleep(0.02)
"""
_SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=camera
c=IN IP4 127.0.0.1
t=0 0
m=video 23874 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1
"""


@pytest.mark.parametrize("protocol", ["udp", "rtp"])
def test_packets_on_loopback(protocol, tmp_path):
    """MPEG-TS over UDP, and H.264 over RTP described by an SDP file, sent in real time."""
    if protocol == "udp":
        source, send = "udp://127.0.0.1:23871", ["udp://127.0.0.1:23871?pkt_size=1316", "mpegts"]
        send.append("mpeg4")
    else:
        if "libx264" not in pytest.importorskip("av").codecs_available:
            pytest.skip("this build of PyAV cannot write H.264")
        (tmp_path / "camera.sdp").write_text(_SDP)
        source, send = str(tmp_path / "camera.sdp"), ["rtp://127.0.0.1:23874", "rtp", "libx264"]
    sender = subprocess.Popen([sys.executable, "-c", _SENDER, *send])
    try:
        (spec,) = find_videos([source])
        video = open_video(spec, OpenOptions(timeout=8))
        frames = []
        for frame in video:
            frames.append(frame.image.shape)
            if len(frames) == 10:
                video.stop()
        assert spec.live and frames == [(96, 128, 3)] * 10, video.end
    finally:
        sender.kill()
        sender.wait()


def test_words_in_latin_1_do_not_keep_a_camera_from_being_read(tmp_path, camera, monkeypatch):
    data = odd_words(tmp_path / "a.mkv").read_bytes()

    def send(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(data)

    monkeypatch.setattr(_Camera, "do_GET", send)
    frames, source = frames_of(f"http://{camera}/live", timeout=2)
    assert len(frames) == 3, source.end


@pytest.mark.parametrize("path", ["live?channel=1&token=hidden", "a.mp4?token=hidden"])
def test_what_failed_stands_apart_from_the_url_that_is_redacted(path):
    pytest.importorskip("av")
    source = open_video(find_videos([f"http://127.0.0.1:1/{path}"])[0], OpenOptions(timeout=1))
    assert list(source) == []
    url, reason = source.end.message.split(": ", 1)
    assert url.endswith("token=***") and "refused" in reason and "hidden" not in reason


@pytest.mark.parametrize("path", ["live", "a.mp4"])
def test_a_host_without_an_address_is_not_an_input_error(monkeypatch, path):
    """FFmpeg says no more than "input/output error"."""
    monkeypatch.delenv("http_proxy", raising=False)
    frames, source = frames_of(f"http://user:hidden@no-such-host.invalid/{path}", timeout=5)
    assert frames == [] and source.end.reason == "failed"
    assert re.search("host( is)? not found", source.end.message), source.end.message
    assert "hidden" not in source.end.message


def test_only_what_cannot_be_opened_is_looked_up(camera, monkeypatch):
    from vision_heads.media import hosts

    asked = []
    monkeypatch.setattr(hosts, "look_up", lambda host, port: asked.append(host))
    assert frames_of(f"http://{camera}/live.mjpg?token=secret", timeout=2)[0]
    assert frames_of("http://127.0.0.1:1/live", timeout=2)[1].end.message.endswith("refused")
    assert not asked
