"""The Triton client on ONNX Runtime, which stands in for the server and checks what it is sent."""

from __future__ import annotations

import json
import re
import threading

import numpy as np
import onnxruntime
import pytest

from tests.deploy.scripts import load
from tests.runtime.tiny_onnx import picture, write_model
from vision_heads.errors import UserError
from vision_heads.export.triton import write_repository
from vision_heads.runtime.engines import OnnxEngine
from vision_heads.runtime.predictor import Predictor
from vision_heads.runtime.slicing import Slicing
from vision_heads.spec import METADATA_KEY

triton = load("triton/triton_engine.py")


class Server:
    """What a Triton server does with a model repository, as far as one client can tell."""

    def __init__(self, model, max_batch=0):
        self.text = (model / "config.pbtxt").read_text()
        self.session = onnxruntime.InferenceSession(str(model / "1" / "model.onnx"))
        self.most = max_batch
        self.calls: list[tuple[list[int], list[str]]] = []
        self.connections: list[int] = []

    def connect(self):
        self.connections.append(threading.get_ident())
        return self

    def configuration(self):
        (value,) = re.findall(r'string_value: "(.*)" }\n', self.text)
        entry = self.session.get_inputs()[0]
        dims = [side if isinstance(side, int) else -1 for side in entry.shape]
        return {
            "name": "tiny",
            "max_batch_size": self.most,
            "input": [{"name": entry.name, "dims": dims[1:] if self.most else dims}],
            "parameters": {METADATA_KEY: {"string_value": value.replace('\\"', '"')}},
        }

    def infer(self, inputs, outputs):
        ((_, array),) = inputs.items()
        assert not self.most or len(array) <= self.most
        assert array.dtype == np.float32
        self.calls.append((list(array.shape), list(outputs)))
        return dict(zip(outputs, self.session.run(list(outputs), dict(inputs)), strict=True))


def served(tmp_path, *, batch=1, max_batch=0, heads=("aerial",)):
    write_model(tmp_path / "tiny.onnx", batch=batch, heads=heads)
    model = write_repository(tmp_path / "tiny.onnx", tmp_path / "models", max_batch=max_batch)
    return Server(model, max_batch), tmp_path / "tiny.onnx"


def same(found, expected):
    assert found.to_dict() == expected.to_dict()
    assert len(found) > 0


def test_the_shipped_model_gives_what_the_file_itself_gives(repository, tmp_path):
    model = write_repository(repository / "weights" / "aerial-n.onnx", tmp_path)
    server = Server(model)
    street = repository / "datasets" / "demo" / "images" / "01_crossing_tilted.jpg"
    same(
        Predictor(triton.TritonEngine(server.connect))(street, conf=0.2),
        Predictor(OnnxEngine(repository / "weights" / "aerial-n.onnx"))(street, conf=0.2),
    )
    assert server.calls == [([1, 3, 640, 640], ["aerial/boxes", "aerial/scores"])]


@pytest.mark.parametrize(
    ("batch", "max_batch", "sizes"), [(4, 0, [4, 4, 4]), (None, 0, [5, 1]), (None, 3, [3, 2, 1])]
)
def test_batches_are_cut_and_filled_as_the_server_wants_them(tmp_path, batch, max_batch, sizes):
    server, file = served(tmp_path, batch=batch, max_batch=max_batch)
    images = np.random.default_rng(0).random((6, 3, 128, 128), np.float32)
    engine, local = triton.TritonEngine(server.connect), OnnxEngine(file)
    for part in (images[:5], images[5:]):
        found, expected = engine.run(part), local.run(part)
        assert found.keys() == expected.keys()
        for name, values in found.items():
            np.testing.assert_array_equal(values, expected[name], err_msg=name)
    assert [shape[0] for shape, _ in server.calls] == sizes


def test_slicing_and_some_of_the_heads_work_as_with_a_file(tmp_path):
    server, file = served(tmp_path, batch=None, max_batch=2, heads=("near", "far"))
    image = picture(400, 300, {"red": [(32, 48, 16)], "blue": [(320, 240, 16)]})
    given = {"heads": ["far"], "slicing": Slicing(size=128), "batch": 2}
    same(
        Predictor(triton.TritonEngine(server.connect))(image, **given),
        Predictor(OnnxEngine(file))(image, **given),
    )
    assert {tuple(names) for _, names in server.calls} == {("far/boxes", "far/scores")}


def test_each_thread_has_a_connection_of_its_own(tmp_path):
    server, _ = served(tmp_path)
    predictor = Predictor(triton.TritonEngine(server.connect))
    image = picture(128, 128, {"green": [(16, 16, 16)]})
    results = list(predictor.stream([image] * 6, parallel=2))
    assert all(len(result) == 1 for result in results)
    assert len(server.connections) == len(set(server.connections)) > 1


def test_a_model_of_somebody_elses_is_refused(tmp_path):
    server, _ = served(tmp_path)
    server.configuration = lambda: {"name": "other", "input": [{"name": "x", "dims": [1, 3, 8, 8]}]}
    with pytest.raises(UserError, match="other: its configuration has no 'vision_heads'"):
        triton.TritonEngine(server.connect)


def test_a_missing_client_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tritonclient", None)
    with pytest.raises(UserError, match=r'pip install "tritonclient\[http\]"'):
        triton.HttpClient("localhost:1", "m")


def test_the_stand_in_says_what_the_repository_says(tmp_path):
    server, _ = served(tmp_path)
    text = server.configuration()["parameters"][METADATA_KEY]["string_value"]
    assert json.loads(text)["heads"][0]["name"] == "aerial"
