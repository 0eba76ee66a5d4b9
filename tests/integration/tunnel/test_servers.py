from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fruits_cli.errors import HostUnreachable, TunnelError
from fruits_cli.tunnel.connection import Back, Link, Lost, Retrying
from fruits_cli.tunnel.goal import Endpoint
from fruits_cli.tunnel.ports import Acceptor, Serve, listen_on
from fruits_cli.tunnel.reachable import reachable_from_host
from fruits_cli.tunnel.relay import OpenFailed
from fruits_cli.tunnel.servers import file_server, forward_server
from fruits_cli.tunnel.socks import Reply, Target
from fruits_cli.tunnel.transport import open_connection
from tests.support.ssh_servers import (
    PATIENCE_S,
    SshServer,
    echo,
    free_port,
    is_listening,
    on_demand,
    payload,
    read_all,
    served,
    socks_through,
    through_socks,
    transport_to,
)

MIB = 1024 * 1024


@contextmanager
def serving(serve: Serve, port: int) -> Iterator[int]:
    acceptor = Acceptor()
    acceptor.add(listen_on(port), serve)
    acceptor.start()
    try:
        yield port
    finally:
        acceptor.close()


@contextmanager
def linked(server: SshServer, key_file: Path) -> Iterator[Link]:
    link = Link(lambda: transport_to(server, key_file))
    link.start()
    with closing(link):
        yield link


def test_bytes_come_back_through_the_proxy(ssh_server: SshServer, key_file: Path) -> None:
    with served(echo) as target, socks_through(ssh_server, key_file) as (port, _):
        reply, connection = through_socks(port, "localhost", target)
        connection.sendall(b"early and late")
        connection.shutdown(socket.SHUT_WR)

        assert reply == Reply.SUCCEEDED
        assert read_all(connection) == b"early and late"
        connection.close()


def test_a_side_that_is_done_sending_still_receives(ssh_server: SshServer, key_file: Path) -> None:
    def count(connection: socket.socket) -> None:
        size = len(read_all(connection))
        connection.sendall(str(size).encode())

    with served(count) as target, socks_through(ssh_server, key_file) as (port, _):
        _, connection = through_socks(port, "127.0.0.1", target)
        connection.sendall(payload(3 * MIB))
        connection.shutdown(socket.SHUT_WR)

        assert read_all(connection) == str(3 * MIB).encode()
        connection.close()


def test_a_kill_link_of_another_page_does_not_pass_the_proxy(
    ssh_server: SshServer, key_file: Path
) -> None:
    def page(connection: socket.socket) -> None:
        heads.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    heads: list[bytes] = []
    kill = "GET /jobs/job/kill/ HTTP/1.1\r\nHost: a\r\nReferer: http://{}/\r\n\r\n"
    with served(page) as target, socks_through(ssh_server, key_file) as (port, _):
        answers = []
        for source in ("evil.example", f"localhost:{target}"):
            _, connection = through_socks(port, "localhost", target)
            with connection:
                connection.sendall(kill.format(source).encode())
                answers.append(read_all(connection).split(b"\r\n")[0])

    assert answers == [b"HTTP/1.1 403 Forbidden", b"HTTP/1.1 200 OK"]
    assert len([head for head in heads if head]) == 1


def test_a_client_that_goes_ends_the_download(ssh_server: SshServer, key_file: Path) -> None:
    def send_for_ever(connection: socket.socket) -> None:
        try:
            while True:
                connection.sendall(payload(MIB))
        except OSError:
            ended.set()

    ended = threading.Event()
    with served(send_for_ever) as target, socks_through(ssh_server, key_file) as (port, _):
        _, connection = through_socks(port, "localhost", target)
        connection.recv(1)
        connection.close()

        assert ended.wait(PATIENCE_S)


def test_a_far_side_that_speaks_first_is_heard(ssh_server: SshServer, key_file: Path) -> None:
    with (
        served(lambda connection: connection.sendall(b"220 welcome\r\n")) as target,
        socks_through(ssh_server, key_file) as (port, _),
    ):
        _, connection = through_socks(port, "localhost", target)

        assert read_all(connection) == b"220 welcome\r\n"
        connection.close()


def test_two_hundred_at_once_all_get_their_own_bytes(ssh_server: SshServer, key_file: Path) -> None:
    def fetch(number: int) -> bool:
        reply, connection = through_socks(port, "localhost", target)
        with connection:
            connection.sendall(f"{1000 + number}\n".encode())
            return reply == 0 and read_all(connection) == payload(1000 + number)

    with (
        served(on_demand) as target,
        socks_through(ssh_server, key_file) as (port, _),
        ThreadPoolExecutor(200) as crowd,
    ):
        assert all(crowd.map(fetch, range(200)))


