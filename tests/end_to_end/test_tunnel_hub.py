"""The whole way: `fruits tunnel --open jupyterhub` to a notebook that runs behind sshd."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from fruits_cli.cluster.notebook import filled
from fruits_cli.files import templates_dir
from fruits_cli.job.bundle import job_bundle
from tests.integration.commands.test_tunnel_ssh import first_answer, running
from tests.support.browser_page import first_page, headless
from tests.support.hub_behind import PASSWORD, SSH_PORT, Hub, hub_behind_sshd, require_tools
from tests.support.hub_page import log_in, run_notebook
from tests.support.notebooks import make_run
from tests.support.paths import ROOT
from tests.support.ssh_servers import free_port, is_listening

pytestmark = [
    pytest.mark.slow,
    pytest.mark.spark,
    pytest.mark.xdist_group("submit"),
    pytest.mark.filterwarnings("ignore"),
]


def put_notebook(hub: Hub, folder: Path) -> int:
    """The project's notebook, with a run to read, in the hub's folder; how many cells it has."""
    make_run(folder / "runs" / "20260823-141502-k3f9")
    code = job_bundle(folder).zip
    template = (templates_dir() / "notebook.ipynb").read_text(encoding="utf-8")
    values = {"RUNS": f"{folder}/runs/", "CODE": str(code)}
    (hub.notebooks / "fruits.ipynb").write_text(filled(template, values), encoding="utf-8")
    return len(json.loads(template)["cells"])


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
                    await log_in(page, pages["jupyterhub"], "root", PASSWORD)
                    return await run_notebook(page, "fruits.ipynb", screenshot, cells=cells)

            text = asyncio.run(visit())
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130

    assert "Nearest to kind 0/p" in text
    assert "Traceback" not in text
    assert screenshot.stat().st_size > 10_000
    assert not is_listening(int(str(answer["socks_port"])))
