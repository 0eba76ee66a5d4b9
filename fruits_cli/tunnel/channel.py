"""One forwarded connection of the SSH connection, without paramiko's locks and buffers.

The transport's thread calls it with what arrives; all else is called in the event loop's thread.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from paramiko import Message, SSHException
from paramiko.common import (
    cMSG_CHANNEL_CLOSE,
    cMSG_CHANNEL_DATA,
    cMSG_CHANNEL_EOF,
    cMSG_CHANNEL_FAILURE,
    cMSG_CHANNEL_WINDOW_ADJUST,
)

from fruits_cli.tunnel.socks import Reply

if TYPE_CHECKING:
    from fruits_cli.tunnel.relay import Stream

# Some of a packet is its head.
_HEAD_BYTES = 64


class ForwardChannel:
    """What paramiko.Transport calls of a channel that forwards a connection (RFC 4254, 5 and 7)."""

    def __init__(self, transport: Any, channel_id: int, window_bytes: int, stream: Stream) -> None:
        self._channel_id = channel_id
        self._is_active = False
        self._transport = transport
        self._stream = stream
        self._remote_id = 0
        self._window_bytes = window_bytes
        self._taken_bytes = 0
        self._packet_bytes = 0
        self._has_closed = self._has_ended = self._is_unwanted = False
        self._closing = threading.Lock()

    # In the transport's thread.

    def _set_remote_channel(self, remote_id: int, window_bytes: int, packet_bytes: int) -> None:
        self._remote_id, self._packet_bytes = remote_id, packet_bytes - _HEAD_BYTES
        with self._closing:
            self._is_active = True
        if self._is_unwanted:
            self.close()
        self._stream.may_send(window_bytes)
        self._stream.opened()

    def refused(self, reply: Reply) -> None:
        self._stream.refused(reply)

    def _feed(self, message: Message) -> None:
        self._stream.received(message.get_binary())

    def _feed_extended(self, message: Message) -> None:
        # A forward has no second stream; a host that sends one uses up its own window.
        pass

    def _window_adjust(self, message: Message) -> None:
        self._stream.may_send(message.get_int())

    def _handle_eof(self, message: Message) -> None:
        self._stream.ended()

    def _handle_close(self, message: Message) -> None:
        self._transport._unlink_channel(self._channel_id)
        self._stream.closed()

    def _handle_request(self, message: Message) -> None:
        message.get_text()
        if message.get_boolean():
            self._send_message(cMSG_CHANNEL_FAILURE)

    def _request_success(self, message: Message) -> None: ...

    def _request_failed(self, message: Message) -> None: ...

    def _unlink(self) -> None:
        self._stream.closed()

    # In the event loop's thread.

    def send(self, data: memoryview) -> int:
        """Send at most a packet of data, which the far side must have room for; how much it was.

        Raises ConnectionError where the SSH connection is gone.
        """
        piece = data[: self._packet_bytes]
        message = Message()
        message.add_byte(cMSG_CHANNEL_DATA)
        message.add_int(self._remote_id)
        message.add_string(piece)
        try:
            self._transport._send_user_message(message)
        except (SSHException, EOFError, OSError) as error:
            raise ConnectionError("The SSH connection is gone.") from error
        return len(piece)

    def confirm(self, size: int) -> None:
        """Let the far side send more, as `size` bytes were handled."""
        self._taken_bytes += size
        if self._taken_bytes > self._window_bytes // 4 and not self._has_closed:
            self._send_message(cMSG_CHANNEL_WINDOW_ADJUST, self._taken_bytes)
            self._taken_bytes = 0

    def finish_sending(self) -> None:
        """Tell the far side that nothing more comes."""
        if not self._has_ended and not self._has_closed:
            self._has_ended = True
            self._send_message(cMSG_CHANNEL_EOF)

    def close(self) -> None:
        """Close both directions; one that is not open yet is closed when it is."""
        with self._closing:
            self._is_unwanted = True
            must_send = self._is_active and not self._has_closed
            self._has_closed = self._has_closed or must_send
        if must_send:
            self._send_message(cMSG_CHANNEL_CLOSE)

    def _send_message(self, kind: bytes, *numbers: int) -> None:
        message = Message()
        message.add_byte(kind)
        message.add_int(self._remote_id)
        for number in numbers:
            message.add_int(number)
        # Where the SSH connection is gone, `_unlink` closes the stream.
        with suppress(SSHException, EOFError, OSError):
            self._transport._send_user_message(message)
