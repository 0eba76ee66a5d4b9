"""The tunnel against `ssh -D` to the same sshd: rate of one download, connections per second,
memory under 200 downloads that nobody reads.

python benchmarks/tunnel.py [--size-mb 1000] [--rounds 3] [--output result.json]
Both are measured in turn in the same run, every client in a process of its own.
"""

from __future__ import annotations

import argparse
import getpass
import hashlib
import json
import os
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from paramiko import __version__ as paramiko_version

BLOCK = hashlib.sha256(b"fruits").digest() * 32 * 1024
SMALL_BYTES, CROWD = 2_000, 200
NEEDED = {"rate": 1.0, "connections": 0.9}
TUNNEL = "import typer; from fruits_cli.commands.tunnel import tunnel; typer.run(tunnel)"


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sshd_port = stack.enter_context(sshd(Path(folder)))
        target = stack.enter_context(child("source"))
        ways = {
            "ssh -D": stack.enter_context(openssh_client(Path(folder), sshd_port)),
            "fruits tunnel": stack.enter_context(fruits_tunnel(Path(folder), sshd_port)),
        }
        rates = {way: list[float]() for way in ways}
        opened = {way: list[float]() for way in ways}
        stalled = {way: memory_stalled(port, target) for way, port in ways.items()}
        for _ in range(options.rounds):
            for way, port in ways.items():
                rates[way].append(measured("download", port, target, options.size_mb))
            for way, port in ways.items():
                opened[way].append(measured("crowd", port, target, CROWD))
    report(options, rates, opened, stalled)


def report(
    options: argparse.Namespace,
    rates: dict[str, list[float]],
    opened: dict[str, list[float]],
    stalled: dict[str, float],
) -> None:
    """The table on stdout and, where asked for, everything as JSON."""
    result = {
        "machine": {"cores": os.cpu_count(), "cpu": platform.processor() or platform.machine()},
        "versions": {
            "python": platform.python_version(),
            "paramiko": paramiko_version,
            "ssh": subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.strip(),
        },
        "size_mb": options.size_mb,
        "rate_mb_s": rates,
        "connections_per_s": opened,
        "stalled_mib": stalled,
        "rate_ratio": _ratio(rates),
        "connections_ratio": _ratio(opened),
        "needed_ratio": NEEDED,
    }
    print(f"{'':28}{'ssh -D':>12}{'fruits':>12}{'ratio':>8}")
    for name, values in (("MB/s, one download", rates), ("connections/s, 200 at once", opened)):
        ours, theirs = (statistics.median(values[way]) for way in ("fruits tunnel", "ssh -D"))
        print(f"{name:28}{theirs:12.0f}{ours:12.0f}{ours / theirs:8.2f}")
    theirs, ours = stalled["ssh -D"], stalled["fruits tunnel"]
    print(f"{'MiB, 200 stalled downloads':28}{theirs:12.0f}{ours:12.0f}")
    if options.output:
        options.output.write_text(json.dumps(result, indent=2))


def _ratio(values: dict[str, list[float]]) -> float:
    return statistics.median(values["fruits tunnel"]) / statistics.median(values["ssh -D"])


@contextmanager
def sshd(folder: Path) -> Iterator[int]:
    """OpenSSH's server on a free port, its client's key in `folder`."""
    for name in ("host_key", "user_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
        )
    port = free_port()
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/user_key.pub\nStrictModes no\nPidFile none\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    executable = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if executable is None:
        raise SystemExit("OpenSSH's sshd is not installed.")
    command = [executable, "-D", "-f", str(folder / "sshd_config")]
    with running(command, port):
        yield port


@contextmanager
def openssh_client(folder: Path, sshd_port: int) -> Iterator[int]:
    """The port of `ssh -D`."""
    port = free_port()
    command = ["ssh", "-N", "-D", f"127.0.0.1:{port}", "-p", str(sshd_port)]
    command += ["-i", str(folder / "user_key"), "-o", "StrictHostKeyChecking=no"]
    command += ["-o", f"UserKnownHostsFile={folder}/known_hosts", "-o", "LogLevel=ERROR"]
    with running([*command, f"{getpass.getuser()}@127.0.0.1"], port):
        yield port


