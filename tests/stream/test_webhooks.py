"""Events on their way to a receiver: the spool on the disk, and the webhook that empties it."""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.stream.test_outputs import full, seen
from vision_heads.errors import UserError
from vision_heads.stream.plan import OutputPlan
from vision_heads.stream.seen import Event
from vision_heads.stream.spool import Spool
from vision_heads.stream.webhooks import Webhook, spool_name


def test_a_spool_gives_out_everything_once_over_restarts(tmp_path, monkeypatch):
    monkeypatch.setattr("vision_heads.stream.spool.SEGMENT", 200)
    chance, given, number = random.Random(0), [], 0
    for _ in range(20):
        spool = Spool(tmp_path)
        for _ in range(chance.randrange(12)):
            spool.append({"n": number})
            number += 1
        for _ in range(chance.randrange(12)):
            record = spool.first()
            if record is not None:
                given.append(record["n"])
                spool.taken()
        assert len(spool) == number - len(given)
        spool.close()
    spool = Spool(tmp_path)
    while (record := spool.first()) is not None:
        given.append(record["n"])
        spool.taken()
    assert given == list(range(number)) and number > 60
    assert len(list(tmp_path.glob("events-*"))) == 1  # what was delivered takes no room


def test_a_spool_mends_a_line_that_a_crash_tore(tmp_path):
    spool = Spool(tmp_path)
    spool.append({"n": 1})
    spool.close()
    with (tmp_path / "events-00000001.jsonl").open("ab") as file:
        file.write(b'{"n": 2, "half')
    spool = Spool(tmp_path)
    assert spool.torn == 1 and len(spool) == 1
    spool.append({"n": 3})
    assert [spool.first(), spool.taken(), spool.first()] == [{"n": 1}, None, {"n": 3}]


def test_a_spool_whose_events_somebody_deleted_begins_anew(tmp_path):
    spool = Spool(tmp_path)
    spool.append({"n": 1})
    spool.first()
    spool.taken()
    spool.close()
    (tmp_path / "events-00000001.jsonl").unlink()
    spool = Spool(tmp_path)
    spool.append({"n": 2})
    assert len(spool) == 1 and spool.first() == {"n": 2}
    spool.close()


def test_a_spool_that_is_deleted_while_it_is_used_goes_on(tmp_path):
    spool = Spool(tmp_path / "spool")
    for number in range(3):
        spool.append({"n": number})
    spool.first()
    spool.taken()
    shutil.rmtree(tmp_path / "spool")
    assert spool.first() is None and len(spool) == 0
    spool.append({"n": 3})
    assert len(spool) == 1 and spool.first() == {"n": 3}
    spool.taken()
    assert spool.first() is None and len(spool) == 0
    spool.close()


def test_a_spool_sets_aside_lines_that_somebody_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr("vision_heads.stream.spool.SEGMENT", 60)
    spool = Spool(tmp_path)
    for number in range(30):
        spool.append({"n": number})
    spool.close()
    for path in tmp_path.glob("events-*"):
        lines = path.read_bytes().splitlines(keepends=True)
        lines[0] = b"no record\n"
        lines[1:1] = [b'{"n": "caf\xe9"}\n', b"7\n", b"\n", b"[" * 100_000 + b"\n"]
        path.write_bytes(b"".join(lines))
    (tmp_path / "events-00000001-copy.jsonl").write_text("a copy of somebody's\n")
    spool, given = Spool(tmp_path), []
    files = len(spool._segments())
    while (record := spool.first()) is not None:
        given.append(record["n"])
        spool.taken()
    assert files > 3 and len(given) == 30 - files and given == sorted(given)
    assert spool.damaged == 4 * files and len(spool) == 0
    kept = (tmp_path / "damaged.jsonl").read_text().splitlines()
    assert kept[:3] == ["no record", '{"n": "caf\\xe9"}', "7"] and len(kept) == 4 * files
    spool.close()


def test_a_spool_that_somebody_edits_while_it_is_used_goes_on(tmp_path):
    spool, path = Spool(tmp_path), tmp_path / "events-00000001.jsonl"
    spool.append({"n": 0})
    assert spool.first() == {"n": 0}
    path.write_text("")  # emptied while it is on its way
    spool.append({"n": 1})
    spool.taken()
    assert spool.first() == {"n": 1}
    with path.open("a") as file:
        file.write('{"n": 2}\n')
    spool.taken()
    assert spool.first() == {"n": 2}
    spool.taken()
    spool.append({"n": 3})
    assert spool.first() == {"n": 3} and len(spool) == 1
    path.unlink()
    spool.taken()
    assert spool.first() is None and len(spool) == 0
    spool.close()


