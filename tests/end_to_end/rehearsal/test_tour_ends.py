"""A tour that is ended while its tunnel and its browser are open leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.rehearsed import until
from tests.support.ssh_servers import free_port, is_listening
from tests.support.tour import at_terminal, processes_with, walked

# A page takes its usual port where that is free: no other test may take it meanwhile.
pytestmark = pytest.mark.xdist_group("tunnel")

# The stops that a tunnel needs.
TOUR = """
import sys
from functools import partial
from fruits_cli.commands.rehearse import pause_of
from fruits_cli.rehearsal.tour import Stop, take_tour
from fruits_cli.screen import Screen
from fruits_cli.signals import termination_as_interrupt
where = ("--bucket", "fruits-rehearsal", "--region", "eu-west-3")
story = [
    Stop("key", ("init", *where, "--key", "--yes")),
    Stop("cluster", ("create-cluster", "--yes")),
    Stop("pages", ("tunnel", "--port", sys.argv[1], "--open", "spark"), stays=True),
]
screen = Screen()
with termination_as_interrupt():
    take_tour(story, tell=screen.tell, pause=partial(pause_of, screen, yes=False))
"""


def stand_in_browser(folder: Path) -> Path:
    """A folder whose `chromium` says on a file that it runs, and stays."""
    folder.mkdir()
    script = folder / "chromium"
    script.write_text(f"#!/bin/sh\ntouch {folder}/runs\nsleep 1000\n")
    script.chmod(0o755)
    return folder


def end_by_terminal(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGINT)


def end_by_hangup(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGHUP)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(
    "end",
    [end_by_terminal, end_by_hangup, subprocess.Popen.terminate, subprocess.Popen.kill],
    ids=["ctrl-c", "closed terminal", "SIGTERM", "SIGKILL"],
)
def test_a_tour_that_is_ended_early_leaves_nothing(end, tmp_path: Path) -> None:
    browser, temporary, port = stand_in_browser(tmp_path / "bin"), tmp_path / "tmp", free_port()
    temporary.mkdir()
    environ = {
        "PATH": f"{browser}:{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(temporary),
        "PYTHONPATH": str(ROOT),
    }
    words = [sys.executable, "-c", TOUR, str(port)]

    def look(_: str) -> None:
        until((browser / "runs").exists)
        assert is_listening(port)
        end(process)

    with at_terminal(words, tmp_path, environ) as (process, keyboard):
        told = walked(process, keyboard, look)

    assert "The tunnel is open" in told
    until(lambda: not processes_with(str(temporary)))
    assert not [each for each in re.findall(r"127\.0\.0\.1:(\d+)", told) if is_listening(int(each))]
    assert os.listdir(temporary) == []
