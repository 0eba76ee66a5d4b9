"""The user's private keys: a file that only they can read, or the SSH agent's."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

from paramiko import Agent, PKey, SSHException
from paramiko.pkey import UnknownKeyType

from fruits_cli.errors import LoginRefused, UsageError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def load_keys(key_file: Path | None) -> Sequence[PKey]:
    """The key of `key_file`, or without one those of the SSH agent.

    Raises UsageError where the file is missing, open to others, locked or no key.
    """
    return [_load_key(key_file.expanduser())] if key_file is not None else _agent_keys()


def _load_key(path: Path) -> PKey:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(f"The key file {path} cannot be read: {error.strerror}.") from error
    if mode & _OTHERS:
        raise UsageError(
            f"The key file {path} is open to other users (mode {stat.S_IMODE(mode):04o}).",
            hint=f"chmod 600 {path}",
        )
    try:
        return PKey.from_path(path)
    except TypeError as error:
        raise UsageError(
            f"The key file {path} is locked by a passphrase.",
            hint=f"ssh-add {path}, then leave out --key-file: the agent's keys are used.",
        ) from error
    except (OSError, ValueError, SSHException, UnknownKeyType) as error:
        raise UsageError(f"The file {path} is not a private key that fruits can read.") from error


def _agent_keys() -> Sequence[PKey]:
    try:
        agent = Agent()
    except (SSHException, OSError) as error:
        raise LoginRefused(f"The SSH agent does not answer: {error}.") from error
    # The keys sign through this connection, so it stays open with them.
    keys = agent.get_keys()
    if not keys:
        agent.close()
        raise LoginRefused(
            "There is no key to log in with: no key file is given and the SSH agent has none.",
            hint="Give --key-file KEY.pem, or ssh-add KEY.pem.",
        )
    return keys
