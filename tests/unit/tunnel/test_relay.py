from __future__ import annotations

import asyncio
import socket
import struct

from fruits_cli.tunnel.relay import Client, Mailbox, Stream


def test_an_end_for_a_client_that_reset_does_not_keep_others_from_theirs() -> None:
    async def meet() -> bool:
        clients: asyncio.Queue[Client] = asyncio.Queue()

        async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await clients.put(Client(reader, writer))

        server = await asyncio.start_server(served, "127.0.0.1", 0)
        peer = socket.create_connection(server.sockets[0].getsockname())
        client, mailbox = await clients.get(), Mailbox()
        stream, other = (Stream(mailbox, release=lambda: None) for _ in range(2))
        stream.pass_to(client)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # What follows is delivered before the loop sees the reset.
        peer.close()
        stream.ended()
        other.closed()
        other.is_open.add_done_callback(lambda done: done.exception())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        client.writer.transport.abort()
        server.close()
        return other.is_done.done()

    assert asyncio.run(meet())
