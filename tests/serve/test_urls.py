"""Which URLs requests may add as streams."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_heads.errors import UserError
from vision_heads.serve.urls import StreamRules

ADDRESSES = {
    "camera.example": ["93.184.216.34"],
    "gate": ["10.0.0.5"],
    "me": ["127.0.0.1"],
    "cloud": ["169.254.169.254"],
    "both": ["10.0.0.5", "169.254.169.254"],
    "mapped": ["::ffff:169.254.169.254"],
    "group": ["239.1.2.3"],
    "nowhere": ["0.0.0.0"],
    "link6": ["fe80::1%eth0"],
}


def look_up(host: str, port: int) -> list[str]:
    assert port > 0
    if host in ADDRESSES:
        return ADDRESSES[host]
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        raise OSError(-2, "Name or service not known") from None


def rules(**more) -> StreamRules:
    return StreamRules(look_up=look_up, **more)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://gate/live",
        "rtsps://user:password@gate:322/live",
        "http://camera.example/mjpeg?channel=1",
        "https://10.0.0.5:8443/",
        "RTSP://GATE/live",
        "rtsp://gate./live",
    ],
)
def test_cameras_may_be_added(url):
    rules().check(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:///etc/passwd", "file:// is not allowed"),
        ("FILE:///etc/passwd", "file:// is not allowed"),
        ("/etc/passwd", "must begin with rtsp://"),
        ("../../etc/passwd", "must begin with"),
        ("0", "must begin with"),
        ("/dev/video0", "must begin with"),
        ("name=/etc/passwd", "must begin with"),
        ("concat:/etc/passwd|x", "must begin with"),
        ("subfile,,start,0,end,9,,:/etc/passwd", "must begin with"),
        ("concat://etc/passwd", "concat:// is not allowed"),
        ("ftp://gate/x", "ftp:// is not allowed"),
        ("udp://239.1.2.3:5000", "udp:// is not allowed"),
        ("http://", "names no host"),
        ("http:///path", "names no host"),
        ("rtsp://gate:99999/x", "host or port is not valid"),
        ("rtsp://[::1/x", "host or port is not valid"),
        ("rtsp://gate/a b", "spaces"),
        ("rtsp://gate/a\nb", "unprintable"),
        ("rtsp://gate\\@me/x", "backslashes"),
        ("http://" + "a" * 3000, "longer than"),
        ("http://unknown.example/x", "host not found"),
        ("http://cloud/latest/meta-data", "link-local"),
        ("http://both/x", "link-local"),
        ("http://mapped/x", "link-local"),
        ("http://link6/x", "link-local"),
        ("http://group/x", "no address of a camera"),
        ("http://nowhere/x", "no address of a camera"),
        ("http://gate@cloud/x", "link-local"),
    ],
)
def test_everything_else_may_not(url, why):
    with pytest.raises(UserError, match="url") as caught:
        rules().check(url)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_this_machine_is_asked_only_where_nobody_else_can_make_it():
    rules(loopback=True).check("http://me/x")
    for url in ("http://me/x", "http://127.0.0.1/x"):
        with pytest.raises(UserError, match="this machine itself"):
            rules(loopback=False).check(url)


def test_named_hosts_only():
    only = rules(hosts=["10.0.0.*", "GATE"], only_hosts=True)
    only.check("rtsp://10.0.0.77/live")
    only.check("rtsp://Gate/live")
    with pytest.raises(UserError, match="not one of those allowed"):
        only.check("rtsp://camera.example/live")
    with pytest.raises(UserError, match="no streams may be added"):
        rules(only_hosts=True).check("rtsp://gate/live")


def test_no_message_has_the_password():
    for url in (
        "rtsp://admin:hunter2hunter2@unknown.example/x",
        "rtsp://admin:hunter2hunter2@gate:99999/x",
        "rtsp://admin:hunter2hunter2@cloud/x?token=hunter2hunter2",
        "rtsp://admin:hunter2/hunter2@gate/x",
        "rtsp://admin:hunter2hunter2@",
        "ftp://admin:hunter2hunter2@gate/",
    ):
        with pytest.raises(UserError) as caught:
            rules().check(url)
        assert "hunter2" not in str(caught.value), url


@given(st.text(max_size=60))
def test_no_text_is_taken_for_a_url_or_makes_a_traceback(text):
    for url in (text, "http://" + text, "rtsp://u:p@" + text):
        try:
            rules().check(url)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert url.lower().startswith(("http://", "https://", "rtsp://", "rtsps://"))
