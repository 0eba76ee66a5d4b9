from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from fruits_cli.app import _Boundary
from fruits_cli.commands.tunnel import run_tunnel, tunnel
from fruits_cli.config import Config, TunnelConfig
from fruits_cli.errors import ClusterNotFound, HostKeyRefused, TunnelError, UsageError
from fruits_cli.screen import Screen
from fruits_cli.tunnel.goal import Request
from tests.support.fake_cluster import CONSOLE, FINGERPRINT, MINE, OTHERS, PRIMARY, FakeAccess
from tests.support.paths import ROOT
from tests.support.ssh_servers import (
    PATIENCE_S,
    SshServer,
    echo,
    free_port,
    is_listening,
    new_key,
    read_all,
    served,
    through_socks,
    wait_until,
)

app = typer.Typer(cls=_Boundary, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command("tunnel")(tunnel)


@app.callback()
def fruits() -> None:
    """The commands under test."""


_PROGRAM = "from tests.integration.commands.test_tunnel_ssh import app; app()"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": str(tmp_path / "no-browser"),
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PYTHONPATH": str(ROOT),
    }


def arguments(server: SshServer, key_file: Path, *more: str) -> list[str]:
    fixed = ["tunnel", "--host", "127.0.0.1", "--ssh-port", str(server.port)]
    return [*fixed, "--key-file", str(key_file), "--port", str(free_port()), *more]


