"""Cancel requests to the server, over a connection of their own (manual, protocol-flow "Canceling Requests in Progress")."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from pgfaucet.upstream.connection import open_socket
from pgfaucet.wire import messages

if TYPE_CHECKING:
    from pgfaucet.upstream.connection import UpstreamConnection

CANCEL_SECONDS: Final = 5.0


async def send_cancel(connection: UpstreamConnection) -> None:
    """Ask the server to cancel what runs on a connection; return when the server has taken the request. Never raises OSError.

    Sent in clear even where the connection has TLS: the key it shows is worth one connection that the proxy alone uses, and libpq did
    so until version 17.
    """
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(CANCEL_SECONDS):
            loop = asyncio.get_running_loop()
            sock = await open_socket(connection.host)
            with contextlib.closing(sock):
                await loop.sock_sendall(sock, messages.cancel_request(connection.backend_pid, connection.cancel_key))
                await loop.sock_recv(sock, 1)
