from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

from fruits_cli.dataset.sample import draw_sample
from fruits_cli.files import templates_dir
from fruits_cli.rehearsal.hub_program import find_hub
from fruits_cli.tunnel.browser import find_browser
from tests.support.browser_page import first_page, headless
from tests.support.hub_page import TEXT, log_in, run_notebook
from tests.support.rehearsed import until
from tests.support.ssh_servers import is_listening

FRUITS = str(Path(sys.executable).with_name("fruits"))
PAUSE = "Ctrl-C ends the tour"
CELLS = len(json.loads((templates_dir() / "notebook.ipynb").read_text(encoding="utf-8"))["cells"])
NEEDED = {"jupyterhub": find_hub(), "chromium": find_browser(os.environ.get("PATH"))}
LACKING = [name for name, found in NEEDED.items() if not found]


def environ_in(folder: Path, *first_on_path: Path) -> dict[str, str]:
    return {
        "PATH": os.pathsep.join([*map(str, first_on_path), os.environ["PATH"]]),
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        # A user's own setting, which would send the tour's requests elsewhere.
        "FRUITS_STORAGE_BUCKET": "the-users-own",
    }


@contextmanager
def tour(
    folder: Path, environ: Mapping[str, str], *words: str
) -> Iterator[tuple[subprocess.Popen[str], IO[bytes]]]:
    """The tour at a terminal, and the terminal's keyboard."""
    ours, theirs = pty.openpty()
    with (
        os.fdopen(ours, "wb", buffering=0) as keyboard,
        subprocess.Popen(
            [FRUITS, "rehearse", "--tour", *words],
            cwd=folder,
            env=environ,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        os.close(theirs)
        try:
            yield process, keyboard
        finally:
            # A tour that is not over ends as by Ctrl-C.
            process.send_signal(signal.SIGINT)


async def look_around(told: str, log: Path, folder: Path) -> tuple[str, str]:
    """The texts of the notebook and of the History Server, in the browser that the tour opened."""
    urls = dict(re.findall(r"^(jupyterhub|spark) +(http\S+)", told, re.MULTILINE))
    (name,) = re.findall(r"/jupyter/jovyan/(\S+\.ipynb)", told)
    (password,) = re.findall(r"^[\w-]{24}$", told, re.MULTILINE)
    async with first_page(log) as page:
        # First, because a notebook that is not saved yet asks before it is left.
        await page.command("Page.navigate", url=urls["spark"])
        await page.until("!!document.querySelector('td a')")
        await page.value("document.querySelector('td a').click()")
        await page.until(f"{TEXT}.includes('Completed Jobs')")
        history = str(await page.value(TEXT))
        await page.save_screenshot(folder / "history.png")
        await log_in(page, urls["jupyterhub"], "jovyan", password)
        return await run_notebook(page, name, folder / "notebook.png", cells=CELLS), history


def processes_with(text: str) -> list[int]:
    """The processes, this one excepted, in whose environment the text stands."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if text.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]


@pytest.mark.slow
@pytest.mark.spark
@pytest.mark.xdist_group("spark")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)} (.ci/hub)")
def test_the_tour_walks_from_init_to_the_bill(artefact_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache" / "fruits").mkdir(parents=True)
    (tmp_path / "cache" / "fruits" / "models").symlink_to(artefact_folder.parent)
    draw_sample(tmp_path / "pictures", count=36)
    log = tmp_path / "chromium.log"
    environ = environ_in(tmp_path, headless(tmp_path / "bin", log))
    told, seen = "", ("", "")

    with tour(tmp_path, environ, "pictures", "--image-size", "96", "--weights", "random") as (
        process,
        keyboard,
    ):
        for line in process.stdout or ():
            told += line
            if PAUSE in line:
                if told.rpartition("$ fruits ")[2].startswith("tunnel --password"):
                    seen = asyncio.run(look_around(told, log, tmp_path))
                keyboard.write(b"\n")
        assert process.wait(60) == 0, told

    assert re.findall(r"^\$ fruits ([a-z-]+)", told, re.MULTILINE) == [
        *("init", "doctor", "upload", "create-cluster", "submit", "status"),
        *("tunnel", "tunnel", "fetch-results", "report", "terminate"),
    ]
    notebook, history = seen
    assert "Nearest to " in notebook
    assert "Traceback" not in notebook
    (line,) = (line for line in told.splitlines() if line.startswith("yarn "))
    assert "no answer yet" in line
    assert "is TERMINATED" in told
    (run,) = (tmp_path / "fruits-runs").iterdir()
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["counts"]["features"] == 34
    assert (run / "report.html").exists()
    assert manifest["run_id"] in history
    assert not (tmp_path / "home" / ".ssh").exists()
    assert not (tmp_path / ".fruits").exists()
    assert not [port for port in re.findall(r"127\.0\.0\.1:(\d+)", told) if is_listening(int(port))]
    until(lambda: not processes_with(str(tmp_path / "bin")))


def test_a_tour_without_a_terminal_wants_yes_before_anything_starts(tmp_path: Path) -> None:
    refused = subprocess.run(
        [FRUITS, "rehearse", "--tour", "pictures"],
        cwd=tmp_path,
        env=environ_in(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert refused.returncode == 2
    assert refused.stdout == "Error: There is no terminal to wait at.\nHint: Give --yes.\n"
