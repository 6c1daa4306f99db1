"""A Ctrl-C that a library swallows still ends the run at the next check."""

import contextlib
import os
import signal

import pytest

from data.interrupt import Interrupt


@pytest.fixture(autouse=True)
def heard():
    """Even where the tests themselves run under nohup, which ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_swallowed_interrupt_is_raised_again_at_the_next_check():
    with Interrupt() as interrupt:
        interrupt.check()
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_handler_that_was_there_comes_back(number):
    before = signal.getsignal(number)
    with Interrupt():
        assert signal.getsignal(number) != before
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_scheduler_or_a_closed_terminal_ends_a_run_as_ctrl_c_does(number):
    with Interrupt() as interrupt:
        signal.signal(number, signal.SIG_IGN)  # a library takes it for itself
        interrupt.listen()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_a_second_ctrl_c_does_not_disturb_the_end(monkeypatch):
    with Interrupt() as interrupt:
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.setattr("data.interrupt.PATIENCE_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()


def test_an_error_that_ctrl_c_caused_is_the_interruption():
    with pytest.raises(KeyboardInterrupt), Interrupt():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            raise RuntimeError("release unlocked lock")


def test_an_error_without_ctrl_c_stays_what_it_is():
    with pytest.raises(RuntimeError, match="mine"), Interrupt():
        raise RuntimeError("mine")


def test_a_run_under_nohup_outlives_its_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            interrupt.listen()
            os.kill(os.getpid(), signal.SIGHUP)
            interrupt.check()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
