"""A page of a running Chromium, driven through its DevTools."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

from fruits_cli.tunnel.browser import find_browser

_LISTENING = re.compile(r"DevTools listening on ws://(127\.0\.0\.1:\d+)/")
_SHIFT = 8
# Without a screen Chromium takes one address alone: the first.
_ONE_ADDRESS = """left=$# first=
while [ $left -gt 0 ]; do
    left=$((left - 1)) word=$1
    shift
    case $word in http*) [ -n "$first" ] && continue; first=$word ;; esac
    set -- "$@" "$word"
done
"""


def headless(folder: Path, log: Path) -> Path:
    """A folder whose `chromium` is the real one, without a screen and with a door for the test."""
    options = "--headless=new --no-sandbox --disable-gpu --window-size=1200,900"
    door = "--remote-debugging-port=0 --remote-allow-origins='*'"
    folder.mkdir()
    script = folder / "chromium"
    real = find_browser(os.environ.get("PATH"))
    script.write_text(f'#!/bin/sh\n{_ONE_ADDRESS}exec {real} {options} {door} "$@" 2> {log}\n')
    script.chmod(0o755)
    return folder


class Page:
    """One tab; `events` are what DevTools told of it without being asked."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self._socket, self._number = socket, 0
        self.events: list[dict[str, Any]] = []

    async def command(self, method: str, **params: object) -> dict[str, Any]:
        """The result of a DevTools command. Source: Chrome DevTools Protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        await self._socket.write_message(json.dumps(message))
        while (said := await self._socket.read_message()) is not None:
            answer = json.loads(said)
            if answer.get("id") == self._number:
                result: dict[str, Any] = answer.get("result", {})
                return result
            self.events.append(answer)
        raise ConnectionError("The browser has gone.")

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression gives in the page; None while it fails."""
        found = await self.command("Runtime.evaluate", expression=expression, returnByValue=True)
        return found.get("result", {}).get("value")

    async def until(self, expression: str, *, patience_s: float = 300) -> None:
        """Return once the expression is true in the page. Raises AssertionError, with its text."""
        deadline = time.monotonic() + patience_s
        while not await self.value(expression):
            if time.monotonic() > deadline:
                seen = await self.value("location.href + ' ' + document.body.innerText")
                raise AssertionError(f"never became true: {expression}; the page: {seen}")
            await asyncio.sleep(0.2)

    async def awaited(self, expression: str) -> Any:
        """What the promise that the expression gives is kept with."""
        found = await self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def mouse(self, kind: str, x: float, y: float, *, button: str = "none") -> None:
        """A mouse event at a place of the window: mouseMoved, mousePressed or mouseReleased."""
        clicks = 0 if kind == "mouseMoved" else 1
        await self.command(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x,
            y=y,
            button=button,
            buttons=int(button == "left"),
            clickCount=clicks,
        )

    async def click(self, x: float, y: float) -> None:
        """Press and release the left button."""
        for kind in ("mousePressed", "mouseReleased"):
            await self.mouse(kind, x, y, button="left")

    async def press(self, key: str) -> None:
        """A key by its name, such as ArrowLeft."""
        for kind in ("keyDown", "keyUp"):
            await self.command("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    async def press_shift_enter(self) -> None:
        """Run the cell that has the focus and go to the next."""
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "modifiers": _SHIFT}
        await self.command("Input.dispatchKeyEvent", type="keyDown", text="\r", **key)
        await self.command("Input.dispatchKeyEvent", type="keyUp", **key)

    async def save_screenshot(self, file: Path, *, height_px: int | None = None) -> None:
        """The window as a PNG, or its upper part."""
        part = {"x": 0, "y": 0, "width": 1200, "height": height_px, "scale": 1}
        shot = await self.command("Page.captureScreenshot", **({"clip": part} if height_px else {}))
        file.write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def first_page(log: Path, *, patience_s: float = 300) -> AsyncIterator[Page]:
    """The first tab of the browser whose stderr goes to `log`."""
    socket = await websocket_connect(await _address(log, patience_s))
    try:
        yield Page(socket)
    finally:
        socket.close()
        # Without its answer the connection would count as left open.
        await socket.read_message()


async def _address(log: Path, patience_s: float) -> str:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if log.exists() and (found := _LISTENING.search(log.read_text(errors="replace"))):
            with urllib.request.urlopen(f"http://{found[1]}/json", timeout=30) as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
            if tabs:
                return str(tabs[0]["webSocketDebuggerUrl"])
        await asyncio.sleep(0.2)
    raise AssertionError("the browser has no page")
