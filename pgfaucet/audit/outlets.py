"""The other places that audit records can go to: standard output, a file, syslog, a PostgreSQL table, an HTTP address. In an event loop."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import threading
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgfaucet.config import SinkConfig

TIMEOUT_SECONDS: Final = 10.0
SYSLOG_NOTICE: Final = 13 * 8 + 5  # facility 13 (log audit), severity 5 (notice); RFC 5424 section 6.2.1
FAILURES: Final = (OSError, TimeoutError, aiohttp.ClientError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What a place may fail with; it is tried again."""

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS pgfaucet_audit (
    source text NOT NULL, seq bigint NOT NULL, kind text NOT NULL, ts timestamptz NOT NULL, record jsonb NOT NULL,
    line text NOT NULL, PRIMARY KEY (source, kind, seq)
)
"""


class Rejected(Exception):
    """The place does not take these lines, now or later."""


class Outlet(Protocol):
    """One place. `send` raises one of FAILURES, and the same lines may then be sent again; or Rejected."""

    async def send(self, lines: Sequence[bytes]) -> None:
        """Send lines, each as its format made it, in order."""

    async def close(self) -> None:
        """Let go of the place."""


def open_outlet(config: SinkConfig, source: str) -> Outlet:
    """Return the outlet that a configuration names; nothing is connected yet."""
    kind, _, where = config.to.partition(":")
    match kind:
        case "stdout":
            return Descriptor(None)
        case "file":
            return Descriptor(where)
        case "syslog":
            return Syslog(where)
        case "postgresql" | "postgres":
            return Table(config.to, source)
        case _:
            return Http(config.to, config.format)


class Descriptor:
    """Standard output, or a file that is only appended to."""

    def __init__(self, path: str | None) -> None:
        """None is standard output."""
        self._path = path
        self._is_torn = False
        self._under_way: asyncio.Future[None] | None = None

    async def send(self, lines: Sequence[bytes]) -> None:
        """Write, in a thread: a pipe may be full."""
        if self._under_way is None:
            data = b"".join(line if line.endswith(b"\n") else line + b"\n" for line in lines)
            self._under_way = _in_thread(lambda: self._write(data))
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await asyncio.shield(self._under_way)
        finally:
            if self._under_way.done():  # else it is waited for the next time
                self._under_way = None

    async def close(self) -> None:
        """Nothing is held."""

    def _write(self, data: bytes) -> None:
        data = b"\n" + data if self._is_torn else data  # what a failed write has left is a line of its own
        self._is_torn = True
        self._write_to_place(data)
        self._is_torn = False

    def _write_to_place(self, data: bytes) -> None:
        if self._path is None:
            _write_all(sys.stdout.fileno(), data)
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _in_thread(work: Callable[[], None]) -> asyncio.Future[None]:
    """Do something in a thread that nobody waits for when the process ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(problem: BaseException | None) -> None:
        if done.cancelled():
            return
        if problem is None:
            done.set_result(None)
        else:
            done.set_exception(problem)

    def run() -> None:
        problem: BaseException | None = None
        try:
            work()
        except Exception as caught:  # noqa: BLE001 - handed on
            problem = caught
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, problem)

    threading.Thread(target=run, name="pgfaucet-outlet", daemon=True).start()
    return done


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class Syslog:
    """RFC 5424 messages to a socket file, or over UDP or TCP (octet counting, RFC 6587)."""

    def __init__(self, where: str) -> None:
        """`where` is /dev/log, udp://HOST:PORT or tcp://HOST:PORT."""
        self._parts = urlsplit(where)
        self._head = f"<{SYSLOG_NOTICE}>1 - {socket.gethostname() or '-'} pgfaucet {os.getpid()} audit - ".encode()
        self._socket: socket.socket | None = None

    async def send(self, lines: Sequence[bytes]) -> None:
        """Send each line as a message, in a thread."""
        await asyncio.to_thread(self._send, lines)

    async def close(self) -> None:
        """Close the socket."""
        held, self._socket = self._socket, None
        if held is not None:
            held.close()

    def _send(self, lines: Sequence[bytes]) -> None:
        try:
            if self._socket is None:
                self._socket = self._connect()
            for line in lines:
                message = self._head + line.rstrip(b"\n")
                self._socket.sendall(b"%d %b" % (len(message), message) if self._parts.scheme == "tcp" else message)
        except OSError as problem:
            if problem.errno == errno.EMSGSIZE:
                raise Rejected("it is too long for a datagram") from None
            if self._socket is not None:
                self._socket.close()
            self._socket = None
            raise

    def _connect(self) -> socket.socket:
        if not self._parts.scheme:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            made.settimeout(TIMEOUT_SECONDS)
            try:
                made.connect(self._parts.path)
            except OSError:
                made.close()
                raise
            return made
        host, port = self._parts.hostname or "", self._parts.port or 514
        if self._parts.scheme == "tcp":
            return socket.create_connection((host, port), TIMEOUT_SECONDS)
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        made = socket.socket(family, kind, protocol)
        made.connect(address)
        return made


