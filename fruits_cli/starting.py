"""What `fruits init` does: a fruits.toml for this folder, and where each setting comes from."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fruits_cli.bundle import example_config
from fruits_cli.config import (
    FILE_NAME,
    SECTIONS,
    Layer,
    configured,
    load_layers,
    merged,
)
from fruits_cli.errors import MachineError, UsageError
from fruits_cli.ui import Outcome, Screen, table

Values = dict[str, dict[str, Any]]

# What has no good default: section, key, the question, the variables that suggest an answer.
_QUESTIONS = (
    ("storage", "bucket", "S3 bucket for pictures, runs and logs (empty: stay local)", ()),
    ("aws", "region", "AWS region", ("AWS_REGION", "AWS_DEFAULT_REGION")),
    ("aws", "profile", "AWS profile (empty: the default one)", ("AWS_PROFILE",)),
)
_NEEDED = ("bucket", "region")


def start_project(
    flags: Mapping[str, Mapping[str, Any]],
    screen: Screen,
    *,
    folder: Path,
    environ: Mapping[str, str],
) -> Outcome:
    """A new fruits.toml in `folder`. Raises UsageError where one exists, ConfigError."""
    file = folder / FILE_NAME
    if os.path.lexists(file):
        raise UsageError(
            f"{file} exists already and stays as it is.",
            hint="Edit it; fruits init --show tells what is in force.",
        )
    values = answers(flags, screen.ask_for, environ)
    text = filled(example_config().read_text(encoding="utf-8"), values)
    # A value that the file may not hold is refused before there is a file.
    configured([Layer(str(file), tomllib.loads(text))])
    _write_new(file, text)
    lines = [
        f"{file} was written.",
        "Next: fruits doctor, then fruits run --sample or fruits run FOLDER.",
    ]
    return Outcome(lines, {"file": str(file), "values": values})


def answers(
    flags: Mapping[str, Mapping[str, Any]],
    ask: Callable[[str, str, str], str],
    environ: Mapping[str, str],
) -> Values:
    """What the flags give, and the answers to the rest; an empty answer leaves its key out.

    ask: question, suggestion and the flag that answers it; may raise UsageError.
    """
    values: Values = {section: dict(keys) for section, keys in flags.items()}
    for section, key, question, variables in _QUESTIONS:
        if key in values.get(section, {}):
            continue
        suggestion = next((environ[name] for name in variables if environ.get(name)), "")
        flag = f"--{key}" if key in _NEEDED else ""
        if answer := ask(question, suggestion, flag).strip():
            values.setdefault(section, {})[key] = answer
    return values


def filled(example: str, values: Mapping[str, Mapping[str, Any]]) -> str:
    """config.example.toml with these keys in force; all others stay comments."""
    lines, section = [], ""
    for line in example.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        key = line.removeprefix("# ").partition(" = ")[0]
        if key in values.get(section, {}):
            line = f"{key} = {json.dumps(values[section][key], ensure_ascii=False)}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _write_new(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as stream:
            try:
                stream.write(text)
                stream.flush()
            except OSError:
                with suppress(OSError):
                    file.unlink()
                raise
    except FileExistsError as error:
        raise UsageError(f"{file} was made by somebody else just now.") from error
    except OSError as error:
        raise MachineError(f"{file} cannot be written: {error.strerror or error}.") from error


def show_settings(
    flags: Mapping[str, Mapping[str, Any]], *, folder: Path, environ: Mapping[str, str]
) -> Outcome:
    """Every key with its value and where that comes from. Raises ConfigError."""
    layers = load_layers(flags, environ=environ, folder=folder)
    config, (_, origins) = configured(layers), merged(layers)
    rows = []
    for section, model in SECTIONS.items():
        settings = getattr(config, section).model_dump(mode="json")
        for key in model.model_fields:
            origin = _told(origins.get(f"{section}.{key}", "default"), section, key)
            rows.append((f"{section}.{key}", settings[key], origin))
    facts = {name: {"value": value, "origin": origin} for name, value, origin in rows}
    cells = [(name, "" if value is None else json.dumps(value), at) for name, value, at in rows]
    return Outcome(table([("key", "value", "origin"), *cells]), facts)


def _told(origin: str, section: str, key: str) -> str:
    return {
        "command line": f"--{key.replace('_', '-')}",
        "environment": f"FRUITS_{section}_{key}".upper(),
    }.get(origin, origin)
