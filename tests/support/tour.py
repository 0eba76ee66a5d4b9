"""`fruits rehearse --tour` at a terminal, and a browser that looks at what it opens."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fruits_cli.files import templates_dir
from tests.support.browser_page import first_page
from tests.support.hub_page import TEXT, log_in, run_notebook

FRUITS = str(Path(sys.executable).with_name("fruits"))
_PAUSE = "Ctrl-C ends the tour"
_CELLS = len(json.loads((templates_dir() / "notebook.ipynb").read_text(encoding="utf-8"))["cells"])


@contextmanager
def at_terminal(
    words: list[str], folder: Path, environ: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[str], IO[bytes]]]:
    """A command in a session of its own, and the keyboard of its terminal; killed at the end."""
    ours, theirs = pty.openpty()
    with (
        os.fdopen(ours, "wb", buffering=0) as keyboard,
        subprocess.Popen(
            words,
            cwd=folder,
            env=environ,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        os.close(theirs)
        try:
            yield process, keyboard
        finally:
            # What it started ends with it.
            process.kill()


def walked(
    process: subprocess.Popen[str], keyboard: IO[bytes], look: Callable[[str], object]
) -> str:
    """What a tour says until its end; `look` is called with it while the tunnel is open."""
    told = ""
    for line in process.stdout or ():
        told += line
        if _PAUSE in line:
            if re.findall(r"^\$ fruits (\S+)", told, re.MULTILINE)[-1] == "tunnel":
                look(told)
            keyboard.write(b"\n")
    process.wait(60)
    return told


async def look_around(told: str, log: Path, folder: Path) -> tuple[str, str]:
    """The texts of the notebook and of the History Server, in the browser that the tour opened.

    told: what the tour said so far. log: Chromium's stderr. folder: takes pictures of the pages.
    """
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
        await page.save_screenshot(folder / "tunnel-history.png", height_px=660)
        await log_in(page, urls["jupyterhub"], "jovyan", password)
        await page.until(f"{TEXT}.includes('{name}')")
        await page.save_screenshot(folder / "tunnel-jupyterhub.png", height_px=300)
        shown = await run_notebook(page, name, folder / "tunnel-notebook.png", cells=_CELLS)
        return shown, history


def processes_with(text: str) -> list[int]:
    """The processes, this one excepted, in whose environment the text stands."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if text.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]
