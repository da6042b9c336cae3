"""The Python in the documentation, run as it stands, with a tiny network as aerial-n."""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import cv2
import pytest

from tests.runtime.tiny_onnx import picture, write_model
from vision_heads.runtime import engines

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("page", "said"), [("python-api.md", ("red 0.9", ", yaw ")), ("slicing.md", ("1\n",))]
)
def test_the_examples_of_a_page_run(tmp_path, monkeypatch, capsys, page, said):
    (tmp_path / "weights").mkdir()
    write_model(tmp_path / "weights" / "aerial-n.onnx")
    shutil.copy(ROOT / "weights" / "headpose-n.onnx", tmp_path / "weights")
    shutil.copy(ROOT / "datasets/demo-heads/images/02_four.jpg", tmp_path / "class.jpg")
    monkeypatch.setattr(engines, "assets", lambda kind: tmp_path / kind)
    (tmp_path / "flight").mkdir()
    image = picture(128, 128, {"red": [(8, 8, 16)]})
    for name in ("street.jpg", "huge.jpg", "flight/a.jpg", "flight/b.jpg"):
        cv2.imwrite(str(tmp_path / name), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        lines = block.splitlines()
        if find_spec("supervision") is None:  # optional; the other lines need it not
            lines = [line for line in lines if "to_supervision" not in line]
        exec("\n".join(lines), names)
    out = capsys.readouterr().out
    assert all(words in out for words in said)
