"""What ends a command in order: Ctrl-C, SIGTERM, and a terminal that closes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def termination_as_interrupt(*also: signal.Signals) -> Iterator[None]:
    """Let SIGTERM, SIGHUP and `also` raise KeyboardInterrupt, so that all is ended in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [*also, signal.SIGTERM]
    # Under nohup the user wants to outlive the terminal.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
