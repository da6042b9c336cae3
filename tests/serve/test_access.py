"""Tokens and sessions."""

from __future__ import annotations

import pytest

from vision_heads.errors import UserError
from vision_heads.serve import access as module
from vision_heads.serve.access import Access

TOKEN = "correct-horse-battery"


def test_without_a_token_everybody_may():
    access = Access()
    assert access.open and access.admits("", "")
    assert not access.knows("") and not access.knows("None")


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "sixteen chars and spaces", "ü" * 20])
def test_tokens_that_are_none(token):
    with pytest.raises(UserError, match="token"):
        Access(token)


@pytest.mark.parametrize(
    ("header", "admitted"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN} ", True),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN[:-1]}", False),
        ("Bearer", False),
        (TOKEN, False),
        (f"Basic {TOKEN}", False),
        ("Bearer \udcff\udcff", False),
        ("", False),
    ],
)
def test_the_header(header, admitted):
    assert Access(TOKEN).admits(header, "") is admitted


def test_tokens_are_compared_in_constant_time(monkeypatch):
    seen = []
    monkeypatch.setattr(module.hmac, "compare_digest", lambda a, b: seen.append((a, b)) or a == b)
    assert Access(TOKEN).admits(f"Bearer {TOKEN}", "")
    assert seen == [(TOKEN.encode(), TOKEN.encode())]


def test_a_session_lasts_until_it_is_ended_or_over():
    now = [0.0]
    access = Access(TOKEN, clock=lambda: now[0])
    first, second = access.begin(), access.begin()
    assert first != second and len(first) >= 32
    assert access.admits("", first) and access.admits("", second)
    access.end(first)
    assert not access.admits("", first) and access.admits("", second)
    now[0] = module.SESSION_SECONDS + 1
    assert not access.admits("", second)
    assert not access.admits("", "") and not access.admits("", "invented")


def test_sessions_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(module, "MAX_SESSIONS", 3)
    access = Access(TOKEN)
    numbers = [access.begin() for _ in range(5)]
    assert [access.has(number) for number in numbers] == [False, False, True, True, True]
