"""fruits rehearse: the whole lifecycle on an embedded AWS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fruits_cli.config import Config
from fruits_cli.errors import UsageError
from fruits_cli.ledger import new_run_id
from fruits_cli.options import with_config
from fruits_cli.screen import Screen

Images = Annotated[str | None, typer.Argument(help="Folder of pictures.", show_default=False)]
Sample = Annotated[bool, typer.Option("--sample", help="Run on a small drawn set of fruit.")]
Keep = Annotated[bool, typer.Option("--keep", help="Leave the embedded AWS up for more commands.")]
Stop = Annotated[bool, typer.Option("--stop", help="End the one that --keep left up.")]


@with_config("job")
def rehearse(
    *,
    images: Images = None,
    sample: Sample = False,
    keep: Keep = False,
    stop: Stop = False,
    config: Config,
    screen: Screen,
    flags: Mapping[str, Mapping[str, Any]],
) -> None:
    """Play the whole lifecycle on an embedded AWS: no account, no cost, the job really runs.

    \b
    fruits rehearse --sample    upload, cluster, job, results, bill
    fruits rehearse --keep      an embedded AWS for all other commands
    """
    from fruits_cli import rehearsal
    from fruits_cli.rehearsal import play

    has_pictures = images is not None or sample
    if (images is not None and sample) or stop == (has_pictures or keep):
        raise UsageError("Give IMAGES or --sample, with or without --keep, or --stop.")
    state = play.kept_state(Path.cwd())
    if stop:
        ended = rehearsal.stop(state)
        screen.answer(["The rehearsal ended." if ended else "None was up."], {"ended": ended})
        return
    job = {k: v for k, v in flags.get("job", {}).items() if k not in ("output_dir", "target")}
    output = config.job.output_dir or Path("fruits-runs") / new_run_id()
    played = play.Played(images, sample, output, job, screen.flags)
    if not keep:
        raise typer.Exit(play.play_once(played))
    living = rehearsal.start(state)
    code = play.play(played, living, state) if has_pictures else 0
    screen.tell("The embedded AWS stays up; fruits rehearse --stop ends it. For another terminal:")
    screen.answer(play.export_lines(living), {"environ": living.environ, "exit_code": code})
    raise typer.Exit(code)
