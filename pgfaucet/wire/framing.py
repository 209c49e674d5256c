"""Whole messages out of a client's bytes, in bounded memory.

A message's length word is looked at before its body is kept: what is too long, or of a type that no client may send, never is.
Limits: src/backend/tcop/postgres.c (SocketBackend), src/include/libpq/pqcomm.h and libpq/auth.h.
"""

from __future__ import annotations

from typing import Final

from pgfaucet.errors import BrokenFraming, FaucetError, Sqlstate
from pgfaucet.wire.messages import uint32, violation

SMALL: Final = 10_000
MAX_AUTHENTICATION: Final = 65_535
MAX_LARGE: Final = 256 << 20

MAX_PARSE_OVERHEAD: Final = 65_535 * 4 + 1_024  # parameter types and a statement name

_PARSE: Final = ord("P")
_STATEMENT_TYPES: Final = frozenset(b"QP")
_LIMITS: Final[dict[int, int]] = {
    **dict.fromkeys(b"DECHSXcf", SMALL),
    **dict.fromkeys(b"QPBFd", MAX_LARGE),
}


class OversizedStatement(FaucetError):
    """A Query or Parse over the role's limit. Its body is skipped; the session goes on."""

    def __init__(self, kind: int, limit: int) -> None:
        super().__init__(
            Sqlstate.PROGRAM_LIMIT_EXCEEDED,
            f"statement is longer than the limit of {limit} bytes",
            hint="Send values as parameters, or ask for less at a time.",
            reason=f"limits.statement_bytes: {limit}",
        )
        self.kind = kind


class FrameBuffer:
    """Collects bytes and gives whole messages, type byte and length word included."""

    def __init__(self) -> None:
        self._data = b""
        self._position = 0
        self._parts: list[bytes] = []  # behind _data, not joined yet
        self._parts_bytes = 0
        self._missing = 0  # bytes to wait for before it is worth looking again
        self._skip = 0  # bytes of a refused body still to come
        self._statement_bytes = MAX_LARGE
        self._is_authenticated = False

    @property
    def buffered(self) -> int:
        """How many bytes are held."""
        return len(self._data) - self._position + self._parts_bytes

    def limit_statements(self, limit: int) -> None:
        """Login is over: take every type of message, and query strings up to `limit` bytes."""
        self._is_authenticated = True
        self._statement_bytes = limit

    def feed(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        if self._missing > 0:
            self._missing -= len(data)
            self._parts.append(data)
            self._parts_bytes += len(data)
        elif self._position >= len(self._data) and not self._parts:
            self._data = data
            self._position = 0
        else:
            self._parts.append(data)
            self._parts_bytes += len(data)

    def take_raw(self, count: int) -> bytes | None:
        """Return exactly `count` bytes once they are there; for the start-up packet, which has no type byte."""
        self._join()
        if len(self._data) - self._position < count:
            return None
        taken = self._data[self._position : self._position + count]
        self._position += count
        return taken

    def next_frame(self) -> bytes | None:
        """Return the next whole message, or None if more bytes are needed.

        Raises FaucetError 08P01 on a type or length that no client may send (the session must end), and OversizedStatement.
        """
        if self._missing > 0:
            return None
        self._join()
        data, start = self._data, self._position
        available = len(data) - start
        if available < 5:
            return None
        length = uint32(data, start + 1)
        self._check(data[start], length)
        if available <= length:
            self._missing = length + 1 - available
            return None
        end = start + 1 + length
        self._position = end
        return data[start:end] if start or end < len(data) else data

    def _join(self) -> None:
        if self._parts:
            self._data = b"".join((self._data[self._position :], *self._parts))
            self._position = 0
            self._parts.clear()
            self._parts_bytes = 0

    def _check(self, kind: int, length: int) -> None:
        if not self._is_authenticated:
            if kind != ord("p"):
                raise violation(f"expected password response, got message type {kind}")
            limit = MAX_AUTHENTICATION
        else:
            found = _LIMITS.get(kind)
            if found is None:
                raise violation(f"invalid frontend message type {kind}")
            limit = found
        if not 4 <= length <= limit:
            raise BrokenFraming
        if kind in _STATEMENT_TYPES and length > self._statement_bytes + (MAX_PARSE_OVERHEAD if kind == _PARSE else 5):
            self._refuse_statement(kind, length)

    def _refuse_statement(self, kind: int, length: int) -> None:
        held = len(self._data) - self._position
        dropped = min(held, length + 1)
        self._position += dropped
        self._skip = length + 1 - dropped
        raise OversizedStatement(kind, self._statement_bytes)
