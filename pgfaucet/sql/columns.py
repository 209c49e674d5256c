"""Column references: which column of which range table item a name means (parser/parse_relation.c, parse_expr.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import build
from pgfaucet.sql.catalog import QualifiedName
from pgfaucet.sql.facts import Facts, combine
from pgfaucet.sql.scope import WHOLE_ROW, Item, RelationItem
from pgfaucet.sql.tree import string

if TYPE_CHECKING:
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Scope
    from pgfaucet.sql.world import Node

_FIELDS = frozenset({"fields", "location"})


def resolve_column(resolver: Resolver, node: Node, body: dict[str, Any], scope: Scope) -> Facts:
    """Resolve a ColumnRef in place: a column, or a whole row; or `t.f` for f(t), a call of a function (ParseFuncOrColumn)."""
    resolver.expect_fields("ColumnRef", body, _FIELDS)
    names, is_star = names_of(resolver, body)
    if is_star:
        return whole_row(resolver, body, names, scope)
    if len(names) == 1:
        return _unqualified(resolver, body, names[0], scope)
    item, level = find_item(resolver, body, names[:-1], scope)
    if _is_call(resolver, item, names[-1]):
        row = {"ColumnRef": {**body, "fields": body["fields"][-2:-1]}}
        node.clear()
        node["FuncCall"] = {"funcname": [build.string(names[-1])], "args": [row], "funcformat": "COERCE_EXPLICIT_CALL"}
        return resolver.expression(node, scope)
    facts = _column_of(resolver, item, names[-1], body, f"{names[-2]}.{names[-1]}")
    body["fields"] = body["fields"][-2:]
    return _read(resolver, scope, level, item, names[-1], facts)


def names_of(resolver: Resolver, body: dict[str, Any]) -> tuple[list[str], bool]:
    """Return the names of a reference, and whether it ends in `*`."""
    names: list[str] = []
    fields = body["fields"]
    for part in fields:
        if "String" in part:
            names.append(string(part))
        elif "A_Star" not in part or part is not fields[-1]:
            resolver.refuse("ColumnRef.fields", body)
    return names, len(names) < len(fields)


def find_column(resolver: Resolver, name: str, scope: Scope, location: int | None) -> tuple[Item, Scope, Facts] | None:
    """Find what an unqualified name means; None when no item has such a column (colNameToVar)."""
    level: Scope | None = scope
    open_items: list[tuple[Item, Scope]] = []
    while level is not None:
        hit = _find_at(resolver, name, level, location, open_items)
        if hit is not None:
            item, facts = hit
            if open_items:  # the function may have a column of that name, and then it is that
                facts = Facts(0, is_leakproof=False, reads=facts.reads, sources=facts.sources, is_fixed=True)
            return item, level, facts
        level = level.parent
    if open_items:
        item, level = open_items[0]
        return item, level, Facts(0, reads=frozenset((item,)))
    return None


def _find_at(
    resolver: Resolver, name: str, level: Scope, location: int | None, open_items: list[tuple[Item, Scope]]
) -> tuple[Item, Facts] | None:
    hit: tuple[Item, Facts] | None = None
    for item in level.items:
        if not item.has_columns_in_sight or (item.is_lateral_only and not level.is_lateral_active):
            continue
        try:
            facts = item.find(name)
        except LookupError:
            _ambiguous(resolver, name, location)
        if facts is None:
            if item.is_open:
                open_items.append((item, level))
            continue
        if hit is not None:
            _ambiguous(resolver, name, location)
        if item.is_lateral_only and not item.is_lateral_ok:
            _bad_lateral(resolver, item.name or name, location)
        hit = item, facts
    return hit


def find_item(resolver: Resolver, body: dict[str, Any], names: list[str], scope: Scope) -> tuple[Item, Scope]:
    """Find the item that `name`, `schema.name` or `database.schema.name` refers to (refnameNamespaceItem)."""
    location = body.get("location")
    if len(names) > 3 or (len(names) == 3 and names[0] != resolver.world.catalog.database):
        resolver.fail(
            Sqlstate.FEATURE_NOT_SUPPORTED,
            f"improper qualified name (too many dotted names): {'.'.join(names)}",
            location,
        )
    name = names[-1]
    schema = names[-2] if len(names) > 1 else None
    found = seek_item(resolver, schema, name, scope, location)
    if found is None:
        shown = f"{schema}.{name}" if schema is not None else name
        if resolver.world.lookup(schema, name, resolver.context.search_path) is None and schema is None:
            shown = name
        resolver.fail(
            Sqlstate.UNDEFINED_TABLE, f'missing FROM-clause entry for table "{shown.rpartition(".")[2]}"', location
        )
    return found


def seek_item(
    resolver: Resolver, schema: str | None, name: str, scope: Scope, location: int | None
) -> tuple[Item, Scope] | None:
    """Find the nearest item of that name, or None."""
    level: Scope | None = scope
    while level is not None:
        hit: Item | None = None
        for item in level.items:
            if item.name != name or not item.stands_by_name or (item.is_lateral_only and not level.is_lateral_active):
                continue
            if schema is not None and (not isinstance(item, RelationItem) or item.schema != schema):
                continue
            if hit is not None:
                resolver.fail("42P09", f'table reference "{name}" is ambiguous', location)
            hit = item
        if hit is not None:
            if hit.is_lateral_only and not hit.is_lateral_ok:
                _bad_lateral(resolver, name, location)
            return hit, level
        level = level.parent
    return None


def whole_row(resolver: Resolver, body: dict[str, Any], names: list[str], scope: Scope) -> Facts:
    """Resolve `t.*` inside an expression."""
    if not names:
        resolver.fail(Sqlstate.SYNTAX_ERROR, 'row expansion via "*" is not supported here', body.get("location"))
    item, level = find_item(resolver, body, names, scope)
    body["fields"] = body["fields"][-2:]
    return _read_row(resolver, scope, level, item, body)


def _unqualified(resolver: Resolver, body: dict[str, Any], name: str, scope: Scope) -> Facts:
    location = body.get("location")
    found = find_column(resolver, name, scope, location)
    if found is not None:
        item, level, facts = found
        is_certain = not item.is_open or item.find(name) is not None
        row = None if is_certain else seek_item(resolver, None, name, scope, location)
        if row is not None:  # a function's column, if the function has one of that name, and else a whole row
            column = _read(resolver, scope, level, item, name, facts)
            return combine((column, _read_row(resolver, scope, row[1], row[0], body)))
        if resolver.qualifies or (isinstance(item, RelationItem) and item.is_raw):
            _qualify(resolver, body, item, level, scope, name)
        return _read(resolver, scope, level, item, name, facts)
    row = seek_item(resolver, None, name, scope, location)
    if row is not None:
        item, level = row
        return _read_row(resolver, scope, level, item, body)
    _no_column(resolver, f'"{name}"', location, scope.items)


def _qualify(resolver: Resolver, body: dict[str, Any], item: Item, level: Scope, scope: Scope, name: str) -> None:
    if item.name is None or not item.stands_by_name:
        return
    if item.is_open and name == item.name:  # a function's: its column, or its whole row
        return
    nearest = seek_item(resolver, None, item.name, scope, None)
    if nearest is not None and nearest[0] is item and nearest[1] is level:
        body["fields"] = [build.string(item.name), build.string(name)]


def _is_call(resolver: Resolver, item: Item, name: str) -> bool:
    """Say whether `item.name` is no column, but a function of the role's that takes one argument."""
    try:
        is_column = item.is_open or item.find(name) is not None
    except LookupError:  # several
        is_column = True
    if is_column:
        return False
    functions = resolver.world.functions
    return any(
        len(function.argument_types) == 1
        for schema in resolver.context.search_path
        for function in functions.get(QualifiedName(schema, name), ())
    )


