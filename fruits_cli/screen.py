"""Every word the user reads: the answer to stdout, the story to stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO, TypeVar

from fruits_cli.errors import Declined, FruitsError, MachineError, UsageError


@dataclass(frozen=True)
class Progress:
    """How far a stage is; `done` and `total` count pictures, `rate` is per second."""

    stage: str
    done: int
    total: int
    rate: float
    # Said after the figures, such as the bytes of an upload.
    note: str = ""


T = TypeVar("T")


def _itself(state: Any) -> Progress:
    assert isinstance(state, Progress)
    return state


# Without a terminal a line at most this often, so that a log of a night stays readable.
_PLAIN_EVERY_S = 10.0


def shown(text: object) -> str:
    """`text` safe for a terminal: control and bidirectional characters appear as escapes.

    File names and messages of others may carry ESC sequences, newlines or lone surrogates.
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(text)
    )


def show_error(error: FruitsError) -> None:
    """The error and its hint, on stderr."""
    for number, line in enumerate(error.lines):
        _say(f"Error: {line}" if number == 0 else f"       {line}")
    if error.hint:
        for number, line in enumerate(error.hint.split("\n")):
            _say(f"Hint: {line}" if number == 0 else f"      {line}")


def _say(line: str) -> None:
    # A log collector may have closed stderr; the job must not die of that. Where there never was
    # one, print would take stdout.
    if sys.stderr is None:
        return
    try:
        print(shown(line), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _discard(sys.stderr)


def _put(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        _discard(sys.stdout)
        raise
    except OSError as error:
        _discard(sys.stdout)
        raise MachineError(f"The answer cannot be written: {error.strerror or error}.") from error


def _discard(stream: TextIO) -> None:
    # What is left in its buffer would fail once more when Python ends, with another exit code.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def close_answer() -> None:
    """Write out what others left in stdout's buffer (help), or drop it where nobody reads."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _discard(sys.stdout)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


@dataclass(frozen=True)
class Outcome:
    """What a command answers: lines for the reader, facts for --output json."""

    lines: list[str]
    facts: dict[str, Any]
    exit_code: int = 0


@dataclass(frozen=True)
class Screen:
    """Where one command writes; `verbosity` is -1 quiet, 0, or 1 verbose."""

    json_output: bool = False
    verbosity: int = 0

    @property
    def flags(self) -> list[str]:
        """The flags that give another command the same screen."""
        words = ["--output", "json"] if self.json_output else []
        return [*words, *{-1: ["--quiet"], 1: ["--verbose"]}.get(self.verbosity, [])]

    def tell(self, line: str) -> None:
        """One line of the story, unless the user asked for quiet."""
        if self.verbosity >= 0:
            _say(line)

    def warn(self, line: str) -> None:
        """A line that quiet does not hide."""
        _say(f"Warning: {line}")

    def detail(self, line: str) -> None:
        """A line for --verbose."""
        if self.verbosity > 0:
            _say(line)

    def answer(self, outcome: Outcome) -> None:
        """The result on stdout: its facts as JSON with --output json, else its lines."""
        if self.json_output:
            _put(json.dumps(outcome.facts, indent=2, sort_keys=True))
        else:
            for line in outcome.lines:
                _put(shown(line))

    def ask(self, question: str, *, yes: bool) -> None:
        """Return when the answer is yes; Declined when it is no.

        Raises UsageError naming --yes where there is no terminal to ask on.
        """
        if yes:
            return
        if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
            raise UsageError(f"{question} There is no terminal to ask on.", hint="Give --yes.")
        print(f"{shown(question)} [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise Declined("Declined; nothing was done.")

    def ask_for(self, question: str, suggestion: str, flag: str) -> str:
        """The answer, or the suggestion where it is empty.

        Without a terminal the suggestion; UsageError naming `flag` where there is neither.
        """
        if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
            if flag and not suggestion:
                raise UsageError(
                    f"{question}? There is no terminal to ask on.", hint=f"Give {flag}."
                )
            return suggestion
        suggested = f" [{shown(suggestion)}]" if suggestion else ""
        print(f"{shown(question)}{suggested}: ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip() or suggestion

    def follow(self, states: Iterable[T], *, shown: Callable[[T], Progress] = _itself) -> T | None:
        """Show `states` until they end, a bar on a terminal, else a line now and then; the last."""
        last: list[T] = []

        def progress() -> Iterator[Progress]:
            for state in states:
                last[:] = [state]
                yield shown(state)

        if self.verbosity < 0:
            for _ in progress():
                pass
        elif _is_terminal(sys.stderr):
            _follow_on_terminal(progress())
        else:
            self._follow_in_lines(progress())
        return last[0] if last else None

    def _follow_in_lines(self, states: Iterable[Progress]) -> None:
        last_s, last_stage = float("-inf"), ""
        for state in states:
            now_s = time.monotonic()
            if state.stage == last_stage and now_s - last_s < _PLAIN_EVERY_S:
                continue
            last_s, last_stage = now_s, state.stage
            self.tell(_progress_line(state))


def table(rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of columns, each as wide as its widest cell; numbers stand to the right."""
    cells = [[shown(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    numeric = [
        all(isinstance(row[column], int | float) for row in rows[1:]) and len(rows) > 1
        for column in range(len(cells[0]))
    ]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]


def time_left(state: Progress) -> str:
    """Minutes and seconds until the last picture, or nothing while no rate is known."""
    if state.rate <= 0 or state.done >= state.total:
        return ""
    seconds = round((state.total - state.done) / state.rate)
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left"


def _progress_line(state: Progress) -> str:
    if not state.total:
        return f"{state.stage} ... {state.note}".rstrip()
    parts = [f"{state.stage}: {state.done} of {state.total} pictures"]
    if state.rate > 0:
        parts.append(f"{state.rate:.0f} images/s")
    return ", ".join([*parts, *filter(None, [time_left(state), state.note])])


def _follow_on_terminal(states: Iterable[Progress]) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[story]}", markup=False),
    )
    # A slow refresh: the bar shares its cores with the job.
    with Bar(*columns, console=Console(stderr=True), refresh_per_second=2) as bar:
        task = bar.add_task("starting", total=None, story="")
        for state in states:
            story = f"{state.done} of {state.total}" if state.total else ""
            if state.rate > 0:
                story += f", {state.rate:.0f} images/s  {time_left(state)}"
            if state.note:
                story += f"  {state.note}"
            # For `update` None is no total: a stage without one would keep the last stage's.
            bar.tasks[0].total = state.total or None
            bar.update(task, description=state.stage, completed=state.done, story=story)