class Table:
    """The table pgfaucet_audit of a PostgreSQL database; made when missing. Lines that are there already are left as they are."""

    def __init__(self, dsn: str, source: str) -> None:
        """`source` names the log in the table."""
        self._dsn = dsn
        self._source = source
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def send(self, lines: Sequence[bytes]) -> None:
        """Copy lines into a temporary table, and from there what is new."""
        connection = await self._connected()
        async with connection.transaction():
            await connection.execute(
                "CREATE TEMPORARY TABLE new_records (LIKE pgfaucet_audit INCLUDING DEFAULTS) ON COMMIT DROP"
            )
            try:
                await connection.copy_records_to_table("new_records", records=[self._row(line) for line in lines])
            except asyncpg.DataError as problem:
                raise Rejected(str(problem)) from None
            await connection.execute("INSERT INTO pgfaucet_audit SELECT * FROM new_records ON CONFLICT DO NOTHING")

    async def close(self) -> None:
        """Close the connection."""
        held, self._connection = self._connection, None
        if held is not None:
            held.terminate()

    async def _connected(self) -> asyncpg.Connection[asyncpg.Record]:
        if self._connection is None or self._connection.is_closed():
            try:
                self._connection = await asyncpg.connect(
                    self._dsn,
                    timeout=TIMEOUT_SECONDS,
                    command_timeout=TIMEOUT_SECONDS,
                    server_settings={"application_name": "pgfaucet audit"},
                )
            except ValueError:  # its text may quote the password
                raise ConnectionError("the connection string cannot be read") from None
            await self._connection.execute(_TABLE)
        return self._connection

    def _row(self, line: bytes) -> tuple[Any, ...]:
        record = orjson.loads(line)
        text = line.decode().rstrip("\n")
        kind = "checkpoint" if "signature" in record else "record"
        at = datetime.fromisoformat(record["ts"])
        return (self._source, record["seq"], kind, at, text.replace("\\u0000", "\\ufffd"), text)


_REJECTIONS: Final = frozenset({400, 413, 422})
_RESOURCE: Final = (
    b'"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"pgfaucet"}}]},'
    b'"%s":[{"scope":{"name":"pgfaucet.audit"},"%s":['
)
_ENVELOPES: Final = {
    "otlp": (b'{"resourceLogs":[{' + _RESOURCE % (b"scopeLogs", b"logRecords"), b"]}]}]}"),
    "spans": (b'{"resourceSpans":[{' + _RESOURCE % (b"scopeSpans", b"spans"), b"]}]}]}"),
}


class Http:
    """An HTTP address that takes batches as a JSON array, or OpenTelemetry's logs or spans (`/v1/logs`, `/v1/traces`)."""

    def __init__(self, address: str, form: str) -> None:
        """Nothing is connected yet."""
        self._address = address
        self._before, self._after = _ENVELOPES.get(form, (b"[", b"]"))
        self._session: aiohttp.ClientSession | None = None

    async def send(self, lines: Sequence[bytes]) -> None:
        """POST a batch; any status but 2xx is a failure."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS))
        body = self._before + b",".join(line.rstrip(b"\n") for line in lines) + self._after
        async with self._session.post(self._address, data=body, headers={"Content-Type": "application/json"}) as answer:
            if answer.status in _REJECTIONS:
                raise Rejected(f"HTTP status {answer.status}")
            answer.raise_for_status()

    async def close(self) -> None:
        """Close the connection."""
        held, self._session = self._session, None
        if held is not None:
            await held.close()
