"""Streams over HTTP: added, watched by several clients, lost, removed; secrets stay secret."""

from __future__ import annotations

import json
import socket
import time

import cv2
import numpy as np
import pytest

from tests.serve.conftest import PASSWORD, USER, Running, jpeg, red_square, until
from vision_heads.media.video import find_videos
from vision_heads.serve.limits import Limits
from vision_heads.serve.urls import StreamRules
from vision_heads.stream.settings import Settings


@pytest.fixture
def service(service_of) -> Running:
    return service_of(limits=Limits(streams=3, watchers=3, seconds=2.0))


def add(client, url: str, name: str = "Gate"):
    return client.post("/v1/streams", json={"url": url, "name": name})


def info(client, key: str) -> dict:
    return client.get(f"/v1/streams/{key}").json()


def live(client, key: str) -> dict:
    return until(
        lambda: (found := info(client, key))["state"] == "live" and found, f"{key} is not live"
    )


def parts_of(client, path: str, count: int) -> list[np.ndarray]:
    """Return the first pictures of an MJPEG answer."""
    pictures, data = [], b""
    with client.stream("GET", path) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=vh-frame"
        for chunk in answer.iter_raw():
            data += chunk
            while (begin := data.find(b"\r\n\r\n")) >= 0:
                head = data[:begin].decode()
                length = int(head.rpartition("Content-Length: ")[2])
                if len(data) < begin + 4 + length:
                    break
                body, data = data[begin + 4 : begin + 4 + length], data[begin + 4 + length :]
                pictures.append(cv2.imdecode(np.frombuffer(body, np.uint8), 1))
                if len(pictures) == count:
                    return pictures
    raise AssertionError("the pictures ended")


