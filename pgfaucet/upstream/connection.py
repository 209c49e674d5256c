"""One connection to the server: made, lent, closed.

Its session state starts from RECIPES S0.1 and nothing a client says reaches the start-up packet: search_path is
`pg_catalog, pg_temp`, strings are standard, the encoding is UTF-8.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import asyncpg

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.upstream.authenticate import Authentication, failed
from pgfaucet.upstream.password import password_of
from pgfaucet.wire import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.upstream.dsn import Host, Target
    from pgfaucet.upstream.pool import Pool

MAX_STATEMENTS: Final = 256  # prepared on one connection
logger = logging.getLogger(__name__)

SAID: Final = "server said "
REFUSED_PASSWORD: Final = f"{SAID}28"  # class 28 of SQLSTATE
IDLE: Final = 73
UNKNOWN: Final = 0  # of `transaction_status`
FIXED_PARAMETERS: Final = {
    "client_encoding": "UTF8",
    "search_path": "pg_catalog, pg_temp",
    "standard_conforming_strings": "on",
}


class Lessee(Protocol):
    """Who may hold a connection: a client's session."""

    def lease_granted(self, connection: UpstreamConnection) -> None:
        """Take the connection that was waited for."""

    def lease_failed(self, error: FaucetError) -> None:
        """Learn that there will be none."""

    def upstream_data(self, chunk: bytes) -> None:
        """Take what the server sent."""

    def upstream_lost(self, reason: str) -> None:
        """Learn that the connection is gone."""

    def upstream_can_write(self, *, can: bool) -> None:
        """Learn whether the server reads what it is sent."""


