"""Ctrl-C, SIGTERM and a closed terminal: raised once, and held back during some requests."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


class TerminalClosed(KeyboardInterrupt):
    """SIGHUP: the terminal is gone. What runs elsewhere may continue."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: unlike Ctrl-C, our children on the same terminal have not heard it."""


@dataclass
class _State:
    """is_raising: the next signal raises. waiting: the first signal that came while it did not."""

    is_raising: bool = True
    waiting: int | None = None


_state = _State()


_RAISED: dict[int, type[KeyboardInterrupt]] = {
    signal.SIGHUP: TerminalClosed,
    signal.SIGTERM: Terminated,
}


def _heard(number: int, frame: Any) -> None:
    if not _state.is_raising:
        _state.waiting = _state.waiting or number
        return
    # A second signal, milliseconds later, must not cut what the first one sets off.
    _state.is_raising = False
    _raise(number)


def _raise(number: int) -> None:
    raise _RAISED.get(number, KeyboardInterrupt)


@contextmanager
def termination_as_interrupt(*also: signal.Signals) -> Iterator[None]:
    """Let the first of SIGINT, SIGTERM, SIGHUP and `also` raise; later ones wait.

    Whoever handles the first one allows the next with `heard_again`. A signal that is ignored
    (nohup, a script's background) stays so unless it is one of `also`.
    """
    with _handling(_numbers(also)):
        try:
            heard_again()
            yield
        finally:
            heard_again()


@contextmanager
def held() -> Iterator[None]:
    """Signals wait until the block has ended; the first of them is raised then."""
    was_raising = _state.is_raising
    with _handling(_numbers(())):
        _state.is_raising = False
        try:
            yield
        finally:
            _state.is_raising = was_raising
    if was_raising and (number := _state.waiting) is not None:
        _state.is_raising, _state.waiting = False, None
        _raise(number)


def heard_again() -> bool:
    """Let the next signal raise; whether one came while none was heard."""
    came = _state.waiting is not None
    _state.is_raising, _state.waiting = True, None
    return came


def _numbers(also: tuple[signal.Signals, ...]) -> list[signal.Signals]:
    usual = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return [*also, *(number for number in usual if signal.getsignal(number) is not signal.SIG_IGN)]


@contextmanager
def _handling(numbers: list[signal.Signals]) -> Iterator[None]:
    # Python lets only the main thread set handlers, and runs them there.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [(number, signal.signal(number, _heard)) for number in dict.fromkeys(numbers)]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
