"""Who is let in: names, origins, tokens, sizes, times."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from starlette.websockets import WebSocketDisconnect

from tests.serve import conftest
from tests.serve.conftest import jpeg, red_square
from vision_heads.serve.limits import Limits
from vision_heads.serve.server import make_server

TOKEN = "correct-horse-battery"
HOST = "http://127.0.0.1:8000"
LIVE = "ws://127.0.0.1:8000/v1/live"


def code(answer) -> str:
    return answer.json()["error"]["code"]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "10.0.0.9", "vh.localhost", "cams.example"],
)
def test_addresses_and_known_names_are_answered(client_of, host):
    client = client_of(hosts=["Cams.example"])
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""]
)
def test_other_names_are_not_for_they_may_be_rebound(client_of, host):
    answer = client_of().get("/healthz", headers={"Host": host})
    assert answer.status_code == 421 and code(answer) == "wrong_host"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 422),  # a program
        ({"Origin": HOST, "Sec-Fetch-Site": "same-origin"}, 422),
        ({"Origin": "https://127.0.0.1:8000"}, 422),  # TLS ends at a proxy
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:9000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_other_sites_change_nothing(client_of, headers, status):
    answer = client_of().post("/v1/streams", json={"url": "x"}, headers=headers)
    assert answer.status_code == status


def test_other_sites_embed_nothing_but_may_link_to_the_page(client_of):
    client = client_of()
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert client.get("/v1/streams", headers=image).status_code == 403
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200


def test_other_sites_open_no_websocket(client_of):
    client = client_of()
    with client.websocket_connect(LIVE, headers={"Origin": HOST}) as socket_:
        assert socket_.receive_json()["type"] == "streams"
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(LIVE, headers=headers):
            pass


def test_every_answer_keeps_browsers_to_the_rules(client_of):
    client = client_of(token=TOKEN)
    for path in ("/", "/login", "/healthz", "/v1/model", "/nothing"):
        headers = client.get(path, follow_redirects=False).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/streams"),
        ("POST", "/v1/streams"),
        ("DELETE", "/v1/streams/x"),
        ("GET", "/v1/streams/x/events"),
        ("GET", "/v1/streams/x/mjpeg"),
        ("GET", "/v1/model"),
        ("POST", "/v1/detect"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/page/main.js"),
        ("POST", "/logout"),
        ("GET", "/nothing"),
    ],
)
def test_with_a_token_nothing_is_told_without_it(client_of, method, path):
    client = client_of(token=TOKEN)
    answer = client.request(method, path)
    assert answer.status_code == 401 and code(answer) == "unauthorized"
    assert answer.headers["www-authenticate"] == "Bearer"
    wrong = client.request(method, path, headers={"Authorization": "Bearer not-the-right-one"})
    assert wrong.status_code == 401
    right = client.request(
        method, path, headers={"Authorization": f"Bearer {TOKEN}"}, follow_redirects=False
    )
    assert right.status_code != 401


def test_no_websocket_without_the_token(client_of):
    client = client_of(token=TOKEN)
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(LIVE):
        pass
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with client.websocket_connect(LIVE, headers=headers) as live:
        assert live.receive_json()["type"] == "streams"


def test_a_token_in_the_url_does_not_count(client_of):
    client = client_of(token=TOKEN)
    assert client.get(f"/v1/streams?token={TOKEN}").status_code == 401


def test_a_person_signs_in_and_out(client_of):
    client = client_of(token=TOKEN)
    page = client.get("/", follow_redirects=False)
    assert page.status_code == 303 and page.headers["location"] == "/login"
    assert "<form" in client.get("/login").text
    wrong = client.post("/login", data={"token": "wrong"}, follow_redirects=False)
    assert wrong.status_code == 401 and "not the token" in wrong.text
    assert not wrong.headers.get_list("set-cookie")
    right = client.post("/login", data={"token": TOKEN}, follow_redirects=False)
    assert right.status_code == 303
    session = right.headers.get_list("set-cookie")[0]
    assert "HttpOnly" in session and "SameSite=strict" in session and TOKEN not in session
    assert client.get("/v1/streams").status_code == 200
    kept = dict(client.cookies)
    with client.websocket_connect(LIVE) as live:  # a browser sends the cookie here too
        assert live.receive_json()["type"] == "streams"
    assert client.post("/logout", follow_redirects=False).status_code == 303
    client.cookies.update(kept)  # somebody has copied it
    assert client.get("/v1/streams").status_code == 401


def test_a_form_that_cannot_be_read_is_no_fault_of_the_service(client_of):
    body = b'--x\r\nContent-Disposition: form-data; name="token"\r\n\r\n\xff\r\n--x--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=x; charset=undefined"}
    answer = client_of(token=TOKEN).post("/login", content=body, headers=kind)
    assert answer.status_code == 400 and "malformed" in answer.text


def test_sign_in_from_another_site_is_refused(client_of):
    client = client_of(token=TOKEN)
    headers = {"Origin": "http://evil.example"}
    assert client.post("/login", data={"token": TOKEN}, headers=headers).status_code == 403


def test_over_https_cookies_stay_there(client_of):
    client = client_of(token=TOKEN, base_url="https://127.0.0.1:8000")
    answer = client.post("/login", data={"token": TOKEN}, follow_redirects=False)
    assert all("Secure" in cookie for cookie in answer.headers.get_list("set-cookie"))


def test_too_large_by_its_header(client_of, engine):
    client = client_of(limits=Limits(upload=1000))
    answer = client.post("/v1/detect", files={"image": ("x.jpg", b"\xff" * 2000)})
    assert answer.status_code == 413 and code(answer) == "too_large"
    assert engine.calls == []


@pytest.mark.parametrize("path", ["/v1/detect", "/v1/streams"])
def test_too_large_without_a_header(client_of, path):
    client = client_of(limits=Limits(upload=1000, body=1000))

    def parts():
        yield b'{"image": "'
        for _ in range(50):
            yield b"a" * 100
        yield b'"}'

    headers = {"Content-Type": "application/json"}
    answer = client.post(path, content=parts(), headers=headers)
    assert answer.status_code == 413 and code(answer) == "too_large"


def test_a_picture_may_be_larger_than_other_bodies(client_of):
    client = client_of(limits=Limits(body=100))
    good = client.post("/v1/detect", files={"image": ("x.jpg", jpeg(red_square()))})
    assert good.status_code == 200
    assert client.post("/v1/streams", json={"url": "x" * 200}).status_code == 413


def raw(port: int, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 10)
    connection.sendall(data)
    return connection


def test_a_body_that_does_not_come_is_not_waited_for(service_of):
    service = service_of(limits=Limits(seconds=0.3))
    head = (
        f"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    )
    begin = time.monotonic()
    with raw(service.port, head.encode()) as connection:
        answer = connection.recv(4096)
    assert b" 408 " in answer and time.monotonic() - begin < 8


def test_connections_by_which_no_request_comes_are_closed(service_of, engine, monkeypatch):
    """Else a few silent ones would take the places of everybody, and nobody needs a token."""
    monkeypatch.setattr(conftest, "make_server", partial(make_server, patience=0.3))
    service = service_of()
    engine.gate.clear()
    with service.client() as client, ThreadPoolExecutor(1) as pool:
        picture = {"image": ("x.jpg", jpeg(red_square()))}
        answer = pool.submit(client.post, "/v1/detect", files=picture)
        for beginning in (b"", b"GET /healthz HTTP/1.1\r\nHost: "):
            with raw(service.port, beginning) as connection:
                assert connection.recv(100) == b""
        engine.gate.set()
        assert answer.result().status_code == 200  # who only waits for an answer gets it


def test_a_client_that_leaves_halfway_troubles_nobody(service_of):
    service = service_of()
    head = (
        f"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n--x\r\n"
    )
    for _ in range(5):
        raw(service.port, head.encode()).close()
    with service.client() as client:
        assert client.get("/healthz").status_code == 200
