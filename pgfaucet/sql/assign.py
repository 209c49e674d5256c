"""SET lists: of UPDATE, of ON CONFLICT DO UPDATE and of MERGE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import build, columns, operators
from pgfaucet.sql.expressions import FIELDS, resolve_fields
from pgfaucet.sql.newrow import Given, NewRow
from pgfaucet.sql.scope import RelationItem
from pgfaucet.sql.target import find_written

if TYPE_CHECKING:
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Scope
    from pgfaucet.sql.target import TargetItem
    from pgfaucet.sql.world import Node

TARGET_FIELDS: Final = frozenset({"name", "indirection", "val", "location"})
SEVERAL_FIELDS: Final = frozenset({"source", "colno", "ncolumns"})


def resolve_assignments(resolver: Resolver, nodes: list[Node], scope: Scope, target: TargetItem) -> NewRow:
    """Resolve a SET list in place; return the row that it makes of a row of `target`.

    Raises FaucetError: 42703, 42501.
    """
    row = NewRow(target.relation, resolver.world.catalog, alias=target.name)
    row.unknown.update(column.name for column in target.relation.relation.columns if column.generated)
    sources: dict[int, Node] = {}
    for position, node in enumerate(nodes):
        body: dict[str, Any] = node["ResTarget"]
        resolver.expect_fields("ResTarget", body, TARGET_FIELDS)
        find_written(resolver, target.relation, body["name"], "update", body.get("location"))
        several = body["val"].get("MultiAssignRef")
        if several is not None:
            _resolve_one_of_several(resolver, several, scope, row, body, sources, position)
        else:
            _resolve_value(resolver, body, "val", scope, row, body)
    return row


def assigned_columns(nodes: list[Node]) -> set[str]:
    """Return the columns that a SET list sets."""
    return {node["ResTarget"]["name"] for node in nodes}


def resolve_steps(resolver: Resolver, body: dict[str, Any], scope: Scope) -> None:
    """Resolve the subscripts and fields behind an assigned column: `SET a[1].b`."""
    for step in body.get("indirection", ()):
        if "A_Indices" in step:
            resolve_fields(resolver, "A_Indices", FIELDS["A_Indices"], step["A_Indices"], scope, [])
        elif "String" not in step:
            resolver.refuse("ResTarget.indirection", body)


def _resolve_value(
    resolver: Resolver, holder: Any, key: Any, scope: Scope, row: NewRow, target: dict[str, Any]
) -> None:
    """Resolve holder[key], the new value of the column that `target` names."""
    name: str = target["name"]
    value: Node = holder[key]

    def put(made: Node) -> None:
        holder[key] = made

    if "SetToDefault" in value:
        row.set_default(name, put)
        return
    facts = resolver.value(value, scope)
    column = row.column(name)
    if "indirection" in target:
        resolve_steps(resolver, target, scope)
        row.opaque.add(name)
        return
    operators.note_parameters(resolver, facts, resolver.world.catalog.base_type(column.type_oid))
    row.given[name] = Given(value, facts, put)


def _spread(resolver: Resolver, value: Node, scope: Scope) -> list[Node]:
    """Write `t.*` in a row as the columns that it stands for."""
    reference = value.get("ColumnRef")
    if reference is None or "A_Star" not in reference["fields"][-1]:
        return [value]
    names, _ = columns.names_of(resolver, reference)
    if not names:
        return [value]
    item, _ = columns.find_item(resolver, reference, names, scope)
    if item.is_open:
        return [value]
    found = item.names() if isinstance(item, RelationItem) else [name for name, _ in item.expand()]
    return [build.column(names[-1], name) for name in found]


def _resolve_one_of_several(  # noqa: PLR0913, PLR0917 - as above
    resolver: Resolver,
    several: dict[str, Any],
    scope: Scope,
    row: NewRow,
    target: dict[str, Any],
    sources: dict[int, Node],
    position: int,
) -> None:
    """Resolve one column of `SET (a, b) = source`. The tree repeats the source for each: they must stay the same one."""
    resolver.expect_fields("MultiAssignRef", several, SEVERAL_FIELDS)
    number: int = several["colno"]
    first = position - number + 1
    source = sources.setdefault(first, several["source"])
    several["source"] = source
    listed = source.get("RowExpr")
    if listed is not None:
        if number == 1:
            listed["args"] = [each for arg in listed.get("args", []) for each in _spread(resolver, arg, scope)]
        args = listed.get("args", [])
        if len(args) != several["ncolumns"]:
            resolver.fail(Sqlstate.SYNTAX_ERROR, "number of columns does not match number of values")
        _resolve_value(resolver, args, number - 1, scope, row, target)
        return
    if number == 1:
        resolver.value(source, scope)
    if "indirection" in target:
        resolve_steps(resolver, target, scope)
    row.opaque.add(target["name"])
