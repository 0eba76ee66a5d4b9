"""Kills every command at every request that changes something: python -m tests.support.kill_matrix

The client dies, or is interrupted, when its n-th changing request arrives at the embedded AWS,
before or after that took effect. Then the same command runs again, then `fruits terminate`. There
must never be two clusters of a name, at the end no cluster, rule, group or lock may be left, no
bucket without the rule for unfinished uploads, and the ledger must name what lives at any of these
moments.

What is real: the command, its HTTP requests, S3, EC2, IAM and EMR of the rehearsal. What is not:
the job's step writes the results of a job without computing them, and waits pass thirty times as
fast. A run is resumed instead of run again: another `fruits run` is another run.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from pathlib import Path

import botocore.loaders
import botocore.session

from tests.support.killing_aws import REGION, Kill, Server, forked_aws, warm_up
from tests.support.quick_fruits import hurry
from tests.support.written_job import write_spark

_PACE = 30
BUCKET = "fruits-matrix"
_PICTURES = 3
_KEEP_FORKED: list[object] = []
# Of wall time: a busy machine is no fault of a command.
_PATIENCE_S = 900.0


@dataclass(frozen=True)
class Story:
    """One command of the matrix, and what has to be there before it."""

    name: str
    words: Sequence[str]
    before: Sequence[Sequence[str]] = ()
    again: Sequence[str] | None = None
    job_s: float = 0.0
    what: str = "changes"
    # The exit codes that the command may have the second time.
    codes: Sequence[int] = (0,)


_CREATE, _UPLOAD, _SUBMIT = (
    ("create-cluster", "--yes"),
    ("upload", "pictures", "--yes"),
    ("submit",),
)
_LAUNCHING = ("create-cluster", "run", "detach")
_RUN = ("run", "pictures", "--target", "emr", "--yes", "--no-report")
STORIES = [
    Story("init", ("init", "--key")),
    Story("upload", _UPLOAD),
    Story("create-cluster", _CREATE),
    Story("submit", _SUBMIT, (_CREATE, _UPLOAD)),
    Story("cancel", ("cancel", "--yes"), (_CREATE, _UPLOAD, _SUBMIT), job_s=60),
    Story(
        "run", _RUN, again=("run", "--resume", "last", "--target", "emr", "--yes", "--no-report")
    ),
    Story(
        "fetch-results",
        ("fetch-results", "--no-report"),
        (_UPLOAD, _CREATE, _SUBMIT),
        what="GetObject",
    ),
    Story("detach", (*_RUN, "--detach")),
    Story("tunnel", ("tunnel",), (_CREATE,)),
    Story("terminate", ("terminate", "--yes"), (_CREATE,)),
    Story("purge", ("terminate", "--purge", "--yes"), (_CREATE,)),
]
SIGNALS: dict[str, tuple[tuple[int, float], ...]] = {
    "KILL": ((signal.SIGKILL, 0),),
    "INT": ((signal.SIGINT, 0),),
    "INT+20ms": ((signal.SIGINT, 0), (signal.SIGINT, 0.02)),
    "INT+50ms": ((signal.SIGINT, 0), (signal.SIGINT, 0.05)),
    "INT+200ms": ((signal.SIGINT, 0), (signal.SIGINT, 0.2)),
    "TERM": ((signal.SIGTERM, 0),),
    "HUP": ((signal.SIGHUP, 0),),
}


@dataclass
class Cell:
    """One kill point and what came of it."""

    story: Story
    signals: str
    nth: int
    is_applied: bool
    struck: str = ""
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        when = "after" if self.is_applied else "before"
        return f"{self.story.name} {self.signals} {when} {self.nth} {self.struck}"


@dataclass
class Place:
    """The folder of a cell, and how commands run in it."""

    folder: Path
    server: Server
    cache: Path
    words: list[str] = field(default_factory=list)

    def run(self, words: Sequence[str], kill: Callable[[int], Kill] | None = None) -> int:
        """The exit code, negative where a signal ended it; with `kill` that strikes meanwhile."""
        waiting, go = os.pipe()
        self.words = list(words)
        pid = os.fork()
        if pid == 0:
            os.close(go)
            os.read(waiting, 1)
            _be_the_command(self, words)
        os.close(waiting)
        if kill:
            self.server.ask(kill(pid))
        os.close(go)
        return _exit_code(pid)

    def text(self) -> str:
        return (self.folder / "screen.txt").read_text(errors="replace")


def _exit_code(pid: int) -> int:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return 99
        time.sleep(0.01)


def _be_the_command(place: Place, words: Sequence[str]) -> None:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with (place.folder / "screen.txt").open("wb") as screen, open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(screen.fileno(), 1)
        os.dup2(screen.fileno(), 2)
    os.chdir(place.folder)
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    os.environ.clear()
    os.environ.update(kept | place.server.environ)
    os.environ.update(HOME=str(place.folder), XDG_CACHE_HOME=str(place.cache))
    hurry(_PACE)
    code = 0
    try:
        if words[0] == "tunnel":
            _open_port()
        else:
            from fruits_cli.app import main

            sys.argv = ["fruits", *words]
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 98
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _open_port() -> None:
    """What `fruits tunnel` changes in an account, without the time that a connection takes."""
    from fruits_cli.aws import cluster_access, connect
    from fruits_cli.config import load_config
    from fruits_cli.tunnel.cluster_access import SshPort

    config = load_config({}, environ=os.environ, folder=Path.cwd())
    (cluster,) = connect(config.aws).clusters.find_clusters(live=True)
    access = cluster_access(config.aws, cluster)
    port = SshPort(access, source="203.0.113.9/32", note="matrix", tell=print)
    with suppress(KeyboardInterrupt):
        try:
            port.open()
        finally:
            port.close()


def try_cell(cell: Cell, cache: Path) -> Cell:
    """The cell with what was wrong in it; `struck` stays empty where there is no n-th request."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kill-") as name:
        folder = Path(name)
        _furnish(folder, cell.story)
        with forked_aws(folder, folder / "spark") as server:
            try:
                _play(cell, Place(folder, server, cache))
            except (OSError, AssertionError, HTTPException) as error:
                log = (folder / "server.log").read_text(errors="replace")
                cell.faults.append(f"the matrix itself: {error!r} {log[-2000:]}")
    cell.seconds = time.monotonic() - began
    return cell