def test_refusals_keep_their_reasons_when_many_come_at_once(
    ssh_server: SshServer, key_file: Path
) -> None:
    def code(number: int) -> tuple[int, int]:
        host, port = [("localhost", closed), ("example.org", 80), ("localhost", target)][number % 3]
        reply, connection = through_socks(proxy, host, port)
        connection.close()
        return number % 3, reply

    closed = free_port()
    with (
        served(echo) as target,
        socks_through(ssh_server, key_file) as (proxy, _),
        ThreadPoolExecutor(30) as crowd,
    ):
        assert set(crowd.map(code, range(90))) == {(0, 5), (1, 2), (2, 0)}


def test_forbidden_forwarding_is_told_as_not_allowed(ssh_server: SshServer, key_file: Path) -> None:
    ssh_server.forbids_forwarding = True

    with socks_through(ssh_server, key_file) as (port, _):
        reply, connection = through_socks(port, "localhost", 80)
        connection.close()

    assert reply == Reply.NOT_ALLOWED


def test_any_host_is_resolved_far_away_and_its_address_judged(
    ssh_server: SshServer, key_file: Path
) -> None:
    ssh_server.answers = {
        "getent ahosts page.example": b"127.0.0.9 STREAM page.example\n",
        "getent ahosts trick.example": b"10.0.0.1 STREAM\n169.254.169.254 STREAM\n",
    }
    reachable = reachable_from_host("127.0.0.1", any_host=True)

    with served(echo) as target, socks_through(ssh_server, key_file, reachable) as (port, _):
        codes = []
        for name in ("page.example", "trick.example", "169.254.169.254", "gone.example"):
            reply, connection = through_socks(port, name, target)
            connection.close()
            codes.append(reply)

    assert codes == [0, 2, 2, 4]
    assert ssh_server.destinations == [("127.0.0.9", target)]


def test_what_is_not_socks_is_closed_in_order(ssh_server: SshServer, key_file: Path) -> None:
    with (
        socks_through(ssh_server, key_file) as (port, _),
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection,
    ):
        connection.sendall(b"GET http://example.org/ HTTP/1.1\r\n\r\n")

        assert read_all(connection) == b""


def test_a_target_that_never_answers_is_given_up_and_closed_when_it_does(
    ssh_server: SshServer, key_file: Path
) -> None:
    def note_end(connection: socket.socket) -> None:
        connection.recv(1)
        closed.set()

    closed = threading.Event()
    ssh_server.open_gate.clear()
    with served(note_end) as port, linked(ssh_server, key_file) as link:
        with pytest.raises(OpenFailed) as given_up:
            asyncio.run(link.open(Target("localhost", port), timeout_s=0.05))

        assert given_up.value.reply is Reply.HOST_UNREACHABLE
        assert not closed.is_set()
        ssh_server.open_gate.set()
        assert closed.wait(PATIENCE_S)


def test_a_forward_that_nobody_speaks_to_opens_nothing(
    ssh_server: SshServer, key_file: Path
) -> None:
    port = free_port()
    with served(echo) as target, socks_through(ssh_server, key_file) as (_, link):
        serve = forward_server(link, (Target("localhost", target),), http_port=None)
        with serving(serve, port):
            with socket.create_connection(("127.0.0.1", port)) as silent:
                silent.shutdown(socket.SHUT_WR)
                assert read_all(silent) == b""
            assert ssh_server.destinations == []


def test_a_lost_connection_resets_its_streams_and_comes_back(
    ssh_server: SshServer, key_file: Path
) -> None:
    with served(on_demand) as target, socks_through(ssh_server, key_file) as (port, link):
        _, connection = through_socks(port, "localhost", target)
        connection.sendall(b"100000000\n")
        connection.recv(1000)
        events = link.events()
        ssh_server.die()

        assert isinstance(next(events), Lost)
        with pytest.raises(ConnectionResetError):
            read_all(connection)
        reply, refused = through_socks(port, "localhost", target)
        assert reply == Reply.GENERAL_FAILURE
        assert isinstance(next(events), Retrying)
        ssh_server.start()
        while isinstance(event := next(events), Retrying):
            pass
        assert isinstance(event, Back)
        reply, again = through_socks(port, "localhost", target)
        again.sendall(b"1000\n")
        assert read_all(again) == payload(1000)
        for each in (connection, refused, again):
            each.close()


