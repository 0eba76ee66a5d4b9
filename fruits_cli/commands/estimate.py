"""fruits estimate: how long, how much, and where."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from fruits_cli.config import Config
from fruits_cli.options import with_config
from fruits_cli.screen import Screen

Images = Annotated[
    str | None, typer.Argument(help="Folder of pictures, or a dataset on S3.", show_default=False)
]
Count = Annotated[
    int | None,
    typer.Option(min=1, help="As if there were so many pictures.", show_default=False),
]
Sample = Annotated[bool, typer.Option("--sample", help="The small drawn set of fruit.")]


@with_config("storage", "job", "cluster")
def estimate(
    *,
    images: Images = None,
    count: Count = None,
    sample: Sample = False,
    config: Config,
    screen: Screen,
) -> None:
    """Time a sample here, then minutes and dollars on this machine and on three clusters.

    \b
    fruits estimate ./Test             counts the pictures and times some of them
    fruits estimate --count 1000000    the same for so many; a drawn sample is timed
    """
    from fruits_cli.estimating import Asked
    from fruits_cli.estimating import estimate as estimated

    outcome = estimated(config, Asked(images, count, sample), screen, os.environ)
    screen.answer(outcome.lines, outcome.facts)
