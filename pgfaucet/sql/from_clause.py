"""FROM: turns its items into the namespace of a level (parser/parse_clause.c, transformFromClauseItem)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import joins, range_function, relations
from pgfaucet.sql.scope import Item, set_lateral

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.sql.conjunct import Place
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Scope
    from pgfaucet.sql.world import Node

    Members = list[Item | Place]
    FromItem = Callable[[Resolver, Node, dict[str, Any], Scope], tuple[list[Item], Members]]

_RANGE_SUBSELECT_FIELDS: Final = frozenset({"lateral", "subquery", "alias"})
ALIAS_FIELDS: Final = frozenset({"aliasname", "colnames"})


def resolve_from(resolver: Resolver, nodes: list[Node], scope: Scope) -> None:
    """Resolve the items of FROM in place and put them in sight."""
    for node in nodes:
        items, _ = resolve_item(resolver, node, scope)
        check_names(resolver, scope.items, items)
        scope.items += items
        set_lateral(scope.items, only=True, ok=True)
    set_lateral(scope.items, only=False, ok=True)


def resolve_item(resolver: Resolver, node: Node, scope: Scope) -> tuple[list[Item], Members]:
    """Resolve one item of FROM; return what it puts in sight, and everything that an outer join around it makes nullable."""
    for kind, body in node.items():
        handler = FROM_ITEMS.get(kind)
        if handler is None:
            resolver.refuse(kind, body)
        return handler(resolver, node, body, scope)
    resolver.refuse("an empty item of FROM", None)


def check_names(resolver: Resolver, present: list[Item], added: list[Item]) -> None:
    """Refuse an alias that is already in sight (checkNameSpaceConflicts)."""
    names = {item.name for item in present if item.stands_by_name}
    for item in added:
        if item.stands_by_name and item.name in names:
            resolver.fail(Sqlstate.DUPLICATE_ALIAS, f'table name "{item.name}" specified more than once')


def _sub_select(resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope) -> tuple[list[Item], Members]:
    resolver.expect_fields("RangeSubselect", body, _RANGE_SUBSELECT_FIELDS)
    was_active = scope.is_lateral_active
    scope.is_lateral_active = bool(body.get("lateral"))
    query = resolver.query(body["subquery"], scope)
    scope.is_lateral_active = was_active
    scope.is_clean = scope.is_clean and query.is_clean
    scope.is_volatile = scope.is_volatile or query.is_volatile
    name, given = relations.alias_of(resolver, body)
    item = Item(name, scope, sources=query.sources, is_open=query.is_open)
    item.lockable = query.items
    relations.name_columns(resolver, item, [(column, facts.as_column(item)) for column, facts in query.columns], given)
    return [item], [item]


def _join(resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope) -> tuple[list[Item], Members]:
    return joins.resolve_join(resolver, body, scope, resolve_item, check_names)


FROM_ITEMS: Final[dict[str, FromItem]] = {
    "RangeVar": relations.resolve_relation,
    "RangeTableSample": relations.resolve_sample,
    "RangeSubselect": _sub_select,
    "RangeFunction": range_function.resolve_function,
    "RangeTableFunc": range_function.resolve_xml_table,
    "JsonTable": range_function.resolve_json_table,
    "JoinExpr": _join,
}
