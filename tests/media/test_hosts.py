from __future__ import annotations

import socket
import threading

import pytest

from vision_heads.media import hosts
from vision_heads.media.hosts import why_not_found


def test_a_host_without_an_address_is_said(monkeypatch):
    def refuse(host, port):
        assert host == "gate.example"
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(hosts, "look_up", refuse)
    reason = why_not_found("rtsp://user:password@gate.example:554/live?token=secret")
    assert reason == "host not found (name or service not known)"


def test_who_has_an_address_or_names_none_is_not_missing(monkeypatch):
    assert why_not_found("rtsp://127.0.0.1/live") == ""
    asked = []
    monkeypatch.setattr(hosts, "look_up", lambda host, port: asked.append(host))
    for where in ("street.mp4", "/dev/video0", "udp://@:1234", "http://[fe80::1", "rtsp:///live"):
        assert why_not_found(where) == ""
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    assert why_not_found("http://gate.example/live") == ""
    assert not asked


def test_looking_up_takes_no_longer_than_it_may(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(hosts, "look_up", lambda host, port: never.wait(30))
    assert why_not_found("rtsp://gate.example", 0.05) == "its host is not found in 0.05 s"
    never.set()


@pytest.mark.parametrize("host", ["a..b", "x" * 64])
def test_what_cannot_be_a_name(host):
    assert why_not_found(f"rtsp://{host}/live") == "host not found (not a host name)"