@contextmanager
def running(
    words: list[str], environ: dict[str, str], folder: Path
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *words],
        env=environ,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def first_answer(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            break
    assert lines, process.stderr and process.stderr.read()
    answer = json.loads("".join(lines))
    assert isinstance(answer, dict)
    return answer


def fails(words: list[str], environ: dict[str, str]) -> Result:
    return CliRunner().invoke(app, words, env=environ)


def test_a_tunnel_serves_until_ctrl_c_and_leaves_nothing_listening(
    ssh_server: SshServer, key_file: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    trust = ["--host-key", ssh_server.host_key.fingerprint, "--output", "json"]
    words = arguments(ssh_server, key_file, *trust, "--pac", str(tmp_path / "my.pac"))

    with served(echo) as target, running(words, environ, tmp_path) as process:
        answer = first_answer(process)
        port = int(str(answer["socks_port"]))
        reply, connection = through_socks(port, "localhost", target)
        connection.sendall(b"hello")
        connection.shutdown(socket.SHUT_WR)
        assert reply == 0
        assert read_all(connection) == b"hello"
        connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130

    assert not is_listening(port)
    assert "FindProxyForURL" in (tmp_path / "my.pac").read_text()
    pages = answer["pages"]
    assert isinstance(pages, dict)
    assert set(pages) == {"jupyterhub", "spark", "yarn"}


def test_a_pinned_host_needs_no_fingerprint_and_a_changed_key_ends_it(
    ssh_server: SshServer, key_file: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    words = arguments(ssh_server, key_file, "--output", "json")
    trust = [*words, "--host-key", ssh_server.host_key.fingerprint]
    for each in (trust, words):
        with running(each, environ, tmp_path) as process:
            first_answer(process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 130
    ssh_server.die()
    ssh_server.host_key = new_key(tmp_path / "another_host_key")
    ssh_server.start()

    changed = fails(words, environ)

    assert changed.exit_code == 1
    assert changed.stderr.startswith(
        f"Error: The host key of [127.0.0.1]:{ssh_server.port} has changed: it is SHA256:"
    )
    assert changed.stdout == ""


def test_an_unknown_host_is_not_trusted_without_a_terminal(
    ssh_server: SshServer, key_file: Path, environ: dict[str, str]
) -> None:
    refused = fails(arguments(ssh_server, key_file), environ)

    assert refused.exit_code == 2
    assert refused.stderr == (
        f"Error: The host key of [127.0.0.1]:{ssh_server.port} is not known yet, "
        "and there is no terminal to ask on.\n"
        f"Hint: If you know it to be right: --host-key {ssh_server.host_key.fingerprint}\n"
    )


def test_a_wrong_fingerprint_is_refused(
    ssh_server: SshServer, key_file: Path, environ: dict[str, str]
) -> None:
    wrong = fails(arguments(ssh_server, key_file, "--host-key", "SHA256:" + "a" * 43), environ)

    assert wrong.exit_code == 1
    assert f"is {ssh_server.host_key.fingerprint}, not SHA256:aaa" in wrong.stderr


def trusted(server: SshServer, key_file: Path, *more: str) -> list[str]:
    return arguments(server, key_file, "--host-key", server.host_key.fingerprint, *more)


def test_a_key_that_the_host_does_not_know_is_refused(
    ssh_server: SshServer, environ: dict[str, str], tmp_path: Path
) -> None:
    new_key(tmp_path / "stranger")

    refused = fails(trusted(ssh_server, tmp_path / "stranger"), environ)

    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: 127.0.0.1 refuses the key for user hadoop.\n")


def test_forbidden_forwarding_ends_the_tunnel(
    ssh_server: SshServer, key_file: Path, environ: dict[str, str]
) -> None:
    ssh_server.forbids_forwarding = True

    forbidden = fails(trusted(ssh_server, key_file), environ)

    assert forbidden.exit_code == 1
    assert forbidden.stderr.startswith("Error: 127.0.0.1 forbids forwarding.\n")


def test_a_port_in_use_is_known_before_anyone_logs_in(
    ssh_server: SshServer, key_file: Path, environ: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])

        taken = fails([*trusted(ssh_server, key_file), "--port", port], environ)

    assert taken.exit_code == 1
    assert taken.stderr.startswith(f"Error: Port {port} of this machine is in use.\n")
    assert ssh_server.destinations == []


def test_an_unreachable_host_is_reported(
    ssh_server: SshServer, key_file: Path, environ: dict[str, str]
) -> None:
    ssh_server.die()

    gone = fails(trusted(ssh_server, key_file), environ)

    assert gone.exit_code == 1
    assert gone.stderr.startswith(
        f"Error: No connection to 127.0.0.1 on port {ssh_server.port}: Connection refused.\n"
    )


def test_an_open_key_file_is_refused_with_the_chmod(
    ssh_server: SshServer, key_file: Path, environ: dict[str, str]
) -> None:
    key_file.chmod(0o644)

    refused = fails(trusted(ssh_server, key_file), environ)

    assert refused.exit_code == 2
    assert refused.stderr == (
        f"Error: The key file {key_file} is open to other users (mode 0644).\n"
        f"Hint: chmod 600 {key_file}\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--page-is-missing"], "No such option"),
        (["--host", "h", "--open", "hue"], "Error: 'hue' is not a page."),
        (["--host", "user@"], "Error: 'user@' is not a host."),
        (["--host", "h", "--host-key", "MD5:00"], "is not the fingerprint of a host key"),
        (["--host", "h", "--key-file", "/nowhere/key"], "/nowhere/key cannot be read"),
        (["--host", "h", "--from", "10.0.0.0/24"], "--from is for a cluster"),
        (["--host", "h", "--password"], "--password is for a cluster"),
        (["--host", "h", "--cluster", "c"], "--host and --cluster exclude each other"),
        (["--from", "0.0.0.0/0"], "Port 22 is never opened to all the world"),
        (["--host-key", "MD5:00"], "is not the fingerprint of a host key"),
    ],
)
def test_what_cannot_be_read_ends_with_2(
    words: list[str], message: str, environ: dict[str, str]
) -> None:
    unread = fails(["tunnel", *words], environ)

    assert unread.exit_code == 2
    assert message in unread.stderr


def test_the_ssh_line_opens_the_same_ports(environ: dict[str, str], tmp_path: Path) -> None:
    words = ["tunnel", "--host", "a.example", "--ssh-port", "2222", "--print-command"]

    printed = fails([*words, "--key-file", "my key.pem"], environ)

    line = shlex.split(printed.stdout)
    assert printed.exit_code == 0
    assert line[0] == "ssh"
    assert line[-1] == "hadoop@a.example"
    assert line[line.index("-D") + 1] == "127.0.0.1:8157"
    assert line[line.index("-i") + 1] == "my key.pem"
    assert "127.0.0.1:9443:localhost:9443" in line
    assert "HostKeyAlias=[a.example]:2222" in line
    assert f"UserKnownHostsFile={tmp_path}/state/fruits/known_hosts" in line


def test_the_command_is_known_without_loading_ssh() -> None:
    code = "import sys, fruits_cli.commands.tunnel; print('paramiko' in sys.modules)"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout == "False\n"


