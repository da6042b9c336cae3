"""What a user gets from `pip install`: the wheel's content, its metadata, its promises."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from vision_heads.version import __version__

ROOT = Path(__file__).resolve().parent.parent
CORE = {"numpy", "opencv-python", "onnxruntime", "pydantic", "pyyaml", "typer", "rich"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def _files(folder: str) -> set[str]:
    """Return the checkout's own files of a folder: what git tracks."""
    listed = subprocess.run(
        ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return {name for name in listed.stdout.split("\n") if name and (ROOT / name).is_file()}


@pytest.mark.parametrize("folder", ["datasets", "weights"])
def test_cards_and_weights_travel_in_the_wheel(wheel, folder):
    inside = set(wheel.namelist())
    files = _files(folder)
    assert files
    assert {f"vision_heads/_assets/{name}" for name in files} <= inside


def test_every_module_and_the_type_marker_travel(wheel):
    modules = {name for name in _files("vision_heads") if name.endswith((".py", "py.typed"))}
    assert "vision_heads/py.typed" in modules
    assert modules <= set(wheel.namelist())
    assert not [name for name in wheel.namelist() if name.startswith(("tests/", "tools/"))]


def test_the_page_of_the_service_travels(wheel):
    files = _files("vision_heads/serve/page")
    assert {"index.html", "main.js", "style.css"} <= {Path(name).name for name in files}
    assert files <= set(wheel.namelist())


def test_core_brings_no_torch_and_the_extras_are_the_two_promised(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(wheel.read(name).decode())
    required = metadata.get_all("Requires-Dist")
    core = {re.split(r"[<>=!~\s\[;]", line)[0] for line in required if "extra ==" not in line}
    assert {package.lower() for package in core} == CORE
    assert {"train", "dev"} <= set(metadata.get_all("Provides-Extra"))
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "AGPL-3.0-or-later"


def test_changelog_and_version_belong_together():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{__version__}]" in text or "## [Unreleased]" in text


def test_ci_script_is_sound_and_executable():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)
