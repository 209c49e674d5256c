"""Messages of the frontend/backend protocol as bytes: builders for both directions, and bounded parsers.

Layouts: PostgreSQL manual, chapter "Frontend/Backend Protocol", section "Message Formats". A body that does not fit its layout
raises FaucetError 08P01; nothing here raises IndexError or struct.error.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.wire.encodings import UTF8

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

STATEMENT: Final = 83  # S, in Describe and Close
PORTAL: Final = 80  # P

PARSE_COMPLETE: Final = b"1\0\0\0\4"
BIND_COMPLETE: Final = b"2\0\0\0\4"
CLOSE_COMPLETE: Final = b"3\0\0\0\4"
NO_DATA: Final = b"n\0\0\0\4"
EMPTY_QUERY_RESPONSE: Final = b"I\0\0\0\4"
AUTHENTICATION_OK: Final = b"R\0\0\0\x08\0\0\0\0"
AUTHENTICATION_CLEARTEXT: Final = b"R\0\0\0\x08\0\0\0\3"
SYNC: Final = b"S\0\0\0\4"
FLUSH: Final = b"H\0\0\0\4"
TERMINATE: Final = b"X\0\0\0\4"

CANCEL_REQUEST_CODE: Final = 80877102
SSL_REQUEST_CODE: Final = 80877103
GSSENC_REQUEST_CODE: Final = 80877104
PROTOCOL_3_0: Final = 196608
PROTOCOL_3_2: Final = 196610

_INT16: Final = struct.Struct("!h")
_UINT16: Final = struct.Struct("!H")
_INT32: Final = struct.Struct("!i")


def error_of_protocol_2(message: str) -> bytes:
    """Build an ErrorResponse as clients of protocol 2.0 and before read it: one text (elog.c, send_message_to_frontend)."""
    return b"E" + _cstring(f"FATAL:  {message}\n")


def violation(message: str) -> FaucetError:
    """Make the error for a message that breaks the protocol."""
    return FaucetError(Sqlstate.PROTOCOL_VIOLATION, message)


def frame(kind: bytes, body: bytes) -> bytes:
    """Put the type byte and the length word before a body."""
    return kind + _INT32.pack(len(body) + 4) + body


def _cstring(text: str, codec: str = UTF8) -> bytes:
    return text.encode(codec, "replace") + b"\0"


# -- to the client -----------------------------------------------------------------------------------------------------------------


def fields_of(severity: str, error: FaucetError) -> dict[str, str]:
    """Return an error as the fields of an ErrorResponse (protocol-error-fields)."""
    fields = {"S": severity, "V": severity, "C": error.sqlstate, "M": error.message}
    if error.detail:
        fields["D"] = error.detail
    if error.hint:
        fields["H"] = error.hint
    if error.position:
        fields["P"] = str(error.position)
    if error.routine:
        fields["R"] = error.routine
    return fields


def response_from_fields(kind: bytes, fields: Mapping[str, str], codec: str = UTF8) -> bytes:
    """Build an ErrorResponse (b"E") or NoticeResponse (b"N")."""
    body = b"".join(key.encode() + _cstring(value, codec) for key, value in fields.items())
    return frame(kind, body + b"\0")


def error_response(severity: str, error: FaucetError) -> bytes:
    """Build the ErrorResponse for an error of our own; severity is ERROR or FATAL."""
    return response_from_fields(b"E", fields_of(severity, error))


def ready_for_query(status: int) -> bytes:
    """Build ReadyForQuery; status is the byte I, T or E."""
    return b"Z\0\0\0\5" + bytes((status,))


def command_complete(tag: str) -> bytes:
    """Build CommandComplete."""
    return frame(b"C", _cstring(tag))


def parameter_status(name: str, value: str) -> bytes:
    """Build ParameterStatus."""
    return frame(b"S", _cstring(name) + _cstring(value))


def backend_key_data(pid: int, key: bytes) -> bytes:
    """Build BackendKeyData; key is 4 bytes for protocol 3.0, up to 256 for 3.2."""
    return frame(b"K", _INT32.pack(pid) + key)


def negotiate_protocol_version(version: int, unknown_options: Sequence[str]) -> bytes:
    """Build NegotiateProtocolVersion: the version that will be spoken, and the `_pq_.` options that will not."""
    names = b"".join(map(_cstring, unknown_options))
    return frame(b"v", _INT32.pack(version) + _INT32.pack(len(unknown_options)) + names)


def authentication_sasl(mechanisms: Iterable[str]) -> bytes:
    """Build AuthenticationSASL."""
    return frame(b"R", _INT32.pack(10) + b"".join(map(_cstring, mechanisms)) + b"\0")


def authentication_sasl_continue(data: bytes) -> bytes:
    """Build AuthenticationSASLContinue."""
    return frame(b"R", _INT32.pack(11) + data)


def authentication_sasl_final(data: bytes) -> bytes:
    """Build AuthenticationSASLFinal."""
    return frame(b"R", _INT32.pack(12) + data)


# -- to the server -----------------------------------------------------------------------------------------------------------------


def startup_packet(parameters: Mapping[str, str], version: int = PROTOCOL_3_0) -> bytes:
    """Build StartupMessage."""
    body = b"".join(_cstring(name) + _cstring(value) for name, value in parameters.items()) + b"\0"
    return _INT32.pack(len(body) + 8) + _INT32.pack(version) + body


def ssl_request() -> bytes:
    """Build SSLRequest."""
    return _INT32.pack(8) + _INT32.pack(SSL_REQUEST_CODE)


def cancel_request(pid: int, key: bytes) -> bytes:
    """Build CancelRequest."""
    return _INT32.pack(12 + len(key)) + _INT32.pack(CANCEL_REQUEST_CODE) + _INT32.pack(pid) + key


def password_message(password: bytes) -> bytes:
    """Build PasswordMessage."""
    return frame(b"p", password + b"\0")


def sasl_initial_response(mechanism: str, data: bytes) -> bytes:
    """Build SASLInitialResponse."""
    return frame(b"p", _cstring(mechanism) + _INT32.pack(len(data)) + data)


def sasl_response(data: bytes) -> bytes:
    """Build SASLResponse."""
    return frame(b"p", data)


def query(text: str, codec: str = UTF8) -> bytes:
    """Build Query."""
    return frame(b"Q", _cstring(text, codec))


def parse(name: str, text: str, parameter_types: Sequence[int] = (), codec: str = UTF8) -> bytes:
    """Build Parse."""
    types = b"".join(oid.to_bytes(4, "big") for oid in parameter_types)
    return frame(b"P", _cstring(name) + _cstring(text, codec) + _UINT16.pack(len(parameter_types)) + types)


def bind(portal: str, statement: str, values: Sequence[bytes | None]) -> bytes:
    """Build Bind with text parameters and text results."""
    body = _cstring(portal) + _cstring(statement) + b"\0\0" + _UINT16.pack(len(values))
    for value in values:
        body += _INT32.pack(-1) if value is None else _INT32.pack(len(value)) + value
    return frame(b"B", body + b"\0\0")


def execute(portal: str, max_rows: int = 0) -> bytes:
    """Build Execute."""
    return frame(b"E", _cstring(portal) + _INT32.pack(max_rows))


def describe_statement(name: bytes) -> bytes:
    """Build Describe of a statement."""
    return frame(b"D", b"S" + name + b"\0")


def close_portal(name: str) -> bytes:
    """Build Close of a portal."""
    return frame(b"C", b"P" + _cstring(name))


def close_statement(name: bytes) -> bytes:
    """Build Close of a statement."""
    return frame(b"C", b"S" + name + b"\0")


# -- from the client ---------------------------------------------------------------------------------------------------------------


class BoundTo:
    """The head of a Bind: what is bound, and where parameter formats and values start in the frame."""

    __slots__ = ("portal", "portal_end", "rest", "statement")

    def __init__(self, portal: str, statement: str, portal_end: int, rest: int) -> None:
        self.portal = portal
        self.statement = statement
        self.portal_end = portal_end  # offset behind the portal's name and zero byte
        self.rest = rest  # offset behind the statement's name and zero byte


def uint32(data: bytes, position: int) -> int:
    """Read four bytes in network order; compiled, a fifth of what int.from_bytes costs. Raises IndexError."""
    return data[position] << 24 | data[position + 1] << 16 | data[position + 2] << 8 | data[position + 3]


def _text_until_zero(data: bytes, start: int, codec: str = UTF8) -> tuple[str, int]:
    end = data.find(b"\0", start)
    if end < 0:
        raise violation("invalid string in message")
    if end == start:
        return "", end + 1
    try:
        return data[start:end].decode(codec), end + 1
    except UnicodeDecodeError as problem:
        byte = data[start + problem.start]
        name = "UTF8" if codec == UTF8 else codec.upper()
        raise FaucetError(
            Sqlstate.CHARACTER_NOT_IN_REPERTOIRE, f'invalid byte sequence for encoding "{name}": 0x{byte:02x}'
        ) from None


def query_text(data: bytes, codec: str = UTF8) -> str:
    """Read the query string of a Query frame."""
    text, end = _text_until_zero(data, 5, codec)
    if end != len(data):
        raise violation("invalid message format")
    return text


def parse_message(data: bytes, codec: str = UTF8) -> tuple[str, str, tuple[int, ...]]:
    """Read statement name, query string and parameter type OIDs of a Parse frame."""
    name, position = _text_until_zero(data, 5, codec)
    text, position = _text_until_zero(data, position, codec)
    if position + 2 > len(data):
        raise violation("insufficient data left in message")
    count = int.from_bytes(data[position : position + 2], "big")
    position += 2
    if position + 4 * count != len(data):
        raise violation("invalid message format")
    return name, text, struct.unpack_from(f"!{count}I", data, position)


def bind_header(data: bytes, codec: str = UTF8) -> BoundTo:
    """Read portal and statement names of a Bind frame."""
    portal, portal_end = _text_until_zero(data, 5, codec)
    statement, rest = _text_until_zero(data, portal_end, codec)
    return BoundTo(portal, statement, portal_end, rest)


def rename_bind(data: bytes, bound: BoundTo, statement: bytes) -> bytes:
    """Return a Bind frame that binds another statement."""
    body = data[5 : bound.portal_end] + statement + b"\0" + data[bound.rest :]
    return b"B" + _INT32.pack(len(body) + 4) + body


def _out_of_step() -> bytes:
    eof = FaucetError(Sqlstate.CONNECTION_FAILURE, "unexpected EOF on client connection with an open transaction")
    lost = violation("terminating connection because protocol synchronization was lost")
    return error_response("ERROR", eof) + error_response("FATAL", lost)


OUT_OF_STEP: Final = _out_of_step()
"""What the server says to a broken length within COPY FROM STDIN."""


def describe_target(data: bytes, codec: str = UTF8) -> tuple[int, str]:
    """Read kind (STATEMENT or PORTAL) and name of a Describe or Close frame."""
    if len(data) < 6:
        raise violation("no data left in message")
    kind = data[5]
    what = "DESCRIBE" if data[0] == 68 else "CLOSE"
    if kind not in (STATEMENT, PORTAL):
        raise violation(f"invalid {what} message subtype {kind}")
    name, end = _text_until_zero(data, 6, codec)
    if end != len(data):
        raise violation("invalid message format")
    return kind, name


def execute_target(data: bytes, codec: str = UTF8) -> tuple[str, int]:
    """Read portal name and row limit of an Execute frame."""
    name, position = _text_until_zero(data, 5, codec)
    if position + 4 != len(data):
        raise violation("invalid message format")
    limit = uint32(data, position)
    return name, limit if limit < 1 << 31 else limit - (1 << 32)


# -- from the server ---------------------------------------------------------------------------------------------------------------


def error_fields(body: bytes, codec: str = UTF8) -> dict[str, str]:
    """Read the fields of an ErrorResponse or NoticeResponse body; tolerates missing ones and bytes that are no text."""
    fields: dict[str, str] = {}
    for part in body.split(b"\0"):
        if part:
            fields[chr(part[0])] = part[1:].decode(codec, "replace")
    return fields


def parameter_status_of(body: bytes) -> tuple[str, str]:
    """Read a ParameterStatus body."""
    name, _, rest = body.partition(b"\0")
    return name.decode(errors="replace"), rest.rstrip(b"\0").decode(errors="replace")


def first_value(row: bytes) -> bytes | None:
    """Read the first column of a DataRow body."""
    if len(row) < 6:
        raise violation("invalid DataRow")
    length = int.from_bytes(row[2:6], "big", signed=True)
    if length > len(row) - 6:
        raise violation("invalid DataRow")
    return None if length < 0 else row[6 : 6 + length]