def _furnish(folder: Path, story: Story) -> None:
    from fruits_cli.dataset.sample import draw_sample

    draw_sample(folder / "pictures", count=_PICTURES)
    for file in sorted((folder / "pictures").rglob("*.*"))[_PICTURES:]:
        file.unlink()
    (folder / "fruits.toml").write_text(
        f"[aws]\nregion = '{REGION}'\n[storage]\nbucket = '{BUCKET}'\n"
        "[job]\nweights = 'random'\nimage_size = 96\n"
    )
    write_spark(folder / "spark", pictures=_PICTURES, seconds=story.job_s)


def _play(cell: Cell, place: Place) -> None:
    story = cell.story
    for words in story.before:
        code = place.run(words)
        assert code == 0, f"{words} before {cell} ended with {code}: {place.text()}"
    if story.name == "fetch-results":
        _until_done(place)
    signals = SIGNALS[cell.signals]
    code = place.run(
        story.words, lambda pid: Kill(pid, cell.nth, signals, cell.is_applied, story.what)
    )
    seen = place.server.ask()
    cell.struck = seen["struck"]
    if not cell.struck:
        # The last request lies behind us; a command that failed before it must not look like that.
        assert code == 0, f"{cell} ended with {code} and was not killed: {place.text()[-1000:]}"
        return
    _check_killed(cell, place, code, seen)
    chunks = seen["chunks"]
    _repeat(cell, place)
    _end(cell, place)
    gone = set(chunks) - set(place.server.ask()["chunks"])
    if gone:
        cell.faults.append(f"finished chunks are gone: {sorted(gone)}")


def _until_done(place: Place) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while place.run(("fetch-results", "--no-report", "--output-dir", "first")) != 0:
        assert time.monotonic() < deadline, place.text()


def _check_killed(cell: Cell, place: Place, code: int, seen: dict[str, object]) -> None:
    text, living = place.text(), _living(seen)
    if "Traceback" in text or code in (3, 98, 99):
        # A bug of ours, a crash, or no end.
        cell.faults.append(f"exit {code}: {text[-2000:]}")
    _check_names(cell, living)
    _check_ledger(cell, place, living, keys=("cluster_id", "launch_id"))
    if cell.signals == "KILL" or cell.story.name not in _LAUNCHING:
        return
    if code not in (0, 130):
        cell.faults.append(f"exit {code} after {cell.signals}: {text[-1000:]}")
    if cell.story.name != "create-cluster" and cell.signals != "HUP" and living:
        cell.faults.append(f"{living} lives after {cell.signals}: {text[-1000:]}")
    for found in living:
        if found["id"] not in text:
            cell.faults.append(f"{found['id']} lives, and nothing said so: {text[-1000:]}")


def _living(seen: dict[str, object]) -> list[dict[str, str]]:
    clusters: list[dict[str, str]] = seen["clusters"]  # type: ignore[assignment]
    return [cluster for cluster in clusters if cluster["lives"]]


def _check_names(cell: Cell, living: list[dict[str, str]]) -> None:
    names = [cluster["name"] for cluster in living]
    if len(names) != len(set(names)):
        cell.faults.append(f"two clusters of one name: {names}")