def records_of(client, key: str, kind: str, count: int) -> list[dict]:
    """Return the first server-sent events of a kind."""
    found, event = [], ""
    with client.stream("GET", f"/v1/streams/{key}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("event: "):
                event = line[7:]
            if line.startswith("data: ") and event == kind:
                found.append(json.loads(line[6:]))
                if len(found) == count:
                    return found
    raise AssertionError("the events ended")


def test_the_life_of_a_stream(service, moving_square):
    with service.client() as client:
        added = add(client, moving_square.url)
        assert added.status_code == 201 and added.headers["location"] == "/v1/streams/gate"
        assert added.json()["id"] == "gate" and added.json()["name"] == "Gate"
        assert added.json()["url"] == f"http://***@127.0.0.1:{moving_square.port}/live"
        assert [one["id"] for one in client.get("/v1/streams").json()["streams"]] == ["gate"]
        shown = live(client, "gate")
        assert (shown["width"], shown["height"]) == (128, 128)
        assert shown["counts"] == {"aerial": {"red": 1}} and shown["fixed"] is False
        assert add(client, moving_square.url).json()["id"] == "gate-2", "ids are unique"
        for key in ("gate", "gate-2"):
            assert client.delete(f"/v1/streams/{key}").status_code == 204
            assert client.get(f"/v1/streams/{key}").status_code == 404
            assert client.delete(f"/v1/streams/{key}").status_code == 404
        assert client.get("/v1/streams").json() == {"streams": []}
        assert add(client, moving_square.url).json()["id"] == "gate", "its id is free again"


def test_pictures_move_and_are_drawn_as_asked(service, moving_square):
    with service.client() as client:
        add(client, moving_square.url)
        live(client, "gate")
        pictures = parts_of(client, "/v1/streams/gate/mjpeg", 4)
        assert all(picture.shape == (128, 128, 3) for picture in pictures)
        assert any(np.abs(pictures[0].astype(int) - p).max() > 100 for p in pictures[1:])
        # Without its drawings, a frame is black and red.
        for query, drawn in (("", True), ("?boxes=false", False), ("?heads=other", False)):
            (picture,) = parts_of(client, f"/v1/streams/gate/mjpeg{query}", 1)
            other = picture[..., :2].max()  # blue and green
            assert bool(other > 150) is drawn, query
        snapshot = client.get("/v1/streams/gate/snapshot?width=100")
        assert snapshot.headers["content-type"] == "image/jpeg"
        assert snapshot.headers["cache-control"] == "no-store"


def test_events_are_records_of_frames(service, moving_square):
    with service.client() as client:
        add(client, moving_square.url)
        live(client, "gate")
        records = records_of(client, "gate", "frame", 5)
        assert [set(record) for record in records] == [
            {"source", "frame", "time", "received", "heads"}
        ] * 5
        numbers = [record["frame"] for record in records]
        assert numbers == sorted(set(numbers)) and {r["source"] for r in records} == {"gate"}
        (found,) = records[0]["heads"]["aerial"]
        assert found["class"] == "red" and found["box"][1] == 32 and found["box"][3] == 48


def test_counts_over_time(service, moving_square):
    with service.client() as client:
        add(client, moving_square.url)
        live(client, "gate")
        history = until(
            lambda: (h := client.get("/v1/streams/gate/counts?seconds=60").json())["series"] and h,
            "no counts",
        )
        assert history["step"] == 1 and abs(history["end"] - time.time()) < 3
        values = [v for v in history["series"]["aerial"]["red"] if v is not None]
        assert values and all(0.5 < value <= 1 for value in values)


def test_a_camera_that_goes_is_shown_as_lost_and_comes_back(service_of, camera_of):
    service = service_of(settings=Settings(retry_first=0.05, retry_most=0.1))
    camera = camera_of([red_square()])
    with service.client() as client:
        add(client, camera.url)
        live(client, "gate")
        with client.stream("GET", "/v1/streams/gate/events") as answer:
            lines = answer.iter_lines()
            next(lines)
            camera.stopped.set()
            lost = until(lambda: next(lines) == "event: source_lost" and next(lines), "not lost")
            assert json.loads(lost[6:])["source"] == "gate" and PASSWORD not in lost
            gone = until(lambda: (i := info(client, "gate"))["state"] == "lost" and i, "not lost")
            assert gone["message"] and gone["counts"] == {} and gone["fps"] >= 0
            assert client.get("/v1/streams/gate/snapshot").status_code == 409, "no old picture"
            camera.stopped.clear()
            until(lambda: next(lines) == "event: source_resumed", "not back")
        assert live(client, "gate")["reconnects"] >= 1


def test_a_slow_watcher_stalls_nobody(service, camera_of):
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    camera = camera_of([noise, noise[::-1].copy()])  # large as JPEG: buffers fill soon
    with service.client() as client:
        add(client, camera.url)
        live(client, "gate")
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", service.port))
            slow.sendall(b"GET /v1/streams/gate/mjpeg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            until(lambda: service.app.state.streams.watchers == 1, "the slow one does not watch")
            before = info(client, "gate")["frames"]
            assert len(parts_of(client, "/v1/streams/gate/mjpeg", 10)) == 10
            assert info(client, "gate")["frames"] > before
            # It takes nothing: after its two seconds it loses its seat.
            until(lambda: service.app.state.streams.watchers == 0, "the slow one keeps its seat")


def test_a_slow_reader_is_told_what_it_missed(service_of, moving_square):
    import asyncio

    service = service_of(limits=Limits(backlog=2))
    with service.client() as client:
        add(client, moving_square.url)
        live(client, "gate")
        channel = service.app.state.streams.channel("gate")
        reader = channel.read(2)
        until(lambda: reader.dropped >= 3, "nothing was dropped")
        events, frames, dropped = reader.take()
        channel.unread(reader)
        assert len(frames) == 2 and dropped >= 3 and not events
        assert asyncio.run(reader.wait(5)) is True


def test_watchers_are_limited_and_seats_are_given_back(service, moving_square):
    with service.client() as client:
        add(client, moving_square.url)
        live(client, "gate")
        streams = service.app.state.streams
        answers = [client.stream("GET", "/v1/streams/gate/events") for _ in range(3)]
        for answer in answers:
            answer.__enter__()
        until(lambda: streams.watchers == 3, "the watchers do not sit")
        full = client.get("/v1/streams/gate/mjpeg")
        assert full.status_code == 503 and full.json()["error"]["code"] == "busy"
        for answer in answers:
            answer.__exit__(None, None, None)
        until(lambda: streams.watchers == 0, "seats are not given back")
        assert records_of(client, "gate", "frame", 1)


def test_a_watcher_whose_request_does_not_end_is_let_go(service_of, moving_square, capfd):
    service = service_of(limits=Limits(seconds=0.3))
    with service.client() as client:
        add(client, moving_square.url)
    head = (
        f"GET /v1/streams/gate/events HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\n"
        "Content-Length: 10\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port), 10) as connection:
        connection.sendall(head.encode())
        while connection.recv(4096):
            pass
    assert "Traceback" not in capfd.readouterr().err


def test_removing_a_stream_lets_its_watchers_go(service, moving_square):
    with service.client() as client:
        add(client, moving_square.url)
        live(client, "gate")
        with client.stream("GET", "/v1/streams/gate/events") as events:
            lines = events.iter_lines()
            next(lines)
            assert client.delete("/v1/streams/gate").status_code == 204
            assert list(lines) is not None  # it ends
        until(lambda: service.app.state.streams.watchers == 0, "the watcher sits on")


def test_there_are_only_so_many_streams(service, moving_square):
    with service.client() as client:
        for _ in range(3):
            assert add(client, moving_square.url).status_code == 201
        full = add(client, moving_square.url)
        assert full.status_code == 409 and "3 streams" in full.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"url": "file:///etc/passwd"}, 422, "file:// is not allowed"),
        ({"url": "/etc/passwd"}, 422, "must begin with"),
        ({"url": "gate=/etc/passwd"}, 422, "must begin with"),
        ({"url": "0"}, 422, "must begin with"),
        ({"url": "http://no-such-host.invalid/x"}, 422, "host not found"),
        ({"url": ""}, 422, "url"),
        ({}, 422, "url"),
        ({"url": "rtsp://gate/x", "path": "/etc/passwd"}, 422, "path"),
        ({"url": "rtsp://gate/x", f"rtsp://{USER}:{PASSWORD}@gate/": 1}, 422, "rtsp://***@gate/"),
        ({"url": 5}, 422, "url"),
        ({"url": f"rtsp://{USER}:{PASSWORD}@127.0.0.1/", "name": "x" * 61}, 422, "name"),
        ({"url": f"rtsp://{USER}:{PASSWORD}@127.0.0.1/", "name": "a\x1bb"}, 422, "name"),
        ({"url": f"file://{USER}:{PASSWORD}@/x"}, 422, "file://"),
        ({"url": [f"rtsp://{USER}:{PASSWORD}@127.0.0.1/"]}, 422, "url"),
    ],
    ids=range(14),
)
def test_what_may_not_be_added(client_of, body, status, says):
    client = client_of()
    answer = client.post("/v1/streams", json=body)
    assert answer.status_code == status and says in answer.json()["error"]["message"]
    assert PASSWORD not in answer.text
    assert client.get("/v1/streams").json() == {"streams": []}


