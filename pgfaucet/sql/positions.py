"""Positions in errors: what the server says of the text that it was sent, said of the text that the client sent.

Both texts are parsed and their trees walked side by side; where they are the same, a place in one has its place in the other. What was
rewritten has none: no position is better than a wrong one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
from pglast.parser import ParseError, parse_sql_json

from pgfaucet.sql import nodes
from pgfaucet.sql.parse import needs_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgfaucet.sql.world import Node

_NOWHERE: Final = -1
_Pairs = list[tuple[str, dict[str, Any], dict[str, Any]]]


def client_position(source: str, sent: str, position: int) -> int | None:
    """Return where in `source`, the client's text, stands what the server found at `position` of `sent`; counted in characters from 1.

    None where nothing says so, and for texts that take long to parse. `source` may be the PREPARE of what was sent.
    """
    if position < 1 or needs_thread(source) or needs_thread(sent):
        return None
    client, server = _statements(source), _statements(sent)
    if len(client) != len(server):
        return None
    text = next((each for each in _strings(server) if _is_within(each, sent, position - 1)), None)
    if text is not None and source.count(text) == 1:  # of a function, whose errors the server finds in it
        return source.index(text) + position - sent.index(text)
    place = _places(client, server).get(len(sent[: position - 1].encode()))
    return None if place is None else len(source.encode()[:place].decode(errors="ignore")) + 1


def _strings(value: Any) -> Iterator[str]:
    """Yield the string constants in a tree."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting += found
        elif isinstance(found, dict):
            if isinstance(found.get("sval"), str):
                yield found["sval"]
            waiting += found.values()


def _is_within(text: str, sent: str, index: int) -> bool:
    return bool(text) and sent.count(text) == 1 and sent.index(text) < index < sent.index(text) + len(text)


def _statements(text: str) -> list[Node]:
    try:
        return [_prepared(raw["stmt"]) for raw in orjson.loads(parse_sql_json(text))["stmts"]]
    except (ParseError, ValueError):
        return []


def _prepared(stmt: Node) -> Node:
    query: Node = stmt.get("PrepareStmt", {}).get("query", stmt)
    return query


def _places(client: list[Node], server: list[Node]) -> dict[int, int]:
    """Map places in the server's text to places in the client's, in bytes; of nodes at the same place the innermost counts."""
    places: dict[int, int] = {}
    waiting: _Pairs = []
    _pair_nodes(client, server, waiting)
    while waiting:
        kind, one, other = waiting.pop()
        for name, field in nodes.MESSAGES[kind].items():
            if field.kind == nodes.PLACE:
                _note(places, kind, one, other, name)
            elif name not in one or name not in other:
                continue
            elif field.kind == nodes.MESSAGE:
                waiting.append((field.type, one[name], other[name]))
            elif field.kind == nodes.NODE:
                _pair_nodes([one[name]], [other[name]], waiting)
            elif field.kind == nodes.NODES:
                _pair_nodes(one[name], other[name], waiting)
    return places


def _pair_nodes(client: list[Node], server: list[Node], waiting: _Pairs) -> None:
    if len(client) != len(server):
        return
    for one, other in zip(client, server, strict=True):
        if one.keys() == other.keys():
            waiting += [(kind, one[kind], other[kind]) for kind in one]


def _note(places: dict[int, int], kind: str, one: dict[str, Any], other: dict[str, Any], name: str) -> None:
    place, found = one.get(name, 0), other.get(name, 0)
    if kind == "TypeCast" and place == _NOWHERE:  # `type 'text'`: the server looks at the type's name then
        place = one.get("typeName", {}).get("location", 0)
    if _NOWHERE not in (place, found):
        places[found] = place
