"""COPY ... TO STDOUT: the query is rewritten, a table becomes the query of its visible columns. Files and programs are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.sql import build
from pgfaucet.sql.relations import find_relation
from pgfaucet.sql.resolve import Resolver
from pgfaucet.sql.tree import strings

if TYPE_CHECKING:
    from pgfaucet.sql.rewritten import RewriteContext
    from pgfaucet.sql.world import Node, VisibleRelation

OPTIONS: Final = frozenset({"format", "delimiter", "null", "header", "quote", "escape", "force_quote", "encoding"})
"""Those of COPY TO: they shape the output and name at most its columns."""

WRONG_OBJECT_TYPE: Final = "42809"
INVALID_COLUMN_REFERENCE: Final = "42P10"

_NOT_TABLES: Final = {"v": "view", "m": "materialized view", "f": "foreign table", "S": "sequence"}
_TRY_SELECT: Final = "Try the COPY (SELECT ...) TO variant."


def query_to_copy(body: dict[str, Any], context: RewriteContext) -> Node:
    """Return the query whose rows a COPY TO gives, not rewritten yet.

    Raises FaucetError: 42P01, 42703, 42501, 42809, 0A000 as the server would.
    """
    for option in body.get("options", []):
        if option["DefElem"]["defname"] not in OPTIONS:
            raise FaucetError(Sqlstate.SYNTAX_ERROR, f'option "{option["DefElem"]["defname"]}" not recognized')
    if "query" not in body:
        return _query_of_table(body, context)
    query: Node = body["query"]
    ((kind, inner),) = query.items()
    if "intoClause" in inner:
        raise FaucetError(Sqlstate.FEATURE_NOT_SUPPORTED, "COPY (SELECT INTO) is not supported")
    if kind != "SelectStmt" and "returningClause" not in inner and not context.world.may_define:
        raise FaucetError(Sqlstate.FEATURE_NOT_SUPPORTED, "COPY query must have a RETURNING clause")
    return query


def relation_to_copy(body: dict[str, Any], resolver: Resolver) -> VisibleRelation:
    """Find the relation that a COPY names; the server gives no position for one that does not exist."""
    named = {key: value for key, value in body["relation"].items() if key != "location"}
    return find_relation(resolver, named)


def refuse_files(body: dict[str, Any]) -> None:
    """Refuse COPY to and from files and programs of the server (42501)."""
    if body.get("is_program"):
        raise _denied("to or from an external program")
    if "filename" in body:
        raise _denied("to or from a file")


def _denied(what: str) -> FaucetError:
    return FaucetError(
        Sqlstate.INSUFFICIENT_PRIVILEGE,
        f"permission denied to COPY {what}",
        hint="COPY to STDOUT and from STDIN works over the client's own connection.",
    )


def _query_of_table(body: dict[str, Any], context: RewriteContext) -> Node:
    """As the server does under row security (copy.c, DoCopy): the named columns FROM ONLY the table."""
    found = relation_to_copy(body, Resolver(context))
    name = found.relation.name
    _check_kind(found)
    columns = _listed_columns(body["attlist"], found) if "attlist" in body else _all_columns(found)
    targets = [build.target(build.column(name.name, column), column) for column in columns]
    return build.select(targets, fromClause=[build.relation(name.schema, name.name, with_descendants=False)])


def _check_kind(found: VisibleRelation) -> None:
    name = found.relation.name.name
    if not found.can_select:
        raise FaucetError(Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied for table {name}")
    kind = _NOT_TABLES.get(found.relation.kind)
    if found.relation.kind == "p" and found.row_filter is None:
        kind = "partitioned table"
    if kind is not None:
        raise FaucetError(
            WRONG_OBJECT_TYPE, f'cannot copy from {kind} "{name}"', hint=_TRY_SELECT if kind != "sequence" else None
        )


def _all_columns(found: VisibleRelation) -> list[str]:
    """Without row security COPY leaves generated columns out; with it, it gives `SELECT *`."""
    return [
        name
        for name, column in found.columns.items()
        if column.is_readable and (found.row_filter is not None or not column.column.generated)
    ]


def _listed_columns(items: list[Node], found: VisibleRelation) -> list[str]:
    names: list[str] = strings(items)
    for name in names:
        column = found.columns.get(name)
        if column is None or not column.is_readable:
            table = found.relation.name.name
            raise FaucetError(Sqlstate.UNDEFINED_COLUMN, f'column "{name}" of relation "{table}" does not exist')
        if column.column.generated:
            message = f'column "{name}" is a generated column'
            raise FaucetError(INVALID_COLUMN_REFERENCE, message, detail="Generated columns cannot be used in COPY.")
    return names
