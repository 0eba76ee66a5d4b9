"""The `fruits` program: loads a command, turns every error into a message and an exit code."""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fruits_cli import __version__
from fruits_cli.errors import FruitsError, MachineError, UsageError
from fruits_cli.screen import close_answer, show_error

_INTERRUPTED = 130


# What the help shows together; a name is that of its file in commands/.
GROUPS = {
    "Start here": ("init", "doctor", "rehearse"),
    "Run": ("run", "estimate", "upload"),
    "Cluster": ("create-cluster", "submit", "cancel", "tunnel"),
    "Results": ("runs", "report", "similar", "fetch-results"),
    "Look after": ("status", "logs", "terminate"),
}
COMMANDS = tuple(name for names in GROUPS.values() for name in names)


class _Boundary(TyperGroup):
    """Loads a command when it is asked for, and turns what it raises into one message and code."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        word = cmd_name.replace("-", "_")
        module = importlib.import_module(f"fruits_cli.commands.{word}")
        alone = typer.Typer(rich_markup_mode=None, add_completion=False)
        alone.command(cmd_name)(getattr(module, word))
        return typer.main.get_command(alone)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        # The first help that a user sees must not wait for every command's imports.
        for group, names in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl([(name.ljust(14), _first_line(name)) for name in names])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        word = args[0]
        if self.get_command(ctx, word) is None and not word.startswith("-"):
            near = difflib.get_close_matches(word, COMMANDS, n=1, cutoff=0.5)
            hint = f"Did you mean fruits {near[0]}?" if near else "fruits --help lists them."
            raise UsageError(f"There is no command {word!r}.", hint=hint)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except FruitsError as error:
            show_error(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(_INTERRUPTED) from error
        except BrokenPipeError as error:
            # The reader of our stdout (head, less) has gone: nothing is left to say.
            raise typer.Exit(1) from error
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if _is_usage_error(error):
                raise
            told = _refusal(error) if isinstance(error, OSError) else _bug(error)
            show_error(told)
            raise typer.Exit(told.exit_code) from error


def _first_line(name: str) -> str:
    word = name.replace("-", "_")
    source = (Path(__file__).parent / "commands" / f"{word}.py").read_text(encoding="utf-8")
    functions = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    command = next(node for node in functions if node.name == word)
    return (ast.get_docstring(command) or "").partition("\n")[0]


def _is_usage_error(error: Exception) -> bool:
    """Whether Typer itself explains this one, with exit code 2."""
    return hasattr(error, "exit_code") and hasattr(error, "show")


class _Bug(FruitsError):
    exit_code = 3


def _bug(error: Exception) -> FruitsError:
    return _Bug(
        f"This is a bug of fruits: {type(error).__name__}: {error}",
        hint=_detailed("Please report it with the file", error),
    )


def _refusal(error: OSError) -> FruitsError:
    """What the machine denied us where no command foresaw it: a folder that went, a full disk."""
    named = f"{error.filename}: " if error.filename else ""
    return MachineError(
        f"{named}{error.strerror or type(error).__name__}.",
        hint=_detailed("What fruits was doing is in", error),
    )


def _detailed(words: str, error: Exception) -> str:
    """The words and the file with the details; without them where no file can be written."""
    try:
        return f"{words} {_written_down(error)}"
    except OSError as failure:
        return f"Its details cannot be written: {failure.strerror or failure}."


def _written_down(error: Exception) -> str:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile(
        "w",
        prefix="fruits-bug-",
        suffix=".log",
        delete=False,
        encoding="utf-8",
        errors="backslashreplace",
    ) as log:
        log.write(f"fruits {__version__}, Python {sys.version}\n{' '.join(sys.argv)}\n\n")
        log.write("".join(traceback.format_exception(error)))
    return log.name


app = typer.Typer(
    cls=_Boundary,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"fruits {__version__}", flush=True)
        raise typer.Exit


@app.callback()
def fruits(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    """Pictures to MobileNetV2 features and principal components, on Amazon EMR or here."""


def _open_streams() -> None:
    """Let a closed stdin, stdout or stderr lead nowhere: a file would take its number."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115


def main() -> None:
    """The `fruits` command."""
    _open_streams()
    # In a terminal of another encoding, a letter that it lacks must not end the command.
    for stream in (sys.stdin, sys.stdout):
        # Refused where `report.early` has read from stdin already.
        with contextlib.suppress(io.UnsupportedOperation):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="fruits")
    except OSError as error:
        # Help and the version are written outside of the boundary.
        show_error(MachineError(f"The answer cannot be written: {error.strerror or error}."))
        sys.exit(1)
    finally:
        close_answer()
