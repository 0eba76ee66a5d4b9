"""fruits rehearse: the whole lifecycle on an AWS on this machine."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from fruits_cli import rehearsal
from fruits_cli.config import Config
from fruits_cli.dataset.sample import IF_ABSENT, ensure_sample, sample_folder
from fruits_cli.doctor.machine import IMAGENET_URL
from fruits_cli.errors import UsageError
from fruits_cli.files import cache_dir, expanded, parse_json
from fruits_cli.ledger import new_run_id
from fruits_cli.options import Yes, with_config
from fruits_cli.rehearsal.child import wait_for
from fruits_cli.rehearsal.hub_program import NOT_INSTALLED, find_hub
from fruits_cli.rehearsal.state import Rehearsal, rehearsal_environ
from fruits_cli.rehearsal.tour import stops, take_tour
from fruits_cli.screen import Outcome, Screen
from fruits_cli.signals import termination_as_interrupt

Images = Annotated[str | None, typer.Argument(help="Folder of pictures.", show_default=False)]
Sample = Annotated[bool, typer.Option("--sample", help="Run on a small drawn set of fruit.")]
Keep = Annotated[bool, typer.Option("--keep", help="Leave the embedded AWS up for more commands.")]
Tour = Annotated[bool, typer.Option("--tour", help="Walk through all commands, one by one.")]
Stop = Annotated[bool, typer.Option("--stop", help="End the one that --keep left up.")]


@with_config("job")
def rehearse(
    *,
    images: Images = None,
    sample: Sample = False,
    keep: Keep = False,
    stop: Stop = False,
    tour: Tour = False,
    yes: Yes = False,
    config: Config,
    screen: Screen,
    flags: Mapping[str, Mapping[str, Any]],
) -> Outcome:
    """Play the whole lifecycle on an AWS on this machine: no account, no cost; the job really runs.

    \b
    fruits rehearse --sample    upload, cluster, job, results, bill
    fruits rehearse --keep      the embedded AWS stays, for all other commands
    fruits rehearse --tour      command by command, with a pause after each
    """
    has_pictures = images is not None or sample
    if (images is not None and sample) or stop == (has_pictures or keep or tour) or (keep and tour):
        raise UsageError("Give IMAGES or --sample, with or without --keep or --tour, or --stop.")
    state = kept_state(Path.cwd())
    if stop:
        ended = rehearsal.stop(state)
        if names := still_exported(os.environ):
            screen.tell(f"This terminal still leads there. To leave: unset {' '.join(names)}")
        return Outcome(["The rehearsal ended." if ended else "None was up."], {"ended": ended})
    job = {k: v for k, v in flags.get("job", {}).items() if k not in ("output_dir", "target")}
    output = config.job.output_dir or Path("fruits-runs") / new_run_id()
    with termination_as_interrupt():
        if tour:
            raise typer.Exit(walk(images, output, job, screen, yes=yes))
        played = Played(images, sample, output, job, screen.flags)
        if not keep:
            raise typer.Exit(play_once(played))
        living = rehearsal.start(state)
        code, run = 0, None
        if has_pictures and screen.json_output:
            code, run = play_aside(played, living, state)
        elif has_pictures:
            # A shell sources what stdout carries.
            code = play(played, living, state, stdout=sys.stderr)
    screen.tell("The embedded AWS stays up; fruits rehearse --stop ends it. For another terminal:")
    facts = {"environ": living.environ, "exit_code": code, "run": run}
    return Outcome(export_lines(living), facts, code)


def walk(
    images: str | None, output: Path, job: Mapping[str, Any], screen: Screen, *, yes: bool
) -> int:
    """Take the tour; its exit code."""
    if not yes and not sys.stdin.isatty():
        raise UsageError("There is no terminal to wait at.", hint="Give --yes.")
    folder = expanded(images).absolute() if images else ensure_sample(sample_folder(os.environ))
    with_hub = find_hub() is not None
    if not with_hub:
        screen.tell(f"{NOT_INSTALLED}. The tour goes without it.")
    flags_of_job = tour_flags(job, screen)
    story = stops(folder, output.absolute(), flags_of_job, bucket=BUCKET, with_hub=with_hub)
    try:
        return take_tour(story, tell=screen.tell, pause=partial(pause_of, screen, yes=yes))
    except KeyboardInterrupt:
        screen.tell("The tour ended early. Its cluster and the embedded AWS are gone.")
        raise


def pause_of(screen: Screen, *, yes: bool) -> None:
    """Return once the user has looked; at once with --yes."""
    if not yes:
        screen.tell("Enter continues, Ctrl-C ends the tour.")
        sys.stdin.readline()


def tour_flags(job: Mapping[str, Any], screen: Screen) -> list[str]:
    """The flags of the tour's `fruits submit`; nothing is downloaded for it."""
    cached = cache_dir(os.environ) / "models" / Path(IMAGENET_URL).name
    if "weights" not in job and not cached.is_file():
        screen.tell(f"ImageNet's weights are not in the cache: {IF_ABSENT}.")
        job = {**job, "weights": "random"}
    return [word for key, value in job.items() for word in _flag(key, value)]


