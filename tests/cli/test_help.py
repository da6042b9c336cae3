"""Help that is complete, exit codes that mean what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.text import Text

from vision_heads.cli.main import COMMANDS, HELP, app
from vision_heads.runtime.providers import NAMES
from vision_heads.version import __version__

ROOT = Path(__file__).resolve().parents[2]


def _commands() -> dict[str, object]:
    """Return every command that does something, by the words that call it."""
    found, waiting = {}, [("vh", typer.main.get_command(app))]
    while waiting:
        words, command = waiting.pop()
        if hasattr(command, "commands"):
            waiting += [(f"{words} {name}", inner) for name, inner in command.commands.items()]
        else:
            found[words] = command
    return found


def vh(*words: str, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vision_heads", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **more},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_command_is_there():
    assert {words.split()[1] for words in _commands()} == set(COMMANDS)


@pytest.mark.parametrize("words", sorted(_commands()))
def test_help_has_a_summary_an_example_and_every_option(words):
    command = _commands()[words]
    text = command.help or ""
    assert text.strip().splitlines()[0].strip().endswith((".", ",", ")")) or len(text) > 80
    assert "xample" in text, f"{words} has no example"
    assert f"{words} " in text or f"{words}\n" in text, f"the examples of {words} do not call it"
    for one in (text, *(parameter.help for parameter in command.params)):
        assert one, f"{words}: a parameter has no help"
        meant = re.sub(r"\[/?(b|bold)\]", "", one).replace("\\[", "[")
        assert Text.from_markup(one).plain == meant, f"{words}: rich takes brackets for its markup"


def test_exit_code_1_is_not_only_a_fault_of_ours(repository):
    """The gate of `vh export` and `vh doctor` end with it, as their pages say."""
    for text in (HELP, (repository / "README.md").read_text()):
        codes = " ".join(text[text.index("Exit codes:") :].split("\n\n")[0].split())
        assert "vh export" in codes and "vh doctor" in codes


def test_help_names_every_provider():
    (provider,) = (
        one for one in _commands()["vh detect"].params if "--provider" in getattr(one, "opts", ())
    )
    assert set(NAMES) <= set(re.findall(r"\w+", provider.help))


def test_version_and_help_exit_with_0():
    assert vh("--version").stdout.strip() == f"vision_heads {__version__}"
    shown = vh("--help")
    assert shown.returncode == 0
    for name in COMMANDS:
        assert f" {name} " in shown.stdout
        assert vh(name, "--help").returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ("nothing",),
        ("info",),
        ("info", "none.onnx"),
        ("info", "--size", "x"),
        ("export", "none.safetensors"),
        ("detect", "none.jpg", "--weights", "none.onnx"),
        ("detect", "--conf", "2"),
        ("eval", "none.onnx", "--data", "none.yaml"),
        ("train", "none.yaml"),
        ("data", "check", "none.yaml"),
        ("heads", "list", "none.onnx"),
    ],
    ids=" ".join,
)
def test_a_mistake_of_the_user_is_2_and_no_traceback(words):
    done = vh(*words)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_output_that_cannot_be_written_is_a_line():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vision_heads", "info", "aerial-n.onnx"],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "vh: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left", "m.onnx"), "m.onnx: cannot be written (No space left)"),
        (OSError(30, "Read-only", "m.onnx"), "m.onnx: cannot be written (Read-only)"),
    ],
)
def test_a_disk_that_cannot_be_written_is_no_fault_of_ours(monkeypatch, error, message):
    from importlib import import_module

    from vision_heads.errors import UserError

    module = import_module("vision_heads.cli.main")

    def fail():
        raise error

    monkeypatch.setattr(module, "app", fail)
    with pytest.raises(UserError) as caught:
        module._run()
    assert str(caught.value) == message


def test_a_mistake_stays_on_one_line_whatever_a_file_is_called(monkeypatch, capsys):
    from importlib import import_module

    from vision_heads.errors import UserError

    module = import_module("vision_heads.cli.main")

    def fail():
        raise UserError("a\nb.jpg: no such file")

    monkeypatch.setattr(module, "app", fail)
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 2
    assert capsys.readouterr().err == "vh: a\\nb.jpg: no such file\n"


def test_a_fault_of_ours_is_1(tmp_path):
    """A command that breaks inside must not look like the user's mistake."""
    (tmp_path / "sitecustomize.py").write_text(
        "import vision_heads.runtime.engines as engines\n"
        "def broken(path):\n    raise ZeroDivisionError('a fault')\n"
        "engines.resolve_weights = broken\n"
    )
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    done = vh("info", "anything.onnx", PYTHONPATH=path)
    assert done.returncode == 1, done.stderr
    assert "a fault" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--head", "a=detect:demo"),
        ("info", "--size", "n"),
        ("export", "m.safetensors"),
        ("info", "m.safetensors"),
        ("detect", "--weights", "m.safetensors"),
        ("eval", "m.safetensors", "--data", "demo"),
        ("heads", "drop", "m.safetensors", "a", "--out", "o.safetensors"),
        ("heads", "add", "m.safetensors", "--head", "a=detect:demo"),
    ],
    ids=" ".join,
)
def test_without_torch_a_command_says_what_to_install(words, tmp_path):
    blocked = ("torch", "ultralytics", "safetensors", "albumentations", "faster_coco_eval")
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nfor name in {blocked}:\n    sys.modules[name] = None\n"
    )
    (tmp_path / "m.safetensors").write_bytes(b"never read")
    done = vh(*words, cwd=tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 2, done.stderr
    assert 'pip install "vision-heads[train]"' in done.stderr
    assert "Traceback" not in done.stderr