@contextmanager
def fruits_tunnel(folder: Path, sshd_port: int) -> Iterator[int]:
    """The port of `fruits tunnel`."""
    port = free_port()
    listing = ["ssh-keygen", "-lf", str(folder / "host_key.pub")]
    host_key = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()[1]
    command = [sys.executable, "-c", TUNNEL, "--host", f"{getpass.getuser()}@127.0.0.1"]
    command += ["--ssh-port", str(sshd_port), "--key-file", str(folder / "user_key")]
    command += ["--host-key", host_key, "--port", str(port), "--quiet"]
    with running(command, port, XDG_STATE_HOME=str(folder)):
        yield port


@contextmanager
def child(role: str) -> Iterator[int]:
    """This file as a process of its own that listens on the port yielded."""
    port = free_port()
    with running([sys.executable, __file__, "--role", role, "--port", str(port)], port):
        yield port


@contextmanager
def running(command: list[str], port: int, **environ: str) -> Iterator[None]:
    """The command, from the moment it accepts on `port` until the end of the block."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={**os.environ, **environ}
    )
    try:
        deadline = time.monotonic() + 60
        while not accepts(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} did not start.")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def measured(role: str, port: int, target: int, amount: int) -> float:
    """What one client process says: MB/s of a download, or connections per second."""
    words = ["--role", role, "--port", str(port), "--target", str(target), "--amount", str(amount)]
    done = subprocess.run(
        [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout)


def memory_stalled(port: int, target: int) -> float:
    """MiB of the process that listens on `port` under downloads of 100 MB that nobody reads."""
    listing = subprocess.run(
        ["ss", "-Hltnp", f"sport = :{port}"], capture_output=True, text=True, check=True
    )
    pid = listing.stdout.partition("pid=")[2].partition(",")[0]
    with ExitStack() as stack:
        for _ in range(CROWD):
            connection = stack.enter_context(through(port, target))
            connection.sendall(b"100000000\n")
        before, now = 0.0, 2.0
        while now - before > 1:
            time.sleep(3)
            before, now = now, resident_mib(pid)
    return now


def resident_mib(pid: str) -> float:
    """The memory that a process holds now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def serve_source(port: int) -> None:
    """Send as many bytes as a connection's first line asks for, to all who ask."""

    def send(connection: socket.socket) -> None:
        with connection, suppress(ConnectionError):
            missing = int(connection.makefile("rb").readline() or b"0")
            while missing > 0:
                connection.sendall(BLOCK[:missing])
                missing -= len(BLOCK)

    with socket.create_server(("127.0.0.1", port), backlog=512) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=send, args=(connection,), daemon=True).start()


def download(port: int, target: int, megabytes: int) -> float:
    """MB/s of one download; its bytes are counted here and compared in the tests."""
    missing = megabytes * 1_000_000
    with through(port, target) as connection:
        begun = time.perf_counter()
        connection.sendall(f"{missing}\n".encode())
        buffer = bytearray(1 << 20)
        while received := connection.recv_into(buffer):
            missing -= received
        seconds = time.perf_counter() - begun
    assert missing == 0, f"{missing} bytes were lost"
    return megabytes / seconds


def crowd(port: int, target: int, size: int) -> float:
    """Connections per second of `size` at once, each with a small answer; none may be lost."""
    whole = []

    def fetch() -> None:
        with through(port, target) as connection:
            connection.sendall(f"{SMALL_BYTES}\n".encode())
            if sum(map(len, iter(lambda: connection.recv(65536), b""))) == SMALL_BYTES:
                whole.append(True)

    threads = [threading.Thread(target=fetch) for _ in range(size)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    assert len(whole) == size, f"{size - len(whole)} connections were lost"
    return size / seconds


def through(port: int, target: int) -> socket.socket:
    """A connection to 127.0.0.1:`target` of the far side, through the SOCKS proxy on `port`."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=120)
    connection.sendall(b"\x05\x01\x00")
    assert connection.recv(2, socket.MSG_WAITALL) == b"\x05\x00"
    connection.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + target.to_bytes(2, "big"))
    assert connection.recv(10, socket.MSG_WAITALL)[1] == 0
    return connection


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port that nobody listens on, below those that outgoing connections are given."""
    while True:
        try:
            with socket.create_server(("127.0.0.1", random.randrange(15000, 32000))) as probe:
                return int(probe.getsockname()[1])
        except OSError:
            continue


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    for name in ("--port", "--target", "--amount"):
        parser.add_argument(name, type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--role", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def _play(options: argparse.Namespace) -> None:
    if options.role == "source":
        serve_source(options.port)
    elif options.role == "download":
        print(download(options.port, options.target, options.amount))
    elif options.role == "crowd":
        print(crowd(options.port, options.target, options.amount))
    else:
        main()


if __name__ == "__main__":
    _play(_options())