@pytest.mark.parametrize("text", ["{", '{"segment": 1, "offset": -1}', '{"segment": Infinity}'])
def test_a_position_that_somebody_damaged_is_named(tmp_path, text):
    (tmp_path / "position.json").write_text(text)
    with pytest.raises(UserError, match=r"position\.json: is damaged; delete it"):
        Spool(tmp_path)


def test_a_spool_belongs_to_one_program_and_can_be_full(tmp_path):
    pytest.importorskip("fcntl")
    spool = Spool(tmp_path / "s")
    with pytest.raises(UserError, match="another program uses this spool"):
        Spool(tmp_path / "s")
    full(tmp_path / "s", "events-00000001.jsonl")
    with pytest.raises(UserError, match="cannot be written: No space left"):
        spool.append({"n": 1})


class _Receiver:
    """A receiver that can be away; answers as told."""

    def __init__(self, port=0):
        self.got, self.answers, self.headers = [], [], []
        self.body, self.released = b"", threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                code = outer.answers.pop(0) if outer.answers else 200
                outer.headers.append(self.headers)
                if code == 200:
                    outer.got.append(body)
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                if outer.body:  # that never ends
                    self.wfile.write(outer.body)
                    outer.released.wait(10)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def hook(port, folder, lines, **more):
    url = f"http://me:hidden@127.0.0.1:{port}/in?token=hidden"
    return Webhook(url, folder, report=lines.append, first=0.02, most=0.05, timeout=2, **more)


def test_a_webhook_loses_nothing_while_the_receiver_is_down_nor_over_a_restart(tmp_path):
    receiver, lines = _Receiver(), []
    port = receiver.port
    output = hook(port, tmp_path, lines, snapshots=True)
    shot = seen(3)
    output.event(Event.at("e", shot.frame, data={"n": 0}), shot.frame.image)
    _until(lambda: len(receiver.got) == 1)
    assert receiver.got[0]["n"] == 0 and receiver.got[0]["snapshot"].startswith("gate/00000003-e-")
    assert receiver.headers[0]["Authorization"] == "Basic bWU6aGlkZGVu"
    receiver.close()
    for number in range(1, 6):
        output.event(Event("e", "gate", data={"n": number}), None)
    _until(lambda: any("takes no events" in line for line in lines))
    output.close()
    assert "5 events wait" in lines[-1]
    with (tmp_path / "events-00000001.jsonl").open("ab") as file:
        file.write(b'{"n": 6, "half')  # as a crash leaves it
    receiver = _Receiver(port)
    receiver.answers = [503, 200, 429]
    output = hook(port, tmp_path, lines)
    _until(lambda: len(receiver.got) == 5)
    output.close()
    receiver.close()
    assert [record["n"] for record in receiver.got] == [1, 2, 3, 4, 5]
    assert any("5 events of an earlier run" in line for line in lines)
    assert any("last event was cut off by a crash" in line for line in lines)
    assert any("takes events again" in line for line in lines)
    assert "hidden" not in "".join(lines) + output.name


def test_what_a_receiver_refuses_for_good_is_kept_and_the_next_goes_on(tmp_path):
    receiver, lines = _Receiver(), []
    receiver.answers = [400, 302]
    output = hook(receiver.port, tmp_path, lines)
    for number in range(3):
        output.event(Event("e", "gate", data={"n": number}), None)
    _until(lambda: receiver.got)
    output.close()
    receiver.close()
    assert [record["n"] for record in receiver.got] == [2]
    kept = [json.loads(line)["n"] for line in (tmp_path / "refused.jsonl").read_text().splitlines()]
    assert kept == [0, 1] and sum("answers with 400" in line for line in lines) == 1


def test_a_damaged_event_does_not_stop_the_others(tmp_path):
    spool = Spool(tmp_path)
    for number in range(3):
        spool.append({"n": number})
    spool.close()
    path = tmp_path / "events-00000001.jsonl"
    path.write_text(path.read_text().replace('{"n": 1}', '{"n": 1'))
    receiver, lines = _Receiver(), []
    output = hook(receiver.port, tmp_path, lines)
    _until(lambda: len(receiver.got) == 2)
    output.event(Event("e", "gate", data={"n": 3}), None)
    _until(lambda: len(receiver.got) == 3)
    output.close()
    receiver.close()
    assert [record["n"] for record in receiver.got] == [0, 2, 3]
    assert sum("damaged events in the spool are left out; kept in" in line for line in lines) == 1
    assert "1 damaged events were left out" in lines[-1]
    assert (tmp_path / "damaged.jsonl").read_text() == '{"n": 1\n'


