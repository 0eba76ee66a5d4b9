"""The Typer app, and the one place where an exception becomes a message and an exit code."""

from __future__ import annotations

import io
import sys
import tempfile
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fruits_cli import __version__, ui
from fruits_cli.commands import run
from fruits_cli.errors import FruitsError, MachineError

_INTERRUPTED = 130


class _Boundary(TyperGroup):
    """Runs a command and turns what it raises into one message and one exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except FruitsError as error:
            ui.show_error(error)
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
            ui.show_error(told)
            raise typer.Exit(told.exit_code) from error


def _is_usage_error(error: Exception) -> bool:
    """Whether Typer itself explains this one, with exit code 2."""
    return hasattr(error, "exit_code") and hasattr(error, "show")


class _Bug(FruitsError):
    exit_code = 3


def _bug(error: Exception) -> FruitsError:
    return _Bug(
        f"This is a bug of fruits: {type(error).__name__}: {error}",
        hint=f"Please report it with the file {_written_down(error)}",
    )


def _refusal(error: OSError) -> FruitsError:
    """What the machine denied us where no command foresaw it: a folder that went, a full disk."""
    named = f"{error.filename}: " if error.filename else ""
    return MachineError(
        f"{named}{error.strerror or type(error).__name__}.",
        hint=f"What fruits was doing is in {_written_down(error)}",
    )


def _written_down(error: Exception) -> str:
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
        print(f"fruits {__version__}")
        raise typer.Exit


@app.callback()
def fruits(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    """Pictures to MobileNetV2 features and principal components, on Amazon EMR or here."""


for _name, _command in (("run", run.run),):
    app.command(_name)(_command)


def main() -> None:
    """The `fruits` command."""
    # In a terminal of another encoding, a letter that it lacks must not end the command.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="fruits")
    finally:
        ui.close_answer()
