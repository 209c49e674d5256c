"""TRUNCATE, LOCK, CALL and DO: statements that a policy has to open."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NoReturn

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.sql import fence, functions, relations
from pgfaucet.sql.resolve import Resolver
from pgfaucet.sql.rewritten import RewriteContext, Rewritten
from pgfaucet.sql.scope import Scope

if TYPE_CHECKING:
    from pgfaucet.sql.world import Node, VisibleRelation

ROW_SHARE: Final = 2  # lockdefs.h


def rewrite_truncate(stmt: Node, context: RewriteContext) -> Rewritten:
    """Decide a TRUNCATE: of tables without a row filter only, since it takes every row.

    Raises FaucetError: 42P01, 42501.
    """
    body: dict[str, Any] = stmt["TruncateStmt"]
    resolver = Resolver(context)
    if body.get("behavior") == "DROP_CASCADE" and not context.world.sees_everything:
        raise FaucetError(
            Sqlstate.INSUFFICIENT_PRIVILEGE,
            "permission denied to execute TRUNCATE CASCADE",
            hint="Name every table.",
            reason="CASCADE reaches tables that are not named",
        )
    for node in body["relations"]:
        found = _qualified(resolver, node["RangeVar"])
        if not found.can_truncate or found.is_catalog:
            _deny(found, "truncate is not granted")
        if found.row_filter is not None:
            _deny(found, "TRUNCATE takes rows outside the row filter too", hint="Use DELETE.")
    return _rewritten(stmt, "TRUNCATE TABLE", resolver)


def rewrite_lock(stmt: Node, context: RewriteContext) -> Rewritten:
    """Decide a LOCK TABLE: who may only read takes the locks of readers (as lockcmds.c, LockTableAclCheck).

    Raises FaucetError: 42P01, 42501.
    """
    body: dict[str, Any] = stmt["LockStmt"]
    resolver = Resolver(context)
    for node in body["relations"]:
        found = _qualified(resolver, node["RangeVar"])
        writes = found.can_insert or found.can_update or found.can_delete or found.can_truncate
        if found.is_catalog or not (writes or (found.can_select and body["mode"] <= ROW_SHARE)):
            _deny(found, "LOCK needs a granted verb that takes such a lock")
    return _rewritten(stmt, "LOCK TABLE", resolver)


def rewrite_call(stmt: Node, context: RewriteContext) -> Rewritten:
    """Decide a CALL of a granted procedure.

    Raises FaucetError: 42501, and as any expression does.
    """
    body: dict[str, Any] = stmt["CallStmt"]
    resolver = Resolver(context)
    node: Node = {"FuncCall": body["funccall"]}
    functions.resolve_call(resolver, node, body["funccall"], Scope(context.world))
    if "FuncCall" not in node:
        raise FaucetError(Sqlstate.INSUFFICIENT_PRIVILEGE, "permission denied to execute CALL of a built-in function")
    if resolver.relations:
        raise FaucetError(Sqlstate.FEATURE_NOT_SUPPORTED, "cannot use subquery in CALL argument")
    fence.finish(resolver)
    body["funccall"] = node["FuncCall"]
    return replace(_rewritten(stmt, "CALL", resolver), changes_catalog=context.world.may_define)


def rewrite_do(stmt: Node, context: RewriteContext) -> Rewritten:
    """Forward a DO block, whose text is not looked into: only for a role from which nothing is hidden.

    Raises FaucetError: 42501.
    """
    if not context.world.sees_everything:
        raise FaucetError(
            Sqlstate.INSUFFICIENT_PRIVILEGE,
            "permission denied to execute DO",
            reason="a DO block could reach what the policy hides",
        )
    # it may leave anything behind
    return replace(_rewritten(stmt, "DO", Resolver(context)), pin="DO", changes_catalog=True)


def _qualified(resolver: Resolver, body: dict[str, Any]) -> VisibleRelation:
    found = relations.find_relation(resolver, body)
    body["schemaname"], body["relname"] = found.relation.name
    body.pop("catalogname", None)
    resolver.tables.add(str(found.relation.name))
    return found


def _rewritten(stmt: Node, verb: str, resolver: Resolver) -> Rewritten:
    notes = tuple(resolver.notes)
    return Rewritten(
        stmt, verb, tables=tuple(sorted(resolver.tables)), reasons=notes, settings=tuple(resolver.settings)
    )


def _deny(found: VisibleRelation, reason: str, hint: str | None = None) -> NoReturn:
    raise FaucetError(
        Sqlstate.INSUFFICIENT_PRIVILEGE,
        f"permission denied for table {found.relation.name.name}",
        hint=hint,
        reason=reason,
    )
