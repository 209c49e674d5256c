"""What every data-modifying statement needs at its end: the filter around its WHERE, and the answer to what is sent back.

The target stays the base table, with the filter and the client's conditions in one WHERE: what could betray a hidden row stands behind the
filter in a CASE (RECIPES D1). Never a sub-select over the target: under READ COMMITTED it would be judged on old row versions (D2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.sql import build, conjunct, fence
from pgfaucet.sql.conjunct import Condition, Conjunct
from pgfaucet.sql.expression import bind_row
from pgfaucet.sql.query import Query
from pgfaucet.sql.returning import has_only_check
from pgfaucet.sql.tree import copy_tree, has_class

if TYPE_CHECKING:
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Columns, Scope
    from pgfaucet.sql.target import TargetItem
    from pgfaucet.sql.world import Node


_CURRENT_OF_FIELDS: Final = frozenset({"cursor_name"})


@dataclass(slots=True)
class Write(Condition):
    """One data-modifying statement of a query string, with its WHERE taken apart; `holder` is its body."""

    target: TargetItem | None = None
    is_filtered: bool = True  # rows of the target are found by WHERE: its filter goes there


def add_write(
    resolver: Resolver,
    body: dict[str, Any],
    scope: Scope,
    target: TargetItem,
    key: str = "whereClause",
    *,
    may_move: bool = True,
) -> Write:
    """Resolve the WHERE of UPDATE or DELETE, or the ON of MERGE, and note the statement for `finish_writes`.

    A sub-select in it counts by what is inside, even where it would become a join: the target has no fence to hold a join off.
    """
    made = Write(body, key, scope, target=target, may_move=may_move)
    if "CurrentOfExpr" in body.get(key, {}):
        _check_cursor(resolver, body[key]["CurrentOfExpr"], target)
        resolver.conditions.append(made)
        return made
    for node in conjunct.split(body[key]) if key in body else ():
        made.conjuncts.append(Conjunct(node, resolver.value(node, scope)))
    resolver.conditions.append(made)
    return made


def _check_cursor(resolver: Resolver, body: dict[str, Any], target: TargetItem) -> None:
    """Allow WHERE CURRENT OF, which can't be joined with a filter, where there is none: the server finds the row."""
    resolver.expect_fields("CurrentOfExpr", body, _CURRENT_OF_FIELDS)
    if target.relation.row_filter is not None:
        resolver.fail(
            Sqlstate.FEATURE_NOT_SUPPORTED,
            f'WHERE CURRENT OF is not supported for table "{target.relation.relation.name.name}", which is filtered',
            hint="Name the row by its key.",
        )


def add_insert(resolver: Resolver, body: dict[str, Any], scope: Scope, target: TargetItem) -> Write:
    """Note an INSERT for `finish_writes`."""
    made = Write(body, "whereClause", scope, target=target, is_filtered=False)
    resolver.conditions.append(made)
    return made


def finish_writes(resolver: Resolver) -> list[Write]:
    """Put the filters into the WHERE clauses; to be called after `fence.finish`. Return the writes of the statement."""
    writes = [condition for condition in resolver.conditions if isinstance(condition, Write)]
    for write in writes:
        if write.is_filtered:
            _write_where(resolver, write)
    return writes


def swallows_rows(writes: list[Write], body: dict[str, Any]) -> bool:
    """Whether the statement with this body gives rows only because of the check."""
    return any(write.holder is body and has_only_check(body) for write in writes)


def checked_table(writes: list[Write]) -> str | None:
    """Return the relation to be named when a check fails."""
    return next((write.target.relation.relation.name.name for write in writes if write.target is not None), None)


def own_filter(target: TargetItem) -> Node | None:
    """Write the row filter over the target; None when it sees every row."""
    row_filter = target.relation.row_filter
    return bind_row(row_filter, target.name) if row_filter is not None else None


def _write_where(resolver: Resolver, write: Write) -> None:
    target = write.target
    own = own_filter(target) if target is not None else None
    if target is None or own is None:
        return
    remaining = {id(node) for node in build.conjuncts(write.holder.get(write.key))}
    plain: list[Node] = []
    guarded: list[Node] = []
    for part in write.conjuncts:
        if id(part.node) in remaining:
            (guarded if fence.must_guard(part, resolver) else plain).append(part.node)
    conditions = [own, *plain]
    if guarded:
        conditions.append(build.case(copy_tree(own), build.all_of(*guarded), build.boolean(False)))
    write.holder[write.key] = build.all_of(*conditions)
    resolver.notes[f"{target.relation.relation.name}: row filter on the rows to be changed"] = None


def check_where(resolver: Resolver, body: dict[str, Any], target: TargetItem, command: str) -> None:
    """Refuse UPDATE or DELETE without a condition on anything, where the policy wants one.

    Raises FaucetError: 42501.
    """
    where = body.get("whereClause", {})
    if resolver.world.require_where and "CurrentOfExpr" not in where and not has_class(where, "ColumnRef"):
        name = target.relation.relation.name.name
        raise FaucetError(
            Sqlstate.INSUFFICIENT_PRIVILEGE,
            f"permission denied to {command} all rows of table {name}",
            hint=f"Add a WHERE clause: this role may not {command} every row at once.",
        )


def written_query(scope: Scope, found: Columns) -> Query:
    """Sum up a data-modifying statement: its rows are made before anyone reads them."""
    columns = [(name, facts.opaque(is_leakproof=True)) for name, facts in found]
    return Query(columns, outer=frozenset(scope.outer), is_clean=False, is_volatile=True)
