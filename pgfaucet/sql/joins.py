"""JOIN: merged columns, join aliases, what its sides may see of each other, and which side is nullable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import conjunct, operators, relations
from pgfaucet.sql.conjunct import Place
from pgfaucet.sql.facts import BOOL, NONE, Facts, combine
from pgfaucet.sql.scope import Item, set_lateral
from pgfaucet.sql.tree import strings

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Columns, Scope
    from pgfaucet.sql.world import Node

    Members = list[Item | Place]
    ResolveItem = Callable[[Resolver, Node, Scope], tuple[list[Item], Members]]
    CheckNames = Callable[[Resolver, list[Item], list[Item]], None]

_FIELDS: Final = frozenset(
    {"jointype", "isNatural", "larg", "rarg", "usingClause", "join_using_alias", "quals", "alias", "rtindex"}
)
_NULLABLE_SIDES: Final = {  # join type -> is the left side nullable, the right one
    "JOIN_INNER": (False, False),
    "JOIN_LEFT": (False, True),
    "JOIN_RIGHT": (True, False),
    "JOIN_FULL": (True, True),
}


def resolve_join(
    resolver: Resolver,
    body: dict[str, Any],
    scope: Scope,
    resolve_item: ResolveItem,
    check_names: CheckNames,
) -> tuple[list[Item], Members]:
    """Resolve a JoinExpr in place."""
    resolver.expect_fields("JoinExpr", body, _FIELDS)
    kind = body.get("jointype")
    if kind not in _NULLABLE_SIDES:
        resolver.refuse(f"JoinExpr {kind}", body)
    left, left_members = resolve_item(resolver, body["larg"], scope)
    set_lateral(left, only=True, ok=kind in ("JOIN_INNER", "JOIN_LEFT"))
    count = len(scope.items)
    scope.items += left
    right, right_members = resolve_item(resolver, body["rarg"], scope)
    del scope.items[count:]
    check_names(resolver, left, right)
    place = Place()
    nullable_left, nullable_right = _NULLABLE_SIDES[kind]
    for side, is_nullable in ((left_members, nullable_left), (right_members, nullable_right)):
        for member in side if is_nullable else ():
            member.nullable += 1
    members: Members = [*left_members, *right_members, place]
    items = [*left, *right]
    using = _using_names(resolver, body, left, right)
    merged = _merge(resolver, using, left, right, kind, scope) if using is not None else []
    if "quals" in body:
        _resolve_on(resolver, body, scope, items, place, _filtered_side(kind, left_members, right_members))
    named = _named_item(resolver, body, scope, using, merged, left, right)
    if named is None:
        return items, members
    return [*items, *named], members


def _filtered_side(kind: str, left: Members, right: Members) -> frozenset[Item] | None:
    """Return the items whose rows an ON condition may filter; None for an inner join, which may filter both sides."""
    sides = {"JOIN_LEFT": right, "JOIN_RIGHT": left, "JOIN_FULL": []}
    if kind == "JOIN_INNER":
        return None
    return frozenset(member for member in sides[kind] if isinstance(member, Item))


def _resolve_on(
    resolver: Resolver,
    body: dict[str, Any],
    scope: Scope,
    items: list[Item],
    place: Place,
    nullable_side: frozenset[Item] | None,
) -> None:
    """Resolve ON: it sees the two sides of its join and nothing else of the level."""
    set_lateral(items, only=False, ok=True)
    saved, scope.items = scope.items, items
    condition = conjunct.resolve_condition(resolver, body, "quals", scope, place=place, nullable_side=nullable_side)
    scope.items = saved
    resolver.conditions.append(condition)


def _using_names(resolver: Resolver, body: dict[str, Any], left: list[Item], right: list[Item]) -> list[str] | None:
    """Return the names of the merged columns; None when the join has none."""
    if "usingClause" in body:
        return strings(body["usingClause"])
    if not body.get("isNatural"):
        return None
    if any(item.is_open for item in (*left, *right) if item.has_columns_in_sight):
        resolver.fail(Sqlstate.FEATURE_NOT_SUPPORTED, "NATURAL JOIN with a function is not supported")
    others = {name for name, _ in _columns(right)}
    return list(dict.fromkeys(name for name, _ in _columns(left) if name in others))


def _columns(items: list[Item]) -> Columns:
    return [column for item in items if item.has_columns_in_sight for column in item.expand()]


def _merge(
    resolver: Resolver, names: list[str], left: list[Item], right: list[Item], kind: str, scope: Scope
) -> Columns:
    """Judge the equalities of USING or NATURAL, and return the merged columns."""
    merged: Columns = []
    for name in names:
        first = _side_column(resolver, name, left, "left")
        second = _side_column(resolver, name, right, "right")
        is_leakproof = operators.is_leakproof_operator(resolver, "=", first, second)
        equality = combine((first, second), BOOL, is_leakproof=is_leakproof)
        resolver.equalities.append(equality)
        if not equality.is_leakproof:
            scope.is_clean = False
        if kind == "JOIN_FULL":
            merged.append((name, combine((first, second), first.type if first.type == second.type else 0)))
        else:
            merged.append((name, second if kind == "JOIN_RIGHT" else first))
    return merged


def _side_column(resolver: Resolver, name: str, items: list[Item], side: str) -> Facts:
    found: Facts | None = None
    for item in items:
        if not item.has_columns_in_sight:
            continue
        try:
            facts = item.find(name)
        except LookupError:
            facts, found = found, found or Facts()
        if facts is None:
            continue
        if found is not None:
            message = f'common column name "{name}" appears more than once in {side} table'
            resolver.fail(Sqlstate.AMBIGUOUS_COLUMN, message)
        found = facts
    if found is not None:
        return found
    if any(item.is_open for item in items if item.has_columns_in_sight):
        return Facts(0, is_leakproof=False)
    message = f'column "{name}" specified in USING clause does not exist in {side} table'
    resolver.fail(Sqlstate.UNDEFINED_COLUMN, message)


def _named_item(  # noqa: PLR0913, PLR0917 - everything that a join's namespace entry is made of
    resolver: Resolver,
    body: dict[str, Any],
    scope: Scope,
    using: list[str] | None,
    merged: Columns,
    left: list[Item],
    right: list[Item],
) -> list[Item] | None:
    """Return the join's own entries in the namespace; None when its sides simply stay in sight."""
    alias, given = relations.alias_of(resolver, body)
    if alias is None and using is None:
        return None
    names = set(using or ())
    sides = [*left, *right]
    columns = merged + [(name, facts) for name, facts in (*_columns(left), *_columns(right)) if name not in names]
    made: list[Item] = []
    if "join_using_alias" in body:
        made.append(_using_item(resolver, body["join_using_alias"], scope, merged))
    item = Item(alias, scope, sources=NONE.union(*(side.sources for side in sides)))
    item.is_open = any(side.is_open for side in sides)
    if alias is not None:
        relations.name_columns(resolver, item, [(name, _through(facts, item)) for name, facts in columns], given)
        for side in sides:
            side.stands_by_name = False
    else:
        item.columns = columns
    for side in sides:
        side.has_columns_in_sight = False
    return [*made, item]


def _using_item(resolver: Resolver, alias: dict[str, Any], scope: Scope, merged: Columns) -> Item:
    name: str = alias["aliasname"]
    relations.check_alias(resolver, name)
    item = Item(name, scope)
    item.has_columns_in_sight = False
    item.columns = [(column, _through(facts, item)) for column, facts in merged]
    return item


def _through(facts: Facts, item: Item) -> Facts:
    """Return the facts of a column that is read through a join's alias: it cannot move into the relation."""
    return Facts(
        facts.type,
        is_leakproof=facts.is_leakproof,
        reads=facts.reads | {item},
        sources=facts.sources,
        is_volatile=facts.is_volatile,
        is_fixed=facts.is_fixed,
        assumes=facts.assumes,
    )
