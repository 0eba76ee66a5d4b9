"""Makes the pictures of docs/tunnel.md anew: a tour of the sample, looked at with Chromium.

PYTHONPATH=. .venv/bin/python .ci/screenshots.py; wants chromium and the packages of fruits[hub].
"""

from __future__ import annotations

import asyncio
import html
import os
import tempfile
from pathlib import Path
from urllib.parse import quote

from tests.support.browser_page import Page, first_page, headless
from tests.support.paths import ROOT
from tests.support.tour import FRUITS, at_terminal, look_around, walked

_DARK = "margin:0; background:#1e1e1e"
_STYLE = "margin:0; padding:16px; color:#ddd; font:14px/1.4 monospace"


async def draw_terminal(page: Page, text: str, file: Path) -> None:
    """Lines of a terminal as a picture of their own size."""
    body = f"<body style='{_DARK}'><pre style='{_STYLE}'>{html.escape(text)}</pre>"
    await page.command("Page.navigate", url=f"data:text/html,{quote(body)}")
    await page.until("!!document.querySelector('pre')")
    height = await page.value("document.querySelector('pre').offsetHeight")
    size = {"width": 1200, "height": height, "deviceScaleFactor": 1, "mobile": False}
    await page.command("Emulation.setDeviceMetricsOverride", **size)
    await page.save_screenshot(file)
    await page.command("Emulation.clearDeviceMetricsOverride")


async def make_pictures(told: str, log: Path) -> None:
    """All of them, while the tunnel of the tour is open."""
    tunnel = told[told.rindex("\n\n") :].partition("\n$ fruits tunnel --password")[0]
    async with first_page(log) as page:
        await draw_terminal(page, tunnel.strip(), ROOT / "docs" / "tunnel-terminal.png")
    await look_around(told, log, ROOT / "docs")


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder, log = Path(scratch), Path(scratch) / "chromium.log"
        headless(folder / "bin", log)
        environ = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        with at_terminal([FRUITS, "rehearse", "--tour"], folder, environ) as (process, keyboard):
            print(walked(process, keyboard, lambda told: asyncio.run(make_pictures(told, log))))


if __name__ == "__main__":
    main()
