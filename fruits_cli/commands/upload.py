"""fruits upload: pictures to S3."""

from __future__ import annotations

from typing import Annotated

import typer

from fruits_cli.config import Config
from fruits_cli.options import Yes, with_config
from fruits_cli.screen import Screen

Images = Annotated[str, typer.Argument(help="Folder of pictures.")]
Raw = Annotated[bool, typer.Option("--raw", help="One object per picture, in the same layout.")]


@with_config("storage")
def upload(
    *, images: Images, raw: Raw = False, yes: Yes = False, config: Config, screen: Screen
) -> None:
    """Pack a folder of pictures into a dataset on S3; only what changed is sent.

    \b
    fruits upload ./Test --bucket my-bucket
    """
    from fruits_cli.commands.wiring import open_session
    from fruits_cli.sending import Upload, upload_folder

    session = open_session(config, screen)
    outcome = upload_folder(config, Upload(images, raw=raw, yes=yes), session)
    screen.answer(outcome.lines, outcome.facts)
