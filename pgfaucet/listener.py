"""Accepts clients: what comes before the start-up packet is settled on the bare socket.

SSLRequest, GSSENCRequest, direct TLS and CancelRequest are read with MSG_PEEK and taken exactly, before any transport exists. So nothing
that a client (or somebody between) sends behind an SSLRequest can ever be taken for what was decrypted (CVE-2021-23214).
Source: manual, protocol-flow "SSL Session Encryption"; src/backend/tcop/backend_startup.c.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import socket
import ssl
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from cryptography.hazmat.primitives import hashes
from cryptography.x509 import load_pem_x509_certificate

from pgfaucet.config import TcpAddress
from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.wire import messages
from pgfaucet.wire.startup import MAX_LENGTH, MIN_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from pgfaucet.config import Address, TlsConfig, UnixAddress
    from pgfaucet.session.client import ClientSession

logger = logging.getLogger(__name__)

BACKLOG: Final = 512
MAX_NEGOTIATING: Final = 256
NEGOTIATION_SECONDS: Final = 10.0
ACCEPT_PAUSE_SECONDS: Final = 0.5
TLS_RECORD: Final = 0x16
_END_OF_FILE: Final = getattr(select, "POLLRDHUP", 0)
MAX_CANCEL_LENGTH: Final = 12 + 256


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of a client from its socket."""

    ip: str  # "local" for a Unix-domain socket
    is_private: bool  # loopback or a Unix-domain socket
    is_encrypted: bool
    requires_alpn: bool  # direct TLS: the handshake must have agreed on `postgresql`


class Refused(Exception):
    """A client that is sent away; `answer` is what it is told first."""

    def __init__(self, reason: str, answer: bytes = b"") -> None:
        super().__init__(reason)
        self.answer = answer


class Listener:
    """One address that clients connect to."""

    def __init__(  # noqa: PLR0913 - what a listener is made of
        self,
        address: Address,
        new_session: Callable[[Peer], ClientSession],
        cancel: Callable[[int, bytes], None],
        *,
        tls: ssl.SSLContext | None,
        tls_required: bool,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        is_shared: bool = False,
    ) -> None:
        """`cancel` takes the process id and key of a CancelRequest; `is_shared`: other workers listen there too."""
        self.address = address
        self._new_session = new_session
        self._cancel = cancel
        self._tls = tls
        self._tls_required = tls_required
        self._spawn = spawn
        self._socket: socket.socket | None = None
        self._negotiating: dict[socket.socket, None] = {}  # who has not begun a session yet; the oldest first
        self._is_shared = is_shared

    def start(self) -> None:
        """Begin to listen. Raises OSError when the address can't be had."""
        address = self.address
        sock = (
            _tcp_socket(address, is_shared=self._is_shared)
            if isinstance(address, TcpAddress)
            else _unix_socket(address)
        )
        sock.setblocking(False)
        sock.listen(BACKLOG)
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock, self._accept)

    @property
    def port(self) -> int:
        """The port in use, also when 0 was asked for."""
        return (
            int(self._socket.getsockname()[1])
            if self._socket is not None and self._socket.family != socket.AF_UNIX
            else 0
        )

    def close(self) -> None:
        """Take no more clients."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            if not isinstance(self.address, TcpAddress):
                self.address.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        if self._socket is None:
            return
        for _ in range(BACKLOG):
            try:
                client, _address = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as problem:  # no descriptors left: the same again at once would only fill the log
                logger.warning("cannot accept clients for %g s: %s", ACCEPT_PAUSE_SECONDS, problem)
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._socket)
                loop.call_later(ACCEPT_PAUSE_SECONDS, self._resume)
                return
            client.setblocking(False)
            if len(self._negotiating) >= MAX_NEGOTIATING:
                self._end_oldest()
            self._negotiating[client] = None
            self._spawn(self._negotiate(client))

    def _end_oldest(self) -> None:
        """Make room: who has been silent for longest is let go, so that nobody can hold all places."""
        oldest = next(iter(self._negotiating))
        del self._negotiating[oldest]
        with contextlib.suppress(OSError):
            oldest.shutdown(socket.SHUT_RDWR)  # its negotiation finds the end, and closes it

    def _resume(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    async def _negotiate(self, client: socket.socket) -> None:
        """Bring a new socket to a session, or close it."""
        try:
            async with asyncio.timeout(NEGOTIATION_SECONDS):
                handed_over = await self._until_startup(client)
        except Refused as refusal:
            handed_over = False
            with contextlib.suppress(OSError):
                client.send(refusal.answer)
        except (OSError, TimeoutError, ssl.SSLError):
            handed_over = False
        finally:
            self._negotiating.pop(client, None)
        if not handed_over:
            _discard(client)
            client.close()

    async def _until_startup(self, client: socket.socket) -> bool:
        asked: set[int] = set()
        while True:
            head = await _peek(client, 8)
            if head[0] == TLS_RECORD and not asked:
                if self._tls is None:
                    raise Refused("TLS is not configured")
                await self._hand_over(client, self._tls, requires_alpn=True)
                return True
            length, code = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
            if code == messages.CANCEL_REQUEST_CODE:
                await self._take_cancel(client, length)
                return False
            if code not in (messages.SSL_REQUEST_CODE, messages.GSSENC_REQUEST_CODE) or length != MIN_LENGTH:
                if not MIN_LENGTH <= length <= MAX_LENGTH:
                    raise Refused("not a start-up packet")
                self._check_tls_required()
                await self._hand_over(client, None)
                return True
            if code in asked:
                raise Refused(
                    "asked twice",
                    _fatal(f"unsupported frontend protocol {code >> 16}.{code & 0xFFFF}: server supports 3.0 to 3.2"),
                )
            asked.add(code)
            _take(client, 8)
            if code == messages.SSL_REQUEST_CODE and self._tls is not None:
                if _has_more(client):
                    raise Refused("bytes behind SSLRequest")
                client.send(b"S")
                await self._hand_over(client, self._tls)
                return True
            client.send(b"N")

    def _check_tls_required(self) -> None:
        if self._tls_required and not self.address.is_loopback:
            raise Refused(
                "TLS is required",
                messages.error_response(
                    "FATAL",
                    FaucetError(
                        Sqlstate.INVALID_AUTHORIZATION,
                        "this server takes only encrypted connections",
                        hint="Use sslmode=require.",
                    ),
                ),
            )

    async def _take_cancel(self, client: socket.socket, length: int) -> None:
        if not 16 <= length <= MAX_CANCEL_LENGTH:
            raise Refused("not a cancel request")
        packet = await _peek(client, length)
        self._cancel(int.from_bytes(packet[8:12], "big", signed=True), packet[12:length])

    async def _hand_over(
        self, client: socket.socket, context: ssl.SSLContext | None, *, requires_alpn: bool = False
    ) -> None:
        is_tcp = client.family != socket.AF_UNIX
        if is_tcp:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        ip = client.getpeername()[0] if is_tcp else "local"
        is_private = not is_tcp or ip.startswith("127.") or ip == "::1"
        session = self._new_session(Peer(ip, is_private, context is not None, requires_alpn))
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: cast("asyncio.Protocol", session),
            client,
            ssl=context,
        )


def make_tls_context(settings: TlsConfig) -> ssl.SSLContext:
    """Make the context that clients are offered. Raises OSError when certificate or key can't be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.cert, settings.key)
    context.set_alpn_protocols(["postgresql"])
    return context


