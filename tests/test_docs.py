"""Every command in README.md and docs/ either runs as it stands or at least names real options."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?P<info>(?:bash|python)[^\n]*)\n(?P<code>.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\((?!https?://|#)(?P<target>[^)#\s]+)")
INSTALLS = ("pip install", "pip uninstall", "-m pytest")


@dataclass
class Block:
    language: str
    needs: list[str]
    code: str

    @property
    def installs(self) -> bool:
        """Left to .ci/run: a test must not change the environment it runs in."""
        return any(word in self.code for word in INSTALLS)

    @property
    def commands(self) -> list[list[str]]:
        joined = self.code.replace("\\\n", " ")
        lines = (line.strip() for line in joined.splitlines())
        return [shlex.split(line, comments=True) for line in lines if line and line[0] != "#"]


def blocks(page: Path) -> list[Block]:
    return [
        Block(info.split()[0], info.split()[1:], code)
        for info, code in BLOCK.findall(page.read_text(encoding="utf-8"))
    ]


def runnable(page: Path) -> list[Block]:
    found = [block for block in blocks(page) if not block.needs and not block.installs]
    # Python fragments of other pages lean on the text around them.
    return [b for b in found if b.language == "bash" or page.name in ("README.md", "export.md")]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment whose `vh` and `python` are this checkout's and this interpreter's."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, start in (("vh", f"{sys.executable} -m vision_heads"), ("python", sys.executable)):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {start} "$@"\n')
        program.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "COLUMNS": "200",
    }


@pytest.mark.parametrize("page", [p for p in PAGES if runnable(p)], ids=lambda page: page.name)
def test_commands_of_a_page_run_in_an_empty_folder(page, tmp_path, environment):
    folder = tmp_path / "empty"
    folder.mkdir()
    for block in runnable(page):
        program = ["bash", "-euo", "pipefail"] if block.language == "bash" else [sys.executable]
        done = subprocess.run(
            [*program, "-c", block.code],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{page.name}:\n{block.code}\n{done.stdout}\n{done.stderr}"


def test_first_set_up_detects_on_the_demo_set(tmp_path, environment):
    (first, *_) = [block for block in blocks(ROOT / "README.md") if block.installs]
    assert first.commands[-1] == ["vh", "detect"]
    done = subprocess.run(
        ["vh", "detect"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    drawn = list((tmp_path / "runs" / "detect").rglob("*.jpg"))
    assert len(drawn) == len(list((ROOT / "datasets/demo/images").iterdir()))


def _unknown(words: list[str]) -> str:
    """Return what is wrong with a command's words, "" if nothing; the command is not run."""
    if "vision_heads" in words:  # accelerate launch ... -m vision_heads train
        words = words[words.index("vision_heads") + 1 :]
    elif words[0] == "vh":
        words = words[1:]
    elif words[:2] == ["python", "-m"] and words[2].startswith("tools."):
        file = ROOT / (words[2].replace(".", "/") + ".py")
        options = [word.partition("=")[0] for word in words[3:] if word.startswith("--")]
        text = file.read_text() if file.is_file() else ""
        missing = [option for option in options if f'"{option}"' not in text]
        return f"no {file}" if not text else f"{missing} are not in it" if missing else ""
    else:
        return ""
    from vision_heads.cli.main import app

    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        if not words or words[0] not in command.commands:
            return f"no command {words[:1]}"
        command, words = command.commands[words[0]], words[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    known |= {option for parameter in command.params for option in parameter.secondary_opts}
    options = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    missing = [option for option in options if option not in known]
    return f"{command.name} has no {missing}" if missing else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_exists(page):
    for block in blocks(page):
        if block.language == "bash":
            for words in block.commands:
                assert not _unknown(words), f"{page.name}: {shlex.join(words)}: {_unknown(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_stay_in_their_folder(page):
    """What a run leaves in /tmp would meet the next one."""
    assert not [block.code for block in blocks(page) if "/tmp" in block.code]


def _options_of(*names: str) -> dict[str, object]:
    """Return the defaults of a command by its options."""
    from vision_heads.cli.main import app

    command = typer.main.get_command(app)
    for name in names:
        command = command.commands[name]
    return {option: one.default for one in command.params for option in one.opts}


def _defaults(page: str) -> dict[str, object]:
    """Return what the tables of defaults on a page are about, by name."""
    from vision_heads.data.augment import AugmentConfig
    from vision_heads.heads.detect.options import DetectOptions
    from vision_heads.heads.headpose.options import HeadPoseOptions
    from vision_heads.runtime.predictor import Predictor
    from vision_heads.runtime.slicing import Slicing

    settings = {
        "augmentation": AugmentConfig(),
        "train": DetectOptions(),
        "head-pose": HeadPoseOptions(),
    }
    if page in settings:
        return settings[page].model_dump()
    if page == "python-api":
        parameters = inspect.signature(Predictor.__call__).parameters
        return {name: one.default for name, one in parameters.items()}
    if page == "slicing":
        return {name: getattr(Slicing(), name) for name in Slicing.__slots__}
    words = {"detect": ["detect"], "tracking": ["stream"], "branches": ["branch", "search"]}
    return _options_of(*words[page])


@pytest.mark.parametrize(
    ("page", "count"),
    [
        ("augmentation", 18), ("train", 9), ("head-pose", 3), ("python-api", 3),
        ("detect", 4), ("slicing", 5), ("tracking", 2), ("branches", 5),
    ],
)  # fmt: skip
def test_the_defaults_in_tables_are_those_of_the_code(page, count):
    """Numbers and words in backticks; what a default depends on is said in words."""
    defaults, told, column = _defaults(page), 0, None
    for line in (ROOT / "docs" / f"{page}.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            column = None
        elif "default" in cells:
            column = cells.index("default")
        elif column is not None:
            names = re.findall(r"`(.+?)`", cells[0])
            assert set(names) <= set(defaults), f"{page}.md: {names}"
            values = cells[column].removesuffix(" each").replace("`", "").split(", ")
            values = values * len(names) if len(values) == 1 else values
            for name, value in zip(names, values, strict=False):
                if re.fullmatch(r"[\d.]+", value) or f"`{value}`" == cells[column]:
                    told += 1
                    same = str(defaults[name]) == value or defaults[name] == float(value)
                    assert same, f"{page}.md: {name} is {defaults[name]}"
    assert told >= count


def test_the_check_of_options_notices_what_is_wrong():
    assert _unknown(["vh", "nothing"])
    assert _unknown(["vh", "data", "nothing"])
    assert _unknown(["vh", "detect", "--nothing", "3"])
    assert _unknown(["python", "-m", "tools.bench.nothing"])
    assert _unknown(["python", "-m", "tools.bench.network", "--nothing"])
    assert not _unknown(["vh", "detect", "x.jpg", "--slice=640", "--conf", "0.3"])
    assert not _unknown(["accelerate", "launch", "-m", "vision_heads", "train", "--epochs", "1"])


def test_ci_uses_the_set_up_commands_of_the_readme():
    steps = (ROOT / ".ci" / "run").read_text().splitlines()
    set_up = [block for block in blocks(ROOT / "README.md") if block.installs]
    assert len(set_up) == 2
    wanted = [line for block in set_up for line in block.code.splitlines()]
    for line in wanted:
        assert line in steps or any(step.endswith(f"&& {line})") for step in steps), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_are_there(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_index_leads_to_every_page():
    index = (ROOT / "docs" / "index.md").read_text()
    linked = set(LINK.findall(index))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"} == linked
