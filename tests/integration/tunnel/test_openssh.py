"""Against OpenSSH's own server; skipped where it is not installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fruits_cli.tunnel.connection import Back, Lost, Retrying
from fruits_cli.tunnel.socks import Reply
from tests.support.paths import ROOT
from tests.support.ssh_servers import (
    OpenSsh,
    echo,
    free_port,
    on_demand,
    payload,
    read_all,
    served,
    socks_through,
    through_socks,
    wait_until,
)

MIB = 1024 * 1024


def test_a_large_download_is_whole(openssh: OpenSsh, key_file: Path) -> None:
    # Beyond 16 MiB the window has to move, beyond 64 MiB more than once.
    size = 96 * MIB
    with served(on_demand) as target, socks_through(openssh, key_file) as (port, _):
        _, connection = through_socks(port, "localhost", target)
        connection.sendall(f"{size}\n".encode())
        digest, received = hashlib.sha256(), 0
        while piece := connection.recv(MIB):
            digest.update(piece)
            received += len(piece)
        connection.close()

    assert received == size
    assert digest.digest() == hashlib.sha256(payload(size)).digest()


def test_a_large_upload_comes_back_whole(openssh: OpenSsh, key_file: Path) -> None:
    data = payload(24 * MIB)
    with (
        served(echo) as target,
        socks_through(openssh, key_file) as (port, _),
        ThreadPoolExecutor(1) as sender,
    ):
        _, connection = through_socks(port, "localhost", target)
        sent = sender.submit(connection.sendall, data)
        back = b""
        while len(back) < len(data) and (piece := connection.recv(MIB)):
            back += piece
        sent.result()
        connection.close()

    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()


def test_two_hundred_at_once_lose_nothing(openssh: OpenSsh, key_file: Path) -> None:
    def fetch(number: int) -> bool:
        reply, connection = through_socks(port, "localhost", target)
        with connection:
            connection.sendall(f"{50_000 + number}\n".encode())
            return reply == 0 and read_all(connection) == payload(50_000 + number)

    with (
        served(on_demand) as target,
        socks_through(openssh, key_file) as (port, _),
        ThreadPoolExecutor(200) as crowd,
    ):
        assert all(crowd.map(fetch, range(200)))


def test_replies_tell_refused_from_forbidden(openssh: OpenSsh, key_file: Path) -> None:
    with socks_through(openssh, key_file) as (port, _):
        refused, first = through_socks(port, "localhost", free_port())
        not_ours, second = through_socks(port, "example.org", 80)
        first.close()
        second.close()

    assert (refused, not_ours) == (Reply.CONNECTION_REFUSED, Reply.NOT_ALLOWED)


def test_a_server_that_forbids_forwarding_is_told_as_such(openssh: OpenSsh, key_file: Path) -> None:
    openssh.die()
    openssh.extra = "AllowTcpForwarding no\n"
    openssh.start()

    with served(echo) as target, socks_through(openssh, key_file) as (port, _):
        reply, connection = through_socks(port, "localhost", target)
        connection.close()

    assert reply == Reply.NOT_ALLOWED


def test_sshd_killed_in_a_download_and_started_again_is_found_again(
    openssh: OpenSsh, key_file: Path
) -> None:
    with served(on_demand) as target, socks_through(openssh, key_file) as (port, link):
        _, cut = through_socks(port, "localhost", target)
        cut.sendall(b"1000000000\n")
        cut.recv(1000)
        events = link.events()
        openssh.die()
        assert isinstance(next(events), Lost)
        openssh.start()
        while isinstance(event := next(events), Retrying):
            pass
        assert isinstance(event, Back)
        reply, again = through_socks(port, "localhost", target)
        again.sendall(b"1000\n")

        assert reply == 0
        assert read_all(again) == payload(1000)
        cut.close()
        again.close()


_STALLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tests.support.ssh_servers import OpenSsh, socks_through, through_socks, wait_until
server = OpenSsh(Path("."), None)
server.port = {port}
with socks_through(server, Path({key!r})) as (port, link):
    crowd = [through_socks(port, "localhost", {target})[1] for _ in range(200)]
    for each in crowd:
        each.sendall(b"50000000\\n")
    print("asked", flush=True)
    sys.stdin.readline()
    status = Path("/proc/self/status").read_text()
    print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    for each in crowd:
        each.close()
"""


@pytest.mark.slow
def test_two_hundred_stalled_downloads_stay_within_their_memory(
    openssh: OpenSsh, key_file: Path
) -> None:
    code = _STALLED.format(tests=str(ROOT), port=openssh.port, key=str(key_file), target="{target}")
    with (
        served(on_demand) as target,
        subprocess.Popen(
            [sys.executable, "-c", code.replace("{target}", str(target))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        wait_until(lambda: has_come_to_rest(process.pid))
        process.stdin.write("\n")
        process.stdin.flush()
        peak_mib = int(process.stdout.readline()) / 1024

    assert peak_mib < 600


def has_come_to_rest(pid: int) -> bool:
    """Whether the process takes no more in: what it holds is the same twice in a second."""
    sizes = []
    for _ in range(5):
        status = Path(f"/proc/{pid}/statm").read_text().split()
        sizes.append(int(status[1]))
        subprocess.run(["sleep", "0.2"], check=True)
    return max(sizes) == min(sizes)
