"""The WebSocket that carries all cameras of a page."""

from __future__ import annotations

import json
import threading

import cv2
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.serve.conftest import Running, until
from vision_heads.serve.limits import Limits
from vision_heads.serve.live import UNDER_WAY, LivePage


@pytest.fixture
def service(service_of, moving_square) -> Running:
    service = service_of(limits=Limits(watchers=2))
    with service.client() as client:
        for name in ("one", "two"):
            body = {"url": moving_square.url, "name": name}
            assert client.post("/v1/streams", json=body).status_code == 201
        until(
            lambda: all(s["state"] == "live" for s in client.get("/v1/streams").json()["streams"]),
            "the cameras are not live",
        )
    return service


def open_live(service: Running):
    address = f"ws://127.0.0.1:{service.port}/v1/live"
    return connect(address, origin=service.url, max_size=None, close_timeout=2)


def parse(message: bytes) -> tuple[dict, np.ndarray]:
    length = int.from_bytes(message[:4], "big")
    record = json.loads(message[4 : 4 + length])
    return record, cv2.imdecode(np.frombuffer(message[4 + length :], np.uint8), 1)


def frames(socket, count: int, *, confirm: bool = True) -> list[tuple[dict, np.ndarray]]:
    found = []
    while len(found) < count:
        message = socket.recv(timeout=10)
        if isinstance(message, bytes):
            found.append(parse(message))
            if confirm:
                socket.send(json.dumps({"got": found[-1][0]["source"]}))
    return found


def word(socket, kind: str) -> dict:
    while True:
        message = socket.recv(timeout=10)
        if isinstance(message, str) and (content := json.loads(message))["type"] == kind:
            return content


def pictures_in_a_second(socket) -> int:
    """Count pictures between two reports, which come each second."""
    word(socket, "streams")
    count = 0
    while isinstance(socket.recv(timeout=10), bytes):
        count += 1
    return count


def test_frames_of_all_cameras_come_with_their_results_and_without_drawings(service):
    with open_live(service) as socket:
        assert {s["id"] for s in word(socket, "streams")["streams"]} == {"one", "two"}
        found = frames(socket, 8)
        assert {record["source"] for record, _ in found} == {"one", "two"}
        for record, picture in found:
            ((x1, y1, x2, y2),) = [one["box"] for one in record["heads"]["aerial"]]
            inside = picture[int(y1) + 2 : int(y2) - 2, int(x1) + 2 : int(x2) - 2]
            assert inside[..., 2].min() > 200, "the box is not where the square is"
            assert picture[..., :2].max() < 90, "something is drawn"


def test_a_client_that_does_not_confirm_gets_no_more(service):
    with open_live(service) as socket:
        found = frames(socket, 2 * UNDER_WAY, confirm=False)
        assert {record["source"] for record, _ in found} == {"one", "two"}
        word(socket, "streams")
        assert pictures_in_a_second(socket) == 0
        socket.send(json.dumps({"got": "one"}))
        ((record, _),) = frames(socket, 1, confirm=False)
        assert record["source"] == "one"
        assert record["frame"] > max(r["frame"] for r, _ in found), "an old frame"


def test_only_what_is_watched_is_sent_and_no_wider_than_wanted(service, service_of, camera_of):
    wide = camera_of([np.zeros((300, 1200, 3), np.uint8)])
    with service.client() as client:
        client.post("/v1/streams", json={"url": wide.url, "name": "wide"})
    with open_live(service) as socket:
        socket.send(json.dumps({"watch": ["wide"], "width": 400}))
        until(lambda: frames(socket, 1)[0][0]["source"] == "wide", "the wide one is not sent")
        pictures = frames(socket, 4)
        assert {record["source"] for record, _ in pictures[2:]} == {"wide"}
        assert pictures[-1][1].shape == (120, 480, 3)
        socket.send(json.dumps({"watch": []}))
        word(socket, "streams")
        assert pictures_in_a_second(socket) == 0


def test_news_come_at_once(service, moving_square):
    with open_live(service) as socket, service.client() as client:
        word(socket, "streams")
        client.delete("/v1/streams/two")
        until(lambda: len(word(socket, "streams")["streams"]) == 1, "the removed one is listed")
        assert word(socket, "event")["event"] == "source_ended"
        client.post("/v1/streams", json={"url": moving_square.url, "name": "two"})
        until(lambda: frames(socket, 1)[0][0]["source"] == "two", "the new one is not shown")


def test_nonsense_ends_the_connection_and_nothing_else(service):
    wrong = (
        *("{", "[]", "5", '{"watch": 5}', '{"width": "x"}', '{"width": 1e999}', b"{}"),
        *("[" * 5000, "x" * 70_000),
    )
    for nonsense in wrong:
        with open_live(service) as socket:
            socket.send(nonsense)
            with pytest.raises(ConnectionClosed) as caught:
                for _ in range(200):
                    socket.recv(timeout=10)
            assert caught.value.rcvd is not None, "a fault of ours cut it off"
    with service.client() as client:
        assert client.get("/healthz").status_code == 200


def test_seats_are_limited_and_given_back(service):
    sockets = [open_live(service) for _ in range(2)]
    with pytest.raises(Exception, match=r"403|1013"), open_live(service) as third:
        third.recv(timeout=5)
    for socket in sockets:
        socket.close()
    until(lambda: service.app.state.streams.watchers == 0, "seats are not given back")


def test_a_client_that_takes_nothing_stalls_nobody(service_of, camera_of):
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    service = service_of(limits=Limits(seconds=1.0))
    with service.client() as client:
        client.post("/v1/streams", json={"url": camera_of([noise]).url, "name": "noise"})
    held = threading.Event()
    with open_live(service) as slow:
        reader = threading.Thread(target=held.wait, daemon=True)
        reader.start()
        # It says that it got frames, and reads none of them.
        for _ in range(200):
            slow.send(json.dumps({"got": "noise"}))
        with open_live(service) as quick:
            assert len(frames(quick, 10)) == 10
    held.set()


def test_the_end_of_the_service_is_told(service):
    with open_live(service) as socket:
        word(socket, "streams")
        service.app.state.streams.let_go()
        with pytest.raises(ConnectionClosed) as caught:
            for _ in range(200):
                socket.recv(timeout=10)
        assert caught.value.rcvd.code == 1001


def test_removed_cameras_are_forgotten(service, monkeypatch):
    pages = []
    run = LivePage.run
    monkeypatch.setattr(LivePage, "run", lambda page: pages.append(page) or run(page))
    with service.client() as client, open_live(service) as socket:
        frames(socket, 4)
        client.delete("/v1/streams/one")
        client.delete("/v1/streams/two")
        assert service.app.state.streams.channels() == []
        until(lambda: not pages[0]._last, "a page that is open still holds their last frames")
