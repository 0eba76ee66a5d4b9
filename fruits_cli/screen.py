"""Terminal output: results on stdout, progress and prompts on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import textwrap
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
    # Shown after the figures, such as the bytes of an upload.
    note: str = ""


T = TypeVar("T")


def _itself(state: Any) -> Progress:
    assert isinstance(state, Progress)
    return state


# Without a terminal at most a line in so many seconds, so that long logs stay readable.
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
        print(_coloured(_folded(shown(line), sys.stderr)), file=sys.stderr, flush=True)
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


# Colours of states; the word alone says the same.
_STYLES = {
    "green": ("ok", "done", "completed", "waiting", "running", "launched", "submitted"),
    "red": ("failing", "failed", "terminated_with_errors", "interrupted"),
    "yellow": (
        "warning",
        "could not ask",
        "not asked",
        "starting",
        "bootstrapping",
        "terminating",
        "pending",
    ),
}
_STYLE_OF = {word: style for style, words in _STYLES.items() for word in words}
_PREFIXES = {"Error:": "1;31", "Warning:": "1;33", "Hint:": "1;36"}


def _coloured(line: str) -> str:
    """A line for stderr, its prefix in colour where a terminal shows colours."""
    prefix = line.partition(" ")[0]
    if prefix not in _PREFIXES or not _is_terminal(sys.stderr) or not _has_colours():
        return line
    return f"\x1b[{_PREFIXES[prefix]}m{prefix}\x1b[0m{line[len(prefix) :]}"


def _has_colours() -> bool:
    # Source: no-color.org; a dumb terminal knows no escapes.
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _folded(line: str, stream: TextIO) -> str:
    """The line wrapped between words, where a terminal would break it within one."""
    if not _is_terminal(stream):
        return line
    width = shutil.get_terminal_size().columns
    if len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    return "\n".join(
        textwrap.wrap(
            line,
            width,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
        )
    )


def _draw(content: Sequence[str | Table]) -> None:
    """Content on a terminal: tables that fit its width, states in colour."""
    from rich.console import Console

    # NO_COLOR takes the colours away, and leaves bold; without a system rich sends no escapes.
    console = Console(highlight=False, color_system="auto" if _has_colours() else None)
    for part in content:
        if isinstance(part, str):
            _put(_folded(shown(part), sys.stdout))
        else:
            with console.capture() as capture:
                console.print(_rich_table(part))
            _put("\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n")))


def _rich_table(part: Table) -> Any:
    from rich.table import Table as RichTable
    from rich.text import Text

    head, *rows = part.rows if part.has_head else ([""] * len(part.rows[0]), *part.rows)
    drawn = RichTable(box=None, show_header=part.has_head, header_style="bold", pad_edge=False)
    for number, name in enumerate(head):
        numeric = bool(rows) and all(isinstance(row[number], int | float) for row in rows)
        drawn.add_column(shown(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        cells = [shown(cell) for cell in row]
        drawn.add_row(*(Text(cell, _STYLE_OF.get(cell.lower(), "")) for cell in cells))
    return drawn


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


@dataclass(frozen=True)
class Table:
    """Rows of a table, the first one its head unless `has_head` is false."""

    rows: Sequence[Sequence[object]]
    has_head: bool = True


@dataclass(frozen=True)
class Outcome:
    """What a command answers: lines and tables for the reader, facts for --output json."""

    content: Sequence[str | Table]
    facts: dict[str, Any]
    exit_code: int = 0

    @property
    def lines(self) -> list[str]:
        """The content as plain text."""
        parts = ([part] if isinstance(part, str) else table(part.rows) for part in self.content)
        return [line for part in parts for line in part]


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
        """A line of progress, unless the user asked for quiet."""
        if self.verbosity >= 0:
            _say(line)

    def warn(self, line: str) -> None:
        """A warning, which --quiet does not hide."""
        _say(f"Warning: {line}")

    def detail(self, line: str) -> None:
        """A line for --verbose."""
        if self.verbosity > 0:
            _say(line)

    def answer(self, outcome: Outcome) -> None:
        """The result on stdout: its facts as JSON with --output json, else its lines."""
        if self.json_output:
            _put(json.dumps(outcome.facts, indent=2, sort_keys=True))
        elif _is_terminal(sys.stdout):
            _draw(outcome.content)
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

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show on a terminal what is being waited for, and since when; with --verbose elsewhere."""
        if self.verbosity < 0 or not _is_terminal(sys.stderr):
            self.detail(f"{what}.")
            yield
            return
        from rich.console import Console
        from rich.progress import Progress as Bar
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
        console = Console(stderr=True)
        with Bar(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
            bar.add_task(shown(what), total=None)
            yield

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


# Below a picture in an hour no time can be told.
_LEAST_RATE = 1 / 3600


def time_left(state: Progress) -> str:
    """Minutes and seconds until the last picture, or nothing while no rate is known."""
    if state.rate < _LEAST_RATE or state.done >= state.total:
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
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    # A slow refresh: the bar shares its cores with the job.
    with Bar(*columns, console=Console(stderr=True), refresh_per_second=2) as bar:
        task = bar.add_task("starting", total=None, figures="")
        for state in states:
            figures = f"{state.done} of {state.total}" if state.total else ""
            if state.rate > 0:
                figures += f", {state.rate:.0f} images/s  {time_left(state)}"
            if state.note:
                figures += f"  {state.note}"
            # For `update` None is no total: a stage without one would keep the last stage's.
            bar.tasks[0].total = state.total or None
            bar.update(task, description=state.stage, completed=state.done, figures=figures)
