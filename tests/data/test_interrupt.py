"""A Ctrl-C that a library swallows still ends the run at the next check."""

import contextlib
import os
import signal

import pytest

from data.interrupt import Interrupt


def test_a_swallowed_interrupt_is_raised_again_at_the_next_check():
    with Interrupt() as interrupt:
        interrupt.check()
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()


def test_the_handler_that_was_there_comes_back():
    before = signal.getsignal(signal.SIGINT)
    with Interrupt():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_an_error_that_ctrl_c_caused_is_the_interruption():
    with pytest.raises(KeyboardInterrupt), Interrupt():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            raise RuntimeError("release unlocked lock")


def test_an_error_without_ctrl_c_stays_what_it_is():
    with pytest.raises(RuntimeError, match="mine"), Interrupt():
        raise RuntimeError("mine")
