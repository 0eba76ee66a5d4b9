"""How the job fails: an exit code, a sentence, a hint; the same on a worker and on the driver."""

from __future__ import annotations

import json
import re

_MARK = "fruits-job-error:"


class JobError(Exception):
    """One clear sentence, and the exit code that the user's shell sees.

    Its text survives Py4J: a worker's exception reaches the driver as a Java message only.
    """

    def __init__(self, exit_code: int, message: str, *, hint: str = "") -> None:
        self.exit_code, self.message, self.hint = exit_code, message, hint
        super().__init__(f"{_MARK}{json.dumps(self.as_dict())}")

    def as_dict(self) -> dict[str, str | int]:
        """The error as progress.json holds it."""
        return {"exit_code": self.exit_code, "message": self.message, "hint": self.hint}

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuilt, (self.exit_code, self.message, self.hint))


def _rebuilt(exit_code: int, message: str, hint: str) -> JobError:
    return JobError(exit_code, message, hint=hint)


def find_job_error(text: str) -> JobError | None:
    """The JobError that a worker raised, found in the text of Spark's error."""
    found = re.search(re.escape(_MARK) + r"(\{.*\})", text)
    if found is None:
        return None
    facts = json.loads(found[1])
    return JobError(facts["exit_code"], facts["message"], hint=facts["hint"])
