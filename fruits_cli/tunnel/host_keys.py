"""Decides which host keys are trusted: named by the user or the console, or seen before.

Keys are pinned in a file that OpenSSH reads too, one line for a key, under the cluster's id or
`[host]:port`, so that the `ssh` line of --print-command checks the very same keys.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fruits_cli.errors import HostKeyRefused, UsageError
from fruits_cli.files import write_private, xdg_folder

_FINGERPRINT = re.compile(r"SHA256:([A-Za-z0-9+/]{43})=?")
_CONSOLE_LINE = re.compile(r"\b\d+ (SHA256:[A-Za-z0-9+/]{43}=?) .*\(([A-Z0-9-]+)\)")
_BEGIN, _END = "BEGIN SSH HOST KEY FINGERPRINTS", "END SSH HOST KEY FINGERPRINTS"


@dataclass(frozen=True)
class HostKey:
    """A public key as SSH sends it."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """SHA256:..., as ssh-keygen -l prints it."""
        digest = hashlib.sha256(self.blob).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


class Verdict(StrEnum):
    """What to do with the key that a host presents."""

    TRUSTED = "trusted"
    PIN = "pin"
    ASK = "ask"


def parse_fingerprint(text: str) -> str:
    """`SHA256:` and 43 characters, without padding. Raises UsageError on anything else."""
    match = _FINGERPRINT.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{text!r} is not the fingerprint of a host key.",
            hint="It reads SHA256:... with 43 characters, as ssh-keygen -lf prints it.",
        )
    return f"SHA256:{match[1]}"


def parse_console_fingerprints(console: str) -> frozenset[str]:
    """The fingerprints that an instance printed at its first boot; empty while it has not yet.

    Only a whole block counts: a console cut in the middle may lack the key that the host shows.
    Source: Amazon EC2 User Guide, connection prerequisites, get the instance fingerprint.
    """
    _, begun, rest = console.partition(_BEGIN)
    block, ended, _ = rest.partition(_END)
    if not begun or not ended:
        return frozenset()
    return frozenset(parse_fingerprint(match[1]) for match in _CONSOLE_LINE.finditer(block))


def judge(
    key: HostKey, *, name: str, pinned: Iterable[HostKey], expected: frozenset[str]
) -> Verdict:
    """What to do with `key`: expected fingerprints decide, else the pinned keys, else the user.

    Raises HostKeyRefused where it is neither expected nor the one that was pinned.
    """
    known = list(pinned)
    if expected:
        if key.fingerprint not in expected:
            raise _unexpected(key, name, expected)
        return Verdict.TRUSTED if key in known else Verdict.PIN
    if not known:
        return Verdict.ASK
    if key not in known:
        raise _changed(key, name, known)
    return Verdict.TRUSTED


def known_hosts_name(host: str, port: int) -> str:
    """How OpenSSH writes a host in known_hosts: bare on port 22, else `[host]:port`."""
    return host if port == 22 else f"[{host}]:{port}"


def state_dir(environ: Mapping[str, str]) -> Path:
    """The folder for state that must be kept: $XDG_STATE_HOME/fruits, else ~/.local/state."""
    return xdg_folder("XDG_STATE_HOME", ".local/state", environ)


@dataclass(frozen=True)
class PinFile:
    """The pinned keys of all clusters, in OpenSSH's known_hosts form."""

    path: Path

    def keys(self, name: str) -> list[HostKey]:
        """The keys pinned for `name`; empty where none is or the file is absent."""
        return [key for line in self._lines() for owner, key in _parse_line(line) if owner == name]

    def pin(self, name: str, key: HostKey) -> None:
        """Trust `key`, and no other, for `name` from now on."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.path.parent / f"{self.path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept = [
                line
                for line in self._lines()
                if all(owner != name for owner, _ in _parse_line(line))
            ]
            encoded = base64.b64encode(key.blob).decode()
            write_private(self.path, "\n".join([*kept, f"{name} {key.kind} {encoded}", ""]))

    def _lines(self) -> list[str]:
        with suppress(FileNotFoundError):
            return self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        return []


def _parse_line(line: str) -> list[tuple[str, HostKey]]:
    fields = line.split()
    if len(fields) < 3 or line.startswith("#"):
        return []
    try:
        return [(fields[0], HostKey(fields[1], base64.b64decode(fields[2], validate=True)))]
    except binascii.Error:
        return []


def _unexpected(key: HostKey, name: str, expected: frozenset[str]) -> HostKeyRefused:
    return HostKeyRefused(
        f"The host key of {name} is {key.fingerprint}, not {' or '.join(sorted(expected))}.",
        hint="Another machine may be answering; nothing was sent to it but the greeting.",
    )


def _changed(key: HostKey, name: str, pinned: list[HostKey]) -> HostKeyRefused:
    known = " or ".join(sorted(known.fingerprint for known in pinned))
    return HostKeyRefused(
        f"The host key of {name} has changed: it is {key.fingerprint} and was {known}.",
        hint="Another machine may be answering. If the host was made anew, get the fingerprint of "
        "its key by another way and give it with --host-key SHA256:...",
    )