def _repeat(cell: Cell, place: Place) -> None:
    words = cell.story.words
    if cell.story.again and any((place.folder / ".fruits" / "runs").glob("*.json")):
        words = cell.story.again
    code = place.run(words)
    if code not in cell.story.codes:
        cell.faults.append(f"again: {' '.join(words)} ended with {code}: {place.text()[-500:]}")
    living = _living(place.server.ask())
    _check_names(cell, living)
    _check_ledger(cell, place, living, keys=("cluster_id",))


def _check_ledger(
    cell: Cell, place: Place, living: list[dict[str, str]], *, keys: Sequence[str]
) -> None:
    """A launch that was cut short is known by its launch id, until the same command is back."""
    files = (place.folder / ".fruits" / "runs").glob("*.json")
    records = [json.loads(file.read_text()) for file in files]
    known = {record.get(key) for record in records for key in keys}
    for cluster in living:
        if known.isdisjoint((cluster["id"], cluster["launch_id"])):
            cell.faults.append(f"the ledger does not name {cluster['id']}")


def _end(cell: Cell, place: Place) -> None:
    code = place.run(("terminate", "--yes"))
    if code != 0:
        cell.faults.append(f"terminate ended with {code}: {place.text()[-1500:]}")
    seen = place.server.ask()
    for what in ("groups", "rules", "locks", "unruled"):
        if seen[what]:
            cell.faults.append(f"{what} are left: {seen[what]}")
    if living := _living(seen):
        cell.faults.append(f"ORPHAN: {living}")


def points(stories: Sequence[Story], signals: Sequence[str], cache: Path) -> Iterator[Cell]:
    """All cells of these stories, tried one after the other."""
    for story in stories:
        for name in signals:
            for is_applied in (False, True):
                nth = 1
                while (cell := try_cell(Cell(story, name, nth, is_applied), cache)).struck:
                    yield cell
                    nth += 1
                if cell.faults:
                    yield cell


# The calls that cost money or end what costs money, where a kill does most harm.
_PAID = (
    ("create-cluster", "RunJobFlow", "KILL", True),
    ("create-cluster", "RunJobFlow", "INT+20ms", True),
    ("run", "RunJobFlow", "INT+20ms", True),
    ("submit", "AddJobFlowSteps", "KILL", True),
    ("terminate", "TerminateJobFlows", "INT+20ms", False),
)


def paid_points(cache: Path) -> Iterator[Cell]:
    """The few cells that every test run tries."""
    stories = {story.name: story for story in STORIES}
    for name, action, signals, is_applied in _PAID:
        story = replace(stories[name], what=action)
        cell = try_cell(Cell(story, signals, 1, is_applied), cache)
        if not cell.struck:
            cell.faults.append(f"it never asked for {action}")
        yield cell


def prepare(cache: Path) -> None:
    """Import and read all that each cell would import and read again; make the model."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # Each session would read botocore's files again; session.py has the name for itself.
    botocore.session.create_loader = functools.cache(botocore.loaders.create_loader)
    import fruits_cli.app
    import fruits_cli.commands.create_cluster
    import fruits_cli.commands.run
    import fruits_cli.commands.submit
    import fruits_cli.commands.terminate
    import fruits_cli.commands.upload
    import fruits_cli.runs.emr
    import fruits_cli.runs.results
    import fruits_cli.runs.resume
    import fruits_cli.tunnel.keys  # noqa: F401

    warm_up()
    session = botocore.session.get_session()
    for service in ("ec2", "emr", "iam", "s3", "sts", "pricing", "service-quotas"):
        _KEEP_FORKED.append(
            session.create_client(
                service, region_name=REGION, aws_access_key_id="x", aws_secret_access_key="x"
            )
        )


def main(argv: list[str]) -> int:
    """1 where a cell had a fault."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--paid", action="store_true", help="the paid and dangerous calls alone")
    parser.add_argument("--story", action="append", choices=[story.name for story in STORIES])
    parser.add_argument("--signals", action="append", choices=list(SIGNALS))
    parser.add_argument("--cache", type=Path, help="the cache that holds the model")
    asked = parser.parse_args(argv)
    cache = asked.cache or Path(tempfile.gettempdir()) / "kill-matrix-cache"
    prepare(cache)
    stories = [one for one in STORIES if not asked.story or one.name in asked.story]
    cells = (
        paid_points(cache) if asked.paid else points(stories, asked.signals or list(SIGNALS), cache)
    )
    tried = failed = orphans = 0
    for cell in cells:
        tried += 1
        failed += bool(cell.faults)
        orphans += sum(fault.startswith("ORPHAN") for fault in cell.faults)
        print(f"{'FAILED' if cell.faults else 'passed'} {cell} ({cell.seconds:.1f} s)", flush=True)
        for fault in cell.faults:
            print(f"    {fault}", flush=True)
    print(f"{tried} kill points tried, {failed} failed, {orphans} orphans", flush=True)
    return 1 if failed or not tried else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
