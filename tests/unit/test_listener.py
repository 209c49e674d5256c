from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import socket
import ssl
import struct
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pgfaucet import listener as listener_module
from pgfaucet.config import TcpAddress, TlsConfig, UnixAddress
from pgfaucet.listener import Listener, certificate_hash, make_tls_context
from tests.kit.certificates import write_certificate
from tests.kit.wire import CANCEL_REQUEST, GSSENC_REQUEST, SSL_REQUEST, startup_packet

STARTUP = startup_packet({"user": "agent", "database": "shop"})
LOOPBACK = TcpAddress("127.0.0.1", 0)
ANYWHERE = TcpAddress("0.0.0.0", 0)


def request(code: int) -> bytes:
    return struct.pack(">ii", 8, code)


def cancel(key: bytes, pid: int = 7) -> bytes:
    return struct.pack(">iii", 12 + len(key), CANCEL_REQUEST, pid) + key


class Session(asyncio.Protocol):
    """What the listener hands a client over to; says hello and keeps what it is sent."""

    def __init__(self, peer):
        self.peer = peer
        self.data = b""
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        transport.write(b"hello")

    def data_received(self, data):
        self.data += data


class Side:
    """A listener and what it did."""

    def __init__(self, address, **options):
        self.sessions = []
        self.cancelled = []
        self._tasks = set()
        defaults = {"tls": None, "tls_required": False}
        self.listener = Listener(
            address,
            self._new_session,
            lambda pid, key: self.cancelled.append((pid, key)),
            spawn=self._spawn,
            **(defaults | options),
        )

    def _new_session(self, peer):
        self.sessions.append(Session(peer))
        return self.sessions[-1]

    def _spawn(self, coroutine):
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def received(self):
        return b"".join(session.data for session in self.sessions)

    async def client(self):
        return await asyncio.open_connection("127.0.0.1", self.listener.port)

    async def stop(self):
        self.listener.close()
        for session in self.sessions:
            if session.transport is not None:
                session.transport.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def listening(address=LOOPBACK, **options):
    """Run an async test beside a listener of its own."""

    def decorate(test):
        @functools.wraps(test)
        def run():
            async def main():
                side = Side(address, **options)
                side.listener.start()
                try:
                    async with asyncio.timeout(20):
                        await test(side)
                finally:
                    await side.stop()

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())

        del run.__wrapped__  # pytest would ask for the parameters of the test
        return run

    return decorate