class UpstreamConnection:
    """An asyncio protocol over a connection that is ready for queries."""

    def __init__(self, host: Host, clock: Callable[[], float]) -> None:
        self.host = host
        self.made_at = clock()
        self.transport: asyncio.Transport | None = None
        self.backend_pid = 0
        self.cancel_key = b""
        self.parameters: dict[str, str] = {}
        self.settings: dict[str, str] = {}  # beyond the start-up state
        self.transaction_status = IDLE
        self.lessee: Lessee | None = None
        self.pool: Pool | None = None
        self.is_lost = False
        self._statements: OrderedDict[bytes, None] = OrderedDict()
        self.client_pid = 0  # what its client, or the last one, was told to be its process id
        self.owner = ""  # the session that may have left something behind here
        self.unnamed: object = None  # the client's statement that the unnamed one is
        self._stale: list[bytes] = []  # prepared, and to be closed at the next opportunity
        self._starting: StartUp | None = None
        self._is_paused = False

    # -- asyncio -----------------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand bytes to who holds the connection."""
        lessee = self.lessee
        if lessee is not None:
            lessee.upstream_data(data)
        elif self._starting is not None:
            self._starting.feed(data)
        else:
            self._idle_data(data)

    def _idle_data(self, data: bytes) -> None:
        """Nobody holds it: only a changed parameter or a notice may come; anything else, and it is closed."""
        position = 0
        while position + 5 <= len(data):
            end = position + 1 + int.from_bytes(data[position + 1 : position + 5], "big")
            if data[position] not in b"SN" or end > len(data):
                break
            if data[position] == ord("S"):
                name, value = messages.parameter_status_of(data[position + 5 : end])
                self.parameters[name] = value
            position = end
        if position != len(data):
            self._give_up("unexpected bytes while idle")

    def eof_received(self) -> None:
        """The server closed: so do we."""

    def connection_lost(self, problem: Exception | None) -> None:
        """Tell whoever cares that the connection is gone."""
        self._give_up("the server closed the connection" if problem is None else type(problem).__name__)

    def _give_up(self, reason: str) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        lessee = self.lessee
        if self._starting is not None:
            self._starting.fail(failed(reason))
        if self.pool is not None:
            self.pool.connection_lost(self, reason)
        if lessee is not None:
            lessee.upstream_lost(reason)

    def pause_writing(self) -> None:
        """The server does not read: stop reading from the client."""
        if self.lessee is not None:
            self.lessee.upstream_can_write(can=False)

    def resume_writing(self) -> None:
        """The server reads again."""
        if self.lessee is not None:
            self.lessee.upstream_can_write(can=True)

    # -- use ---------------------------------------------------------------------------------------------------------------------

    @property
    def is_reusable(self) -> bool:
        """Whether another client may have it: everything it was sent is answered, and no transaction is open."""
        return (
            not self.is_lost
            and self.transaction_status == IDLE
            and self.transport is not None
            and not self.transport.is_closing()
        )

    def write(self, data: bytes) -> None:
        """Send bytes to the server. Its state is unknown until ReadyForQuery answers the last of them."""
        self.transaction_status = UNKNOWN
        if self.transport is not None:
            self.transport.write(data)

    def pause_reading(self) -> None:
        """Stop reading until resume_reading."""
        if not self._is_paused and self.transport is not None:
            self._is_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._is_paused and self.transport is not None:
            self._is_paused = False
            self.transport.resume_reading()

    def close(self, reason: str) -> None:
        """Close, politely when the server is listening."""
        logger.debug("upstream connection %d closed: %s", self.backend_pid, reason)
        self.is_lost = True
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(messages.TERMINATE)
            self.transport.close()

    # -- prepared statements -----------------------------------------------------------------------------------------------------

    def has_statement(self, name: bytes) -> bool:
        """Whether a statement of that name is prepared here; it counts as used."""
        if name not in self._statements:
            return False
        self._statements.move_to_end(name)
        return True

    def evict_statements(self) -> list[bytes]:
        """Forget the statements that were not used for the longest time; return the names, to be closed to make room for one more."""
        evicted, self._stale = self._stale, []
        while len(self._statements) >= MAX_STATEMENTS:
            evicted.append(self._statements.popitem(last=False)[0])
        return evicted

    def remember_statement(self, name: bytes) -> None:
        """Note that a statement is being prepared."""
        self._statements[name] = None

    def forget_statement(self, name: bytes) -> None:
        """Note that preparing it failed, or that it is gone."""
        self._statements.pop(name, None)

    def distrust_statement(self, name: bytes) -> None:
        """Use a statement no more, and close it when the next one is prepared: nobody wants it, or the schema has moved on."""
        if name in self._statements:
            del self._statements[name]
            self._stale.append(name)

    def forget_statements(self) -> None:
        """Note that every prepared statement is gone."""
        self.unnamed = None
        self._stale.clear()
        self._statements.clear()


class StartUp:
    """Collects the server's messages until it is ready for queries."""

    def __init__(
        self, connection: UpstreamConnection, authentication: Authentication, done: asyncio.Future[None]
    ) -> None:
        self._connection = connection
        self._authentication = authentication
        self._done = done
        self._data = b""

    def fail(self, error: FaucetError) -> None:
        """End with an error."""
        if not self._done.done():
            self._done.set_exception(error)

    def feed(self, data: bytes) -> None:
        """Take bytes from the server."""
        self._data += data
        while len(self._data) >= 5 and not self._done.done():
            end = 1 + int.from_bytes(self._data[1:5], "big")
            if end > 1 << 20 or end < 5:
                self.fail(failed("the server does not speak the PostgreSQL protocol"))
                return
            if len(self._data) < end:
                return
            kind, body = self._data[0], self._data[5:end]
            self._data = self._data[end:]
            try:
                self._message(chr(kind), body)
            except FaucetError as error:
                self.fail(error)

    def _message(self, kind: str, body: bytes) -> None:
        connection = self._connection
        if kind == "R":
            answer = self._authentication.answer(body)
            if answer:
                connection.write(answer)
        elif kind == "E":
            fields = messages.error_fields(body)
            raise FaucetError(
                Sqlstate.CANNOT_CONNECT_NOW if fields.get("C", "").startswith("57P") else Sqlstate.CONNECTION_FAILURE,
                "could not log in to the server",
                reason=f"{SAID}{fields.get('C', '?????')}: {fields.get('M', '')}",
            )
        elif not self._authentication.is_done:
            raise failed("a message before authentication")
        elif kind == "S":
            name, value = messages.parameter_status_of(body)
            connection.parameters[name] = value
        elif kind == "K":
            connection.backend_pid = int.from_bytes(body[:4], "big", signed=True)
            connection.cancel_key = body[4:]
        elif kind == "Z":
            connection.transaction_status = body[0] if body else UNKNOWN
            self._done.set_result(None)
        elif kind != "N":
            raise failed(f"unexpected message {kind!r} during start-up")


