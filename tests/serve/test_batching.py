"""Requests share calls of the network: counted, not timed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.runtime.tiny_onnx import write_model
from tests.serve.conftest import CountingEngine, jpeg, red_square, until
from vision_heads.heads.base import DecodeOptions
from vision_heads.runtime.engines import OnnxEngine
from vision_heads.runtime.predictor import Predictor
from vision_heads.runtime.request import make_request
from vision_heads.serve.batching import Batcher


@pytest.fixture
def batcher(engine):
    batcher = Batcher(engine, largest=4)
    batcher.start()
    yield batcher
    engine.gate.set()
    batcher.close()


def hold(engine):
    engine.gate.clear()
    engine.entered.clear()


def test_what_gathers_during_a_call_shares_the_next_ones(engine, batcher):
    request = make_request(engine, DecodeOptions(conf=0.6))
    hold(engine)
    first = batcher.submit(red_square(0), request)
    assert engine.entered.wait(10)
    rest = [batcher.submit(red_square(8 * n), request) for n in range(1, 10)]
    assert engine.calls == [1]
    engine.gate.set()
    found = [job.result(20)["aerial"].xyxy[0, 0] for job in (first, *rest)]
    assert engine.calls == [1, 4, 4, 1]
    assert found == [8.0 * n for n in range(10)], "each picture has its own result"


def test_a_single_picture_waits_for_nobody(engine, batcher):
    request = make_request(engine, DecodeOptions())
    assert len(batcher.submit(red_square(), request).result(20)) == 1
    assert engine.calls == [1]


def test_results_are_those_of_the_predictor(engine, batcher):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (90 + 10 * n, 140, 3), np.uint8) for n in range(4)]
    request = make_request(engine, DecodeOptions(conf=0.01))
    hold(engine)
    jobs = [batcher.submit(image, request) for image in images]
    engine.gate.set()
    predictor = Predictor(engine.inner)
    for image, job in zip(images, jobs, strict=True):
        wanted = predictor(image, conf=0.01)
        assert job.result(20).to_dict() == wanted.to_dict()
        assert len(wanted) > 0


def test_only_pictures_for_the_same_heads_share_a_call_but_thresholds_may_differ(tmp_path):
    write_model(tmp_path / "two.onnx", batch=None, heads=("a", "b"))
    engine = CountingEngine(OnnxEngine(tmp_path / "two.onnx", threads=1))
    batcher = Batcher(engine, largest=8)
    batcher.start()
    both = make_request(engine, DecodeOptions(conf=0.5))
    strict = make_request(engine, DecodeOptions(conf=0.5, max_det=1))
    one = make_request(engine, DecodeOptions(conf=0.5), heads=["b"])
    image = red_square()
    image[64:80, 64:80, 1] = 255  # a green one too
    hold(engine)
    try:
        first = batcher.submit(image, both)
        assert engine.entered.wait(10)
        jobs = [batcher.submit(image, request) for request in (both, one, strict, one)]
        engine.gate.set()
        results = [job.result(20) for job in (first, *jobs)]
        assert engine.calls == [1, 2, 2]
        assert [list(result.heads) for result in results] == [
            ["a", "b"],
            ["a", "b"],
            ["b"],
            ["a", "b"],
            ["b"],
        ]
        assert [len(result["b"]) for result in results] == [2, 2, 2, 1, 2]
    finally:
        engine.gate.set()
        batcher.close()


def test_a_file_made_for_a_batch_decides(tmp_path):
    write_model(tmp_path / "three.onnx", batch=3)
    batcher = Batcher(OnnxEngine(tmp_path / "three.onnx", threads=1), largest=8)
    assert batcher.largest == 3
    batcher.close()


def test_who_gives_up_costs_no_call(engine, batcher):
    request = make_request(engine, DecodeOptions())
    hold(engine)
    first = batcher.submit(red_square(), request)
    assert engine.entered.wait(10)
    gone = batcher.submit(red_square(), request)
    assert gone.cancel()
    engine.gate.set()
    first.result(20)
    assert len(batcher.submit(red_square(), request).result(20)) == 1
    assert engine.calls == [1, 1]


def test_a_fault_of_the_engine_reaches_everybody_and_ends_nothing(engine, batcher, monkeypatch):
    request = make_request(engine, DecodeOptions())
    good = engine.inner.run

    def broken(images, heads=None):
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(engine.inner, "run", broken)
    hold(engine)
    jobs = [batcher.submit(red_square(), request) for _ in range(3)]
    engine.gate.set()
    for job in jobs:
        with pytest.raises(ZeroDivisionError):
            job.result(20)
    monkeypatch.setattr(engine.inner, "run", good)
    assert len(batcher.submit(red_square(), request).result(20)) == 1


def test_closing_drops_what_waits(engine):
    batcher = Batcher(engine)
    batcher.start()
    request = make_request(engine, DecodeOptions())
    hold(engine)
    first = batcher.submit(red_square(), request)
    assert engine.entered.wait(10)
    waiting = batcher.submit(red_square(), request)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    until(waiting.cancelled, "what waits is not dropped")
    engine.gate.set()
    closing.join(10)
    assert len(first.result(1)) == 1
    with pytest.raises(RuntimeError):
        batcher.submit(red_square(), request)


def test_concurrent_requests_over_http_share_calls(engine, client_of):
    client = client_of()
    desk = client.app.state.desk
    engine.gate.clear()

    def ask(_):
        return client.post("/v1/detect", files={"image": ("x.jpg", jpeg(red_square()))})

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, 0)
        assert engine.entered.wait(10)
        rest = [pool.submit(ask, n) for n in range(7)]
        until(lambda: desk.inside == 8 and desk.waiting == 7, "requests do not arrive")
        engine.gate.set()
        answers = [job.result(30) for job in (first, *rest)]
    assert [answer.status_code for answer in answers] == [200] * 8
    assert engine.calls == [1, 7], "eight requests, two calls of the network"
    assert "vh_batch_pictures_count 2" in client.get("/metrics").text
