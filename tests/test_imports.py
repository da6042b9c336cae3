"""What importing does not do: bring in torch, open a socket, write a file, take long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vision_heads"

GUARD = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError(f"opened a socket: {args}")
socket.socket.connect = socket.socket.connect_ex = socket.socket.bind = refuse
socket.create_connection = socket.getaddrinfo = refuse
"""

WITHOUT_TORCH = """
blocked = ("torch", "torchvision", "ultralytics", "albumentations", "pycocotools",
           "faster_coco_eval", "accelerate", "safetensors", "tensorboard", "matplotlib", "onnx",
           "onnxslim", "supervision", "trackers", "PIL", "scipy", "pandas")
for name in blocked:
    sys.modules[name] = None
"""


def _core_modules() -> list[str]:
    """Every module that an install without torch must be able to import."""
    patterns = (
        "*.py",
        "geometry/*.py",
        "runtime/*.py",
        "media/*.py",
        "stream/*.py",
        "heads/*.py",
        "doctor/*.py",
        "benchmark/*.py",
        "heads/*/__init__.py",
        "heads/*/decode.py",
        "data/sample.py",
        "data/card.py",
        "data/check.py",
        "data/formats/*.py",
        "export/inspect.py",
        "export/nodes.py",
        "export/operators.py",
        "export/tensorrt/*.py",
        "cli/*.py",
    )
    needs_torch = {"network.py", "torch_engine.py", "_ultralytics.py"}
    files = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in files
        if path.name not in needs_torch and path.name != "__main__.py"
    }
    return sorted(names)


def _run(code: str, home: Path) -> str:
    """Run code in a fresh interpreter with an empty home; return what it prints."""
    home.mkdir(exist_ok=True)
    ours = ("XDG_", "YOLO", "ORT_", "CI")
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(ours)},
        "HOME": str(home),
        "USERPROFILE": str(home),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", GUARD + code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=home,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_the_core_imports_without_torch(tmp_path):
    modules = _core_modules()
    for expected in (
        "runtime.predictor",
        "media.draw",
        "heads.detect.decode",
        "cli.detect",
        "export.tensorrt.build",
    ):
        assert f"vision_heads.{expected}" in modules
    imports = "\n".join(f"import {name}" for name in modules)
    _run(WITHOUT_TORCH + imports, tmp_path / "home")
    assert _files(tmp_path / "home") == []


def test_a_model_runs_without_torch(tmp_path):
    """Importing is not enough: load, detect, slice, draw and write with only the core."""
    from tests.runtime.tiny_onnx import write_model

    write_model(tmp_path / "m.onnx")
    code = f"""
import numpy as np, vision_heads
from vision_heads.runtime.slicing import Slicing
predictor = vision_heads.load({str(tmp_path / "m.onnx")!r}, threads=1)
image = np.zeros((320, 416, 3), np.uint8)
image[40:56, 104:120, 2] = 255
result = predictor(image, slicing=Slicing(128, 0.25), conf=0.6)
print(result["aerial"].xyxy.tolist(), result.draw().shape)
"""
    printed = _run(WITHOUT_TORCH + code, tmp_path / "home")
    assert "[104.0, 40.0, 120.0, 56.0]" in printed and "(320, 416, 3)" in printed
    assert _files(tmp_path / "home") == []  # no telemetry of ONNX Runtime's either


def test_importing_the_package_brings_in_nothing_heavy(tmp_path):
    code = """
import vision_heads
heavy = {"numpy", "cv2", "onnxruntime", "pydantic", "typer", "rich", "yaml", "torch"}
print(sorted(heavy & set(sys.modules)))
assert vision_heads.__version__ and "load" in dir(vision_heads)
"""
    assert _run(code, tmp_path / "home").strip() == "[]"
    assert _files(tmp_path / "home") == []


def test_public_names_resolve_and_unknown_ones_do_not(tmp_path):
    code = """
import vision_heads
for name in vision_heads.__all__:
    assert getattr(vision_heads, name) is not None, name
try:
    vision_heads.nothing
except AttributeError as error:
    print(error)
"""
    assert "has no attribute 'nothing'" in _run(code, tmp_path / "home")


def test_help_brings_in_no_torch(tmp_path):
    code = """
import contextlib, io
from vision_heads.cli import main
sys.argv = ["vh", "detect", "--help"]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:
    main()
assert "--slice" in out.getvalue()
print(sorted({"torch", "ultralytics", "onnxruntime"} & set(sys.modules)))
"""
    assert _run(code, tmp_path / "home").strip() == "[]"


def test_what_we_use_of_ultralytics_is_silent_too(tmp_path):
    pytest.importorskip("ultralytics")
    _run("import vision_heads._ultralytics", tmp_path / "home")
    assert _files(tmp_path / "home") == []


def test_the_guard_sees_sockets(tmp_path):
    code = """
try:
    socket.create_connection(("127.0.0.1", 9))
except AssertionError as error:
    print(error)
"""
    assert "opened a socket" in _run(code, tmp_path / "home")