async def connect(target: Target, clock: Callable[[], float]) -> UpstreamConnection:
    """Connect to the first host of a target that serves. Raises FaucetError 08006 or 57P03 saying why the last one did not.

    A password that may have changed is asked for again when the server refuses it.
    """
    try:
        return await _connect_to_one(target, clock)
    except FaucetError as problem:
        if target.source is None or not problem.reason.startswith(REFUSED_PASSWORD):
            raise
        target.source.forget()
        return await _connect_to_one(target, clock)


async def _connect_to_one(target: Target, clock: Callable[[], float]) -> UpstreamConnection:
    error = failed("no host")
    for host in target.hosts:
        try:
            async with asyncio.timeout(target.connect_timeout):
                connection = await _connect_to(target, host, clock)
        except FaucetError as refusal:
            error = refusal
        except (OSError, TimeoutError, ssl.SSLError) as problem:
            error = FaucetError(
                Sqlstate.CONNECTION_FAILURE,
                "could not connect to the server",
                reason=f"{host.name}:{host.port}: {type(problem).__name__}: {problem}",
            )
        else:
            if _has_attributes(connection, target.target_session_attrs):
                return connection
            connection.close("not the kind of server that was asked for")
            error = failed(f"{host.name}:{host.port}: session is not {target.target_session_attrs}")
    raise error


def _has_attributes(connection: UpstreamConnection, wanted: str) -> bool:
    standby = connection.parameters.get("in_hot_standby") == "on"
    read_only = standby or connection.parameters.get("default_transaction_read_only") == "on"
    return {
        "read-write": not read_only,
        "read-only": read_only,
        "primary": not standby,
        "standby": standby,
    }.get(wanted, True)


async def _connect_to(target: Target, host: Host, clock: Callable[[], float]) -> UpstreamConnection:
    loop = asyncio.get_running_loop()
    password = await password_of(target, host)
    sock = await open_socket(host)
    connection = UpstreamConnection(host, clock)
    done: asyncio.Future[None] = loop.create_future()
    try:
        context = await _negotiate_tls(loop, sock, target, host)
        transport: Any
        transport, _ = await loop.create_connection(
            lambda: cast("asyncio.Protocol", connection),
            sock=sock,
            ssl=context,
            server_hostname=(host.name if context is not None else None),
        )
    except BaseException:
        sock.close()
        raise
    is_private = context is not None or host.is_socket or _is_loopback(sock)
    authentication = Authentication(
        target.user,
        password,
        channel_binding=target.channel_binding,
        tls=transport.get_extra_info("ssl_object"),
        is_private=is_private,
    )
    connection._starting = StartUp(connection, authentication, done)  # noqa: SLF001 - the two are one
    own = {"user": target.user, "database": target.database, "application_name": target.application_name}
    connection.write(messages.startup_packet({**own, **FIXED_PARAMETERS}))
    try:
        await done
    except BaseException:
        connection.close("start-up failed")
        raise
    connection._starting = None  # noqa: SLF001 - as above
    return connection


def _is_loopback(sock: socket.socket) -> bool:
    try:
        address = sock.getpeername()[0]
    except (OSError, IndexError):
        return False
    return isinstance(address, str) and (address.startswith("127.") or address == "::1")