def test_a_silent_host_is_disconnected_and_reconnected(
    ssh_server: SshServer, key_file: Path
) -> None:
    held: list[socket.socket] = []

    def pass_on(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", ssh_server.port)) as far:
            threading.Thread(target=copy, args=(far, connection), daemon=True).start()
            copy(connection, far)

    def copy(source: socket.socket, sink: socket.socket) -> None:
        while data := source.recv(65536):
            if silent.is_set():
                held.append(source)
                return
            sink.sendall(data)

    silent = threading.Event()
    with served(pass_on) as middle:
        through = SshServer(ssh_server.host_key, ssh_server.user_key)
        through.port = middle
        with socks_through(through, key_file, keepalive_s=0.05, silence_s=1.0) as (_, link):
            events = link.events()
            silent.set()

            assert isinstance(next(events), Lost)
            silent.clear()
            while isinstance(event := next(events), Retrying):
                pass
            assert isinstance(event, Back)


def test_an_http_forward_serves_its_own_name_alone(ssh_server: SshServer, key_file: Path) -> None:
    def page(connection: socket.socket) -> None:
        head = connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        heads.append(head)

    heads: list[bytes] = []
    port = free_port()
    with served(page) as target, socks_through(ssh_server, key_file) as (_, link):
        serve = forward_server(link, (Target("localhost", target),), http_port=port)
        with serving(serve, port):
            answers = []
            for host in (f"localhost:{port}", f"evil.example:{port}"):
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                    answers.append(read_all(connection).split(b"\r\n")[0])

    assert answers == [b"HTTP/1.1 200 OK", b"HTTP/1.1 403 Forbidden"]
    assert len(heads) == 1
    assert b"Connection: close" in heads[0]


def test_a_forward_takes_the_first_target_that_answers(
    ssh_server: SshServer, key_file: Path
) -> None:
    port, closed = free_port(), free_port()
    with served(echo) as target, socks_through(ssh_server, key_file) as (_, link):
        targets = (Target("localhost", closed), Target("localhost", target))
        with (
            serving(forward_server(link, targets, http_port=None), port),
            socket.create_connection(("127.0.0.1", port)) as connection,
        ):
            connection.sendall(b"hello")
            connection.shutdown(socket.SHUT_WR)

            assert read_all(connection) == b"hello"


def test_a_file_is_served_to_its_own_name_alone() -> None:
    port = free_port()
    with serving(file_server("var a;", port=port, content_type="text/x"), port):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(
                f"GET /proxy.pac HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
            )
            answer = read_all(connection)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET /proxy.pac HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            refused = read_all(connection)

    assert answer.endswith(b"\r\n\r\nvar a;")
    assert refused.startswith(b"HTTP/1.1 403")


def test_after_the_end_nothing_listens_and_nobody_is_connected(
    ssh_server: SshServer, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with served(echo) as target:
        with socks_through(ssh_server, key_file) as (port, _):
            _, connection = through_socks(port, "localhost", target)
            connection.sendall(b"hello")
            assert connection.recv(5, socket.MSG_WAITALL) == b"hello"

        assert not is_listening(port)
        with connection:
            assert read_all_or_reset(connection) == b""
    assert not [record for record in caplog.records if record.name == "asyncio"]


def read_all_or_reset(connection: socket.socket) -> bytes:
    try:
        return read_all(connection)
    except ConnectionResetError:
        return b""


def test_a_port_in_use_is_reported_and_the_next_one_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = int(other.getsockname()[1])

        with pytest.raises(TunnelError, match=f"^Port {port} of this machine is in use"):
            listen_on(port)
        with listen_on(port, tries=20) as found:
            assert port < found.getsockname()[1] < port + 20


def test_a_download_through_a_slow_reader_is_whole(ssh_server: SshServer, key_file: Path) -> None:
    size = 20 * MIB
    with served(on_demand) as target, socks_through(ssh_server, key_file) as (port, _):
        _, connection = through_socks(port, "localhost", target)
        connection.sendall(f"{size}\n".encode())
        digest = hashlib.sha256()
        while piece := connection.recv(4096):
            digest.update(piece)
        connection.close()

    assert digest.digest() == hashlib.sha256(payload(size)).digest()


def test_a_connection_that_never_opened_says_why() -> None:
    def connect() -> None:
        raise HostUnreachable("no")

    link = Link(connect)  # type: ignore[arg-type]
    with pytest.raises(HostUnreachable):
        link.start()
    with pytest.raises(OpenFailed):
        asyncio.run(link.open(Target("localhost", 80)))
    with pytest.raises(TunnelError):
        link.run("true")
    link.close()


@pytest.mark.parametrize("name", ["a" * 300, "\udcff"], ids=["long", "not text"])
def test_what_is_no_name_of_a_host_is_told(name: str) -> None:
    with pytest.raises(HostUnreachable, match="is not known here"):
        open_connection(
            Endpoint(name, 22, "hadoop", name),
            [],
            check=lambda key: None,
            known_kinds=(),
            try_all_kinds=False,
        )


def test_streams_give_their_window_back(ssh_server: SshServer, key_file: Path) -> None:
    async def open_and_close(target: int) -> None:
        streams = [await link.open(Target("localhost", target)) for _ in range(12)]
        assert link._open_count == 12
        for stream in streams * 2:
            stream.close()

    with served(echo) as target, linked(ssh_server, key_file) as link:
        asyncio.run(open_and_close(target))

        assert link._open_count == 0
