"""Every statement that is not a query or a write, decided on purpose.

STATEMENTS says who decides which; a statement that is not in it is refused. An entry with `needs` is open only to roles whose policy
opens that statement kind (CONTRACT section 3, `statements`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.plan import StatementKind
from pgfaucet.sql import build, temporary
from pgfaucet.sql.command import CURSOR_HOLD, command_of
from pgfaucet.sql.command import observe_statement as observe_statement  # noqa: PLC0414 - the guard takes it from here
from pgfaucet.sql.copy_from import is_copied_whole, rewrite_copy_from, rewrite_written_copy
from pgfaucet.sql.copying import query_to_copy, refuse_files
from pgfaucet.sql.definitions import DEFINITIONS, rewrite_definition, rewrite_select_into, rewrite_table_as
from pgfaucet.sql.explaining import EXPLAINED, explain_options
from pgfaucet.sql.prepared import executed_in, forward_execute, rewrite_execute, rewrite_prepare
from pgfaucet.sql.resolve import Resolver
from pgfaucet.sql.rewritten import RewriteContext, RewriteQuery, Rewritten
from pgfaucet.sql.table_commands import rewrite_call, rewrite_do, rewrite_lock, rewrite_truncate
from pgfaucet.sql.variables import check_transaction_options, rewrite_set, rewrite_show

if TYPE_CHECKING:
    from pgfaucet.sql.world import Node

Handler = Callable[["Node", RewriteContext, RewriteQuery], Rewritten]


@dataclass(frozen=True, slots=True)
class Utility:
    """Who decides a statement class, and which statement kind opens it."""

    handler: Handler
    needs: str | None = None


def rewrite_utility(stmt: Node, context: RewriteContext, rewrite_query: RewriteQuery) -> Rewritten:
    """Decide a statement that is not a query or a write.

    Raises FaucetError: 42501 for every statement that is not open to the role.
    """
    if context.forwards and executed_in(stmt) is not None:
        return forward_execute(stmt, command_of(stmt))
    ((kind, _),) = stmt.items()
    if kind in DEFINITIONS:
        return _define(stmt, context)
    entry = STATEMENTS.get(kind)
    if entry is None or (entry.needs is not None and entry.needs not in context.world.statements):
        raise refused(command_of(stmt))
    if kind in _MADE_ANEW:
        Resolver(context).expect_fields(kind, stmt[kind], _MADE_ANEW[kind])
    return entry.handler(stmt, context, rewrite_query)


def _define(stmt: Node, context: RewriteContext) -> Rewritten:
    world = context.world
    if not world.may_define and "temp" in world.statements and not temporary.STATEMENTS.isdisjoint(stmt):
        return temporary.rewrite_temporary(stmt, context)
    return rewrite_definition(stmt, context)


_MADE_ANEW: Final = {
    "CopyStmt": frozenset(
        {"relation", "query", "attlist", "is_from", "is_program", "filename", "options", "whereClause"}
    ),
    "DeallocateStmt": frozenset({"name", "isall", "location"}),
    "ExplainStmt": frozenset({"query", "options"}),
    "PrepareStmt": frozenset({"name", "argtypes", "query"}),
    "VariableSetStmt": frozenset({"kind", "name", "args", "is_local", "jumble_args", "location"}),
    "VariableShowStmt": frozenset({"name"}),
}
"""Statements that are sent as others, with the fields that are known; of those that are sent as they are, the printer knows them."""


def refused(command: str) -> FaucetError:
    """Word the refusal of a statement kind."""
    return FaucetError(Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied to execute {command}")


def _transaction(stmt: Node, context: RewriteContext, _: RewriteQuery) -> Rewritten:
    body: dict[str, Any] = stmt["TransactionStmt"]
    kind = body["kind"]
    verb = command_of(stmt)
    is_two_phase = kind.endswith(("_PREPARED", "_PREPARE"))
    if is_two_phase and "two_phase" not in context.world.statements:
        raise refused(verb)
    check_transaction_options(body.get("options", []), context.world)
    sees_more = (
        is_two_phase and context.world.may_define
    )  # what was defined goes with the transaction, or comes with it
    return Rewritten(
        stmt, verb, kind=StatementKind.TRANSACTION, changes_catalog=sees_more, reasons=("transaction control",)
    )


def _declare(stmt: Node, context: RewriteContext, rewrite_query: RewriteQuery) -> Rewritten:
    body: dict[str, Any] = stmt["DeclareCursorStmt"]
    inner = rewrite_query(body["query"], context)
    pin = "WITH HOLD cursor" if body.get("options", 0) & CURSOR_HOLD else None
    return replace(
        inner,
        tree={"DeclareCursorStmt": body | {"query": inner.tree}},
        verb="DECLARE CURSOR",
        name=body.get("portalname"),
        pin=pin or inner.pin,
        tag=None,
    )


def _as_written(stmt: Node, context: RewriteContext, _: RewriteQuery) -> Rewritten:  # noqa: ARG001 - a Handler
    """Forward what names nothing but the session's own things: cursors, channels."""
    name = stmt.get("FetchStmt", {}).get("portalname")
    return Rewritten(stmt, command_of(stmt), name=name, reasons=("open to every role",))


def _set(stmt: Node, context: RewriteContext, _: RewriteQuery) -> Rewritten:
    return rewrite_set(stmt, context)


def _show(stmt: Node, context: RewriteContext, _: RewriteQuery) -> Rewritten:
    return rewrite_show(stmt, context)


