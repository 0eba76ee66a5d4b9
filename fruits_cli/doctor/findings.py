"""One line of `fruits doctor`: what was asked, what came of it, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from fruits_cli.errors import AccessDenied, CloudError, FruitsError


class Verdict(StrEnum):
    """What came of a question."""

    OK = "ok"
    FAILING = "failing"
    COULD_NOT_ASK = "could not ask"
    NOT_ASKED = "not asked"


@dataclass(frozen=True)
class Finding:
    """The answer to one question; `fix` is what to do where the verdict is not ok."""

    name: str
    verdict: Verdict
    said: str
    fix: str = ""


def ok(name: str, said: str) -> Finding:
    """Nothing to do."""
    return Finding(name, Verdict.OK, said)


def failing(name: str, said: str, fix: str) -> Finding:
    """A launch, a run or the tunnel will fail on this."""
    return Finding(name, Verdict.FAILING, said, fix)


def not_asked(name: str, said: str) -> Finding:
    """The question does not arise."""
    return Finding(name, Verdict.NOT_ASKED, said)


def of_error(name: str, error: FruitsError, rights: Sequence[str] = ()) -> Finding:
    """What an error met while asking stands for.

    An AWS that refuses or is silent leaves the question open: nobody knows that anything is wrong.
    All other errors are the answer themselves. rights: what the question needs, for the case that
    AWS does not name the missing one.
    """
    if not isinstance(error, CloudError):
        return failing(name, str(error), error.hint)
    is_denied = isinstance(error, AccessDenied) and rights
    needed = f"It needs {', '.join(rights)}." if is_denied else ""
    return Finding(name, Verdict.COULD_NOT_ASK, str(error), error.hint or needed)
