"""`vh doctor`: exit codes, and the JSON beside what is shown."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from vision_heads.cli.main import app
from vision_heads.doctor import examine, machine
from vision_heads.doctor.lines import broken, ok, warning
from vision_heads.errors import UserError


def fine(system):
    yield ok("first", "as it should be [not markup]")
    yield warning("second", "could be better", "do this")


def worse(system):
    yield broken("third", "does not work", "run that")


@pytest.fixture
def checks(monkeypatch):
    def choose(*groups):
        monkeypatch.setattr(examine, "GROUPS", groups)

    return choose


def run(*words: str):
    return CliRunner().invoke(app, ["doctor", *words], catch_exceptions=False)


def test_nothing_broken_is_0_and_every_line_is_shown(checks):
    checks(("one", (fine,)), ("two", (machine.python,)))
    done = run()
    assert done.exit_code == 0
    for words in ("one\n", "as it should be [not markup]", "mend: do this", "two\n", "python: "):
        assert words in done.stdout
    assert "2 ok, 1 warnings, 0 broken" in done.stdout


def test_something_broken_is_1_and_the_file_is_written(checks, tmp_path):
    checks(("one", (fine, worse)))
    done = run("--json", str(tmp_path / "report.json"))
    assert done.exit_code == 1 and "mend: run that" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"] == {"ok": 1, "warning": 1, "broken": 1} and not report["sound"]
    assert report["lines"][2] == {
        "check": "third",
        "status": "broken",
        "found": "does not work",
        "mend": "run that",
        "group": "one",
    }


def test_a_dash_prints_json_and_nothing_else(checks):
    checks(("one", (fine,)))
    done = run("--json", "-")
    assert done.exit_code == 0 and json.loads(done.stdout)["sound"] is True


def test_a_file_that_cannot_be_written_is_the_users_mistake(checks, tmp_path):
    looked = []
    checks(("one", (lambda system: looked.append(1) or [],)))
    with pytest.raises(UserError, match=r"--json .*none/report.json: No such file"):
        run("--json", str(tmp_path / "none" / "report.json"))
    assert not looked  # before the work, not after it
