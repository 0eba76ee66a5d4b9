"""Flags out of the configuration: each key of a table is one option, described in config.py."""

from __future__ import annotations

import inspect
import os
import types
import typing
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from fruits_cli.config import SECTIONS, load_config
from fruits_cli.errors import UsageError
from fruits_cli.files import working_folder
from fruits_cli.screen import Outcome, Screen

_VALUES = ("bf16", "imagenet", "local")
_PROVIDED = ("config", "screen", "flags")


class OutputFormat(StrEnum):
    """What stdout carries."""

    TEXT = "text"
    JSON = "json"


Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
ClusterChoice = Annotated[
    str | None,
    typer.Option("--cluster", metavar="NAME|ID", help="Which cluster.", show_default=False),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")]


def with_config(*sections: str) -> Callable[[Callable[..., Outcome | None]], Callable[..., None]]:
    """A decorator that gives a command `config` and `screen`, and shows the Outcome it returns.

    sections: the tables of fruits.toml whose keys become flags; [aws] always does.
    """
    keys = [
        (section, key, field)
        for section in (*sections, "aws")
        for key, field in SECTIONS[section].model_fields.items()
    ]

    def decorate(command: Callable[..., Outcome | None]) -> Callable[..., None]:
        def called(**given: Any) -> None:
            for parameter in own:
                _refuse_empty(parameter, given.get(parameter.name))
            flags: dict[str, dict[str, Any]] = {}
            for section, key, _ in keys:
                if (value := given.pop(f"{section}__{key}")) is not None:
                    flags.setdefault(section, {})[key] = value
            screen = Screen(
                json_output=given.pop("output") is OutputFormat.JSON,
                verbosity=int(given.pop("verbose")) - int(given.pop("quiet")),
            )
            config = load_config(flags, environ=os.environ, folder=working_folder())
            if wants_flags:
                given["flags"] = flags
            outcome = command(config=config, screen=screen, **given)
            if outcome is None:
                # The tunnel has answered already, and stood until Ctrl-C.
                return
            screen.answer(outcome)
            if outcome.exit_code:
                raise typer.Exit(outcome.exit_code)

        parameters = inspect.signature(command, eval_str=True).parameters
        wants_flags = "flags" in parameters
        own = [p for name, p in parameters.items() if name not in _PROVIDED]
        options = [_option(section, key, field) for section, key, field in keys]
        called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *options, *_common())]
        )
        called.__name__, called.__doc__ = command.__name__, command.__doc__
        return called

    return decorate


def _refuse_empty(parameter: inspect.Parameter, value: object) -> None:
    """Raise UsageError for an empty text, as a variable that is not set leaves it.

    `terminate --cluster "$NAME"` would end another cluster, `upload "$FOLDER"` send this folder.
    """
    if value != "" and not (isinstance(value, list) and "" in value):
        return
    (info,) = parameter.annotation.__metadata__
    flags = [] if isinstance(info, typer.models.ArgumentInfo) else list(info.param_decls or ())
    if isinstance(info, typer.models.OptionInfo):
        flags = flags or [f"--{parameter.name.replace('_', '-')}"]
    raise UsageError(f"{flags[0] if flags else parameter.name.upper()} is empty.")


def _option(section: str, key: str, field: FieldInfo) -> inspect.Parameter:
    flag = f"--{key.replace('_', '-')}"
    kind = _flag_type(field.annotation)
    metavar = None
    if kind is bool:
        flag = f"{flag}/--no-{flag[2:]}"
    else:
        # The configuration checks the text, and its complaint names the range.
        kind, metavar = str, _metavar(kind)
    option = typer.Option(flag, help=_help(field), show_default=False, metavar=metavar)
    return inspect.Parameter(
        f"{section}__{key}",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[typing.Optional[kind], option],  # noqa: UP045
    )


def _help(field: FieldInfo) -> str:
    default = field.default
    if default is None or default is False or default is True or default == ():
        return f"{_sentence(field)}."
    text = ",".join(default) if isinstance(default, tuple) else str(default)
    return f"{_sentence(field)}. [default: {text}]"


def _sentence(field: FieldInfo) -> str:
    text = str(field.description)
    # "bf16 needs ..." and "imagenet, random, ..." begin with a value, which stays as it is typed.
    return text if text.split(",")[0].split()[0] in _VALUES else text[0].upper() + text[1:]


def _metavar(kind: type) -> str:
    return f"<{'|'.join(kind) if issubclass(kind, StrEnum) else kind.__name__.lower()}>"


def _flag_type(annotation: Any) -> Any:
    """The type of a key: enums and numbers themselves, all else is text."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Literal or not isinstance(annotation, type):
        return str
    if issubclass(annotation, StrEnum) or annotation in (bool, int, float, Path):
        return annotation
    return str


def _common() -> list[inspect.Parameter]:
    def common(
        output: Annotated[OutputFormat, typer.Option(help="What stdout carries.")] = (
            OutputFormat.TEXT
        ),
        verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say less.")] = False,
    ) -> None: ...

    return list(inspect.signature(common, eval_str=True).parameters.values())
