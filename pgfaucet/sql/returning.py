"""RETURNING: what the client may see of the changed rows, and the check over the rows that were made (RECIPES D3, D4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import build, columns, relations, targets
from pgfaucet.sql.checks import must_hold
from pgfaucet.sql.expression import bind_row
from pgfaucet.sql.names import figure_column_name
from pgfaucet.sql.scope import RelationItem
from pgfaucet.sql.target import TargetItem

if TYPE_CHECKING:
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Columns, Item, Scope
    from pgfaucet.sql.world import Node

CHECK_COLUMN: Final = "pgf_check"
_CLAUSE_FIELDS: Final = frozenset({"options", "exprs"})
_OPTION_FIELDS: Final = frozenset({"option", "value", "location"})
_ITEM_FIELDS: Final = frozenset({"name", "val", "location"})
_OPTIONS: Final = {"RETURNING_OPTION_OLD": "old", "RETURNING_OPTION_NEW": "new"}


def resolve_returning(resolver: Resolver, body: dict[str, Any], scope: Scope, target: TargetItem) -> Columns:
    """Resolve the RETURNING clause of a statement, if it has one, in place; return its columns."""
    clause = body.get("returningClause")
    if clause is None:
        return []
    resolver.expect_fields("ReturningClause", clause, _CLAUSE_FIELDS)
    _add_versions(resolver, clause.get("options", []), scope, target)
    found: Columns = []
    written: list[Node] = []
    for node in clause["exprs"]:
        found += _resolve_item(resolver, node, scope, written)
    clause["exprs"] = written
    return found


def add_check(resolver: Resolver, body: dict[str, Any], check: Node) -> None:
    """Make RETURNING raise for a row that does not satisfy `check`, an expression over the finished row."""
    clause = body.get("returningClause")
    if clause is None:
        body["returningClause"] = {"exprs": [build.target(must_hold(check), CHECK_COLUMN)]}
        return
    for node in clause["exprs"]:
        if not _is_star(node["ResTarget"]["val"]):
            _fold(node["ResTarget"], check)
            return
    resolver.fail(Sqlstate.FEATURE_NOT_SUPPORTED, "RETURNING must name a column of the relation that is changed")


def has_only_check(body: dict[str, Any]) -> bool:
    """Whether RETURNING is there only because of the check: its rows are not the client's."""
    exprs = body.get("returningClause", {}).get("exprs", [])
    return len(exprs) == 1 and exprs[0]["ResTarget"].get("name") == CHECK_COLUMN


def _add_versions(resolver: Resolver, options: list[Node], scope: Scope, target: TargetItem) -> None:
    """Put `old` and `new` in sight, by the names that RETURNING WITH gives them (addNSItemForReturning)."""
    names = {"old": "old", "new": "new"}
    given = set()
    for node in options:
        option = node["ReturningOption"]
        resolver.expect_fields("ReturningOption", option, _OPTION_FIELDS)
        kind = _OPTIONS.get(option["option"])
        if kind is None:
            resolver.refuse("ReturningOption.option", option)
        relations.check_alias(resolver, option["value"])
        names[kind] = option["value"]
        given.add(kind)
    present = {item.name for item in scope.items if item.stands_by_name}
    for kind, name in names.items():
        if name in present:
            if kind in given:
                resolver.fail(Sqlstate.DUPLICATE_ALIAS, f'table name "{name}" specified more than once')
            continue
        version = TargetItem(name, scope, target.relation, {}, is_raw=True)
        version.has_columns_in_sight = False
        scope.items.append(version)


def _resolve_item(resolver: Resolver, node: Node, scope: Scope, written: list[Node]) -> Columns:
    """Resolve one item; `*` over a row of the target is written out, masked columns by their masks."""
    item: dict[str, Any] = node["ResTarget"]
    resolver.expect_fields("ResTarget", item, _ITEM_FIELDS)
    rows = _rows_of_star(resolver, item["val"], scope)
    if rows is not None:
        found: Columns = []
        for row in rows:
            found += _expand(row, written)
        return found
    masked = _masked_column(resolver, item["val"], scope)
    if masked is not None:
        row, name, mask = masked
        row.scope.is_clean = False
        written.append(build.target(bind_row(mask, row.name), item.get("name", name)))
        return [(item.get("name", name), targets.opaque_where_harmless(row.whole_row()))]
    nodes = [node]
    columns_found, _ = targets.resolve_targets(resolver, nodes, scope)
    written += nodes
    return columns_found


def _rows_of_star(resolver: Resolver, value: Node, scope: Scope) -> list[Item] | None:
    reference = value.get("ColumnRef")
    if reference is None or "A_Star" not in reference["fields"][-1]:
        return None
    names, _ = columns.names_of(resolver, reference)
    if not names:
        return [item for item in scope.items if item.has_columns_in_sight]
    return [columns.find_item(resolver, reference, names, scope)[0]]


def _expand(item: Item, written: list[Node]) -> Columns:
    if not isinstance(item, RelationItem) or not item.is_raw:
        return _expand_derived(item, written)
    found: Columns = []
    for name in item.readable():
        mask = item.relation.columns[name].mask
        value = build.column(item.name, name) if mask is None else bind_row(mask, item.name)
        written.append(build.target(value, None if mask is None else name))
        facts = item.find(name) if mask is None else item.whole_row()
        if facts is not None:
            found.append((name, facts))
    return found


def _expand_derived(item: Item, written: list[Node]) -> Columns:
    found = item.expand()
    if item.name is None or item.is_open:
        reference = [build.string(item.name)] if item.name is not None else []
        written.append(build.target({"ColumnRef": {"fields": [*reference, {"A_Star": {}}]}}))
    else:
        written += [build.target(build.column(item.name, name)) for name, _ in found]
    return found


def _masked_column(resolver: Resolver, value: Node, scope: Scope) -> tuple[RelationItem, str, Node] | None:
    """Tell whether an item is just a masked column of a row of the target."""
    reference = value.get("ColumnRef")
    if reference is None:
        return None
    names, is_star = columns.names_of(resolver, reference)
    rows = [item for item in scope.items if isinstance(item, RelationItem) and item.is_raw]
    if is_star or not names or len(names) > 2:
        return None
    for row in rows:
        stands = row.name == names[0] if len(names) == 2 else row.has_columns_in_sight
        column = row.relation.columns.get(names[-1])
        if stands and column is not None and column.is_readable and column.mask is not None:
            return row, names[-1], column.mask
    return None


def _is_star(value: Node) -> bool:
    reference = value.get("ColumnRef")
    if reference is not None:
        return "A_Star" in reference["fields"][-1]
    steps = value.get("A_Indirection", {}).get("indirection", [])
    return bool(steps) and "A_Star" in steps[-1]


def _fold(item: dict[str, Any], check: Node) -> None:
    """Write `CASE WHEN <check> THEN e ELSE e END AS name`: type, length and name of the column stay what they were.

    Both are the same e, not copies: relations in its sub-selects get their filters in place, after this.
    """
    value: Node = item["val"]
    item.setdefault("name", figure_column_name(value))
    item["val"] = build.case(must_hold(check), value, value)
