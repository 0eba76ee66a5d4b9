"""An SSH connection with keepalive that reconnects when lost."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat

from paramiko import SSHException

from fruits_cli.errors import HostUnreachable, TunnelError
from fruits_cli.tunnel.reachable import canonical_host, is_never_allowed
from fruits_cli.tunnel.relay import Mailbox, OpenFailed, Stream
from fruits_cli.tunnel.socks import Reply, Target
from fruits_cli.tunnel.transport import ForwardTransport

_MIB = 1024 * 1024
_KEEPALIVE_S = 10.0
# Three of them unanswered, and no other byte: the connection is lost.
_SILENCE_S = 30.0
_BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
_POLL_S = 0.25
_COMMAND_TIMEOUT_S = 30.0
_OPEN_TIMEOUT_S = 15.0
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}")
_NAME_KEPT_S = 60.0


@dataclass(frozen=True)
class Lost:
    """The connection is gone; the listeners stay."""


@dataclass(frozen=True)
class Retrying:
    """An attempt to reconnect failed; the next comes in `wait_s` seconds."""

    reason: HostUnreachable
    wait_s: float


@dataclass(frozen=True)
class Back:
    """The connection is there again, `away_s` seconds after it was lost."""

    away_s: float


LinkEvent = Lost | Retrying | Back


class Link:
    """Streams through one SSH connection that is made again whenever it is lost.

    connect: a connection that is logged in; raises HostUnreachable where another attempt may
    succeed, any other error where none will.
    """

    def __init__(
        self,
        connect: Callable[[], ForwardTransport],
        *,
        keepalive_s: float = _KEEPALIVE_S,
        silence_s: float = _SILENCE_S,
    ) -> None:
        self._connect = connect
        self._keepalive_s, self._silence_s = keepalive_s, silence_s
        self._transport: ForwardTransport | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._open_count = 0
        self._mailbox: Mailbox | None = None
        self._names: dict[str, tuple[float, str]] = {}

    def start(self) -> None:
        """Connect for the first time. Raises what `connect` raises."""
        self._transport = transport = self._connect()
        threading.Thread(target=self._keep_alive, args=(transport,), daemon=True).start()

    def events(self) -> Iterator[LinkEvent]:
        """What happens to the connection, as it happens, until `close` is called elsewhere.

        Raises what `connect` raises, HostUnreachable excepted: that is tried again for ever.
        """
        while self._is_lost():
            lost_s = time.monotonic()
            yield Lost()
            for wait_s in chain(_BACKOFF_S, repeat(_BACKOFF_S[-1] * 2)):
                if self._ended.wait(wait_s):
                    return
                try:
                    self.start()
                except HostUnreachable as error:
                    yield Retrying(error, wait_s)
                    continue
                break
            yield Back(time.monotonic() - lost_s)

    async def open(self, target: Target, *, timeout_s: float = _OPEN_TIMEOUT_S) -> Stream:
        """A stream to `target` as the host sees it. Raises OpenFailed with the SOCKS reply."""
        if self._mailbox is None or self._mailbox.loop is not asyncio.get_running_loop():
            self._mailbox = Mailbox()
        transport = self._live_transport()
        window_bytes = self._take_window()
        stream = Stream(self._mailbox, release=self._give_window)
        try:
            stream.channel = transport.open_forward(target, stream, window_bytes=window_bytes)
            async with asyncio.timeout(timeout_s):
                await stream.is_open
        except TimeoutError as error:
            # It may open later, and is closed then.
            stream.close()
            raise OpenFailed("No answer.", reply=Reply.HOST_UNREACHABLE) from error
        except (SSHException, EOFError, OSError) as error:
            stream.close()
            raise OpenFailed("The connection is down.", reply=Reply.GENERAL_FAILURE) from error
        except BaseException:
            stream.close()
            raise
        return stream

    def address_of(self, name: str) -> str:
        """An address of `name`, asked for on the host itself, kept for a minute.

        Raises OpenFailed where it has none, or one that must never be reached.
        """
        known = self._names.get(name)
        if known is None or known[0] < time.monotonic():
            known = (time.monotonic() + _NAME_KEPT_S, self._resolve(name))
            self._names[name] = known
        return known[1]

    def run(self, command: str, *, stdin: bytes = b"") -> bytes:
        """The output of a command on the host, within 30 s. Raises TunnelError when it fails."""
        try:
            with self._live_transport().open_session(timeout=_COMMAND_TIMEOUT_S) as channel:
                channel.settimeout(_COMMAND_TIMEOUT_S)
                channel.set_combine_stderr(True)
                channel.exec_command(command)
                channel.sendall(stdin)
                channel.shutdown_write()
                output = b"".join(iter(lambda: channel.recv(65536), b""))
                status = channel.recv_exit_status()
        except (SSHException, EOFError, OSError, OpenFailed) as error:
            raise TunnelError("The host did not run our command.") from error
        if status != 0:
            said = output.decode(errors="replace").strip()
            raise TunnelError(f"A command on the host failed with exit code {status}: {said}")
        return output

    def close(self) -> None:
        """End the connection, its streams and `events`."""
        self._ended.set()
        if self._transport is not None:
            self._transport.close()

    def _live_transport(self) -> ForwardTransport:
        transport = self._transport
        if transport is None or not transport.is_active():
            raise OpenFailed("The connection is down.", reply=Reply.GENERAL_FAILURE)
        return transport

    def _is_lost(self) -> bool:
        """True once the connection is lost, False once the link is closed."""
        while not self._ended.wait(_POLL_S):
            transport = self._transport
            if transport is None or not transport.is_active():
                return True
            if time.monotonic() - transport.heard_s > self._silence_s:
                transport.close()
                return True
        return False

    def _keep_alive(self, transport: ForwardTransport) -> None:
        """Ask for an answer regularly: gateways keep the connection, and a loss is noticed."""
        while transport.is_active() and not self._ended.wait(self._keepalive_s):
            with suppress(SSHException, EOFError, OSError):
                transport.global_request("keepalive@openssh.com", wait=True)

    def _take_window(self) -> int:
        """How much may be here unread: much for few streams, little for many.

        200 stalled downloads hold 8 x 16 + 56 x 2 + 136 x 0.5 = 308 MiB.
        """
        with self._lock:
            self._open_count += 1
            if self._open_count <= 8:
                return 16 * _MIB
            return 2 * _MIB if self._open_count <= 64 else _MIB // 2

    def _give_window(self) -> None:
        with self._lock:
            self._open_count -= 1

    def _resolve(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise OpenFailed(f"{name} is not a name.", reply=Reply.GENERAL_FAILURE)
        try:
            lines = self.run(f"getent ahosts {name}").decode(errors="replace").splitlines()
        except TunnelError as error:
            raise OpenFailed(f"{name} is not known.", reply=Reply.HOST_UNREACHABLE) from error
        places = [canonical_host(line.split()[0]) for line in lines if line.strip()]
        addresses = [place for place in places if not isinstance(place, str)]
        if not addresses or any(is_never_allowed(address) for address in addresses):
            raise OpenFailed(f"{name} must not be reached.", reply=Reply.NOT_ALLOWED)
        return str(addresses[0])
