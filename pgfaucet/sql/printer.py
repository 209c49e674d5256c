"""Turns a decided tree into the text that goes upstream: dicts -> libpg_query's protobuf -> its deparser -> text.

Fails closed: a node class, field, enum value or kind of value that the schema (`nodes`) doesn't have raises; text that doesn't
parse back into the very tree that was decided raises. The deparser is never trusted on its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

import orjson
from pglast.parser import DeparseError, ParseError, deparse_protobuf, parse_sql_json

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.sql import nodes
from pgfaucet.sql.tree import copy_tree, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgfaucet.sql.world import Node

_BOOLEAN: Final = nodes.BOOLEAN
_INTEGER: Final = nodes.INTEGER
_STRING: Final = nodes.STRING
_ENUM: Final = nodes.ENUM
_NODE: Final = nodes.NODE
_MESSAGE: Final = nodes.MESSAGE
_NODES: Final = nodes.NODES
_PLACE: Final = nodes.PLACE

_LENGTH_DELIMITED: Final = frozenset({_STRING, _NODE, _MESSAGE, _NODES})
_STATEMENT_TAG: Final = b"\x12"  # ParseResult.stmts
_NODE_TAG: Final = b"\x0a"  # RawStmt.stmt


def print_statement(stmt: Node) -> str:
    """Print one statement.

    Raises FaucetError XX000 for a tree that the schema does not have or the deparser cannot print.
    """
    return print_script((stmt,))


def print_script(stmts: Iterable[Node]) -> str:
    """Print statements, separated by semicolons. Raises as `print_statement`."""
    return _deparse(encode(stmts))


def print_verified(stmt: Node) -> str:
    """Print one statement and prove that the text parses into the same tree; where a node stood in its text is not compared.

    Raises FaucetError XX000 when it does not.
    """
    ((kind, body),) = stmt.items()
    if not body.keys() >= _NEEDED.get(kind, _NONE):
        _fail("an empty text that the deparser can't print")
    if kind == "TransactionStmt" and "gid" not in body and body.get("kind") in _WITHOUT_NAME:
        return _WITHOUT_NAME[body["kind"]]
    encoded = encode((stmt,))
    text = _deparse(encoded)
    if _says(text, stmt, encoded):
        return text
    text = _deparse(encode((_with_quoted_names(stmt),)))
    if _says(text, stmt, encoded):
        return text
    _fail("the printed statement does not parse into the tree that was decided")


def _says(text: str, stmt: Node, encoded: bytes) -> bool:
    """Parse a text again, and compare."""
    try:
        parsed = [raw["stmt"] for raw in orjson.loads(parse_sql_json(text))["stmts"]]
    except (ParseError, ValueError):
        return False
    return encode(parsed) == encoded or is_same((stmt,), parsed)


def _with_quoted_names(stmt: Node) -> Node:
    """Quote names of function parameters, which the deparser writes as they are."""
    copied = copy_tree(stmt)
    for node in walk(copied):
        for kind in ("FunctionParameter", "NamedArgExpr"):
            body = node.get(kind)
            if isinstance(body, dict) and "name" in body:
                body["name"] = '"' + body["name"].replace('"', '""') + '"'
    return copied


_NONE: Final[frozenset[str]] = frozenset()
_NEEDED: Final = {
    "AlterEnumStmt": frozenset({"newVal"}),
    "CreateConversionStmt": frozenset({"for_encoding_name", "to_encoding_name"}),
    "LoadStmt": frozenset({"filename"}),
}
"""Texts that a tree lacks where they are empty: libpg_query doesn't tell an empty text from none, and its deparser follows the null pointer."""

_WITHOUT_NAME: Final = {
    "TRANS_STMT_PREPARE": "PREPARE TRANSACTION ''",
    "TRANS_STMT_COMMIT_PREPARED": "COMMIT PREPARED ''",
    "TRANS_STMT_ROLLBACK_PREPARED": "ROLLBACK PREPARED ''",
}
"""The same of statements that mean something with an empty text."""


def is_same(one: Sequence[Node], other: Sequence[Node]) -> bool:
    """Compare trees; places and the order of keys do not count, and an absent field equals its default."""
    return encode(one, in_order=True) == encode(other, in_order=True)


def encode(stmts: Iterable[Node], *, in_order: bool = False) -> bytes:
    """Write statements as a ParseResult message without places; a field that holds its default is left out.

    `in_order`: fields by number, so that equal bytes mean equal trees and the other way round.
    Raises FaucetError XX000 for what the schema does not have.
    """
    out: list[bytes] = []
    try:
        for stmt in stmts:
            node = _node(stmt, in_order)
            raw = _NODE_TAG + _length(node) + node
            out += (_STATEMENT_TAG, _length(raw), raw)
    except (KeyError, ValueError, TypeError, AttributeError) as problem:
        _fail(f"a tree that the schema does not have: {type(problem).__name__}")
    return b"".join(out)


