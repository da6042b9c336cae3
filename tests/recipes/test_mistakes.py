"""What recipes say of files that are not there."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

RECIPES = Path(__file__).resolve().parents[2] / "tools/recipes"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("average_weights none.safetensors=1 --out out", "none.safetensors: no such file"),
        ("dense_crops out.npz --card none.yaml", "none.yaml: "),
        ("dense_heads none.yaml --crops none.npz --faces none.npz", "none.yaml: "),
    ],
)
def test_a_missing_file_is_one_line(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", words.split())
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(RECIPES / f"{words.split()[0]}.py"), run_name="__main__")
    told = capsys.readouterr().err
    assert ended.value.code == 2 and says in told and told.count("\n") == 1


def test_crops_that_are_none_are_named(tmp_path):
    import numpy as np

    from tools.recipes.dense_warp import Crops
    from vision_heads.errors import UserError

    (tmp_path / "text.npz").write_text("none")
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(UserError, match=r"none\.npz: No such file"):
        Crops.load([tmp_path / "none.npz"])
    for name in ("text.npz", "other.npz", "one.npy"):
        with pytest.raises(UserError, match=f"{name}: is no file of crops"):
            Crops.load([tmp_path / name])
