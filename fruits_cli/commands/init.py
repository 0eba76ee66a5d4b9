"""fruits init: a fruits.toml for this folder, and what is in force."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fruits_cli.config import FILE_NAME, Config
from fruits_cli.errors import UsageError
from fruits_cli.options import with_config
from fruits_cli.screen import Screen

if TYPE_CHECKING:
    from fruits_cli.cluster.key_pair import KeyPair


@with_config("storage")
def init(
    *,
    show: Annotated[bool, typer.Option("--show", help="Every key, its value and origin.")] = False,
    policies: Annotated[
        bool, typer.Option("--policies", help="The IAM documents for this bucket and prefix.")
    ] = False,
    key: Annotated[bool, typer.Option("--key", help="Make a key pair for the tunnel.")] = False,
    config: Config,
    screen: Screen,
    flags: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write fruits.toml into this folder, asking for what has no good default.

    \b
    fruits init                                         asks for bucket, region and profile
    fruits init --bucket my-bucket --region eu-west-3   asks nothing
    fruits init --show                                  what is in force, and why
    fruits init --key                                   a key pair for the tunnel as well
    fruits init --policies                              what your administrator has to allow
    """
    from fruits_cli.starting import add_key, show_policies, show_settings, start_project

    if show + policies + key > 1:
        raise UsageError("Give one of --show, --policies and --key.")
    folder = Path.cwd()
    if show:
        outcome = show_settings(flags, folder=folder, environ=os.environ)
    elif policies:
        outcome = show_policies(config, screen)
    elif key and (folder / FILE_NAME).is_file():
        outcome = add_key(config, _make_key)
    else:
        maker = _make_key if key else None
        outcome = start_project(flags, screen, folder=folder, environ=os.environ, make_key=maker)
    screen.answer(outcome.lines, outcome.facts)


def _make_key(config: Config) -> KeyPair:
    from fruits_cli.aws.clients import connect
    from fruits_cli.cluster.key_pair import make_key_pair

    return make_key_pair(config, connect(config.aws), environ=os.environ)
