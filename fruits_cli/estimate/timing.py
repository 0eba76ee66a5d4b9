"""How many pictures a second this machine computes: spark_job.embed, one process a core."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from fruits_cli.job.embedding import embedding_failure
from fruits_cli.job.model import QUIET


@dataclass(frozen=True)
class Timed:
    """Images a second of all processes together, at work at the same time.

    at_work: the share of the time for which they had a core; the rest went to other programs, or
    to waiting for the disk.
    """

    images_s: float
    pictures: int
    rejected: int
    at_work: float = 1.0

    @property
    def undisturbed_images_s(self) -> float:
        """Images a second if they had their cores all the time."""
        return self.images_s / min(1.0, self.at_work)


def time_sample(
    files: Sequence[str], command: Sequence[str], environ: Mapping[str, str], *, processes: int
) -> Timed:
    """The speed of these files, start-up left out: the clock runs once every model is ready.

    command: that of `embedding_command`, started so many times at once.

    Raises the error of spark_job.embed, MachineError where it gives none.
    """
    shares = [files[n::processes] for n in range(processes)]
    shares = [share for share in shares if share]
    # The pool is left last: its threads wait for processes that an interrupt ends first.
    with (
        ThreadPoolExecutor(max(1, len(shares))) as pool,
        _embedding_processes(len(shares), command, environ) as started,
    ):
        for process in started:
            _told(process, "ready")
        done = list(pool.map(_fed, started, shares))
    pictures = sum(facts["pictures"] for facts in done)
    return Timed(
        sum(facts["pictures"] / facts["seconds"] for facts in done),
        pictures,
        sum(facts["rejected"] for facts in done),
        sum(facts["cpu_seconds"] for facts in done) / sum(facts["seconds"] for facts in done),
    )


@contextlib.contextmanager
def _embedding_processes(
    count: int, command: Sequence[str], environ: Mapping[str, str]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    with contextlib.ExitStack() as ending:
        processes = []
        for _ in range(count):
            process = subprocess.Popen(
                command,
                env={**environ, **QUIET},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                # A buffer would be flushed again at exit, into a broken pipe.
                bufsize=0,
            )
            # Last in, first out: killed, then waited for; after a good end both do nothing.
            ending.enter_context(process)
            ending.callback(process.kill)
            processes.append(process)
        yield processes


def _fed(process: subprocess.Popen[bytes], files: Sequence[str]) -> dict[str, Any]:
    assert process.stdin is not None
    # Where it died, its own error says more than the broken pipe.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(b"".join(os.fsencode(file) + b"\0" for file in files))
        process.stdin.close()
    return _told(process, "done")


def _told(process: subprocess.Popen[bytes], word: str) -> dict[str, Any]:
    """What the process prints under that word. Raises its error where it ends before."""
    assert process.stderr is not None
    last = []
    for line in process.stderr:
        text = line.decode(errors="replace").rstrip()
        last.append(text)
        if text.startswith(f'{{"{word}"'):
            told: dict[str, Any] = json.loads(text)[word]
            return told
    raise embedding_failure(process.wait(), last, "The sample could not be timed")
