"""The client's search_path in expressions for the server, whose own search_path is not the client's: as an array, and in what is shown.

The server writes the schema of every user's object. `on_path` takes it off again where the client's path would lead to that object.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pgfaucet.sql import build
from pgfaucet.sql.expression import replace_nodes
from pgfaucet.sql.world import ON_PATH, SEARCH_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.world import Node, World

_NAME_ARRAY: Final = {
    "names": [build.string("pg_catalog"), build.string("name")],
    "typemod": -1,
    "arrayBounds": [{"Integer": {"ival": -1}}],
}
_KINDS: Final = ("relation", "type", "function")


def fill(resolver: Resolver, node: Node) -> Node:
    """Copy a description's expression with what depends on the client's search_path filled in."""

    def instead(found: Node) -> Node | None:
        if SEARCH_PATH in found:
            elements = [build.text(name) for name in full_path(resolver.context.search_path)]
            return build.cast({"A_ArrayExpr": {"elements": elements}}, dict(_NAME_ARRAY))
        if ON_PATH in found:
            body = found[ON_PATH]
            return _on_path(resolver, replace_nodes(body["text"], instead), is_name=body["is_name"])
        return None

    return replace_nodes(node, instead)


def full_path(search_path: tuple[str, ...]) -> tuple[str, ...]:
    """Return a search_path with pg_catalog in it: first, unless it is named."""
    return search_path if "pg_catalog" in search_path else ("pg_catalog", *search_path)


def _on_path(resolver: Resolver, text: Node, *, is_name: bool) -> Node:
    prefix = _prefix(resolver)
    if prefix is None:
        return text
    if not is_name:  # nextval('public.orders_id_seq'::regclass)
        literal = f"'{prefix}((?:[^']|'')*)'::regclass"
        text = _replaced(text, literal, r"'\1'::regclass")
    strings = """'(?:[^']|'')*'|"(?:[^"]|"")*\""""
    return _replaced(text, rf"{prefix}|({strings}|[[:alnum:]_$]+)", r"\1")


def _replaced(text: Node, pattern: str, replacement: str) -> Node:
    return build.call("regexp_replace", text, build.text(pattern), build.text(replacement), build.text("g"))


def _prefix(resolver: Resolver) -> str | None:
    """Return a pattern for the schemas to be taken off, each with its dot; None when there is none."""
    world, path = resolver.world, resolver.context.search_path
    kept: dict[tuple[str, ...], str | None] = world.__dict__.setdefault("_path_prefixes", {})
    if path not in kept:
        schemas = [name for name in path if name in world.schemas and name != "pg_catalog"]
        kept[path] = _pattern(world, path, schemas) if schemas else None
    return kept[path]


def _pattern(world: World, path: tuple[str, ...], schemas: list[str]) -> str:
    shadowed = _shadowed(world, full_path(path))
    return f"(?:{'|'.join(_schema_pattern(schema, shadowed[schema]) for schema in schemas)})"


def _schema_pattern(schema: str, shadowed: set[str]) -> str:
    quoted = re.escape('"' + schema.replace('"', '""') + '"')
    names = "|".join(re.escape(name) for name in sorted(shadowed))
    return rf"(?:{re.escape(schema)}|{quoted})\." + (rf'(?!"?(?:{names})"?(?![[:alnum:]_$]))' if shadowed else "")


def _shadowed(world: World, path: tuple[str, ...]) -> dict[str, set[str]]:
    """Return for each schema the names that an earlier schema of the path has too: with those the schema stays."""
    found: dict[str, set[str]] = {schema: set() for schema in path}
    by_schema: dict[str, dict[str, set[str]]] = {schema: {kind: set() for kind in _KINDS} for schema in path}
    for kind, schema, name in _names(world):
        if schema in by_schema:
            by_schema[schema][kind].add(name)
    for kind in _KINDS:
        before: set[str] = set()
        for schema in path:
            found[schema] |= before & by_schema[schema][kind]
            before |= by_schema[schema][kind]
    return found


def _names(world: World) -> Iterator[tuple[str, str, str]]:
    for name in world.relations:
        yield "relation", *name
    for each in world.catalog.types.values():
        if world.knows("types", each.oid):
            yield "type", *each.name
    for name in world.functions:
        yield "function", *name
    for function in world.catalog.system_functions:
        yield "function", "pg_catalog", function