def test_without_a_browser_the_address_is_printed(
    ssh_server: SshServer, key_file: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    words = trusted(ssh_server, key_file, "--open", "http://10.0.0.7/", "--output", "json")

    with running(words, environ, tmp_path) as process:
        first_answer(process)
        assert process.stderr is not None
        said = [process.stderr.readline() for _ in range(2)]

    assert said[1] == (
        "Warning: There is no Chromium or Chrome here. Open http://10.0.0.7/ in your browser.\n"
    )


def a_cluster_at(server: SshServer) -> FakeAccess:
    """A cluster whose primary node is the server here, vouched for by its console."""
    return FakeAccess(
        found=replace(PRIMARY, public_name="127.0.0.1", private_name="localhost"),
        console=CONSOLE.replace(FINGERPRINT, server.host_key.fingerprint),
        rules=[replace(MINE, cidr="203.0.113.1/32", note="elsewhere"), OTHERS],
    )


def at_server(server: SshServer, port: int, key_file: Path) -> Config:
    return Config(tunnel=TunnelConfig(port=port, key_file=key_file, ssh_port=server.port))


def test_a_tunnel_opens_port_22_checks_the_host_key_and_sets_the_password(
    ssh_server: SshServer, key_file: Path, state_home: Path
) -> None:
    ssh_server.answers = {"sudo docker exec -i jupyterhub chpasswd": b""}
    access, port = a_cluster_at(ssh_server), free_port()
    config = at_server(ssh_server, port, key_file)

    def keep() -> None:
        run_tunnel(config, Screen(), Request(), access=access, clock=access.clock)

    with served(echo) as target, ThreadPoolExecutor(1) as pool:
        ended = pool.submit(keep)
        wait_until(lambda: ended.done() or is_listening(port))
        reply, connection = through_socks(port, "localhost", target)
        connection.close()
        cidrs = [rule.cidr for rule in access.rules]
        ssh_server.die()
        ssh_server.host_key = new_key(key_file.parent / "another_host_key")
        ssh_server.start()
        with pytest.raises(HostKeyRefused, match=r"^The host key of j-1 is SHA256:"):
            ended.result(PATIENCE_S)

    assert reply == 0
    assert cidrs == ["203.0.113.1/32", "198.51.100.0/24", "203.0.113.9/32"]
    assert [rule.cidr for rule in access.rules] == ["203.0.113.1/32", "198.51.100.0/24"]
    assert (state_home / "known_hosts").read_text().startswith("j-1 ssh-ed25519 ")
    assert (state_home / "clusters" / "j-1" / "jupyterhub-password").exists()
    assert not is_listening(port)


def test_a_terminated_cluster_ends_its_tunnel_with_the_reason(
    ssh_server: SshServer, key_file: Path, state_home: Path
) -> None:
    access, port = a_cluster_at(ssh_server), free_port()
    config = at_server(ssh_server, port, key_file)

    def keep() -> None:
        run_tunnel(config, Screen(), Request(), access=access, clock=access.clock)

    with served(echo) as target, ThreadPoolExecutor(1) as pool:
        ended = pool.submit(keep)
        wait_until(lambda: ended.done() or is_listening(port))
        # The port listens before the login; an answer comes after it.
        through_socks(port, "localhost", target)[1].close()
        access.is_gone = True
        ssh_server.die()
        with pytest.raises(ClusterNotFound, match=r"^The cluster j-1 is gone\.$"):
            ended.result(PATIENCE_S)

    assert not is_listening(port)


def test_the_password_of_a_cluster_is_printed_alone(
    state_home: Path,
) -> None:
    access, request = FakeAccess(), Request(password=True)
    file = state_home / "clusters" / "j-1" / "jupyterhub-password"
    with pytest.raises(TunnelError, match="No tunnel of this machine"):
        run_tunnel(Config(), Screen(), request, access=access, clock=access.clock)
    file.parent.mkdir(parents=True)
    file.write_text("secret\n")

    outcome = run_tunnel(Config(), Screen(), request, access=access, clock=access.clock)

    assert outcome is not None
    assert outcome.lines == ["secret"]


def test_a_private_cluster_is_reported_before_anything_changes(state_home: Path) -> None:
    access = FakeAccess(found=replace(PRIMARY, public_name=None), rules=[OTHERS])

    with pytest.raises(TunnelError, match="private subnet"):
        run_tunnel(Config(), Screen(), Request(), access=access, clock=access.clock)

    assert access.rules == [OTHERS]


def test_an_unusable_key_is_reported_before_anything_changes(
    key_file: Path, ssh_server: SshServer, state_home: Path
) -> None:
    key_file.chmod(0o644)
    access = FakeAccess(up_at_s=100, rules=[OTHERS])
    config = Config(tunnel=TunnelConfig(key_file=key_file))

    with pytest.raises(UsageError, match="open to other users"):
        run_tunnel(config, Screen(), Request(), access=access, clock=access.clock)

    assert access.rules == [OTHERS]
    assert access.clock.now_s == 0


@contextmanager
def agent_at(path: str) -> Iterator[None]:
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as agent:
        try:
            wait_until(lambda: Path(path).exists())
            yield
        finally:
            agent.kill()


def test_without_a_key_file_the_agents_keys_are_used(
    ssh_server: SshServer, key_file: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    if shutil.which("ssh-agent") is None:
        pytest.skip("ssh-agent is not installed")
    agent_socket = str(tmp_path / "agent")
    words = trusted(ssh_server, key_file, "--output", "json")
    place = words.index("--key-file")
    del words[place : place + 2]
    environ["SSH_AUTH_SOCK"] = agent_socket

    with agent_at(agent_socket):
        empty = fails(words, environ)
        subprocess.run(
            ["ssh-add", "-q", str(key_file)],
            env={"PATH": os.environ["PATH"], "SSH_AUTH_SOCK": agent_socket},
            check=True,
        )
        with running(words, environ, tmp_path) as process:
            assert first_answer(process)["socks_port"]

    assert empty.exit_code == 1
    assert empty.stderr.startswith("Error: There is no key to log in with")


@pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="needs ssh-agent")
def test_a_public_or_locked_key_selects_the_agents_key_among_many(
    ssh_server: SshServer, key_file: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    ssh_server.most_keys = 2
    agent_socket = str(tmp_path / "agent")
    environ["SSH_AUTH_SOCK"] = agent_socket
    others = [tmp_path / f"other{number}" for number in range(3)]
    for other in others:
        new_key(other)
    public = tmp_path / "user_key.pub"
    public.write_text(f"ssh-ed25519 {ssh_server.user_key.get_base64()} me@here\n")
    words = trusted(ssh_server, public, "--output", "json")
    at_random = [word for word in words if word not in ("--key-file", str(public))]

    with agent_at(agent_socket):
        missing = fails(words, environ)
        subprocess.run(
            ["ssh-add", "-q", *map(str, others), str(key_file)],
            env={"PATH": os.environ["PATH"], "SSH_AUTH_SOCK": agent_socket},
            check=True,
        )
        lost = fails(at_random, environ)
        subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(key_file)], check=True)
        for file in (public, key_file):
            with running([*trusted(ssh_server, file), "--output", "json"], environ, tmp_path) as it:
                assert first_answer(it)["socks_port"]

    assert missing.exit_code == 2
    assert missing.stderr.startswith(f"Error: The key file {public} is a public key, and the SSH ")
    assert lost.stderr == (
        "Error: 127.0.0.1 hung up before all 4 keys of the SSH agent were tried.\n"
        "Hint: Name the right one: --key-file KEY.pem, or KEY.pem.pub if the agent has it.\n"
    )


@pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="needs ssh-agent")
def test_of_the_agents_keys_the_clusters_own_is_offered_first(
    ssh_server: SshServer,
    key_file: Path,
    tmp_path: Path,
    state_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ssh_server.most_keys = 1
    access, port = a_cluster_at(ssh_server), free_port()
    access.key_line = f"ssh-ed25519 {ssh_server.user_key.get_base64()} fruits-pears"
    config = Config(tunnel=TunnelConfig(port=port, ssh_port=ssh_server.port))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    new_key(tmp_path / "other")

    def keep() -> None:
        run_tunnel(config, Screen(), Request(), access=access, clock=access.clock)

    with (
        agent_at(str(tmp_path / "agent")),
        served(echo) as target,
        ThreadPoolExecutor(1) as pool,
    ):
        for file in (tmp_path / "other", key_file):
            subprocess.run(["ssh-add", "-q", str(file)], check=True)
        ended = pool.submit(keep)
        wait_until(lambda: ended.done() or is_listening(port))
        reply, connection = through_socks(port, "localhost", target)
        connection.close()
        access.is_gone = True
        ssh_server.die()
        with pytest.raises(ClusterNotFound):
            ended.result(PATIENCE_S)

    assert reply == 0
