"""Checks that a run on a cluster has the model, code and Python that it was planned with."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import spark_job
from spark_job.errors import JobError

if TYPE_CHECKING:
    from spark_job.job import Asked


def require(asked: Asked, fingerprint: str) -> None:
    """Raise JobError (2) naming the first digest that is not the one of the plan."""
    found = {
        "model": (asked.model_fingerprint, fingerprint),
        "code": (asked.code_digest, code_digest(Path(sys.argv[0])) if asked.code_digest else ""),
    }
    for what, (planned, here) in found.items():
        if planned and planned != here:
            raise _differs(what, planned, here)
    # A node's Python is in a folder named by its digest; on other machines there is none.
    made = re.match(r"/opt/fruits/([0-9a-f]{32})/", sys.executable)
    if made and asked.python_digest and made[1] != asked.python_digest:
        raise _differs("Python", asked.python_digest, made[1])


def _differs(what: str, planned: str, here: str) -> JobError:
    return JobError(
        2,
        f"The {what} is not the one that this run was planned with: {planned} then, {here} now.",
        hint="Start a new run.",
    )


def code_digest(main: Path) -> str:
    """The digest of the zip that this package was imported from, and of main.py, as 32 digits.

    Empty where the package is not in a zip, as in an installation.
    """
    archive = Path(spark_job.__file__).parent.parent
    if not archive.is_file():
        return ""
    content = archive.read_bytes() + main.read_bytes()
    return hashlib.sha256(content).hexdigest()[:32]
