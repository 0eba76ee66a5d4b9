"""fruits init: a fruits.toml for this folder, and what is in force."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fruits_cli.cloud.layout import places_of
from fruits_cli.cluster.key_pair import KeyPair, key_pair_place, make_key_pair
from fruits_cli.cluster.policy_documents import document_lines, policy_documents
from fruits_cli.commands.wiring import open_session
from fruits_cli.config import (
    FILE_NAME,
    SECTIONS,
    Config,
    Layer,
    configured,
    load_config,
    load_layers,
    merged,
    spelled,
)
from fruits_cli.errors import CloudError, MachineError, UsageError
from fruits_cli.files import example_config, replacing, write_new
from fruits_cli.options import DryRun, Yes, with_config
from fruits_cli.screen import Outcome, Screen, Table


@with_config("storage")
def init(
    *,
    show: Annotated[bool, typer.Option("--show", help="Every key, its value and origin.")] = False,
    policies: Annotated[
        bool, typer.Option("--policies", help="The IAM documents for this bucket and prefix.")
    ] = False,
    key: Annotated[bool, typer.Option("--key", help="Make a key pair for the tunnel.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    config: Config,
    screen: Screen,
    flags: Mapping[str, Mapping[str, Any]],
) -> Outcome:
    """Write fruits.toml into this folder, asking for what has no good default, or change its keys.

    \b
    fruits init                                         asks for bucket, region, profile and weights
    fruits init --bucket my-bucket --region eu-west-3   asks nothing, or changes these keys
    fruits init --show                                  what is in force, and why
    fruits init --key                                   a key pair for the tunnel as well
    fruits init --policies                              what your administrator has to allow
    """
    if show + policies + key > 1:
        raise UsageError("Give one of --show, --policies and --key.")
    folder = Path.cwd()
    if show:
        return show_settings(flags, folder=folder, environ=os.environ)
    if policies:
        return show_policies(config, screen)
    if key and dry_run:
        return plan_key(config)
    maker = _make_key if key else None
    if (flags or key) and (folder / FILE_NAME).is_file():
        return change_project(
            flags,
            config,
            screen,
            folder=folder,
            environ=os.environ,
            make_key=maker,
            dry_run=dry_run,
            yes=yes,
        )
    return start_project(
        flags, screen, folder=folder, environ=os.environ, make_key=maker, dry_run=dry_run
    )


def _make_key(config: Config) -> KeyPair:
    from fruits_cli.aws import connect

    return make_key_pair(config, connect(config.aws), environ=os.environ)


def plan_key(config: Config) -> Outcome:
    """The key pair that --key would make, without asking AWS whether it is there."""
    name, file = key_pair_place(config, os.environ)
    line = (
        f"Would make the key pair {name}, as far as it is not there: its private key {file}, its "
        f"public half in EC2, and its two lines in {FILE_NAME}."
    )
    return Outcome([line], {"key_name": name, "key_file": str(file)})


Values = dict[str, dict[str, Any]]
KeyMaker = Callable[[Config], KeyPair]

# What has no good default: section, key, the question, the variables that suggest an answer.
_QUESTIONS = (
    ("storage", "bucket", "S3 bucket for pictures, runs and logs (empty: stay local)", ()),
    ("aws", "region", "AWS region", ("AWS_REGION", "AWS_DEFAULT_REGION")),
    ("aws", "profile", "AWS profile (empty: the default one)", ("AWS_PROFILE",)),
    ("job", "weights", "File of ImageNet's weights (empty: found or downloaded later)", ()),
)
_NEEDED = ("bucket", "region")


def start_project(
    flags: Mapping[str, Mapping[str, Any]],
    screen: Screen,
    *,
    folder: Path,
    environ: Mapping[str, str],
    make_key: KeyMaker | None = None,
    dry_run: bool = False,
) -> Outcome:
    """Write a new fruits.toml into `folder`. Raises UsageError where one exists, ConfigError.

    make_key: makes the key pair that the file then names, once all answers are known.
    """
    file = folder / FILE_NAME
    if os.path.lexists(file):
        raise UsageError(
            f"{file} exists already and was not changed.",
            hint="fruits init --bucket NAME (or any other flag) changes a key of it; "
            "fruits init --show shows what is in force.",
        )
    values = answers(flags, screen.ask_for, environ)
    example = example_config().read_text(encoding="utf-8")
    text = _checked(file, example, values)
    if dry_run:
        return Outcome([f"Would write {file}:", *_key_lines(values)], {"values": values})
    if make_key:
        pair = make_key(load_config(values, environ=environ, folder=folder))
        screen.tell(pair.summary())
        values = _with_keys(values, pair.settings)
        text = _checked(file, example, values)
    _write_new(file, text)
    _tell_overridden(values, screen, folder, environ)
    lines = [
        f"{file} was written.",
        "Next: fruits doctor, then fruits run --sample or fruits run FOLDER.",
    ]
    return Outcome(lines, {"file": str(file), "values": values})


def _checked(file: Path, former: str, values: Mapping[str, Mapping[str, Any]]) -> str:
    """The file's new text. A value that it may not hold is refused before it is written."""
    text = changed(former, values)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{file} cannot hold a value that is not UTF-8.") from error
    configured([Layer(str(file), tomllib.loads(text))])
    return text


