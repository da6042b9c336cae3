"""What is printed where nobody reads it any more."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys

import pytest
import typer

from vision_heads.cli import messages, progress
from vision_heads.errors import UserError

TOO_LONG = OSError(errno.ENAMETOOLONG, "File name too long", "aaa.onnx")
main = importlib.import_module("vision_heads.cli.main")


@contextlib.contextmanager
def closed_terminals():
    """Put terminals that were closed in the place of stdout and stderr.

    No fixture: pytest puts its own files there again between a test's set-up and the test.
    """
    pty = pytest.importorskip("pty")
    before, opened = (sys.stdout, sys.stderr), []
    for _ in before:
        master, slave = pty.openpty()
        os.close(master)
        opened.append(os.fdopen(slave, "w"))
    sys.stdout, sys.stderr = opened
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for file in opened:  # what could not be written would be tried again
            os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
            file.close()


def test_a_closed_terminal_ends_nothing():
    with closed_terminals():
        with messages.printing():
            typer.echo("counts of a run")
        typer.echo("more")
        messages.say("a line")
        sys.stdout.flush()


def test_a_line_stays_one_and_commands_no_terminal(capsys):
    messages.say("answers \x1b[2J nonsense\nvh: done")
    assert capsys.readouterr().err == "vh: answers \\x1b[2J nonsense\\nvh: done\n"


def test_long_work_goes_on_without_its_terminal(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_A_LINE", 0.0)
    with closed_terminals(), progress.progress(2, "pictures") as step:
        step()
        messages.tell("a warning")
        step()


def test_other_errors_of_stdout_are_told():
    with pytest.raises(OSError, match="No space left"), messages.printing():
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "code"),
    [(UserError("a: gone"), 2), (MemoryError(), 2), (TOO_LONG, 2), (KeyboardInterrupt(), 130)],
)
def test_the_exit_code_does_not_depend_on_a_terminal(monkeypatch, error, code):
    def fail():
        raise error

    monkeypatch.setattr(main, "app", fail)
    with closed_terminals(), pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == code
