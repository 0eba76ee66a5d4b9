"""A question of `fruits doctor`, and its finding: a verdict, what was found, what to do."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from fruits_cli.errors import AccessDenied, CloudError, FruitsError


class Verdict(StrEnum):
    """The result of a question."""

    OK = "ok"
    WARNING = "warning"
    FAILING = "failing"
    COULD_NOT_ASK = "could not ask"
    NOT_ASKED = "not asked"


@dataclass(frozen=True)
class Finding:
    """The answer to one question; `fix` says what to do, where there is something to do."""

    verdict: Verdict
    said: str
    fix: str = ""
    # The question's, set by `Question.answer`.
    name: str = ""


def ok(said: str) -> Finding:
    """Everything is in order."""
    return Finding(Verdict.OK, said)


def warning(said: str, fix: str) -> Finding:
    """Some runs, or a launch, may fail because of this."""
    return Finding(Verdict.WARNING, said, fix)


def failing(said: str, fix: str) -> Finding:
    """A launch, a run or the tunnel will fail because of this."""
    return Finding(Verdict.FAILING, said, fix)


def not_asked(said: str) -> Finding:
    """The question does not apply."""
    return Finding(Verdict.NOT_ASKED, said)


class NotApplicable(FruitsError):
    """This question does not apply; another one reports the reason."""


@dataclass(frozen=True)
class Question:
    """A question by name; `rights` are those that asking needs, for refusals without their name."""

    name: str
    ask: Callable[[], Finding]
    rights: tuple[str, ...] = ()

    def answer(self) -> Finding:
        """The finding, also where asking failed."""
        try:
            found = self.ask()
        except NotApplicable as error:
            found = not_asked(str(error))
        except FruitsError as error:
            found = self._of_error(error)
        except OSError as error:
            # A file or folder of this machine that we may not even look at.
            fix = "Give your user the right to read it."
            found = failing(f"{error.strerror}: {error.filename}.", fix)
        return replace(found, name=self.name)

    def _of_error(self, error: FruitsError) -> Finding:
        # A refusal, or no answer, does not mean that anything is wrong. Any other error is the
        # finding.
        if not isinstance(error, CloudError):
            return failing(str(error), error.hint)
        denied = isinstance(error, AccessDenied) and self.rights
        needed = f"It needs {', '.join(self.rights)}." if denied else ""
        return Finding(Verdict.COULD_NOT_ASK, str(error), error.hint or needed)


# None: whether the caller may do it could not be checked.
Denied = Collection[str] | None


def to_be_made(what: str, denied: Denied) -> Finding:
    """A missing resource is fine as long as the caller may create it."""
    if denied:
        rights = ", ".join(sorted(denied))
        return failing(
            f"{what} is missing, and you may not create it.", f"Ask an administrator for {rights}."
        )
    doubt = "; whether you may create it could not be checked" if denied is None else ""
    return ok(f"{what} will be made by the first launch{doubt}")
