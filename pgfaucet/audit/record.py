"""The audit record: one JSON object a line, with the members and the order of docs/references/audit.md. Pure.

A statement's record is put together from texts that are serialised once for each session and once for each plan: measured, 1.2 us
against 2.7 us for one orjson.dumps of the whole. Never holds a token's secret; holds literals and parameters with `params: full` only.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgfaucet.plan import GivenText, StatementPlan

PLANS_KEPT: Final = 4096
NO_STATEMENT: Final = '"verb":null,"tables":[],"query":null,"fingerprint":null,"params_hash":null'
MAX_CONTEXT_VALUE: Final = 512  # characters of one value of `context`
MAX_CONTEXT: Final = 16  # members of `context`

_THOUSANDTHS: Final = tuple(f"{number:03d}" for number in range(1000))
_NULL: Final = 0x80000000  # a length of a parameter from here on is negative
_BLOCK_BYTES: Final = 64  # of SHA-256


def to_json(value: object) -> str:
    """Serialise; text that is not UTF-8 is replaced and never an error."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return orjson.dumps(_replaced(value)).decode()


def _replaced(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {str(_replaced(key)): _replaced(item) for key, item in value.items()}
    return [_replaced(item) for item in value] if isinstance(value, list | tuple) else str(value)


def timestamp(now: float) -> str:
    """Return Unix seconds as UTC with milliseconds (RFC 3339)."""
    milliseconds = int(now * 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(milliseconds // 1000))}.{milliseconds % 1000:03d}Z"


@dataclass(frozen=True)
class SessionFields:
    """What is the same in all records of a session. Before a token is known, `token_id` is None and `role` empty."""

    session: str
    database: str
    user: str
    application_name: str
    client_ip: str
    token_id: str | None = None  # public id
    token_label: str | None = None
    role: str = ""
    claims: tuple[tuple[str, str], ...] = ()
    text: str = field(init=False, repr=False, compare=False)  # as members of the record

    def __post_init__(self) -> None:
        members = {
            "session": self.session,
            "token_id": self.token_id,
            "token_label": self.token_label,
            "role": self.role or None,
            "claims": dict(self.claims),
            "database": self.database,
            "user": self.user,
            "application_name": self.application_name,
            "client_ip": self.client_ip,
        }
        object.__setattr__(self, "text", to_json(members)[1:-1])


NO_SESSION: Final = (
    '"session":null,"token_id":null,"token_label":null,"role":null,"claims":{},"database":null,"user":null,'
    '"application_name":null,"client_ip":null'
)


class RecordWriter:
    """Writes records as text up to, and without, `prev` and `hash`, which the chain adds."""

    def __init__(self, params: str, key: bytes) -> None:
        """`params` is hash, full or none; `key` the secret behind `params_hash`."""
        self._params = params
        self._keyed = KeyedHash(key)
        self._plans: dict[int, tuple[StatementPlan, str]] = {}  # by identity: hashing a plan costs more than writing it
        self._second = -1
        self._second_text = ""

    def statement(  # noqa: PLR0913, PLR0917 - one argument for each part of the record, once for every statement
        self,
        event: str,
        fields: SessionFields,
        plan: StatementPlan,
        bound: bytes,
        rows: int | None,
        sent: int,
        seconds: float,
        sqlstate: str | None,
        decision: str,
        reason: str | None,
        context: Sequence[tuple[str, str]],
        *,
        given: GivenText | None = None,
    ) -> str:
        """Return the members between `seq` and `prev`; `event` is statement or intent.

        `bound` is a Bind message from the parameter formats on, or empty; `sent` the bytes of rows that went to the client; `context`
        what the session has set; `given` the text's own literals and context where the plan is shared.
        """
        known = self._plans.get(id(plan))
        text = known[1] if known is not None and known[0] is plan else self._plan_text(plan)
        literals, own_context = (plan.literals, plan.context) if given is None else (given.literals, given.context)
        values = self._values(literals, bound) if literals or bound else '"params_hash":null'
        merged = _context(context, own_context) if context or own_context else "{}"
        return (
            f'"event":"{event}",{fields.text},"decision":"{decision}","reason":{"null" if reason is None else to_json(reason)},{text},'
            f'{values},"row_count":{"null" if rows is None else rows},"bytes":{sent},"duration_ms":{_milliseconds(seconds)},'
            f'"sqlstate":{"null" if sqlstate is None else to_json(sqlstate)},"context":{merged}'
        )

    def event(
        self, name: str, fields: SessionFields | None, decision: str | None, reason: str | None, sqlstate: str | None
    ) -> str:
        """Return the members of the record of something that is no statement."""
        session = fields.text if fields is not None else NO_SESSION
        return (
            f'"event":{to_json(name)},{session},"decision":{to_json(decision)},"reason":{to_json(reason)},{NO_STATEMENT},'
            f'"row_count":null,"bytes":null,"duration_ms":null,"sqlstate":{to_json(sqlstate)},"context":{{}}'
        )

    def timestamp(self, now: float) -> str:
        """Return what `timestamp` does, faster for the same second."""
        milliseconds = int(now * 1000)
        second = milliseconds // 1000
        if second != self._second:
            self._second = second
            self._second_text = timestamp(second)[:-4]
        return self._second_text + _THOUSANDTHS[milliseconds % 1000] + "Z"

    def _plan_text(self, plan: StatementPlan) -> str:
        members = {
            "verb": plan.verb,
            "tables": plan.tables,
            "query": plan.query or None,
            "fingerprint": plan.fingerprint or None,
        }
        text = to_json(members)[1:-1]
        if len(self._plans) >= PLANS_KEPT:
            self._plans.clear()
        self._plans[id(plan)] = (plan, text)  # holding the plan keeps its identity from being used again
        return text

    def _values(self, literals: Sequence[str], bound: bytes) -> str:
        if self._params == "none":
            return '"params_hash":null'
        parameters = bound_parameters(bound)
        if not literals and not parameters:
            return '"params_hash":null'
        hashed = self._keyed.hexdigest(unambiguous(literals, parameters))
        if self._params == "hash":
            return f'"params_hash":"hmac-sha256:{hashed}"'
        return f'"params_hash":"hmac-sha256:{hashed}","params":{to_json(readable(literals, parameters))}'


class KeyedHash:
    """HMAC-SHA-256 under one key (RFC 2104), with the key's part done once: half the cost of `hmac.digest` for a short message."""

    def __init__(self, key: bytes) -> None:
        block = (key if len(key) <= _BLOCK_BYTES else hashlib.sha256(key).digest()).ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes([byte ^ 0x36 for byte in block]))
        self._outer = hashlib.sha256(bytes([byte ^ 0x5C for byte in block]))

    def hexdigest(self, message: bytes) -> str:
        """Return the hash as hexadecimal digits."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.hexdigest()


def _milliseconds(seconds: float) -> str:
    microseconds = int(seconds * 1_000_000 + 0.5)
    return f"{microseconds // 1000}.{_THOUSANDTHS[microseconds % 1000]}"


def bound_parameters(bound: bytes) -> list[tuple[int, bytes | None]]:
    """Read format (0 text, 1 binary) and value of each parameter of a Bind message, from the parameter formats on.

    A message that is not laid out as the protocol says, which the server refuses too, counts as one binary value.
    """
    try:
        return _bound_parameters(bound) if bound else []
    except IndexError:
        return [(1, bound)]


def _bound_parameters(bound: bytes) -> list[tuple[int, bytes | None]]:
    found: list[tuple[int, bytes | None]] = []
    formats = _uint16(bound, 0)
    position = 2 + 2 * formats
    count = _uint16(bound, position)
    position += 2
    if 1 < formats < count:
        raise IndexError
    for number in range(count):
        code = _uint16(bound, 2 + 2 * (number if formats > 1 else 0)) if formats else 0
        length = _uint16(bound, position) << 16 | _uint16(bound, position + 2)
        position += 4
        if length >= _NULL:
            found.append((code, None))
        else:
            found.append((code, bound[position : position + length]))
            position += length
    return found


def _uint16(data: bytes, position: int) -> int:
    """Read two bytes; struct and slices cost five times as much compiled. Raises IndexError."""
    return data[position] << 8 | data[position + 1]


def unambiguous(literals: Sequence[str], parameters: list[tuple[int, bytes | None]]) -> bytes:
    """Write values so that no two lists give the same bytes: kind, length, value. Kinds: l literal, t text, b binary, n NULL."""
    parts: list[bytes] = []
    for literal in literals:
        raw = literal.encode(errors="surrogateescape")
        parts += (b"l", len(raw).to_bytes(4, "big"), raw)
    for format_code, value in parameters:
        if value is None:
            parts.append(b"n")
        else:
            parts += (b"b" if format_code else b"t", len(value).to_bytes(4, "big"), value)
    return b"".join(parts)


def readable(literals: Sequence[str], parameters: list[tuple[int, bytes | None]]) -> list[str | None]:
    """Return values for `params: full`: text as it is, binary as a backslash, x and hexadecimal digits."""
    values: list[str | None] = list(literals)
    for format_code, value in parameters:
        if value is None:
            values.append(None)
        else:
            values.append(f"\\x{value.hex()}" if format_code else value.decode(errors="replace"))
    return values


def _context(session: Sequence[tuple[str, str]], statement: Sequence[tuple[str, str]]) -> str:
    """Serialise the context; a statement's own values come before those that the session has set. Its size is bounded."""
    merged: Mapping[str, str] = {**dict(session), **dict(statement)}
    kept = sorted(merged.items())[:MAX_CONTEXT]
    return to_json({name[:MAX_CONTEXT_VALUE]: value[:MAX_CONTEXT_VALUE] for name, value in kept})