def _constraints(stmt: Node, context: RewriteContext, _: RewriteQuery) -> Rewritten:
    if "constraints" in stmt["ConstraintsSetStmt"] and not context.world.may_define:
        raise FaucetError(
            Sqlstate.INSUFFICIENT_PRIVILEGE,
            "permission denied to execute SET CONSTRAINTS for named constraints",
            hint="SET CONSTRAINTS ALL is open to every role.",
        )
    return Rewritten(stmt, "SET CONSTRAINTS", reasons=("open to every role",))


def _deallocate(stmt: Node, context: RewriteContext, _: RewriteQuery) -> Rewritten:  # noqa: ARG001 - a Handler
    """The names are the session's: on the server there is nothing under them, and nothing to do."""
    name = stmt["DeallocateStmt"].get("name")
    return Rewritten(
        build.select([]),
        "DEALLOCATE",
        kind=StatementKind.DEALLOCATE,
        name=name,
        tag="DEALLOCATE" if name is not None else "DEALLOCATE ALL",
        swallow_rows=True,
        reasons=("open to every role",),
    )


def _discard(stmt: Node, context: RewriteContext, _: RewriteQuery) -> Rewritten:  # noqa: ARG001 - a Handler
    """DISCARD ALL goes upstream as it is: in a transaction block it has to fail there (25001)."""
    is_all = stmt["DiscardStmt"]["target"] == "DISCARD_ALL"
    kind = StatementKind.DISCARD_ALL if is_all else StatementKind.ORDINARY
    return Rewritten(stmt, "DISCARD", kind=kind, reasons=("open to every role",))


def _copy(stmt: Node, context: RewriteContext, rewrite_query: RewriteQuery) -> Rewritten:
    body: dict[str, Any] = stmt["CopyStmt"]
    refuse_files(body)
    if context.world.may_define and "relation" in body and is_copied_whole(body, context):
        return rewrite_written_copy(stmt, context)
    if body.get("is_from"):
        return rewrite_copy_from(body, context, rewrite_query)
    inner = rewrite_query(query_to_copy(body, context), context)
    made: dict[str, Any] = {"query": inner.tree}
    if "options" in body:
        made["options"] = body["options"]
    return replace(inner, tree={"CopyStmt": made}, verb="COPY", tag=None)


def _explain(stmt: Node, context: RewriteContext, rewrite_query: RewriteQuery) -> Rewritten:
    body: dict[str, Any] = stmt["ExplainStmt"]
    query: Node = body["query"]
    ((kind, _),) = query.items()
    explain_options([], (), context.world)
    if kind == "ExecuteStmt":
        return _explained(body, rewrite_execute(query, context), context.executed, context)
    if kind == "CreateTableAsStmt":
        inner = rewrite_table_as(query, context, rewrite_query)
        executed = context.executed if inner.kind is StatementKind.EXECUTE else inner.tables
        return _explained(body, inner, executed, context)
    if kind == "DeclareCursorStmt":
        inner = replace(_declare(query, context, rewrite_query), pin=None, name=None)
        return _explained(body, inner, inner.tables, context)
    if "intoClause" in query[kind]:
        inner = rewrite_select_into(query, context, rewrite_query)
        return _explained(body, inner, inner.tables, context)
    if kind not in EXPLAINED:
        raise refused(f"EXPLAIN of {command_of(query)}")
    inner = rewrite_query(query, context)
    return _explained(body, inner, inner.tables, context)


def _explained(body: dict[str, Any], inner: Rewritten, tables: tuple[str, ...], context: RewriteContext) -> Rewritten:
    made: dict[str, Any] = {"query": inner.tree}
    options = explain_options(body.get("options", []), tables, context.world)
    if options:
        made["options"] = options
    return replace(inner, tree={"ExplainStmt": made}, verb="EXPLAIN", tag=None, swallow_rows=False)


def _prepare(stmt: Node, context: RewriteContext, _: RewriteQuery) -> Rewritten:
    return rewrite_prepare(stmt, context)


def _execute(stmt: Node, context: RewriteContext, _: RewriteQuery) -> Rewritten:
    return rewrite_execute(stmt, context)


def _listen(stmt: Node, context: RewriteContext, _: RewriteQuery) -> Rewritten:  # noqa: ARG001 - a Handler
    return Rewritten(stmt, "LISTEN", pin="LISTEN", reasons=('statement kind "listen"',))


STATEMENTS: Final[dict[str, Utility]] = {
    "TransactionStmt": Utility(_transaction),
    "DeclareCursorStmt": Utility(_declare),
    "FetchStmt": Utility(_as_written),
    "ClosePortalStmt": Utility(_as_written),
    "VariableSetStmt": Utility(_set),
    "VariableShowStmt": Utility(_show),
    "ConstraintsSetStmt": Utility(_constraints),
    "DeallocateStmt": Utility(_deallocate),
    "DiscardStmt": Utility(_discard),
    "CopyStmt": Utility(_copy),
    "CreateTableAsStmt": Utility(rewrite_table_as),
    "ExplainStmt": Utility(_explain),
    "PrepareStmt": Utility(_prepare),
    "ExecuteStmt": Utility(_execute),
    "UnlistenStmt": Utility(_as_written),
    "ListenStmt": Utility(_listen, needs="listen"),
    "NotifyStmt": Utility(_as_written, needs="listen"),
    "TruncateStmt": Utility(lambda stmt, context, _: rewrite_truncate(stmt, context)),
    "LockStmt": Utility(lambda stmt, context, _: rewrite_lock(stmt, context), needs="lock"),
    "CallStmt": Utility(lambda stmt, context, _: rewrite_call(stmt, context), needs="call"),
    "DoStmt": Utility(lambda stmt, context, _: rewrite_do(stmt, context), needs="do"),
}
