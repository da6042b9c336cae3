"""`POST /v1/detect`: what it answers to pictures and to anything else."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serve.conftest import jpeg, red_square, until
from vision_heads.media.images import decode_image
from vision_heads.runtime.predictor import Predictor
from vision_heads.serve.limits import Limits
from vision_heads.serve.pictures import wants_picture

GOOD = jpeg(red_square())


def upload(client, data: bytes, query: str = "", **headers: str):
    files = {"image": ("../../etc/passwd.jpg", data, "image/jpeg")}
    return client.post(f"/v1/detect{query}", files=files, headers=headers)


def error(answer) -> tuple[int, str, str]:
    content = answer.json()
    assert set(content) == {"error"} and set(content["error"]) == {"code", "message"}
    assert "\n" not in content["error"]["message"]
    return answer.status_code, content["error"]["code"], content["error"]["message"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_results_are_those_of_the_predictor(client_of, engine, suffix):
    data = jpeg(red_square(24, 40), suffix)
    answer = upload(client_of(), data, "?conf=0.1")
    wanted = Predictor(engine.inner)(decode_image(data, "x"), conf=0.1).to_dict()
    assert answer.status_code == 200 and answer.json() == wanted
    assert wanted["heads"]["aerial"], "nothing to compare"
    assert answer.headers["server-timing"].startswith("detect;dur=")


def test_base64_in_json_is_the_same(client_of):
    client, data = client_of(), jpeg(red_square())
    answer = client.post("/v1/detect", json={"image": base64.b64encode(data).decode()})
    assert answer.status_code == 200 and answer.json() == upload(client, data).json()


def test_the_example_of_the_openapi_works(client_of):
    client = client_of()
    content = client.get("/openapi.json").json()["paths"]["/v1/detect"]["post"]["requestBody"]
    (example,) = content["content"]["application/json"]["examples"].values()
    answer = client.post("/v1/detect", json=example["value"])
    assert answer.status_code == 200 and answer.json()["width"] == 32


def test_options(client_of):
    client = client_of()
    image = red_square()
    image[64:80, 64:80, 1] = 255
    data = jpeg(image, ".png")
    assert len(upload(client, data).json()["heads"]["aerial"]) == 2
    for query in ("?classes=green", "?max_det=1", "?heads=aerial&classes=green"):
        assert len(upload(client, data, query).json()["heads"]["aerial"]) == 1, query
    assert upload(client, data, "?conf=1").json()["heads"]["aerial"] == []


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?conf=2", "conf"),
        ("?conf=nan", "conf"),
        ("?iou=-1", "iou"),
        ("?max_det=0", "max_det"),
        ("?max_det=99999999", "max_det"),
        ("?heads=nothing", "nothing"),
        ("?heads=", "heads"),
        ("?classes=,", "classes"),
        ("?classes=zebra", "zebra"),
        ("?draw=perhaps", "draw"),
    ],
)
def test_wrong_options_are_named(client_of, engine, query, names):
    status, code, message = error(upload(client_of(), jpeg(red_square()), query))
    assert status == 422 and code == "invalid" and names in message
    assert engine.calls == []


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("", "*/*", "application/json"),
        ("", "image/jpeg", "image/jpeg"),
        ("", "text/html,image/*;q=0.9,*/*;q=0.1", "image/jpeg"),
        ("", "application/json, image/jpeg;q=0.5", "application/json"),
        ("?draw=true", "application/json", "image/jpeg"),
        ("?draw=false", "image/jpeg", "application/json"),
    ],
)
def test_the_drawn_picture_is_there_for_the_asking(client_of, query, accept, kind):
    answer = upload(client_of(), jpeg(np.zeros((128, 128, 3), np.uint8)), query, Accept=accept)
    assert answer.status_code == 200 and answer.headers["content-type"] == kind


def test_what_is_drawn_is_what_was_found(client_of):
    client = client_of()
    pictures = [
        cv2.imdecode(np.frombuffer(upload(client, GOOD, query).content, np.uint8), 1).astype(int)
        for query in ("?draw=true&conf=1", "?draw=true&conf=0.5")
    ]
    assert pictures[0].shape == (128, 128, 3)
    assert np.abs(pictures[1] - pictures[0]).max() > 100


@pytest.mark.parametrize("size", [(66_000, 4), (4, 66_000)])
def test_a_picture_too_long_for_a_jpeg_is_drawn_smaller(client_of, size):
    answer = upload(client_of(), jpeg(np.zeros((*size, 3), np.uint8), ".png"), "?draw=true")
    assert answer.status_code == 200, answer.text
    assert max(cv2.imdecode(np.frombuffer(answer.content, np.uint8), 1).shape) == 65_500


@pytest.mark.parametrize(
    ("accept", "picture"),
    [
        ("", False),
        ("*/*", False),
        ("image/jpeg", True),
        ("image/*", True),
        ("image/png", False),
        ("application/json;q=0.2, image/jpeg;q=0.3", True),
        ("image/jpeg;q=0, */*", False),
        ("image/jpeg;q=nonsense", False),
        (";;,,;q=", False),
    ],
)
def test_accept(accept, picture):
    assert wants_picture(accept) is picture


def png_header(width: int, height: int) -> bytes:
    """A well-formed PNG that claims to be huge and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (b"", 422, "empty"),
        (GOOD[: len(GOOD) // 2], 422, "truncated"),
        (GOOD[:30], 415, "not a JPEG"),
        (png_header(60000, 60000), 413, "60000 x 60000 pixels are more than the limit"),
        (png_header(2**31 - 1, 2**31 - 1), 413, "more than the limit"),
        (png_header(0, 5), 422, "0 x 5"),
        (png_header(64, 64), 422, "image"),
        (b"hello, this is text\n" * 50, 415, "not a JPEG"),
        (b"\0" * 4096, 415, "not a JPEG"),
        (b"%PDF-1.7 ...", 415, "not a JPEG"),
        (b"GIF89a" + b"\0" * 100, 415, "not a JPEG"),
        (b"II*\0" + b"\0" * 100, 415, "not a JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "not a JPEG"),
        (b"\x89PNG\r\n\x1a\n", 415, "not a JPEG"),
        (b"BM" + b"\xff" * 60, 422, "image"),
        (b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 30, 413, "more than the limit"),
    ],
    ids=lambda value: value[:12].hex() if isinstance(value, bytes) else str(value),
)
def test_what_is_no_picture(client_of, engine, data, status, says):
    client = client_of()
    got, _, message = error(upload(client, data))
    assert got == status and says in message and message.startswith("image")
    inside = client.post("/v1/detect", json={"image": base64.b64encode(data).decode() or ""})
    assert error(inside)[0] == (422 if not data else status)
    assert engine.calls == []


def test_a_bomb_is_refused_before_it_is_decoded(client_of, monkeypatch):
    from vision_heads.media import images

    def decoded(*args):
        raise AssertionError("decoded")

    client = client_of(limits=Limits(pixels=10_000))
    monkeypatch.setattr(images.cv2, "imdecode", decoded)
    for suffix in (".jpg", ".png", ".webp", ".bmp"):
        data = jpeg(np.zeros((101, 100, 3), np.uint8), suffix)
        assert error(upload(client, data))[:2] == (413, "too_large")


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"1" * 10_000, "application/json", 400),
        (b"[]", "application/json", 422),
        (b'{"image": 1}', "application/json", 422),
        (b'{"image": ""}', "application/json", 422),
        (b'{"image": "not base64!"}', "application/json", 422),
        (b'{"image": "\\ud800"}', "application/json", 422),
        (b'{"image": "AAAA", "path": "/etc/passwd"}', "application/json", 422),
        (b'{"path": "/etc/passwd"}', "application/json", 422),
        (GOOD, "image/jpeg", 415),
        (GOOD, "text/plain", 415),
        (GOOD, "", 415),
        (GOOD, "multipart/form-data", 400),
        (GOOD, "multipart/form-data; boundary=x", 400),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 400),
        (
            b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n/etc/passwd\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            400,
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nx\r\n--x--\r\n',
            "multipart/form-data; boundary=x; charset=undefined",
            400,
        ),
        (b"image=x", "application/x-www-form-urlencoded", 415),
    ],
    ids=range(21),
)
def test_bodies_that_hold_no_picture(client_of, engine, body, kind, status):
    headers = {"Content-Type": kind} if kind else {}
    answer = client_of().post("/v1/detect", content=body, headers=headers)
    assert error(answer)[0] == status
    assert engine.calls == []


