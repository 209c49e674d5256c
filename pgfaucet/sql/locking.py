"""FOR UPDATE and FOR SHARE: who may lock what (RECIPES R5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgfaucet.errors import Sqlstate
from pgfaucet.sql.scope import Item, RelationItem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Scope

_FIELDS = frozenset({"lockedRels", "strength", "waitPolicy"})


def resolve_locking(resolver: Resolver, body: dict[str, Any], scope: Scope) -> None:
    """Check that the role may update every relation that the level locks, and mark those as not to be fenced."""
    for node in body.get("lockingClause", ()):
        clause = node["LockingClause"]
        resolver.expect_fields("LockingClause", clause, _FIELDS)
        names = []
        for named in clause.get("lockedRels", ()):
            relation = named["RangeVar"]
            if "schemaname" in relation or "catalogname" in relation:
                message = "FOR UPDATE must specify unqualified relation names"
                resolver.fail(Sqlstate.SYNTAX_ERROR, message, relation.get("location"))
            names.append(relation["relname"])
        known = {item.name for item in scope.items}
        for name in names:
            if name not in known:
                message = f'relation "{name}" in FOR UPDATE clause not found in FROM clause'
                resolver.fail(Sqlstate.UNDEFINED_TABLE, message)
        for item in scope.items:
            if not names or item.name in names:
                for locked in _relations(item):
                    _lock(resolver, locked)


def _relations(item: Item) -> Iterator[RelationItem]:
    if isinstance(item, RelationItem):
        yield item
    for inner in item.lockable:
        yield from _relations(inner)


def _lock(resolver: Resolver, item: RelationItem) -> None:
    if not item.relation.can_update:
        name = item.relation.relation.name.name
        resolver.fail(Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied for table {name}")
    item.is_locked = True