def _deparse(encoded: bytes) -> str:
    try:
        return deparse_protobuf(encoded)
    except (DeparseError, ValueError):
        _fail("the statement cannot be printed")


def _fail(reason: str) -> NoReturn:
    raise FaucetError(Sqlstate.INTERNAL_ERROR, "could not print the rewritten statement", reason=reason)


# -- the encoding: https://protobuf.dev/programming-guides/encoding ----------------------------------------------------------------


def _varint(value: int) -> bytes:
    if value < 0:
        value += 1 << 64
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


_LENGTHS: Final = [_varint(value) for value in range(4096)]


def _length(value: bytes) -> bytes:
    size = len(value)
    return _LENGTHS[size] if size < 4096 else _varint(size)


class _Field:
    """A field, ready to be written. `tag` of a boolean includes its value."""

    __slots__ = ("fields", "kind", "number", "tag", "values")

    def __init__(self, field: nodes.Field, messages: dict[str, dict[str, _Field]]) -> None:
        self.number = field.number
        self.kind = field.kind
        self.tag = _varint(field.number << 3 | (2 if field.kind in _LENGTH_DELIMITED else 0))
        self.values: dict[str, bytes] = {}
        self.fields: dict[str, _Field] = {}
        if field.kind == _BOOLEAN:
            self.tag += b"\x01"
        elif field.kind == _ENUM:
            values = nodes.ENUMS[field.type].items()
            self.values = {name: self.tag + _varint(value) if value > 1 else b"" for name, value in values if value}
        elif field.kind == _MESSAGE:
            self.fields = messages[field.type]


def _messages() -> dict[str, dict[str, _Field]]:
    messages: dict[str, dict[str, _Field]] = {name: {} for name in nodes.MESSAGES}
    for name, fields in nodes.MESSAGES.items():
        messages[name].update({key: _Field(field, messages) for key, field in fields.items()})
    return messages


def _classes() -> dict[str, tuple[bytes, dict[str, _Field]]]:
    messages = _messages()
    return {
        name: (_varint(number << 3 | 2), messages[name])
        for name, number in nodes.NODE_NUMBERS.items()
        if name in messages
    }


_CLASSES: Final = _classes()


_STRING_TAG: Final = _CLASSES["String"][0]
_MAX_STRINGS: Final = 4096
_MAX_STRING_LENGTH: Final = 64
_strings: Final[dict[str, bytes]] = {}  # names as String nodes: nearly half of all nodes


def _node(node: Node, in_order: bool) -> bytes:
    [(name, body)] = node.items()
    if name == "String":
        return _string_node(body)
    tag, fields = _CLASSES[name]
    inner = _message(body, fields, in_order)
    return tag + _length(inner) + inner


def _string_node(body: dict[str, Any]) -> bytes:
    text = body.get("sval", "")
    found = _strings.get(text)
    if found is not None and len(body) <= 1:
        return found
    inner = _message(body, _CLASSES["String"][1], in_order=False)
    encoded = _STRING_TAG + _length(inner) + inner
    if len(text) <= _MAX_STRING_LENGTH and len(body) == 1:
        if len(_strings) >= _MAX_STRINGS:
            _strings.clear()
        _strings[text] = encoded
    return encoded


def _message(body: dict[str, Any], fields: dict[str, _Field], in_order: bool) -> bytes:
    out: list[bytes] = []
    items = body.items()
    for key, value in sorted(items, key=lambda item: fields[item[0]].number) if in_order else items:
        field = fields[key]
        kind = field.kind
        if kind == _PLACE:
            continue
        if kind == _NODES:
            for item in value:
                inner = _node(item, in_order) if item else b""
                out += (field.tag, _length(inner), inner)
        elif kind == _NODE:
            inner = _node(value, in_order)
            out += (field.tag, _length(inner), inner)
        elif kind == _ENUM:
            out.append(field.values[value])
        elif kind == _MESSAGE:
            inner = _message(value, field.fields, in_order)
            out += (field.tag, _length(inner), inner)
        else:
            out.append(_scalar(field, value))
    return b"".join(out)


def _scalar(field: _Field, value: object) -> bytes:
    kind = field.kind
    if kind == _STRING and type(value) is str:
        inner = value.encode()
        return field.tag + _length(inner) + inner if inner else b""
    if kind == _BOOLEAN and type(value) is bool:
        return field.tag if value else b""
    if kind == _INTEGER and type(value) is int and -(1 << 63) <= value < 1 << 63:
        return field.tag + _varint(value) if value else b""
    raise TypeError(field.number)
