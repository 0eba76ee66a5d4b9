"""A tour of fruits on an AWS on this machine: each command is announced, run and looked at."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fruits_cli import rehearsal
from fruits_cli.files import cache_dir
from fruits_cli.rehearsal.child import INTERRUPTED, ended, fruits, wait_for

_LAST_LINE_OF_TUNNEL = "proxy.pac"
_NOTEBOOKS = "JupyterHub, with a notebook of the run to log in to as jovyan, and "
_JOBS = "the job in Spark's own History Server"


@dataclass(frozen=True)
class Stop:
    """One command of the tour. `stays`: it runs until it is interrupted. `may_fail`: it informs.

    beside: a second command, while the first one stays.
    """

    why: str
    words: tuple[str, ...]
    stays: bool = False
    beside: tuple[str, ...] = ()
    may_fail: bool = False


def stops(
    pictures: Path, results: Path, job: Sequence[str], *, bucket: str, with_hub: bool
) -> list[Stop]:
    """The whole story, in the order in which a new user would type it."""
    where = ("--bucket", bucket, "--region", "eu-west-3")
    hub = ("--open", "jupyterhub") if with_hub else ()
    at = job.index("--weights") if "--weights" in job else len(job)
    weights = job[at : at + 2]
    return [
        Stop(
            "Name the bucket and the region, and make a key pair for the tunnel",
            ("init", *where, "--key", "--yes"),
        ),
        Stop("Check everything that could make a run fail", ("doctor", *weights), may_fail=True),
        Stop("Pack the pictures into a dataset and send it", ("upload", str(pictures), "--yes")),
        Stop("Start a cluster that stays", ("create-cluster", "--yes")),
        Stop("Run the job on it", ("submit", "--wait", *job)),
        Stop("What lives, what it does, what it costs", ("status",)),
        Stop(
            f"Open the cluster's pages: {_NOTEBOOKS if with_hub else ''}{_JOBS}",
            ("tunnel", *hub, "--open", "spark"),
            stays=True,
            beside=("tunnel", "--password") if with_hub else (),
        ),
        Stop(
            "Fetch features and components",
            ("fetch-results", "--output-dir", str(results), "--no-report"),
        ),
        Stop("Make a page of them to look at", ("report", str(results))),
        Stop("End the cluster, and read its bill", ("terminate", "--yes")),
    ]


def take_tour(
    story: Sequence[Stop], *, tell: Callable[[str], None], pause: Callable[[], None]
) -> int:
    """Run the story on an embedded AWS of its own; the exit code of the first stop that failed.

    Folder, home and key pair of the commands are the tour's own and end with it; the cache is the
    user's. pause: returns when the user has looked. Raises KeyboardInterrupt where one ended it.
    """
    with rehearsal.passing() as (living, folder):
        work = folder / "work"
        work.mkdir()
        environ = _own_environ(living, work)
        for number, stop in enumerate(story, start=1):
            tell("")
            tell(f"{number} of {len(story)}: {stop.why}")
            tell(f"$ fruits {shlex.join(stop.words)}")
            if stop.stays:
                code = _visit(stop, work, environ, tell, pause)
            else:
                code = wait_for(stop.words, environ, work)
            if code == INTERRUPTED:
                raise KeyboardInterrupt
            if code and not stop.may_fail:
                return code
            if not stop.stays and number < len(story):
                pause()
    return 0


def _own_environ(living: rehearsal.Rehearsal, work: Path) -> dict[str, str]:
    """No configuration of the user's is in the way, and no key of theirs read or written."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FRUITS_")}
    return rehearsal.environ_beside(living, kept) | {
        "HOME": str(work),
        "XDG_CACHE_HOME": str(cache_dir(os.environ).parent.absolute()),
        "XDG_STATE_HOME": str(work / "state"),
    }


def _visit(
    stop: Stop,
    work: Path,
    environ: Mapping[str, str],
    tell: Callable[[str], None],
    pause: Callable[[], None],
) -> int:
    """Run a command that stays until the user has looked, and end it as Ctrl-C does."""
    with fruits(stop.words, environ, work, stdout=subprocess.PIPE) as child:
        try:
            for line in child.stdout or ():
                sys.stdout.write(line)
                sys.stdout.flush()
                if _LAST_LINE_OF_TUNNEL in line:
                    if stop.beside:
                        tell(f"$ fruits {shlex.join(stop.beside)}")
                        wait_for(stop.beside, environ, work)
                    pause()
                    break
        finally:
            child.send_signal(signal.SIGINT)
        code = ended(child)
    return 0 if code == INTERRUPTED else code
