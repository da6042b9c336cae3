"""OpenVINO's engine against ONNX Runtime's on the same file."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.tiny_onnx import write_model
from vision_heads.errors import UserError
from vision_heads.export.inspect import read_openvino
from vision_heads.runtime.engines import OnnxEngine, open_engine
from vision_heads.spec import ModelSpec

pytest.importorskip("openvino")
from vision_heads.export.openvino import write_openvino
from vision_heads.runtime.openvino_engine import OpenvinoEngine

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openvino")
    write_model(folder / "m.onnx", batch=2, heads=("near", "far"))
    write_openvino(folder / "m.onnx", folder / "m.xml", "float32")
    return folder


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((3, 3, 128, 128)).astype(np.float32)


def test_both_runtimes_agree_also_on_batches_that_do_not_divide(files, images):
    engine, other = open_engine(files / "m.xml", threads=1), OnnxEngine(files / "m.onnx")
    assert isinstance(engine, OpenvinoEngine)
    assert engine.spec == other.spec and engine.batch == 2 and not engine.any_size
    found, expected = engine.run(images), other.run(images)
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4)
        assert found[name].dtype == np.float32


def test_what_the_file_says_is_read_without_openvino_too(files):
    about = read_openvino(files / "m.xml")
    assert ModelSpec.from_json(about["spec"], "m.xml") == open_engine(files / "m.xml").spec
    assert about["precision"] == "float32"


def test_some_heads_are_computed_alone(files, images):
    engine = open_engine(files / "m.xml")
    found = engine.run(images, ["far"])
    assert {name.partition("/")[0] for name in found} == {"far"}
    np.testing.assert_array_equal(found["far/scores"], engine.run(images)["far/scores"])


def test_threads_do_not_disturb_each_other(files, images):
    engine = open_engine(files / "m.xml", threads=1)
    pictures = [np.full_like(images, level) for level in (0.2, 0.6, 0.9)]
    expected = [engine.run(picture)["near/scores"] for picture in pictures]
    wrong = []

    def work(number):
        for _ in range(20):
            if not np.array_equal(engine.run(pictures[number])["near/scores"], expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and not np.array_equal(expected[0], expected[2])


def test_it_computes_in_the_precision_of_the_file(files):
    precision, who = OpenvinoEngine(files / "m.xml").executed_precision()
    assert who == "OpenVINO (CPU)"
    assert {kind for row in precision.values() for kind in row} <= {"float32", "int8"}
    write_openvino(files / "m.onnx", files / "half.xml", "bfloat16")
    assert OpenvinoEngine(files / "half.xml").precision == "bfloat16"
    with pytest.raises(UserError, match="--precision int4"):
        write_openvino(files / "m.onnx", files / "x.xml", "int4")


def test_files_that_do_not_fit_are_named(files, tmp_path):
    with pytest.raises(UserError, match=r"none\.xml: no such file"):
        OpenvinoEngine(tmp_path / "none.xml")
    (tmp_path / "a.xml").write_text("<net/>")
    with pytest.raises(UserError, match=r"a\.xml: its weights a\.bin must lie beside it"):
        OpenvinoEngine(tmp_path / "a.xml")
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.xml: OpenVINO cannot read it"):
        OpenvinoEngine(tmp_path / "a.xml")
    from vision_heads._openvino import openvino

    package = openvino()
    plain = package.Core().read_model(str(files / "m.onnx"))
    package.save_model(plain, str(tmp_path / "plain.xml"))
    with pytest.raises(UserError, match="carries no model description"):
        OpenvinoEngine(tmp_path / "plain.xml")
    with pytest.raises(UserError, match="must end in"):
        write_openvino(files / "m.onnx", tmp_path / "m.onnx", "float32")


def test_openvino_tells_nobody(files, tmp_path):
    """Imported as it is, it writes an id into the home folder and calls Google Analytics."""
    code = f"""
import socket, sys
def refuse(*args, **kwargs):
    print("socket", args, flush=True)
    raise OSError("no")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from vision_heads.runtime.engines import open_engine
open_engine({str(files / "m.xml")!r})
import threading
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(5)
print(sorted(name for name in sys.modules if name.startswith("openvino_telemetry")))
"""
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
    assert not list(home.rglob("*"))
