"""How much faster than Amazon the rehearsal waits."""

from __future__ import annotations

from dataclasses import dataclass

# How long EMR takes, in minutes. The five minutes between log uploads are documented
# (ManagementGuide, emr-plan-debugging); the others are guesses of the usual order.
PROVISION_MIN = 3.0
BOOTSTRAP_MIN = 2.0
STEP_START_MIN = 0.3
LOG_UPLOAD_MIN = 5.0
TERMINATE_MIN = 1.0
APP_UI_MIN = 0.2


@dataclass(frozen=True)
class Pace:
    """Waits of Amazon pass at `minutes_per_second`, the user's own timers at theirs.

    Time stamps are the wall clock's: a step takes as long as it takes here, and so does the bill.
    Idle time-out and lifetime are compared with real work, hence real time unless told otherwise.
    """

    minutes_per_second: float = 1.0
    timer_minutes_per_second: float = 1 / 60

    def wait_s(self, minutes: float) -> float:
        return minutes / self.minutes_per_second

    def timer_s(self, seconds: float) -> float:
        return seconds / 60 / self.timer_minutes_per_second
