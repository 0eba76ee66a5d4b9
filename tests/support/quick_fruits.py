"""The `fruits` command with waits that pass QUICK times as fast: python quick_fruits.py WORDS"""

from __future__ import annotations

import os
import time

from fruits_cli.cloud.protocols import SystemClock

_sleep = time.sleep


def hurry(pace: float) -> None:
    """Let our own waits and botocore's pass so much faster; time stamps stay as they are."""

    def sleep(seconds: float) -> None:
        _sleep(seconds / pace)

    def monotonic(_: SystemClock) -> float:
        return time.monotonic() * pace

    time.sleep = sleep  # type: ignore[assignment]
    SystemClock.monotonic = monotonic  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    hurry(float(os.environ.get("QUICK", "30")))
    from fruits_cli.app import main

    main()