BUCKET = "fruits-rehearsal"
# What the user's configuration names in a real account, and the embedded one has not.
_REAL = ("FRUITS_AWS_PROFILE", "FRUITS_CLUSTER_SUBNETS", "FRUITS_CLUSTER_KEY_NAME")


@dataclass(frozen=True)
class Played:
    """The `fruits run` to play: its pictures, where its results go, and the flags given."""

    images: str | None
    sample: bool
    output: Path
    job: Mapping[str, Any]
    common: Sequence[str] = ()

    def words(self) -> list[str]:
        """The words after `fruits`; the child works in another folder, so all paths are whole."""
        pictures = "--sample" if self.sample else os.path.abspath(expanded(str(self.images)))
        words = ["run", pictures, "--target", "emr", "--bucket", BUCKET, "--yes", *self.common]
        words += ["--output-dir", os.path.abspath(self.output)]
        for key, value in self.job.items():
            words += _flag(key, value)
        return words


def _flag(key: str, value: Any) -> list[str]:
    name = key.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if key == "weights" and value not in ("imagenet", "random"):
        value = os.path.abspath(expanded(value))
    return [f"--{name}", str(value)]


def kept_state(folder: Path) -> Path:
    """Where the rehearsal of a working folder keeps its state."""
    return folder / ".fruits" / "rehearsal"


def play_once(played: Played) -> int:
    """Play the run on a rehearsal of its own, which ends with it; the run's exit code."""
    with rehearsal.passing() as (living, state):
        return play(played, living, state)


def play(played: Played, living: Rehearsal, state: Path, *, stdout: TextIO | None = None) -> int:
    """Play the run beside a living rehearsal; its exit code. stdout: where its answer goes.

    Its ledger lies in the rehearsal's state: the last run of the user's folder stays the last.
    """
    work = state / "work"
    work.mkdir(exist_ok=True)
    environ = rehearsal.environ_beside(living, os.environ) | dict.fromkeys(_REAL, "")
    return wait_for(played.words(), environ, work, stdout=stdout)


def play_aside(played: Played, living: Rehearsal, state: Path) -> tuple[int, Any]:
    """As `play`, with what the run answered: stdout carries one JSON document, which is ours."""
    with (state / "answer.json").open("w+", encoding="utf-8") as answer:
        code = play(played, living, state, stdout=answer)
        answer.seek(0)
        # A run that failed has answered nothing.
        with suppress(ValueError):
            return code, parse_json(answer.read())
    return code, None


def export_lines(living: Rehearsal) -> list[str]:
    """What a shell needs so that every command of fruits meets this rehearsal."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in living.environ.items()]
    return [*lines, f"unset {' '.join(living.unset)}", f"export FRUITS_STORAGE_BUCKET={BUCKET}"]


def still_exported(environ: Mapping[str, str]) -> list[str]:
    """The variables of `export_lines` that lead a shell to a rehearsal, where it has them."""
    if not environ.get("AWS_ENDPOINT_URL", "").startswith("http://127.0.0.1:"):
        return []
    names = [*rehearsal_environ("", "", ""), "FRUITS_TUNNEL_SSH_PORT", "FRUITS_STORAGE_BUCKET"]
    return [name for name in names if name in environ and name.lower() != "no_proxy"]
