"""A real JupyterHub in a network namespace of its own, where only sshd can be reached."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from fruits_cli.tunnel.browser import find_browser
from tests.support.notebooks import SESSION, session_environ
from tests.support.ssh_servers import SSHD, fingerprint, new_key, wait_until

SSH_PORT = 2222
PASSWORD = "not-the-default"
_TOOLS = ("ip", "openssl", "jupyterhub", "configurable-http-proxy")


@dataclass(frozen=True)
class Hub:
    """Where the hub is, and what opens the way to it."""

    address: str
    key_file: Path
    fingerprint: str
    notebooks: Path


def require_tools() -> None:
    """Skip, and say for what, where this machine cannot hold the hub."""
    missing = [name for name in _TOOLS if shutil.which(name) is None]
    missing += ["sshd"] if SSHD is None else []
    missing += ["chromium"] if find_browser(os.environ.get("PATH")) is None else []
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (.ci/hub installs JupyterHub)")
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")


@contextmanager
def hub_behind_sshd(folder: Path) -> Iterator[Hub]:
    """The hub, its notebooks below `folder`, its user root; gone at the end of the block."""
    host_key, user_key = new_key(folder / "host_key"), new_key(folder / "user_key")
    (folder / "authorized_keys").write_text(f"ssh-ed25519 {user_key.get_base64()}\n")
    notebooks = folder / "notebooks"
    notebooks.mkdir()
    with namespace() as (name, address), ExitStack() as stack:
        clients = ["ip", "netns", "exec", name]
        Path("/run/sshd").mkdir(exist_ok=True)
        _write_sshd(folder, address)
        sshd = [*clients, str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")]
        hub = [*clients, "jupyterhub", "-f", str(_hub_config(folder, notebooks))]
        for command, log in ((sshd, "sshd.log"), (hub, "hub.log")):
            stack.enter_context(_running(command, folder, log))
        said = folder / "hub.log"
        wait_until(lambda: "JupyterHub is now running" in said.read_text(), patience_s=300)
        yield Hub(address, folder / "user_key", fingerprint(host_key), notebooks)


@contextmanager
def namespace() -> Iterator[tuple[str, str]]:
    """The name of a namespace, and the one address in it that this machine reaches."""
    name = f"fruits{os.getpid()}"
    ours, theirs = f"{name}a", f"{name}b"
    net = f"10.{random.randrange(64, 250)}.{random.randrange(256)}"
    ip("netns", "add", name)
    try:
        ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        ip("address", "add", f"{net}.1/30", "dev", ours)
        ip("link", "set", ours, "up")
        ip("-n", name, "address", "add", f"{net}.2/30", "dev", theirs)
        for device in (theirs, "lo"):
            ip("-n", name, "link", "set", device, "up")
        yield name, f"{net}.2"
    finally:
        for pid in ip("netns", "pids", name).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        ip("netns", "delete", name)


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@contextmanager
def _running(command: list[str], folder: Path, log: str) -> Iterator[None]:
    with (folder / log).open("wb") as said:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _write_sshd(folder: Path, address: str) -> None:
    (folder / "sshd_config").write_text(
        f"Port {SSH_PORT}\nListenAddress {address}\nHostKey {folder / 'host_key'}\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPidFile none\n"
    )


def _hub_config(folder: Path, notebooks: Path) -> Path:
    """JupyterHub as on the cluster: port 9443, a certificate that signs itself, one kernel."""
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    files = ["-keyout", str(folder / "hub.key"), "-out", str(folder / "hub.pem")]
    subprocess.run([*words, "-subj", "/CN=hub", *files], check=True, capture_output=True)
    settings = {
        "JupyterHub.authenticator_class": "dummy",
        "DummyAuthenticator.password": PASSWORD,
        "Authenticator.allow_all": True,
        "JupyterHub.spawner_class": "simple",
        "JupyterHub.ssl_key": str(folder / "hub.key"),
        "JupyterHub.ssl_cert": str(folder / "hub.pem"),
        "JupyterHub.bind_url": "https://127.0.0.1:9443/",
        "SimpleLocalProcessSpawner.home_dir_template": str(folder),
        "Spawner.notebook_dir": str(notebooks),
        "Spawner.args": ["--allow-root"],
        "Spawner.default_url": "/tree",
        "Spawner.start_timeout": 120,
        "Spawner.http_timeout": 120,
        "Spawner.environment": {"JUPYTER_PATH": str(_kernel(folder)), "IPYTHONDIR": str(folder)},
    }
    config = folder / "jupyterhub_config.py"
    config.write_text("".join(f"c.{key} = {value!r}\n" for key, value in settings.items()))
    return config


def _kernel(folder: Path) -> Path:
    """A stand-in for the cluster's kernel, by its name: here `spark` stands on local Spark."""
    spec = folder / "jupyter" / "kernels" / "pysparkkernel"
    startup = folder / "profile_default" / "startup"
    for each in (spec, startup):
        each.mkdir(parents=True)
    (startup / "session.py").write_text(SESSION)
    kernel = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "PySpark",
        "language": "python",
        "env": {**session_environ(), "PYTHONPATH": ""},
    }
    (spec / "kernel.json").write_text(json.dumps(kernel))
    return folder / "jupyter"