async def answer(side: Side, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send parts on a new connection; return all that is answered until the other side closes or says hello."""
    reader, writer = await side.client()
    seen = b""
    with contextlib.closing(writer), contextlib.suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await asyncio.sleep(pause)
        while not seen.endswith(b"hello") and (data := await reader.read(1000)):
            seen += data
    return seen


async def until(condition):
    while not condition():  # noqa: ASYNC110 - what is waited for knows of no event
        await asyncio.sleep(0.001)


# -- without TLS -------------------------------------------------------------------------------------------------------------------


@listening()
async def test_a_client_becomes_a_session_that_reads_its_packet_whole(side):
    assert await answer(side, STARTUP) == b"hello"
    await until(lambda: side.received == STARTUP)
    [session] = side.sessions
    assert (session.peer.ip, session.peer.is_private, session.peer.is_encrypted) == ("127.0.0.1", True, False)
    assert not session.peer.requires_alpn


@listening()
async def test_a_packet_that_comes_byte_by_byte_is_waited_for(side):
    parts = [bytes((byte,)) for byte in STARTUP]
    assert await answer(side, *parts, pause=0.001) == b"hello"


@listening()
async def test_encryption_that_is_not_offered_is_declined(side):
    assert await answer(side, request(SSL_REQUEST), request(GSSENC_REQUEST), STARTUP) == b"NNhello"
    await until(lambda: side.received == STARTUP)


@listening()
async def test_asking_twice_for_the_same_encryption_is_an_error(side):
    for code in (SSL_REQUEST, GSSENC_REQUEST):
        said = await answer(side, request(code), request(code), STARTUP)
        assert said[:2] == b"NE"
        assert b"C0A000\0" in said
    assert side.sessions == []


@listening()
async def test_what_is_no_start_up_packet_is_closed_without_a_session(side):
    for junk in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\7\0\3\0\0",
        b"\0\1\0\0\0\3\0\0",
        b"\xff\xff\xff\xff\0\3\0\0",
        b"\x16\x03\x01\x02\0\1\0\1",
    ):
        assert await answer(side, junk) == b"", junk
    assert side.sessions == []


@listening()
async def test_a_client_that_leaves_early_leaves_nothing_behind(side):
    for part in (b"", STARTUP[:1], STARTUP[:7], cancel(b"4444")[:12]):
        _, writer = await side.client()
        writer.write(part)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    await until(lambda: not side._tasks)
    assert (side.sessions, side.cancelled) == ([], [])


def test_a_client_that_says_nothing_is_closed_in_time(monkeypatch):
    monkeypatch.setattr(listener_module, "NEGOTIATION_SECONDS", 0.05)

    @listening()
    async def run(side):
        assert await answer(side) == b""
        assert await answer(side, STARTUP[:5]) == b""

    run()


def test_only_so_many_clients_are_negotiated_with_at_once(monkeypatch):
    monkeypatch.setattr(listener_module, "MAX_NEGOTIATING", 2)

    @listening()
    async def run(side):
        silent = [await side.client() for _ in range(2)]
        await until(lambda: len(side._tasks) == 2)
        assert await answer(side, STARTUP) == b"hello"
        assert await silent[0][0].read() == b""  # the one that was silent for longest made room
        await until(lambda: len(side._tasks) == 1)
        for _, writer in silent:
            writer.close()
        await until(lambda: not side._tasks)

    run()


# -- cancel ------------------------------------------------------------------------------------------------------------------------


@listening()
async def test_a_cancel_request_is_passed_on_and_the_connection_closed(side):
    for key in (b"4444", b"k" * 32, b"k" * 256):
        assert await answer(side, cancel(key)) == b""
    assert await answer(side, cancel(b"4444", -2)) == b""
    assert side.cancelled == [(7, b"4444"), (7, b"k" * 32), (7, b"k" * 256), (-2, b"4444")]
    assert side.sessions == []


@listening()
async def test_a_cancel_request_that_comes_in_pieces_is_passed_on_once_and_whole(side):
    assert await answer(side, cancel(b"4444")[:10], cancel(b"4444")[10:], pause=0.02) == b""
    assert side.cancelled == [(7, b"4444")]


@listening()
async def test_a_cancel_request_of_another_length_is_refused(side):
    for key in (b"", b"123", b"k" * 257):
        assert await answer(side, cancel(key)) == b""
    assert side.cancelled == []


@listening()
async def test_a_cancel_request_may_follow_a_declined_encryption(side):
    assert await answer(side, request(SSL_REQUEST), cancel(b"4444")) == b"N"
    assert side.cancelled == [(7, b"4444")]


# -- with TLS ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return write_certificate(tmp_path_factory.mktemp("listener"))


@pytest.fixture
def beside_tls(certificate):
    """Run an async function beside a listener that offers TLS."""

    def run(test, address=LOOPBACK, *, tls_required=True):
        context = make_tls_context(TlsConfig(*certificate))
        listening(address, tls=context, tls_required=tls_required)(test)()

    return run


def client_context(certificate, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


async def start_tls(side, context) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for TLS as libpq does, and shake hands."""
    sock = socket.create_connection(("127.0.0.1", side.listener.port))
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, request(SSL_REQUEST))
    assert await loop.sock_recv(sock, 10) == b"S"
    return await asyncio.open_connection(sock=sock, ssl=context, server_hostname="localhost")


def test_a_client_that_asks_for_tls_gets_it(beside_tls, certificate):
    async def test(side):
        reader, writer = await start_tls(side, client_context(certificate))
        assert await reader.readexactly(5) == b"hello"
        writer.write(STARTUP)
        await until(lambda: side.received == STARTUP)
        peer = side.sessions[0].peer
        assert (peer.is_encrypted, peer.requires_alpn) == (True, False)
        writer.transport.abort()

    beside_tls(test)


def test_direct_tls_must_have_agreed_on_the_protocol(beside_tls, certificate):
    async def test(side):
        for protocols in (("postgresql",), ()):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1",
                side.listener.port,
                ssl=client_context(certificate, *protocols),
                server_hostname="localhost",
            )
            assert await reader.readexactly(5) == b"hello"
            chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
            assert chosen == (protocols[0] if protocols else None)
            writer.transport.abort()
        assert [session.peer.requires_alpn for session in side.sessions] == [True, True]

    beside_tls(test)


