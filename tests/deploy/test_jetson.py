"""What a Jetson is set up with: unit, container, cameras and the build of engines.

None of it runs on a Jetson here. The unit is checked by systemd where that is, the rest against
the repository.
"""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.deploy.scripts import DEPLOY
from tests.test_docs import _unknown
from vision_heads.cli.main import app
from vision_heads.errors import UserError
from vision_heads.media.video import find_videos
from vision_heads.media.video_gstreamer import pipeline_of

FOLDER = DEPLOY / "jetson"


@pytest.fixture(scope="module")
def unit():
    text = (FOLDER / "vision-heads.service").read_text().replace("\\\n", " ")
    parser = configparser.RawConfigParser(strict=True, delimiters=("=",))
    parser.optionxform = str
    parser.read_string(text)
    return parser


def test_the_unit_runs_a_command_that_exists(unit):
    words = shlex.split(unit["Service"]["ExecStart"])
    assert words[0] == "/opt/vision-heads/bin/vh" and words[1] == "stream"
    assert not _unknown(["vh", *words[1:]]), _unknown(["vh", *words[1:]])
    # What is written lies where the service may write.
    state = f"/var/lib/{unit['Service']['StateDirectory']}/"
    written = [words[words.index(f"--{name}") + 1] for name in ("jsonl", "events", "stats")]
    assert all(path.startswith(state) for path in written)
    assert words[2].startswith(f"/etc/{unit['Service']['ConfigurationDirectory']}/")
    # Of the virtual environment only the program is there: pip installs no pages.
    assert "/opt/vision-heads" not in unit["Unit"].get("Documentation", "")
    # The socket that CSI cameras come through is in /tmp.
    assert unit["Service"]["PrivateTmp"] == "false"
    assert unit["Service"]["Restart"] == "always" and "--append" in words


def test_systemd_accepts_the_unit(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze here: the unit was only parsed")
    text = (FOLDER / "vision-heads.service").read_text()
    copy = tmp_path / "vision-heads.service"
    # The program that a device has at this place is not here.
    copy.write_text(text.replace("/opt/vision-heads/bin/vh", sys.executable))
    done = subprocess.run([program, "verify", copy], capture_output=True, text=True, check=False)
    if "Failed to initialize manager" in done.stderr:
        pytest.skip(f"systemd-analyze does not work here: {done.stderr.strip()}")
    assert done.returncode == 0 and "vision-heads.service:" not in done.stderr, done.stderr
    copy.write_text(copy.read_text().replace("Restart=always", "Restrat=always"))
    done = subprocess.run([program, "verify", copy], capture_output=True, text=True, check=False)
    assert "Restrat" in done.stderr  # else the check above would be about nothing


def test_the_cameras_of_the_example_are_sources():
    front, gate = find_videos([str(FOLDER / "cameras.txt")])
    assert (front.name, front.kind) == ("front", "gstreamer")
    assert pipeline_of(front.where)[0] == "nvarguscamerasrc"
    assert front.shown == "nvarguscamerasrc ! video/x-raw(memory:NVMM) ! nvvidconv ! video/x-raw"
    assert (gate.name, gate.kind, gate.shown) == ("gate", "network", "rtsp://***@10.0.0.5:554/live")


def steps():
    """Return the Dockerfile's instructions as (name, text)."""
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    joined = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def test_the_image_is_made_of_what_is_here(repository):
    toml = pytest.importorskip("tomllib")  # Python 3.11 and later
    found = steps()
    assert [name for name, _ in found][:2] == ["ARG", "FROM"]
    assert {name for name, _ in found} <= {
        "ARG", "FROM", "RUN", "ENV", "COPY", "USER", "WORKDIR", "ENTRYPOINT", "CMD"
    }  # fmt: skip
    allowed = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [word for name, text in found if name == "COPY" for word in text.split()[:-1]]
    assert len(copied) == 6
    for path in copied:
        assert (repository / path).exists()
        assert f"!{path}" in allowed, f"{path} is not in the build's context"
    needed = toml.loads((repository / "pyproject.toml").read_text())
    for path in [needed["project"]["readme"], *needed["project"]["license-files"]]:
        assert path in copied
    assert set(needed["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]) <= set(copied)
    (install,) = [text for name, text in found if name == "RUN" and "pip install" in text]
    extras = re.search(r"/src\[([\w,]+)\]", install).group(1).split(",")
    assert set(extras) <= set(needed["project"]["optional-dependencies"])
    assert dict(found)["USER"] == "vision-heads"  # not root
    assert dict(found)["ENTRYPOINT"] == '["vh"]'


def test_base_images_are_those_that_the_page_names(repository):
    bases = set(re.findall(r"nvcr\.io/[\w./-]+:[\w.-]+", (FOLDER / "Dockerfile").read_text()))
    page = (repository / "docs" / "jetson.md").read_text()
    assert bases == {"nvcr.io/nvidia/l4t-jetpack:r36.4.0", "nvcr.io/nvidia/tensorrt:25.08-py3"}
    assert all(base in page for base in bases)


def run(monkeypatch, *words):
    """Run `vh export` with a builder that only keeps what it is asked for."""
    asked = []

    def build(source, target, options, log):
        asked.append((source, target, options))
        raise UserError("enough")

    monkeypatch.setattr("vision_heads.export.tensorrt.build_engine", build)
    done = CliRunner().invoke(app, ["export", *words, "--format", "engine"])
    assert len(asked) == 1 and str(done.exception) == "enough", str(done.exception)
    return asked[0]


def test_an_engine_is_asked_for_as_the_page_says(monkeypatch, tmp_path, repository):
    model = str(repository / "weights" / "aerial-n.onnx")
    source, target, options = run(monkeypatch, model)
    assert (source, target) == (Path(model), Path(model).with_suffix(".engine"))
    assert options.precision == "fp16" and options.batch is None
    (tmp_path / "sub").mkdir()
    for name in ("b.jpg", "a.png", "sub/c.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    _, target, options = run(
        monkeypatch, model, "--precision", "int8", "--dla", "0",
        "--calib-data", str(tmp_path), "--output", "x.engine", "--workspace", "512",
    )  # fmt: skip
    assert target == Path("x.engine")
    assert (options.precision, options.dla, options.workspace_mib) == ("int8", 0, 512)
    assert sorted(path.name for path in options.pictures) == ["a.png", "b.jpg", "c.jpg"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("--threads", "2", "--max-drop", "0"),
            "--threads, --max-drop: not for an engine of m.onnx",
        ),
        (("--max-mae-rise", "1"), "--max-mae-rise: not for an engine of m.onnx"),
        (("--precision", "int8", "--calib-data", ".", "--calib-split", "val"), "has no splits"),
        (("--precision", "int8", "--calib-split", "val"), "--calib-split: of --calib-data, which"),
    ],
)
def test_what_a_build_has_no_use_for_is_refused(monkeypatch, tmp_path, words, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(AssertionError, match=says):  # it says so, and does not come to building
        run(monkeypatch, "m.onnx", *words)


def test_without_tensorrt_one_line_says_what_is_missing(repository):
    done = subprocess.run(
        [sys.executable, "-c", f"""
import sys
for name in ("torch", "tensorrt", "onnx"):
    sys.modules[name] = None
sys.argv = ["vh", "export", {str(repository / 'weights' / 'aerial-n.onnx')!r},
            "--format", "engine", "--output", "/nowhere/x.engine"]
from vision_heads.cli.main import main
main()
"""],
        env={"PYTHONPATH": str(repository), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("vh: ") and done.stderr.count("\n") == 1
