import os
import signal

import pytest

from fruits_cli.signals import TerminalClosed, heard_again, held, termination_as_interrupt


def test_the_first_signal_raises_and_the_second_waits() -> None:
    with termination_as_interrupt():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

        assert heard_again()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_closed_terminal_is_told_apart() -> None:
    with termination_as_interrupt(), pytest.raises(TerminalClosed):
        os.kill(os.getpid(), signal.SIGHUP)


def test_a_signal_waits_until_the_request_has_ended() -> None:
    done = []

    def act() -> None:
        with held():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("act")

    with termination_as_interrupt(), pytest.raises(KeyboardInterrupt):
        act()

    assert done == ["act"]


def test_signals_are_held_outside_of_a_command_too() -> None:
    done = []

    def act() -> None:
        with held():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("act")

    with pytest.raises(KeyboardInterrupt):
        act()

    assert done == ["act"]


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with termination_as_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_handlers_of_before_are_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)

    with termination_as_interrupt():
        assert signal.getsignal(signal.SIGTERM) is not before

    assert signal.getsignal(signal.SIGTERM) is before
