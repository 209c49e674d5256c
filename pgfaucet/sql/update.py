"""UPDATE and DELETE (RECIPES D1-D4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.sql import from_clause, returning, with_clause, writing
from pgfaucet.sql.assign import assigned_columns, resolve_assignments
from pgfaucet.sql.checks import row_check
from pgfaucet.sql.expression import bind_row, own_columns
from pgfaucet.sql.newrow import guard_new_row
from pgfaucet.sql.target import TargetItem, open_target

if TYPE_CHECKING:
    from pgfaucet.sql.query import Query
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Columns, Scope
    from pgfaucet.sql.world import Node

_UPDATE_FIELDS: Final = frozenset(
    {"relation", "targetList", "whereClause", "fromClause", "returningClause", "withClause"}
)
_DELETE_FIELDS: Final = frozenset({"relation", "usingClause", "whereClause", "returningClause", "withClause"})


def resolve_update(resolver: Resolver, body: dict[str, Any], outer: Scope | None) -> Query:
    """Resolve an UpdateStmt in place.

    Raises FaucetError: 42P01, 42703, 42501, 0A000.
    """
    resolver.expect_fields("UpdateStmt", body, _UPDATE_FIELDS)
    scope, target = _open(resolver, body, outer, "update", "fromClause")
    row = resolve_assignments(resolver, body["targetList"], scope, target)
    writing.check_where(resolver, body, target, "update")
    writing.add_write(resolver, body, scope, target)
    found = returning.resolve_returning(resolver, body, scope, target)
    check = row_check(target.relation, is_read=bool(target.used) or "whereClause" in body or bool(found))
    if check is not None:
        guard_new_row(row, check, may_be_volatile=False)
        if not _holds_anyway(target, check, body["targetList"]):
            returning.add_check(resolver, body, bind_row(check, target.name))
    return writing.written_query(scope, found)


def resolve_delete(resolver: Resolver, body: dict[str, Any], outer: Scope | None) -> Query:
    """Resolve a DeleteStmt in place.

    Raises FaucetError: 42P01, 42703, 42501, 0A000.
    """
    resolver.expect_fields("DeleteStmt", body, _DELETE_FIELDS)
    scope, target = _open(resolver, body, outer, "delete", "usingClause")
    writing.check_where(resolver, body, target, "delete")
    writing.add_write(resolver, body, scope, target)
    found: Columns = returning.resolve_returning(resolver, body, scope, target)
    return writing.written_query(scope, found)


def _open(
    resolver: Resolver, body: dict[str, Any], outer: Scope | None, action: str, from_key: str
) -> tuple[Scope, TargetItem]:
    scope = resolver.scope(outer)
    with_clause.resolve_with(resolver, body, scope)
    target = open_target(resolver, body["relation"], scope, (action,))
    scope.items.append(target)
    from_clause.resolve_from(resolver, body.get(from_key, []), scope)
    resolver.qualifies = True
    return scope, target


def _holds_anyway(target: TargetItem, check: Node, assignments: list[Node]) -> bool:
    """Whether a row that passes the filter must still satisfy the check after its change (RECIPES D4, last rule)."""
    relation = target.relation
    used = own_columns(check)
    generated = {column.name for column in relation.relation.columns if column.generated}
    return (
        check == relation.row_filter
        and used.isdisjoint(assigned_columns(assignments))
        and used.isdisjoint(generated)
        and "update" not in relation.relation.before_triggers
    )