def certificate_hash(path: Path) -> bytes:
    """Return the tls-server-end-point channel binding of a certificate (RFC 5929 section 4.1). Raises OSError, ValueError."""
    certificate = load_pem_x509_certificate(path.read_bytes())
    algorithm = certificate.signature_hash_algorithm
    is_weak = algorithm is None or isinstance(algorithm, hashes.MD5 | hashes.SHA1)
    return certificate.fingerprint(hashes.SHA256() if is_weak or algorithm is None else algorithm)


def _fatal(message: str) -> bytes:
    return messages.error_response("FATAL", FaucetError(Sqlstate.FEATURE_NOT_SUPPORTED, message))


def _tcp_socket(address: TcpAddress, *, is_shared: bool) -> socket.socket:
    family, _, _, _, where = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(where)
    except OSError as problem:
        sock.close()
        raise OSError(problem.errno, f"cannot listen on {address}: {os.strerror(problem.errno or 0)}") from None
    return sock


def _unix_socket(address: UnixAddress) -> socket.socket:
    path = address.path
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _is_served(path.as_posix()):
            path.unlink()
        sock.bind(path.as_posix())
    except OSError as problem:
        sock.close()
        raise OSError(problem.errno, f"cannot listen on {path}: {os.strerror(problem.errno or 0)}") from None
    return sock


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == 0


async def _peek(client: socket.socket, count: int) -> bytes:
    """Wait until `count` bytes can be read, and leave them there. Junk is known by its first bytes."""
    loop = asyncio.get_running_loop()
    seen = 0
    while True:
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(client, _wake, readable)
        try:
            await readable
        finally:
            loop.remove_reader(client)
        data = client.recv(count, socket.MSG_PEEK)
        if not data:
            raise Refused("closed by the client")
        if len(data) >= count or data[0] == TLS_RECORD:
            return data.ljust(count, b"\0")
        if data[0] != 0 or (len(data) >= 4 and int.from_bytes(data[:4], "big") < MIN_LENGTH):
            raise Refused("not PostgreSQL")
        if _has_ended(client):
            raise Refused("closed by the client")
        if len(data) == seen:
            await asyncio.sleep(0.005)  # readable stays true while a part is there: look again a little later
        seen = len(data)


def _wake(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)


def _take(client: socket.socket, count: int) -> None:
    if len(client.recv(count)) != count:
        raise Refused("closed by the client")


def _has_ended(client: socket.socket) -> bool:
    """Whether the client has closed its half: no byte will follow those that can be seen (where the system tells, as Linux does)."""
    poll = select.poll()
    poll.register(client, _END_OF_FILE)
    return any(events & _END_OF_FILE for _, events in poll.poll(0))


def _discard(client: socket.socket) -> None:
    """Take what has arrived, so that closing tells the client of an end and not of a reset."""
    with contextlib.suppress(OSError):
        client.recv(MAX_LENGTH + MAX_CANCEL_LENGTH)


def _has_more(client: socket.socket) -> bool:
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
