"""Starts Chromium or Chrome with a profile that ends with the tunnel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fruits_cli.errors import TunnelError
from fruits_cli.tunnel import guard

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
_MAC_APPS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


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
    """The browser's guard, which ends it at the end, also where we are killed.

    It is closed then and its profile removed. Raises TunnelError where it does not start.
    """
    profile = Path(tempfile.mkdtemp(prefix="fruits-browser-"))
    command = browser_command(
        executable, profile=profile, pac_url=pac_url, key_hashes=key_hashes, urls=urls
    )
    try:
        # A session of its own: Ctrl-C in the terminal is for the tunnel, which then ends it.
        process = subprocess.Popen(
            [sys.executable, "-I", guard.__file__, "--scratch", str(profile), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        profile.rmdir()
        raise TunnelError(f"{executable} could not be started: {error.strerror}.") from error
    try:
        yield process
    finally:
        # Not the process's own block, which does not wait after Ctrl-C.
        process.communicate()
