"""MERGE (RECIPES D6): the filter stands in ON, and before every arm for rows that no source row matches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.sql import build, from_clause, insert, returning, with_clause, writing
from pgfaucet.sql.assign import resolve_assignments
from pgfaucet.sql.checks import row_check
from pgfaucet.sql.expression import bind_row
from pgfaucet.sql.newrow import guard_new_row
from pgfaucet.sql.target import TargetItem, open_target

if TYPE_CHECKING:
    from pgfaucet.sql.query import Query
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Scope
    from pgfaucet.sql.world import Node

_FIELDS: Final = frozenset(
    {"relation", "sourceRelation", "joinCondition", "mergeWhenClauses", "returningClause", "withClause"}
)
_ARM_FIELDS: Final = frozenset({"matchKind", "commandType", "override", "condition", "targetList", "values"})
_ACTIONS: Final = {"CMD_INSERT": "insert", "CMD_UPDATE": "update", "CMD_DELETE": "delete"}
_BY_SOURCE: Final = "MERGE_WHEN_NOT_MATCHED_BY_SOURCE"
_BY_TARGET: Final = "MERGE_WHEN_NOT_MATCHED_BY_TARGET"
_MERGE_ACTION: Final = {"MergeSupportFunc": {"msftype": 25}}


def resolve_merge(resolver: Resolver, body: dict[str, Any], outer: Scope | None) -> Query:
    """Resolve a MergeStmt in place.

    Raises FaucetError: 42P01, 42703, 42501, 42601, 0A000.
    """
    resolver.expect_fields("MergeStmt", body, _FIELDS)
    scope = resolver.scope(outer)
    with_clause.resolve_with(resolver, body, scope)
    arms: list[dict[str, Any]] = [node["MergeWhenClause"] for node in body["mergeWhenClauses"]]
    _check_reachable(arms)
    actions = [_ACTIONS[arm["commandType"]] for arm in arms if arm["commandType"] in _ACTIONS]
    target = open_target(resolver, body["relation"], scope, actions or ("update",))
    scope.items.append(target)
    from_clause.resolve_from(resolver, [body["sourceRelation"]], scope)
    resolver.qualifies = True
    is_inner = all(arm["matchKind"] == "MERGE_WHEN_MATCHED" for arm in arms)
    writing.add_write(resolver, body, scope, target, "joinCondition", may_move=is_inner)
    check = row_check(target.relation, is_read=True)
    for arm in arms:
        _resolve_arm(resolver, arm, scope, target, check)
    found = returning.resolve_returning(resolver, body, scope, target)
    if check is not None and any(arm["commandType"] in ("CMD_INSERT", "CMD_UPDATE") for arm in arms):
        is_gone = build.operation(_MERGE_ACTION, "=", build.text("DELETE"))
        condition = build.case(is_gone, build.boolean(True), bind_row(check, target.name))
        returning.add_check(resolver, body, condition)
    return writing.written_query(scope, found)


def _check_reachable(arms: list[dict[str, Any]]) -> None:
    """Say what the server says of an arm behind one of its kind that takes every row: with a filter before it that isn't seen there."""
    ended: set[str] = set()
    for arm in arms:
        if arm["matchKind"] in ended:
            message = "unreachable WHEN clause specified after unconditional WHEN clause"
            raise FaucetError(Sqlstate.SYNTAX_ERROR, message)
        if "condition" not in arm:
            ended.add(arm["matchKind"])


def _resolve_arm(resolver: Resolver, arm: dict[str, Any], outer: Scope, target: TargetItem, check: Node | None) -> None:
    resolver.expect_fields("MergeWhenClause", arm, _ARM_FIELDS)
    scope = resolver.scope(outer.parent)
    scope.with_queries = outer.with_queries
    match arm["matchKind"]:
        case "MERGE_WHEN_MATCHED":
            scope.items = list(outer.items)
        case "MERGE_WHEN_NOT_MATCHED_BY_SOURCE":
            scope.items = [target]
        case "MERGE_WHEN_NOT_MATCHED_BY_TARGET":
            scope.items = [item for item in outer.items if item is not target]
        case _:
            resolver.refuse("MergeWhenClause.matchKind", arm)
    if "condition" in arm:
        resolver.value(arm["condition"], scope)
    own = writing.own_filter(target)
    if arm["matchKind"] == _BY_SOURCE and own is not None:
        arm["condition"] = build.case(own, arm.get("condition", build.boolean(True)), build.boolean(False))
    if arm["commandType"] == "CMD_UPDATE":
        row = resolve_assignments(resolver, arm["targetList"], scope, target)
        if check is not None:
            guard_new_row(row, check, may_be_volatile=False)
    elif arm["commandType"] == "CMD_INSERT":
        insert.resolve_merge_row(resolver, arm, scope, target, check)
