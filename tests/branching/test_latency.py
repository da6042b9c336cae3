"""Milliseconds of a network and of its stages: measured alike, so that they add up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vision_heads.runtime.waiting import wait_setting
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec

onnxruntime = pytest.importorskip("onnxruntime")
latency = pytest.importorskip("vision_heads.branching.latency")

SPEC = ModelSpec(
    heads=(HeadSpec(name="a", classes=("x",), levels=(3, 4)),),
    input=InputSpec(height=32, width=32),
)


def test_the_whole_is_timed_on_the_processor_as_the_stages_are(monkeypatch):
    opened = []

    def engine(_file, **options):
        opened.append(options)
        return SimpleNamespace(run=lambda images: None)

    monkeypatch.setattr(latency, "OnnxEngine", engine)
    monkeypatch.setattr(latency, "export_onnx", lambda network, file: None)
    monkeypatch.setattr(latency, "_median", lambda run: 1.0)
    latency.time_model(SPEC, threads=3)
    assert opened == [{"threads": 3, "provider": "cpu"}]


def test_threads_of_a_stage_wait_as_those_of_the_whole(monkeypatch):
    key, value = wait_setting(onnxruntime.__version__)
    found = []

    def session(_graph, options, providers):
        found.append((options.get_session_config_entry(key), options.intra_op_num_threads))
        assert providers == ["CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(latency, "_traced", lambda *arguments: b"")
    monkeypatch.setattr(latency, "_median", lambda run: 1.0)
    assert list(latency.time_stages(SPEC, 2)) == ["down_p4", "down_p3", "up_p4"]
    assert found == [(value, 2)] * 3