def test_bytes_slipped_in_behind_the_request_for_tls_end_the_connection(beside_tls):
    async def test(side):
        assert await answer(side, request(SSL_REQUEST) + STARTUP) == b""
        assert side.sessions == []

    beside_tls(test)


def test_a_client_without_tls_is_told_to_use_it(beside_tls):
    async def test(side):
        said = await answer(side, STARTUP)
        assert said[:1] == b"E"
        assert b"SFATAL\0" in said
        assert b"C28000\0" in said
        assert b"sslmode=require" in said
        assert side.sessions == []

    beside_tls(test, ANYWHERE)


def test_a_client_without_tls_is_let_in_where_only_this_machine_can_reach(beside_tls):
    async def test(side):
        assert await answer(side, STARTUP) == b"hello"

    beside_tls(test, LOOPBACK)


def test_a_client_without_tls_is_let_in_where_it_is_optional(beside_tls):
    async def test(side):
        assert await answer(side, STARTUP) == b"hello"

    beside_tls(test, ANYWHERE, tls_required=False)


def test_a_cancel_request_needs_no_tls(beside_tls):
    async def test(side):
        assert await answer(side, cancel(b"4444")) == b""
        assert side.cancelled == [(7, b"4444")]

    beside_tls(test, ANYWHERE)


def test_a_handshake_that_fails_leaves_nothing_behind(beside_tls):
    async def test(side):
        with pytest.raises(ssl.SSLError):
            await start_tls(side, ssl.create_default_context())
        reader, writer = await side.client()
        writer.write(request(SSL_REQUEST))
        assert await reader.readexactly(1) == b"S"
        writer.close()
        await until(lambda: not side._tasks)
        assert all(session.data == b"" for session in side.sessions)

    beside_tls(test)


def test_old_versions_of_tls_are_not_offered(certificate):
    assert make_tls_context(TlsConfig(*certificate)).minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_certificate_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        make_tls_context(TlsConfig(tmp_path / "none.crt", tmp_path / "none.key"))
    with pytest.raises(OSError, match="No such file"):
        certificate_hash(tmp_path / "none.crt")


def test_the_channel_binding_is_the_hash_of_the_certificate(certificate):
    der = x509.load_pem_x509_certificate(certificate[0].read_bytes()).public_bytes(serialization.Encoding.DER)
    assert certificate_hash(certificate[0]) == hashlib.sha256(der).digest()


# -- addresses ---------------------------------------------------------------------------------------------------------------------


def test_a_unix_socket_is_served_and_taken_away(tmp_path):
    address = UnixAddress(tmp_path, 6432)

    @listening(address)
    async def run(side):
        reader, writer = await asyncio.open_unix_connection(address.path)
        writer.write(STARTUP)
        assert await reader.readexactly(5) == b"hello"
        assert (side.sessions[0].peer.ip, side.sessions[0].peer.is_private) == ("local", True)
        assert side.listener.port == 0
        writer.transport.abort()

    run()
    assert not address.path.exists()


def test_a_socket_that_a_crash_left_behind_is_replaced(tmp_path):
    address = UnixAddress(tmp_path, 6432)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(address.path))

    @listening(address)
    async def run(_):
        reader, writer = await asyncio.open_unix_connection(address.path)
        writer.write(STARTUP)
        assert await reader.readexactly(5) == b"hello"
        writer.transport.abort()

    run()


def test_an_address_that_is_in_use_is_not_taken(tmp_path):
    address = UnixAddress(tmp_path, 6432)

    @listening(address)
    async def beside_a_unix_socket(_):
        with pytest.raises(OSError, match=r"cannot listen on .*in use"):
            Side(address).listener.start()

    @listening()
    async def beside_a_port(side):
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{side.listener.port}: .*in use"):
            Side(TcpAddress("127.0.0.1", side.listener.port)).listener.start()

    beside_a_unix_socket()
    beside_a_port()


def test_a_file_that_is_no_socket_is_not_deleted(tmp_path):
    address = UnixAddress(tmp_path, 6432)
    Path(address.path).write_text("precious")

    async def start():
        with pytest.raises(OSError, match="cannot listen on"):
            Side(address).listener.start()

    asyncio.run(start())
    assert address.path.read_text() == "precious"


@listening()
async def test_nobody_is_let_in_after_the_end(side):
    port = side.listener.port
    side.listener.close()
    side.listener.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