def change_project(
    flags: Mapping[str, Mapping[str, Any]],
    config: Config,
    screen: Screen,
    *,
    folder: Path,
    environ: Mapping[str, str],
    make_key: KeyMaker | None = None,
    dry_run: bool = False,
    yes: bool = False,
) -> Outcome:
    """Change these keys of the fruits.toml that is there, once the user agrees; all else stays.

    Raises ConfigError for a value that it may not hold, UsageError where it cannot be edited.
    """
    # Through a link: the file that it leads to is replaced, and the link stays.
    file = (folder / FILE_NAME).resolve()
    values: Values = {section: dict(keys) for section, keys in flags.items()}
    lines = []
    if make_key:
        pair = make_key(config)
        lines.append(pair.summary())
        values = _with_keys(values, pair.settings)
    former = file.read_text(encoding="utf-8-sig")
    text = _checked(file, former, values)
    facts = {"file": str(file), "values": values}
    if text == former:
        return Outcome([*lines, f"{file} says so already."], facts)
    if dry_run:
        return Outcome([*lines, f"Would change {file}:", *_key_lines(values)], facts)
    for line in (*lines, f"In {file}:", *_key_lines(values)):
        screen.tell(line)
    # A key pair is useless without the lines that name it.
    screen.ask("Change it?", yes=yes or (make_key is not None and not flags))
    with replacing(file) as scratch:
        scratch.write_text(text, encoding="utf-8")
    _tell_overridden(values, screen, folder, environ)
    return Outcome([f"{file} was changed."], facts)


def _tell_overridden(
    values: Values, screen: Screen, folder: Path, environ: Mapping[str, str]
) -> None:
    """Name what was written and is not in force, as after `fruits rehearse --keep`."""
    in_force, origins = merged(load_layers({}, environ=environ, folder=folder))
    for section, keys in values.items():
        for key, value in keys.items():
            name = f"{section}.{key}"
            if origins.get(name, "") in ("", str(folder / FILE_NAME)):
                continue
            if str(in_force[section][key]) != str(value):
                variable = spelled(name, origins[name])
                screen.warn(f"{variable} is set in this terminal and wins over {FILE_NAME}.")


def _with_keys(values: Values, more: Mapping[str, Mapping[str, Any]]) -> Values:
    """The values with more keys in their sections; a later value wins."""
    added = {section: {**values.get(section, {}), **keys} for section, keys in more.items()}
    return {**values, **added}


def _key_lines(values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        line
        for section, keys in values.items()
        for line in (f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in keys.items()))
    ]


def changed(text: str, values: Mapping[str, Mapping[str, Any]]) -> str:
    """A TOML text in which these keys have these values; all else stays, comments too.

    Raises UsageError with the lines to write by hand where the text is too unusual to edit.
    """
    lines, left = [], {section: dict(keys) for section, keys in values.items()}
    section, at_end = "", {}
    for line in text.splitlines():
        if line.startswith("["):
            section = line.partition("#")[0].strip().strip("[]")
        key = line.removeprefix("# ").partition("=")[0].strip()
        if key in left.get(section, {}):
            line = f"{key} = {_toml(left[section].pop(key))}"
        lines.append(line)
        if line.strip():
            at_end[section] = len(lines)
    # From the end, so that the places of earlier sections stay true.
    for name, keys in sorted(left.items(), key=lambda pair: -at_end.get(pair[0], len(lines) + 1)):
        new = [f"{key} = {_toml(value)}" for key, value in keys.items()]
        if new and name in at_end:
            lines[at_end[name] : at_end[name]] = new
        elif new:
            lines += [f"[{name}]", *new]
    edited = "\n".join(lines) + "\n"
    if not _holds(edited, text, values):
        raise UsageError(
            f"{FILE_NAME} cannot be edited by fruits: its layout is unusual.",
            hint=f"Write into it: {'; '.join(_key_lines(values))}",
        )
    return edited


def _holds(edited: str, former: str, values: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the edited text says what the former one says with these values."""
    try:
        return tomllib.loads(edited) == _with_keys(tomllib.loads(former), values)
    except tomllib.TOMLDecodeError:
        return False


def answers(
    flags: Mapping[str, Mapping[str, Any]],
    ask: Callable[[str, str, str], str],
    environ: Mapping[str, str],
) -> Values:
    """What the flags give, and the answers to the rest; an empty answer leaves its key out.

    ask: question, suggestion and the flag that answers it; may raise UsageError.
    """
    values: Values = {section: dict(keys) for section, keys in flags.items()}
    given = {key for keys in values.values() for key in keys}
    for section, key, question, variables in _QUESTIONS:
        # Flags for all that is needed are a script's: it is asked nothing.
        if key in given or given.issuperset(_NEEDED):
            continue
        suggestion = next((environ[name] for name in variables if environ.get(name)), "")
        flag = f"--{key}" if key in _NEEDED else ""
        if answer := ask(question, suggestion, flag).strip():
            values.setdefault(section, {})[key] = answer
    return values


def _toml(value: Any) -> str:
    # A basic string of TOML is one of JSON, but for DEL, which TOML wants escaped as well.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _write_new(file: Path, text: str) -> None:
    try:
        write_new(file, text)
    except FileExistsError as error:
        raise UsageError(f"{file} was just created by another process.") from error
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
            origin = spelled(f"{section}.{key}", origins.get(f"{section}.{key}", "default"))
            rows.append((f"{section}.{key}", settings[key], origin))
    facts = {name: {"value": value, "origin": origin} for name, value, origin in rows}
    cells = [(name, "" if value is None else json.dumps(value), at) for name, value, at in rows]
    return Outcome([Table([("key", "value", "origin"), *cells])], facts)


def show_policies(config: Config, screen: Screen) -> Outcome:
    """The IAM documents with the account's id, which is asked of AWS. Raises ConfigError."""
    cloud = open_session(config, screen).cloud
    places_of(config)
    try:
        identity = cloud.account.identity()
    except CloudError as error:
        screen.warn(f"{error} ACCOUNT_ID stands for the account's number.")
        identity = None
    documents = policy_documents(config, identity, cloud.region)
    return Outcome(document_lines(documents), documents)