def test_many_files_at_once_are_refused(client_of):
    files = [("image", ("a.jpg", GOOD)), ("image", ("b.jpg", GOOD))]
    assert error(client_of().post("/v1/detect", files=files))[0] == 400


def test_exif_turns_pictures_upright(client_of):
    image = pytest.importorskip("PIL.Image")
    buffer = BytesIO()
    picture = image.fromarray(np.zeros((40, 100, 3), np.uint8))
    exif = image.Exif()
    exif[0x0112] = 6
    picture.save(buffer, "JPEG", exif=exif)
    answer = upload(client_of(), buffer.getvalue()).json()
    assert (answer["width"], answer["height"]) == (40, 100)


def test_when_there_is_enough_to_do_others_are_turned_away_and_come_back(client_of, engine):
    client = client_of(limits=Limits(requests=2))
    desk = client.app.state.desk
    engine.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(upload, client, GOOD) for _ in range(2)]
        until(lambda: desk.inside == 2, "requests do not arrive")
        refused = upload(client, GOOD)
        assert error(refused)[:2] == (503, "busy") and refused.headers["retry-after"]
        engine.gate.set()
        assert [job.result(20).status_code for job in busy] == [200, 200]
    assert upload(client, GOOD).status_code == 200


def test_a_picture_does_not_wait_for_ever(client_of, engine):
    client = client_of(limits=Limits(wait=0.2))
    engine.gate.clear()
    assert error(upload(client, GOOD))[:2] == (503, "busy")
    engine.gate.set()
    assert upload(client, GOOD).status_code == 200


def test_a_fault_of_ours_tells_nothing(client_of, engine, monkeypatch):
    def broken(images, heads=None):
        raise ZeroDivisionError("rtsp://admin:hunter2@gate")

    client = client_of()
    monkeypatch.setattr(engine.inner, "run", broken)
    status, code, message = error(upload(client, GOOD))
    assert (status, code) == (500, "internal") and "hunter2" not in message


@pytest.fixture
def steady_client(client_of):
    return client_of(limits=Limits(pixels=200_000))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda good, cut, at, junk: (good[:at] + junk + good[at + len(junk) :])[:cut],
            st.sampled_from([jpeg(red_square(), s) for s in (".jpg", ".png", ".webp", ".bmp")]),
            st.integers(0, 3000),
            st.integers(0, 600),
            st.binary(max_size=12),
        ),
    ),
)
def test_any_bytes_are_answered(steady_client, data):
    answer = upload(steady_client, data)
    assert answer.status_code in (200, 413, 415, 422), answer.text
    if answer.status_code != 200:
        error(answer)
    else:
        json.loads(answer.text)
