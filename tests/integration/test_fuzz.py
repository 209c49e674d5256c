"""Random and truncated bytes on the start-up path and in frames.

Any bytes give an error or a closed connection, in bounded time and memory; other connections never notice.
"""

from __future__ import annotations

import contextlib
import os
import random
import struct
import threading
import time

import pytest

from tests.kit import wire
from tests.kit.proxy import wait_until
from tests.kit.wire import Wire, errors

SECONDS = float(os.environ.get("PGFAUCET_FUZZ_SECONDS", "8"))
GROWTH_KILOBYTES = 60_000


@pytest.fixture
def rng():
    """Random numbers from the seed that pytest-randomly prints."""
    return random.Random(random.getrandbits(64))


class Witness(threading.Thread):
    """A well-behaved client that works all the while, and notes its slowest answer and every failure."""

    def __init__(self, proxy) -> None:
        super().__init__(daemon=True)
        self.proxy = proxy
        self.token = proxy.token()
        self.answers = 0
        self.slowest = 0.0
        self.failure: BaseException | None = None
        self._over = threading.Event()

    def run(self) -> None:
        try:
            with Wire.logged_in(self.proxy.port, self.token) as session:
                while not self._over.is_set():
                    began = time.monotonic()
                    assert session.rows("select count(*) from notes") == [["2"]]
                    self.slowest = max(self.slowest, time.monotonic() - began)
                    self.answers += 1
        except BaseException as problem:  # noqa: BLE001 - reported by `conclude`
            self.failure = problem

    def conclude(self) -> None:
        wait_until(lambda: self.answers > 20 or self.failure is not None, 10, "the others are answered")
        self._over.set()
        self.join(10)
        assert self.failure is None, repr(self.failure)
        assert self.slowest < 2.0


@pytest.fixture
def witness(proxy):
    watching = Witness(proxy)
    memory = proxy.resident_kilobytes()
    watching.start()
    yield watching
    watching.conclude()
    assert proxy.is_running, proxy.read_log()
    assert proxy.resident_kilobytes() - memory < GROWTH_KILOBYTES
    assert "Traceback" not in proxy.read_log(), proxy.read_log()


def good_packets(token):
    return [
        wire.startup_packet({"user": "agent", "database": "shop"}),
        wire.startup_packet({"user": "agent", "database": "shop", "options": "-c work_mem=1"}, wire.PROTOCOL_3_2),
        struct.pack(">ii", 8, wire.SSL_REQUEST),
        struct.pack(">ii", 8, wire.GSSENC_REQUEST),
        struct.pack(">iiii", 16, wire.CANCEL_REQUEST, 1, 2),
        wire.startup_packet({"user": "agent", "database": "shop"}) + wire.message("p", wire.cstring(token)),
    ]


def broken_start(rng, token):
    """Random bytes, or a good packet cut, changed, or with a length that lies."""
    packet = rng.choice(good_packets(token))
    match rng.randrange(6):
        case 0:
            return rng.randbytes(rng.randrange(200))
        case 1:
            return packet[: rng.randrange(len(packet))]
        case 2:
            place = rng.randrange(len(packet))
            return packet[:place] + rng.randbytes(1) + packet[place + 1 :]
        case 3:
            return struct.pack(">I", rng.choice([0, 3, 7, 10001, 2**31 - 1, 2**31, 2**32 - 1])) + packet[4:]
        case 4:
            return packet + rng.randbytes(rng.randrange(100))
        case _:
            return b"\x16\x03\x01" + rng.randbytes(60)


def broken_frames(rng):
    """Good frames, shuffled, some with a changed byte, a lying length, an unknown type, or cut short."""
    frames = [
        wire.query("select 1"), wire.parse("select $1::int", "s"), wire.bind(("1",), name="s"), wire.describe("S", "s"), wire.execute(),
        wire.close("S", "s"), wire.SYNC, wire.FLUSH, wire.message("d", b"x"), wire.message("c"), wire.message("f", b"x\0"),
        wire.message("F", rng.randbytes(12)), wire.message("p", b"x\0"), wire.query("begin"), wire.query("select * from api_keys"),
        wire.message(rng.choice("AGIJKLMNOTUVWYZz\x00\xff"), rng.randbytes(9)), wire.bind(("x",) * 3, name="none", portal="p"),
    ]  # fmt: skip
    stream = b"".join(rng.choice(frames) for _ in range(rng.randrange(1, 12)))
    match rng.randrange(4):
        case 0:
            place = rng.randrange(len(stream))
            return stream[:place] + rng.randbytes(1) + stream[place + 1 :]
        case 1:
            return stream[: rng.randrange(len(stream))]
        case 2:
            return (
                stream
                + bytes([rng.randrange(256)])
                + struct.pack(">I", rng.choice([0, 3, 2**30, 2**31, 2**32 - 1]))
                + b"x" * 40
            )
        case _:
            return stream


def test_broken_start_packets_hurt_nobody(proxy, witness, rng):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), Wire(proxy.port, timeout=1) as connection:
            connection.send(broken_start(rng, witness.token))
            if rng.random() < 0.7:
                connection.socket.shutdown(1)
                assert connection.is_closed()


def test_broken_frames_hurt_nobody(proxy, witness, rng):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), Wire.logged_in(proxy.port, witness.token) as connection:
            connection.send(broken_frames(rng))
            connection.socket.shutdown(1)
            assert connection.is_closed()


def test_a_start_packet_that_never_ends_is_cut_off(proxy, witness):
    with Wire(proxy.port) as connection:
        connection.send(struct.pack(">I", 2**31 - 1))
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.send(b"x" * 65536)
        assert connection.is_closed()


def test_a_frame_with_an_absurd_length_ends_the_session_without_a_word(proxy, witness):
    for length in (0, 3, 2**31 - 1, 2**32 - 1):
        with Wire.logged_in(proxy.port, witness.token) as connection:
            with contextlib.suppress(OSError):
                connection.send(b"Q" + struct.pack(">I", length) + b"select 1\0")
            with pytest.raises((EOFError, ConnectionError)):
                connection.receive()


def test_a_message_given_byte_by_byte_is_understood(proxy, witness):
    with Wire.logged_in(proxy.port, witness.token) as connection:
        for byte in wire.query("select 41 + 1"):
            connection.send(bytes([byte]))
        answers = connection.until("Z")
        assert errors(answers) == []
        assert [item.values for item in answers if item.tag == "D"] == [["42"]]


def test_a_client_that_connects_and_says_nothing_does_not_hold_up_others(proxy, witness):
    silent = [Wire(proxy.port) for _ in range(50)]
    try:
        with Wire.logged_in(proxy.port, witness.token) as connection:
            assert connection.rows("select 1") == [["1"]]
    finally:
        for connection in silent:
            connection.socket.close()
