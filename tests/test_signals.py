"""Signals that ask for the end."""

from __future__ import annotations

import signal

import pytest

from vision_heads.signals import as_interrupts, collected

if not hasattr(signal, "SIGHUP"):
    pytest.skip("this system has no SIGHUP", allow_module_level=True)


@pytest.fixture
def hangups():
    """What the tests' own handler of SIGHUP got: without one it would end them all."""
    got = []
    before = signal.signal(signal.SIGHUP, lambda *_: got.append(1))
    yield got
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_second_signal_ends_at_once_whichever_it_is(first, hangups):
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with collected() as received:
        signal.raise_signal(first)
        assert received == [first]
        after = [signal.getsignal(number) for number in numbers]
        # A closed terminal sends more than one.
        assert after == [signal.SIG_DFL, signal.SIG_DFL, signal.SIG_IGN]
    assert [signal.getsignal(number) for number in numbers] == before and not hangups


def test_nohup_keeps_a_run_alive(hangups):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with collected() as received:
        signal.raise_signal(signal.SIGHUP)
        assert not received and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_files_are_finished_whatever_asks_for_the_end(number, hangups):
    before = signal.getsignal(number)
    finished = []
    with pytest.raises(KeyboardInterrupt), as_interrupts():
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGHUP)  # the shell's, behind the system's
            finished.append(number)
    assert finished and signal.getsignal(number) == before and not hangups


def test_nohup_is_no_interrupt(hangups):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with as_interrupts():
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
