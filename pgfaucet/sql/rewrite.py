"""Decides and rewrites one statement: the door to everything in `sql`.

Pure: no I/O, no clock. The tree that is given may be changed; what comes back is to be printed and verified before it is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.sql import dml, fence, registered, targets, writing
from pgfaucet.sql.command import command_of
from pgfaucet.sql.definitions import rewrite_select_into
from pgfaucet.sql.resolve import Resolver
from pgfaucet.sql.rewritten import RewriteContext, Rewritten
from pgfaucet.sql.utility import rewrite_utility

if TYPE_CHECKING:
    from pgfaucet.sql.world import Node

__all__ = ["RewriteContext", "Rewritten", "rewrite_query", "rewrite_statement"]


def rewrite_statement(stmt: Node, context: RewriteContext) -> Rewritten:
    """Decide any statement.

    Raises FaucetError when it is refused: 42P01, 42703, 42501, 0A000, 54001 and other codes of name resolution.
    """
    if "intoClause" in stmt.get("SelectStmt", {}):
        return rewrite_select_into(stmt, context, rewrite_query)
    if is_query(stmt):
        return rewrite_query(stmt, context)
    return rewrite_utility(stmt, context, rewrite_query)


def is_query(stmt: Node) -> bool:
    """Say whether a statement is SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE or MERGE."""
    return stmt.keys() <= Resolver.statements.keys()


def rewrite_query(stmt: Node, context: RewriteContext) -> Rewritten:
    """Decide SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE or MERGE.

    Raises FaucetError when it is refused.
    """
    try:
        return _rewrite(stmt, context)
    except RecursionError:
        raise FaucetError(Sqlstate.STATEMENT_TOO_COMPLEX, "stack depth limit exceeded") from None


def _rewrite(stmt: Node, context: RewriteContext) -> Rewritten:
    resolver = Resolver(context)
    resolver.query(stmt, None)
    if "SelectStmt" in stmt:
        targets.refuse_narrow_rows(resolver, stmt["SelectStmt"])
    registered.show_output(resolver, stmt)
    fence.finish(resolver)
    fence.check_relations(resolver, stmt)
    writes = writing.finish_writes(resolver)
    ((_, body),) = stmt.items()
    return Rewritten(
        stmt,
        command_of(stmt),
        tables=tuple(sorted(resolver.tables)),
        reasons=tuple(resolver.notes),
        settings=tuple(resolver.settings),
        pin=resolver.pin,
        swallow_rows=writing.swallows_rows(writes, body),
        check_table=writing.checked_table(writes),
    )


Resolver.statements.update(dml.STATEMENTS)