def _column_of(resolver: Resolver, item: Item, name: str, body: dict[str, Any], shown: str) -> Facts:
    try:
        facts = item.find(name)
    except LookupError:
        _ambiguous(resolver, name, body.get("location"))
    if facts is not None:
        return facts
    if item.is_open:
        return Facts(0, reads=frozenset((item,)))
    _no_column(resolver, shown, body.get("location"), [item])


def _read(resolver: Resolver, scope: Scope, level: Scope, item: Item, name: str, facts: Facts) -> Facts:
    if level is not scope:
        scope.note_outer_read(level, item, facts)
    if isinstance(item, RelationItem) and item.grouped is not None and _is_grouped(resolver, scope, level):
        item.grouped.add(name)
    return facts


def _is_grouped(resolver: Resolver, scope: Scope, level: Scope) -> bool:
    """Say whether a column is read once for a group: an aggregate around it may be that of a sub-select, and not of its own level."""
    return not resolver.aggregate_depth or level is not scope


def _read_row(resolver: Resolver, scope: Scope, level: Scope, item: Item, body: dict[str, Any]) -> Facts:
    if isinstance(item, RelationItem) and item.is_raw and len(item.readable()) != len(item.relation.relation.columns):
        shown = item.relation.relation.name.name
        resolver.fail(Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied for table {shown}", body.get("location"))
    facts = item.whole_row()
    if isinstance(item, RelationItem):
        if len(item.readable()) != len(item.relation.relation.columns):
            resolver.narrow_rows[id(body)] = item.relation.relation.name.name
        if item.is_raw and any(column.mask is not None for column in item.relation.columns.values()):
            shown = item.relation.relation.name.name
            resolver.fail(Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied for table {shown}", body.get("location"))
        if item.grouped is not None and _is_grouped(resolver, scope, level):
            item.grouped.update((*item.readable(), WHOLE_ROW))
    if level is not scope:
        scope.note_outer_read(level, item, facts)
    return facts


def _ambiguous(resolver: Resolver, name: str, location: int | None) -> NoReturn:
    resolver.fail(Sqlstate.AMBIGUOUS_COLUMN, f'column reference "{name}" is ambiguous', location)


def _bad_lateral(resolver: Resolver, name: str, location: int | None) -> NoReturn:
    resolver.fail("42P10", f'invalid reference to FROM-clause entry for table "{name}"', location)


def _hint(names: list[str], relation: str) -> str:
    return f"You may select {', '.join(names)} from {relation}."  # noqa: S608 - a hint


def _no_column(resolver: Resolver, shown: str, location: int | None, items: list[Item]) -> NoReturn:
    """Say that a column does not exist, and which ones of the relations at hand do."""
    known = [
        _hint(item.readable(), item.relation.relation.name.name)
        for item in items
        if isinstance(item, RelationItem) and item.readable()
    ]
    hint = " ".join(dict.fromkeys(known)) or None
    resolver.fail(Sqlstate.UNDEFINED_COLUMN, f"column {shown} does not exist", location, hint)
