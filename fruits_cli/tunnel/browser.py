"""Starts Chromium or Chrome with a profile that ends with the tunnel."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fruits_cli.errors import TunnelError

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
_MAC_APPS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
_END_TIMEOUT_S = 5.0


def find_browser(search_path: str | None) -> Path | None:
    """Chromium or Chrome on `search_path` or, on a Mac, among the applications."""
    for name in _NAMES:
        if found := shutil.which(name, path=search_path):
            return Path(found)
    return next((Path(app) for app in _MAC_APPS if Path(app).exists()), None)


def browser_command(
    executable: Path,
    *,
    profile: Path,
    pac_url: str,
    key_hashes: tuple[str, ...],
    urls: tuple[str, ...],
) -> list[str]:
    """The command line of a browser that uses only the tunnel.

    key_hashes: SHA-256 of the public keys whose certificates it accepts although they sign
    themselves. Source: Chromium, --ignore-certificate-errors-spki-list; needs --user-data-dir.
    """
    return [
        str(executable),
        f"--user-data-dir={profile}",
        f"--proxy-pac-url={pac_url}",
        *([f"--ignore-certificate-errors-spki-list={','.join(key_hashes)}"] if key_hashes else []),
        "--no-first-run",
        "--no-default-browser-check",
        "--disable-sync",
        *urls,
    ]


@contextmanager
def browser_open(
    executable: Path, *, pac_url: str, key_hashes: tuple[str, ...], urls: tuple[str, ...]
) -> Iterator[subprocess.Popen[bytes]]:
    """The browser, running; at the end it is closed and its profile removed."""
    profile = Path(tempfile.mkdtemp(prefix="fruits-browser-"))
    command = browser_command(
        executable, profile=profile, pac_url=pac_url, key_hashes=key_hashes, urls=urls
    )
    try:
        with _running(command) as process:
            yield process
    finally:
        shutil.rmtree(profile, ignore_errors=True)


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        # A session of its own: Ctrl-C in the terminal is for the tunnel, which then ends it.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise TunnelError(f"{command[0]} could not be started: {error.strerror}.") from error
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_TIMEOUT_S)
            return