def test_an_event_counts_as_taken_by_the_status_alone(tmp_path):
    receiver, lines = _Receiver(), []
    receiver.body = b"ok"
    output = Webhook(f"http://127.0.0.1:{receiver.port}", tmp_path, report=lines.append, timeout=1)
    for number in range(3):
        output.event(Event("e", "gate", data={"n": number}), None)
    _until(lambda: output.delivered == 3 or lines)
    receiver.released.set()
    output.close()
    receiver.close()
    assert [record["n"] for record in receiver.got] == [0, 1, 2] and not lines


def test_events_of_a_run_with_other_webhooks_are_told(tmp_path):
    mine, other = (f"http://127.0.0.1:9/{name}" for name in ("mine", "other"))
    for place, count in (("", 2), (spool_name(mine), 4), (spool_name(other), 3)):
        spool = Spool(tmp_path / place)  # the first as earlier versions had it
        for number in range(count):
            spool.append({"n": number})
        spool.close()
    busy = Spool(tmp_path / "3")
    busy.append({"n": 0})  # of a program that runs
    left = {"": f"{tmp_path}: 2", mine: f"{spool_name(mine)}: 4", other: f"{spool_name(other)}: 3"}
    for urls in ([mine], [other, mine], []):
        lines = []
        for output in OutputPlan(webhooks=urls, spool=tmp_path).open([], [], lines.append):
            output.close()
        told = [line for line in lines if "this run does not send them" in line]
        wanted = [f"{line} events" for url, line in left.items() if urls and url not in urls]
        assert len(told) == len(wanted)
        assert all(any(line in one for one in told) for line in wanted)
    busy.close()


@pytest.mark.parametrize("later", ["ba", "b", "acb"])
def test_events_wait_for_their_own_receiver(tmp_path, later):
    """Whatever webhooks a later run has, and in whatever order: nobody gets another's events."""
    receivers = {name: _Receiver() for name in "abc"}
    ports = {name: receiver.port for name, receiver in receivers.items()}

    def opened(names, password):
        urls = [f"http://me:{password}@127.0.0.1:{ports[name]}/hidden" for name in names]
        return OutputPlan(webhooks=urls, spool=tmp_path).open([], [], lambda line: None)

    for receiver in receivers.values():
        receiver.close()
    first = opened("ab", "oldhidden")
    for name, output in zip("ab", first, strict=True):
        output.event(Event("e", "gate", data={"for": name}), None)
        output.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any("hidden" in f"{path}{path.read_text()}" for path in files)
    receivers = {name: _Receiver(ports[name]) for name in later}
    second = opened(later, "newhidden")
    _until(lambda: all(receivers[name].got for name in later if name != "c"))
    for output in second:
        output.close()
    for name, receiver in receivers.items():
        receiver.close()
        assert [record["for"] for record in receiver.got] == [name] * (name != "c")


def test_a_webhook_is_given_once(tmp_path):
    plan = OutputPlan(webhooks=["http://me:a@h/x", "http://me:b@H/x"], spool=tmp_path / "spool")
    with pytest.raises(UserError, match=r"--webhook http://h: is given twice"):
        plan.open([], [], lambda line: None)
    names = {spool_name(f"http://{url}") for url in ("h/x", "h/y", "h/x?a=1", "me@h/x", "h:9/x")}
    assert len(names) == 5 and spool_name("http://h/") == spool_name("http://h")
    assert spool_name(f"http://[::1]:80/{'x' * 500}").startswith("1-80-")


def test_webhooks_are_http(tmp_path):
    with pytest.raises(UserError, match="webhooks are http or https"):
        Webhook("ftp://u:pw@x", tmp_path)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://[::1/hidden", "http://[::1: the host or port"),
        ("http://me:hidden@h:abc/x", "http://h:abc: the host or port"),
        ("http://hooks..example.org/hidden", "http://hooks..example.org: the host or port"),
        (f"http://{'a' * 64}.org/hidden", "the host or port"),
        ("http:///hidden", "names no host"),
        ("http://h/hidd\u00e4n", "http://h: the webhook has spaces or letters"),
        ("http://h/hid den", "http://h: the webhook has spaces or letters"),
        ("http://h/x?hidden=\u00e4", "http://h: the webhook has spaces or letters"),
    ],
)
def test_webhooks_that_nothing_can_be_sent_to_are_found_out_at_once(tmp_path, url, says):
    with pytest.raises(UserError, match="webhook") as raised:
        Webhook(url, tmp_path / "spool")
    assert says in str(raised.value) and "hid" not in str(raised.value)
    assert not (tmp_path / "spool").exists()


def _until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
