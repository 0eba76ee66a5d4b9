from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ssh_servers import SSHD, OpenSsh, SshServer, new_key


@pytest.fixture
def ssh_server(tmp_path: Path) -> Iterator[SshServer]:
    server = SshServer(new_key(tmp_path / "host_key"), new_key(tmp_path / "user_key"))
    server.start()
    yield server
    server.die()


@pytest.fixture
def openssh(tmp_path: Path) -> Iterator[OpenSsh]:
    if SSHD is None:
        pytest.skip("OpenSSH's sshd is not installed (apt-get install openssh-server)")
    host_key, user_key = new_key(tmp_path / "host_key"), new_key(tmp_path / "user_key")
    (tmp_path / "authorized_keys").write_text(f"ssh-ed25519 {user_key.get_base64()}\n")
    if os.geteuid() == 0:
        # The folder that root's sshd drops its rights in; packages make it at boot.
        Path("/run/sshd").mkdir(exist_ok=True)
    server = OpenSsh(tmp_path, host_key)
    server.start()
    yield server
    server.die()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "user_key"


@pytest.fixture
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "fruits"