def test_nothing_may_be_added_where_that_is_so(client_of):
    client = client_of(rules=StreamRules(only_hosts=True))
    answer = client.post("/v1/streams", json={"url": "rtsp://127.0.0.1/x"})
    assert answer.status_code == 422 and "no streams may be added" in answer.text


def test_streams_of_the_command_line_stay_and_files_play_for_ever(service_of, tmp_path):
    pytest.importorskip("av", reason="the stream extra is not installed")
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(jpeg(red_square(8 * number), ".png"))
    service = service_of(sources=find_videos([f"drive={tmp_path}"]))
    with service.client() as client:
        shown = live(client, "drive")
        assert shown["fixed"] is True and shown["url"] == ""
        answer = client.delete("/v1/streams/drive")
        assert answer.status_code == 409 and "stays" in answer.json()["error"]["message"]
        until(lambda: info(client, "drive")["frames"] > 12, "five pictures are not played again")
        assert str(tmp_path) not in client.get("/v1/streams").text, "paths are nobody's business"


def test_a_password_comes_back_nowhere(service_of, camera_of, caplog, capfd):
    said: list[str] = []
    camera = camera_of([red_square()])
    service = service_of(report=said.append, settings=Settings(retry_first=0.05, retry_most=0.1))
    texts = []
    dead = f"http://{USER}:{PASSWORD}@127.0.0.1:9/x?key={PASSWORD}"
    with service.client() as client:
        texts += [add(client, camera.url, "").text, add(client, dead, "").text]
        keys = [one["id"] for one in client.get("/v1/streams").json()["streams"]]
        assert len(keys) == 2
        live(client, keys[0])
        until(lambda: info(client, keys[1])["message"], "the dead camera has no message")
        camera.stopped.set()
        until(lambda: info(client, keys[0])["state"] == "lost", "not lost")
        for path in ("/v1/streams", "/metrics", "/healthz", *(f"/v1/streams/{k}" for k in keys)):
            texts.append(client.get(path).text)
        happened = [event.to_dict() for _, event in service.app.state.streams.events_after(-1)]
        assert happened
        texts.append(json.dumps(happened))
        for key in keys:
            client.delete(f"/v1/streams/{key}")
    assert said, "the operator is told nothing"
    everything = "\n".join([*texts, *said, caplog.text, *capfd.readouterr()])
    assert PASSWORD not in everything and USER not in everything


def test_the_end_does_not_wait_for_watchers(service_of, moving_square):
    service = service_of()
    client = service.client()
    add(client, moving_square.url)
    live(client, "gate")
    answer = client.stream("GET", "/v1/streams/gate/mjpeg")
    answer.__enter__()
    until(lambda: service.app.state.streams.watchers == 1, "it does not watch")
    # The fixture ends the service now, and fails when that takes long.
