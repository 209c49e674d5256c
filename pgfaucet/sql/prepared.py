"""PREPARE and EXECUTE: the names are the session's, what stands behind them is prepared upstream under names of our own.

PREPARE's statement is decided like any other, from its text; EXECUTE's arguments are expressions of the client's, resolved here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
from pglast.parser import ParseError, parse_sql_json, scan

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.plan import StatementKind
from pgfaucet.sql import build, fence, types
from pgfaucet.sql.printer import is_same, print_statement
from pgfaucet.sql.resolve import Resolver
from pgfaucet.sql.rewritten import Inner, RewriteContext, Rewritten
from pgfaucet.sql.scope import Scope

if TYPE_CHECKING:
    from pgfaucet.sql.world import Node

EXECUTED: Final = "pgf_execute"
"""Stands in an EXECUTE for the name that the statement has upstream, which the session knows."""

MAX_ARGUMENTS: Final = 100


def rewrite_prepare(stmt: Node, context: RewriteContext) -> Rewritten:
    """Take a PREPARE apart: what it prepares is decided on its own. Raises FaucetError for types that the role may not name."""
    body: dict[str, Any] = stmt["PrepareStmt"]
    resolver = Resolver(context)
    find = types.find_oid if context.forwards else types.resolve_type
    oids = tuple(find(resolver, argument["TypeName"]) for argument in body.get("argtypes", ()))
    return Rewritten(
        build.select([]),
        "PREPARE",
        kind=StatementKind.PREPARE,
        name=body["name"],
        tag="PREPARE",
        inner=Inner(_text_of(body["query"], context.text), oids),
    )


def _text_of(query: Node, text: str) -> str:
    """Return the query of a PREPARE as the client wrote it, or printed where the text has other statements too."""
    start = next((token.end + 1 for token in scan(text) if token.name == "AS"), len(text))
    written = text[start:].strip().removesuffix(";")
    try:
        parsed = [raw["stmt"] for raw in orjson.loads(parse_sql_json(written))["stmts"]]
    except (ParseError, ValueError):
        parsed = []
    return written if len(parsed) == 1 and is_same([query], parsed) else print_statement(query)


def executed_in(stmt: Node) -> Node | None:
    """Return the EXECUTE in an EXPLAIN or a CREATE TABLE AS."""
    ((kind, body),) = stmt.items()
    if kind == "ExecuteStmt":
        return stmt
    return executed_in(body["query"]) if kind in _WITH_QUERY else None


_WITH_QUERY: Final = frozenset({"ExplainStmt", "CreateTableAsStmt"})


def forward_execute(stmt: Node, verb: str) -> Rewritten:
    """Put the name that the statement has upstream into an EXECUTE, or a statement around one, of which nothing is judged."""
    found = executed_in(stmt)
    if found is None:
        raise FaucetError(Sqlstate.INTERNAL_ERROR, "no EXECUTE to forward")
    body = found["ExecuteStmt"]
    name = body["name"]
    body["name"] = EXECUTED
    return Rewritten(stmt, verb, kind=StatementKind.EXECUTE, name=name, reasons=("access: full",))


def rewrite_execute(stmt: Node, context: RewriteContext) -> Rewritten:
    """Resolve the arguments of an EXECUTE. Raises FaucetError as any expression does."""
    body: dict[str, Any] = stmt["ExecuteStmt"]
    arguments = body.get("params", [])
    if len(arguments) > MAX_ARGUMENTS:
        raise FaucetError("54023", f"cannot pass more than {MAX_ARGUMENTS} arguments to a prepared statement")
    resolver = Resolver(context)
    scope = Scope(context.world)
    for argument in arguments:
        resolver.expression(argument, scope)
    if resolver.relations or scope.has_aggregate:
        raise FaucetError(Sqlstate.FEATURE_NOT_SUPPORTED, "cannot use subquery in EXECUTE parameter")
    fence.finish(resolver)
    return Rewritten(
        {"ExecuteStmt": body | {"name": EXECUTED}},
        "EXECUTE",
        kind=StatementKind.EXECUTE,
        name=body["name"],
        settings=tuple(resolver.settings),
    )
