"""A small PostgreSQL client for tests that need to see, or to break, each message. Written against the protocol chapter only."""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Self

PROTOCOL_3_0 = 196608
PROTOCOL_3_2 = 196610
CANCEL_REQUEST = 80877102
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104


@dataclass(frozen=True, slots=True)
class Message:
    """One backend message."""

    tag: str
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """The fields of an ErrorResponse or NoticeResponse."""
        parts = [part for part in self.body.split(b"\0") if part]
        return {chr(part[0]): part[1:].decode() for part in parts}

    @property
    def values(self) -> list[str | None]:
        """The values of a DataRow, as text."""
        found: list[str | None] = []
        offset = 2
        for _ in range(struct.unpack_from(">h", self.body)[0]):
            (length,) = struct.unpack_from(">i", self.body, offset)
            offset += 4
            found.append(None if length < 0 else self.body[offset : offset + length].decode())
            offset += max(length, 0)
        return found


def cstring(text: str) -> bytes:
    return text.encode() + b"\0"


def message(tag: str, body: bytes = b"") -> bytes:
    return tag.encode() + struct.pack(">i", len(body) + 4) + body


def query(sql: str) -> bytes:
    return message("Q", cstring(sql))


def parse(sql: str, name: str = "", types: tuple[int, ...] = ()) -> bytes:
    return message("P", cstring(name) + cstring(sql) + struct.pack(f">h{len(types)}I", len(types), *types))


def bind(values: tuple[str | None, ...] = (), *, name: str = "", portal: str = "") -> bytes:
    body = cstring(portal) + cstring(name) + struct.pack(">hh", 0, len(values))
    for value in values:
        body += struct.pack(">i", -1) if value is None else struct.pack(">i", len(value.encode())) + value.encode()
    return message("B", body + struct.pack(">h", 0))


def describe(kind: str, name: str = "") -> bytes:
    return message("D", kind.encode() + cstring(name))


def execute(portal: str = "", limit: int = 0) -> bytes:
    return message("E", cstring(portal) + struct.pack(">i", limit))


def close(kind: str, name: str = "") -> bytes:
    return message("C", kind.encode() + cstring(name))


SYNC = message("S")
FLUSH = message("H")
TERMINATE = message("X")


def startup_packet(parameters: dict[str, str], version: int = PROTOCOL_3_0) -> bytes:
    body = b"".join(cstring(name) + cstring(value) for name, value in parameters.items()) + b"\0"
    return struct.pack(">ii", len(body) + 8, version) + body


class Wire:
    """One connection; a context manager. Every read has a deadline."""

    def __init__(self, port: int, *, timeout: float = 5.0, source: str | None = None) -> None:
        """Connect; from the address `source`, if one is given: any one of the loopback network."""
        bound = (source, 0) if source is not None else None  # binding takes a port from those who listen
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout, source_address=bound)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.parameters: dict[str, str] = {}
        self.key: tuple[int, bytes] | None = None
        self._pending = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    @classmethod
    def logged_in(
        cls,
        port: int,
        password: str,
        *,
        database: str = "shop",
        user: str = "agent",
        version: int = PROTOCOL_3_0,
        **parameters: str,
    ) -> Wire:
        """Connect and log in; raises AssertionError with the error when that is refused."""
        wire = cls(port)
        try:
            last = wire.log_in(password, database=database, user=user, version=version, **parameters)
            assert last.tag == "Z", last.fields
        except BaseException:
            wire.socket.close()
            raise
        return wire

    def log_in(
        self,
        password: str,
        *,
        database: str = "shop",
        user: str = "agent",
        version: int = PROTOCOL_3_0,
        **parameters: str,
    ) -> Message:
        """Go through authentication with a cleartext password; return ReadyForQuery or the ErrorResponse."""
        self.send(startup_packet({"user": user, "database": database, **parameters}, version))
        while True:
            answer = self.receive()
            match answer.tag:
                case "R" if answer.body[:4] == b"\0\0\0\3":
                    self.send(message("p", cstring(password)))
                case "S":
                    name, value = answer.body.split(b"\0")[:2]
                    self.parameters[name.decode()] = value.decode()
                case "K":
                    self.key = struct.unpack(">i", answer.body[:4])[0], answer.body[4:]
                case "Z" | "E":
                    return answer

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def receive(self) -> Message:
        """Return the next message; raises EOFError at the end of the stream and TimeoutError when nothing comes."""
        header = self._read(5)
        return Message(chr(header[0]), self._read(int.from_bytes(header[1:5]) - 4))

    def until(self, *tags: str) -> list[Message]:
        """Return the messages up to and including the first with one of these tags."""
        seen = [self.receive()]
        while seen[-1].tag not in tags:
            seen.append(self.receive())
        return seen

    def receive_until_closed(self) -> list[Message]:
        """Return everything up to the end of the stream."""
        seen = []
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                seen.append(self.receive())
        return seen

    def run(self, sql: str) -> list[Message]:
        """Run a simple query; return its messages up to ReadyForQuery."""
        self.send(query(sql))
        return self.until("Z")

    def rows(self, sql: str) -> list[list[str | None]]:
        """Run a simple query that must succeed; return its rows."""
        answers = self.run(sql)
        assert errors(answers) == [], errors(answers)
        return [answer.values for answer in answers if answer.tag == "D"]

    def is_closed(self) -> bool:
        """Read to the end; True when the other side closes within the deadline."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def cancel(self, port: int) -> None:
        """Ask for this session's statement to be cancelled, from a connection of its own."""
        assert self.key is not None
        pid, secret = self.key
        with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=5)) as other:
            other.sendall(struct.pack(">iii", 12 + len(secret), CANCEL_REQUEST, pid) + secret)
            other.recv(1)

    def _read(self, count: int) -> bytes:
        while len(self._pending) < count:
            received = self.socket.recv(65536)
            if not received:
                raise EOFError("the other side closed the connection")
            self._pending += received
        taken, self._pending = self._pending[:count], self._pending[count:]
        return taken


def errors(messages: list[Message]) -> list[tuple[str, str]]:
    """SQLSTATE and text of each ErrorResponse."""
    return [(item.fields["C"], item.fields["M"]) for item in messages if item.tag == "E"]


def tags(messages: list[Message]) -> str:
    """The message types in order; NoticeResponse and ParameterStatus, which may come at any time, left out."""
    return "".join(item.tag for item in messages if item.tag not in "NS")


def status(messages: list[Message]) -> str:
    """The transaction status of the last ReadyForQuery."""
    return next(item.body.decode() for item in reversed(messages) if item.tag == "Z")