async def open_socket(host: Host) -> socket.socket:
    """Connect a non-blocking socket to a host. Raises OSError."""
    loop = asyncio.get_running_loop()
    if host.is_socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        return await _connected(loop, sock, host.socket_path)
    last: OSError = OSError(f"{host.name} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            connected = await _connected(loop, sock, address)
        except OSError as problem:
            last = problem
            continue
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connected
    raise last


async def _connected(loop: asyncio.AbstractEventLoop, sock: socket.socket, address: Any) -> socket.socket:
    try:
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _negotiate_tls(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, target: Target, host: Host
) -> ssl.SSLContext | None:
    """Ask for TLS; exactly one byte is read before the handshake, so that nothing can be slipped in (CVE-2021-23222)."""
    if target.sslmode in ("disable", "allow") or host.is_socket:
        if host.is_socket and target.sslmode in ("require", "verify-ca", "verify-full"):
            return None  # libpq ignores sslmode on Unix-domain sockets
        return None
    await loop.sock_sendall(sock, messages.ssl_request())
    answer = await loop.sock_recv(sock, 1)
    if answer == b"S":
        return make_client_context(target)
    if answer == b"N" and target.sslmode == "prefer":
        return None
    raise failed(f"the server does not speak TLS, and sslmode is {target.sslmode}")


def make_client_context(target: Target) -> ssl.SSLContext:
    """Make the TLS context that a target's sslmode asks for (libpq-ssl)."""
    context = ssl.create_default_context(cafile=target.sslrootcert if target.sslrootcert != "system" else None)
    context.check_hostname = target.sslmode == "verify-full"
    if target.sslmode not in ("verify-ca", "verify-full") and not target.sslrootcert:
        context.verify_mode = ssl.CERT_NONE
    return _client_context(context, target)


def _client_context(context: ssl.SSLContext, target: Target) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["postgresql"])
    if target.sslcert:
        context.load_cert_chain(target.sslcert, target.sslkey)
    return context


async def connect_catalog(target: Target) -> asyncpg.Connection[asyncpg.Record]:
    """Connect asyncpg to the same target, for reading the catalog. Raises OSError and asyncpg errors."""
    hosts = target.hosts
    tls: Any = False
    if target.channel_binding == "require":
        host, tls = await _bound_server(target)
        hosts = (host,)
    elif not hosts[0].is_socket and target.sslmode not in ("disable", "allow"):
        tls = "prefer" if target.sslmode == "prefer" else make_client_context(target)
    try:
        return await asyncpg.connect(
            host=[entry.name for entry in hosts],
            port=[entry.port for entry in hosts],
            user=target.user,
            password=await password_of(target, hosts[0]),
            database=target.database,
            ssl=tls,
            timeout=target.connect_timeout,
            server_settings={"application_name": "pgfaucet catalog", "search_path": "pg_catalog, pg_temp"},
        )
    except asyncpg.InvalidAuthorizationSpecificationError:
        if target.source is not None:
            target.source.forget()
        raise


async def _bound_server(target: Target) -> tuple[Host, ssl.SSLContext]:
    """Log in once with channel binding, which asyncpg can't do; return the host and a context that trusts only the certificate
    that was bound. Raises OSError.
    """
    try:
        connection = await connect(target, lambda: 0.0)
    except FaucetError as error:
        raise ConnectionError(error.reason) from None
    tls: ssl.SSLObject | None = connection.transport.get_extra_info("ssl_object") if connection.transport else None
    certificate = tls.getpeercert(binary_form=True) if tls is not None else None
    connection.close("it has served to know the server")
    if certificate is None:
        raise ConnectionError("channel binding is required, but the connection has no TLS")
    context = _client_context(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), target)
    context.check_hostname = False  # looked at above, if sslmode asks for it
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=certificate)
    return connection.host, context
