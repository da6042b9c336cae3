from __future__ import annotations

import errno
import os

import pytest

from vision_heads.cli import models
from vision_heads.errors import UserError, explain_no_room, missing_package
from vision_heads.runtime import engines


def test_what_an_import_lacks_is_named():
    assert missing_package(ImportError("No module named 'torch'", name="torch")) == "torch"
    assert (
        missing_package(ImportError("libcudnn.so.9: cannot open")) == "libcudnn.so.9: cannot open"
    )


@pytest.mark.parametrize("name", ["vision_heads", "vision_heads.network"])
@pytest.mark.parametrize("where", [models, engines])
def test_a_fault_of_ours_is_not_told_to_be_installed(tmp_path, monkeypatch, where, name):
    (tmp_path / "m.safetensors").write_bytes(b"")

    def run():
        if where is models:
            models.torch_module("vision_heads.network")
        else:
            engines.open_engine(tmp_path / "m.safetensors")

    def fail(module):
        raise ImportError("cannot import name 'x'", name=name)

    monkeypatch.setattr(where, "import_module", fail)
    with pytest.raises(ImportError, match="cannot import name 'x'"):
        run()


@pytest.mark.parametrize("where", [models, engines])
def test_an_import_error_without_a_name_is_a_packages(tmp_path, monkeypatch, where):
    (tmp_path / "m.safetensors").write_bytes(b"")

    def fail(module):
        raise ImportError("libcudnn.so.9: cannot open shared object file")

    monkeypatch.setattr(where, "import_module", fail)
    with pytest.raises(UserError, match=r"needs libcudnn\.so\.9: cannot open .*: pip install"):
        if where is models:
            models.torch_module("vision_heads.network")
        else:
            engines.open_engine(tmp_path / "m.safetensors")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_file_that_may_not_grow_is_no_fault_of_ours(number):
    """EFBIG: beyond 4 GiB on FAT32, or beyond `ulimit -f`."""
    told = pytest.raises(UserError, match=r"runs/a: cannot be written \(.*\); make room")
    with told, explain_no_room("runs/a", "; make room"):
        raise OSError(number, os.strerror(number))
