"""SELECT, VALUES, TABLE and set operations (parser/analyze.c, transformSelectStmt and its kin)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import from_clause, grouping, locking, registered, targets, with_clause
from pgfaucet.sql.facts import NONE, UNKNOWN, Facts
from pgfaucet.sql.query import Query
from pgfaucet.sql.scope import Item
from pgfaucet.sql.tree import string

if TYPE_CHECKING:
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Columns, Scope
    from pgfaucet.sql.world import Node

_LIST_FIELDS: Final = frozenset({"items"})
_GROUPING_SET_FIELDS: Final = frozenset({"kind", "content", "location"})
_FIELDS: Final = frozenset(
    {
        "distinctClause",
        "intoClause",
        "targetList",
        "fromClause",
        "whereClause",
        "groupClause",
        "groupDistinct",
        "havingClause",
        "windowClause",
        "valuesLists",
        "sortClause",
        "limitOffset",
        "limitCount",
        "limitOption",
        "lockingClause",
        "withClause",
        "op",
        "all",
        "larg",
        "rarg",
    }
)
_NOT_PLAIN: Final = ("withClause", "groupClause", "havingClause", "windowClause", "limitOffset", "lockingClause")


def resolve_select(resolver: Resolver, body: dict[str, Any], outer: Scope | None) -> Query:
    """Resolve a SelectStmt in place."""
    resolver.expect_fields("SelectStmt", body, _FIELDS)
    if "intoClause" in body:
        resolver.fail(Sqlstate.INSUFFICIENT_PRIVILEGE, "permission denied to execute SELECT INTO")
    scope = resolver.scope(outer)
    with_clause.resolve_with(resolver, body, scope)
    operation = body.get("op", "SETOP_NONE")
    if operation != "SETOP_NONE":
        return _set_operation(resolver, body, scope)
    if "valuesLists" in body:
        return _values(resolver, body, scope)
    return _plain(resolver, body, scope)


def _plain(resolver: Resolver, body: dict[str, Any], scope: Scope) -> Query:
    from_clause.resolve_from(resolver, body.get("fromClause", []), scope)
    is_correlated_from = bool(scope.outer)
    grouping.watch(body, scope)
    columns, is_open = targets.resolve_targets(resolver, body.get("targetList", []), scope)
    grouping.pause(scope)
    resolver.condition(body, "whereClause", scope)
    grouping.go_on(scope)
    resolver.having(body, scope)
    _resolve_sorts(resolver, body, "sortClause", scope, columns)
    grouping.pause(scope)
    for item in body.get("groupClause", ()):
        _group_item(resolver, item, scope, columns)
    _resolve_distinct(resolver, body, scope, columns)
    _resolve_limits(resolver, body, scope)
    grouping.go_on(scope)
    for window in body.get("windowClause", ()):
        _resolve_window(resolver, window, scope)
    grouping.pause(scope)
    locking.resolve_locking(resolver, body, scope)
    grouping.finish(resolver, body, scope)
    query = make_query(scope, columns, is_open=is_open)
    query.items = scope.items
    query.joins_when_exists = bool(query.outer) and not is_correlated_from and _is_plain(body, scope, columns)
    query.has_one_row = _has_one_row(body, columns)
    return query


def make_query(scope: Scope, columns: Columns, *, is_open: bool = False) -> Query:
    """Sum up a resolved level."""
    return Query(
        columns,
        sources=scope.sources(),
        outer=frozenset(scope.outer),
        outer_sources=frozenset(scope.outer_sources),
        is_clean=scope.is_clean,
        is_volatile=scope.is_volatile,
        is_open=is_open,
    )


def _is_plain(body: dict[str, Any], scope: Scope, columns: Columns) -> bool:
    """Say whether EXISTS of this level can be made a join (simplify_EXISTS_query in optimizer/plan/subselect.c)."""
    if any(key in body for key in _NOT_PLAIN) or "fromClause" not in body or scope.has_aggregate:
        return False
    limit = body.get("limitCount")
    if limit is not None and not limit.get("A_Const", {}).get("ival", {}).get("ival", 0) > 0:
        return False
    return all(facts.is_leakproof for _, facts in columns)


def _has_one_row(body: dict[str, Any], columns: Columns) -> bool:
    """Say whether a level without GROUP BY is one aggregate, so that a scalar sub-select cannot fail for a second row."""
    if (
        any(key in body for key in ("groupClause", "havingClause", "windowClause", "distinctClause"))
        or len(columns) != 1
    ):
        return False
    call = body["targetList"][0]["ResTarget"]["val"].get("FuncCall")
    if call is None or "over" in call:
        return False
    return string(call["funcname"][-1]) in ("count", "min", "max") and columns[0][1].is_leakproof


def _set_operation(resolver: Resolver, body: dict[str, Any], scope: Scope) -> Query:
    left = resolve_select(resolver, body["larg"], scope)
    right = resolve_select(resolver, body["rarg"], scope)
    registered.match_arms(resolver, body, left.columns, right.columns)
    columns: Columns = []
    for position, (name, facts) in enumerate(left.columns):
        other = right.columns[position][1] if position < len(right.columns) else facts
        columns.append((name, _both(facts, other)))
    result = resolver.scope(scope)
    item = Item(None, result)
    item.columns = [(name, Facts(facts.type, reads=frozenset((item,)))) for name, facts in columns]
    item.is_open = left.is_open
    result.items.append(item)
    _resolve_sorts(resolver, body, "sortClause", result, columns)
    _resolve_limits(resolver, body, scope)
    if "lockingClause" in body:
        resolver.fail(Sqlstate.FEATURE_NOT_SUPPORTED, "FOR UPDATE is not allowed with UNION/INTERSECT/EXCEPT")
    query = make_query(scope, columns, is_open=left.is_open or right.is_open)
    query.sources = left.sources | right.sources
    query.is_clean = query.is_clean and left.is_clean and right.is_clean
    query.is_volatile = query.is_volatile or left.is_volatile or right.is_volatile
    return query


def _both(left: Facts, right: Facts) -> Facts:
    """Return the facts of a column that comes from either arm of a set operation."""
    kinds = {left.type, right.type} - {UNKNOWN}
    type_oid = UNKNOWN if not kinds else kinds.pop() if len(kinds) == 1 else 0
    return Facts(
        type_oid,
        is_leakproof=left.is_leakproof and right.is_leakproof and type_oid != 0,
        reads=left.reads | right.reads,
        sources=left.sources | right.sources,
        is_volatile=left.is_volatile or right.is_volatile,
        is_fixed=left.is_fixed or right.is_fixed,
        assumes=left.assumes | right.assumes,
    )


def _values(resolver: Resolver, body: dict[str, Any], scope: Scope) -> Query:
    columns: Columns = []
    for number, row in enumerate(body["valuesLists"]):
        resolver.expect_fields("List", row["List"], _LIST_FIELDS)
        facts = [resolver.value(item, scope) for item in row["List"]["items"]]
        if number == 0:
            columns = [(f"column{position}", each) for position, each in enumerate(facts, 1)]
        else:
            if len(facts) != len(columns):
                resolver.fail(Sqlstate.SYNTAX_ERROR, "VALUES lists must all be the same length")
            columns = [(name, _both(old, new)) for (name, old), new in zip(columns, facts, strict=True)]
    item = Item("*VALUES*", scope)
    item.columns = [(name, facts.as_column(item)) for name, facts in columns]
    scope.items.append(item)
    _resolve_sorts(resolver, body, "sortClause", scope, columns)
    _resolve_limits(resolver, body, scope)
    query = make_query(scope, columns)
    query.sources = NONE.union(*(facts.sources for _, facts in columns))
    return query


def _resolve_sorts(resolver: Resolver, body: dict[str, Any], key: str, scope: Scope, columns: Columns) -> None:
    for item in body.get(key, ()):
        sort = item["SortBy"]
        if not _is_output_name(sort["node"], columns):
            resolver.sort_key(item, scope, keep=True)
        else:
            resolver.check_sort(sort)


def _is_output_name(node: Node, columns: Columns) -> bool:
    """Say whether an ORDER BY or DISTINCT ON item is the name of an output column (findTargetlistEntrySQL92)."""
    reference = node.get("ColumnRef")
    if reference is None or len(reference["fields"]) != 1 or "String" not in reference["fields"][0]:
        return "A_Const" in node and "ival" in node["A_Const"]
    name = string(reference["fields"][0])
    return any(output == name for output, _ in columns)


def _group_item(resolver: Resolver, node: Node, scope: Scope, columns: Columns) -> None:
    """Resolve a GROUP BY item: a column of FROM before an output name."""
    grouping_set = node.get("GroupingSet")
    if grouping_set is not None:
        resolver.expect_fields("GroupingSet", grouping_set, _GROUPING_SET_FIELDS)
        for item in grouping_set.get("content", ()):
            _group_item(resolver, item, scope, columns)
        return
    row = node.get("RowExpr")
    if row is not None:
        for item in row.get("args", ()):
            _group_item(resolver, item, scope, columns)
        return
    if not grouping.names_output(resolver, node, scope, columns):
        resolver.value(node, scope)


def _resolve_distinct(resolver: Resolver, body: dict[str, Any], scope: Scope, columns: Columns) -> None:
    grouping.go_on(scope)
    for item in body.get("distinctClause", ()):
        if item and not _is_output_name(item, columns):
            resolver.value(item, scope)
    grouping.pause(scope)


def _resolve_limits(resolver: Resolver, body: dict[str, Any], scope: Scope) -> None:
    for key in ("limitOffset", "limitCount"):
        if key in body:
            resolver.value(body[key], scope)


def _resolve_window(resolver: Resolver, node: Node, scope: Scope) -> None:
    for facts in resolver.window(node["WindowDef"], scope):
        if not facts.is_leakproof:
            scope.is_clean = False
        if facts.is_volatile:
            scope.is_volatile = True
