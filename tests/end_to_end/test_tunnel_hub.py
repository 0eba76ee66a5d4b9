"""The whole way: `fruits tunnel --open jupyterhub` to a notebook that runs behind sshd."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from fruits_cli.cluster.notebook import filled
from fruits_cli.files import templates_dir
from fruits_cli.job.bundle import job_bundle
from fruits_cli.tunnel.browser import find_browser
from tests.integration.commands.test_tunnel_ssh import first_answer, running
from tests.support.browser_page import Page, first_page
from tests.support.hub_behind import PASSWORD, SSH_PORT, Hub, hub_behind_sshd, require_tools
from tests.support.notebooks import make_run
from tests.support.paths import ROOT
from tests.support.ssh_servers import free_port, is_listening

pytestmark = [
    pytest.mark.slow,
    pytest.mark.spark,
    pytest.mark.xdist_group("submit"),
    pytest.mark.filterwarnings("ignore"),
]

_LOG_IN = f"""
document.querySelector('#username_input').value = 'root';
document.querySelector('#password_input').value = '{PASSWORD}';
document.querySelector('form').submit();
"""
_KERNEL_IS_IDLE = """
document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'
"""
_FOCUS_FIRST_CELL = "document.querySelector('.jp-CodeCell .cm-content').focus()"
_FIRST_CELL_RAN = """
document.querySelector('.jp-CodeCell .jp-InputPrompt')?.innerText.trim() !== '[ ]:'
"""
_TEXT = "document.body.innerText"


def headless(folder: Path, log: Path) -> Path:
    """A folder whose `chromium` is the real one, without a screen and with a door for the test."""
    options = "--headless=new --no-sandbox --disable-gpu --window-size=1200,900"
    door = "--remote-debugging-port=0 --remote-allow-origins='*'"
    folder.mkdir()
    script = folder / "chromium"
    real = find_browser(os.environ.get("PATH"))
    script.write_text(f'#!/bin/sh\nexec {real} {options} {door} "$@" 2> {log}\n')
    script.chmod(0o755)
    return folder


def put_notebook(hub: Hub, folder: Path) -> int:
    """The project's notebook, with a run to read, in the hub's folder; how many cells it has."""
    make_run(folder / "runs" / "20260823-141502-k3f9")
    code = job_bundle(folder).zip
    template = (templates_dir() / "notebook.ipynb").read_text(encoding="utf-8")
    values = {"RUNS": f"{folder}/runs/", "CODE": str(code)}
    (hub.notebooks / "fruits.ipynb").write_text(filled(template, values), encoding="utf-8")
    return len(json.loads(template)["cells"])


async def run_first_cell(page: Page) -> None:
    """Press until it runs: an editor that the page is still building loses focus and keys again."""
    for _ in range(60):
        await page.value(_FOCUS_FIRST_CELL)
        await page.press_shift_enter()
        with suppress(AssertionError):
            return await page.until(_FIRST_CELL_RAN, patience_s=2)
    raise AssertionError(f"the first cell never ran; the page: {await page.value(_TEXT)}")


async def run_notebook(page: Page, hub_url: str, screenshot: Path, *, cells: int) -> str:
    """The page's text once all cells ran, after a login through the hub's own form."""
    await page.until("!!document.querySelector('#username_input')")
    await page.value(_LOG_IN)
    await page.until("location.pathname.startsWith('/user/root/tree')")
    await page.command("Page.navigate", url=f"{hub_url}user/root/notebooks/fruits.ipynb")
    await page.until(f"{_TEXT}.includes('Pictures, features, principal components')")
    await page.until(_KERNEL_IS_IDLE)
    await run_first_cell(page)
    # The focus is in the third cell now; text counts as a cell, too.
    for _ in range(cells - 2):
        await page.press_shift_enter()
    await page.until(f"{_TEXT}.includes('only showing top 5 rows')", patience_s=240)
    await page.until(_KERNEL_IS_IDLE)
    await page.save_screenshot(screenshot)
    return str(await page.value(_TEXT))


def test_the_notebook_runs_in_the_browser_that_the_tunnel_opens(tmp_path: Path) -> None:
    require_tools()
    log, screenshot = tmp_path / "chromium.log", tmp_path / "notebook.png"
    path = headless(tmp_path / "bin", log)
    environ = {
        "PATH": str(path),
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PYTHONPATH": str(ROOT),
    }

    with hub_behind_sshd(tmp_path) as hub:
        cells = put_notebook(hub, tmp_path)
        way = ["--host", f"root@{hub.address}", "--ssh-port", str(SSH_PORT)]
        trust = ["--key-file", str(hub.key_file), "--host-key", hub.fingerprint]
        words = [*way, *trust, "--port", str(free_port()), "--open", "jupyterhub"]
        with running(["tunnel", *words, "--output", "json"], environ, tmp_path) as process:
            answer = first_answer(process)
            pages = answer["pages"]
            assert isinstance(pages, dict)

            async def visit() -> str:
                async with first_page(log) as page:
                    return await run_notebook(page, pages["jupyterhub"], screenshot, cells=cells)

            text = asyncio.run(visit())
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130

    assert "Nearest to kind 0/p" in text
    assert "Traceback" not in text
    assert screenshot.stat().st_size > 10_000
    assert not is_listening(int(str(answer["socks_port"])))
