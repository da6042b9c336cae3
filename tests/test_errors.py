from __future__ import annotations

import pytest

from vision_heads.cli import models
from vision_heads.errors import UserError, missing_package
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
