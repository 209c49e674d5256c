"""COPY ... FROM STDIN: straight into a table that the role may fill as it likes, else through a temporary one.

Rows that a policy has something to say about (a check, a preset, hidden columns) are copied into a table of the session's own and
inserted from there by an INSERT that is decided like any other: `new row violates ...` for the first row that does not pass, and
nothing stays of what was copied. All in one query string, so in one transaction.
"""

from __future__ import annotations

from collections import ChainMap
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.sql import build
from pgfaucet.sql.catalog import QualifiedName
from pgfaucet.sql.checks import takes_any_row
from pgfaucet.sql.copying import relation_to_copy
from pgfaucet.sql.definitions import SYSTEM_SCHEMAS, check_parts
from pgfaucet.sql.resolve import Resolver
from pgfaucet.sql.rewritten import Rewritten, Step
from pgfaucet.sql.target import check_action, find_written, is_in_sight
from pgfaucet.sql.tree import strings
from pgfaucet.sql.world import VisibleColumn, VisibleRelation

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.sql.rewritten import RewriteContext
    from pgfaucet.sql.world import Node

    RewriteQuery = Callable[[Node, RewriteContext], Rewritten]

STAGE: Final = QualifiedName("pg_temp", "pgf_copy")
OPTIONS: Final = frozenset(
    {"format", "delimiter", "null", "header", "quote", "escape", "force_not_null", "force_null", "encoding", "on_error", "log_verbosity", "reject_limit"}
)  # fmt: skip
_FIELDS: Final = frozenset({"relation", "attlist", "is_from", "options", "whereClause"})


def rewrite_copy_from(body: dict[str, Any], context: RewriteContext, rewrite_query: RewriteQuery) -> Rewritten:
    """Decide a COPY FROM STDIN.

    Raises FaucetError: 42P01, 42703, 42501, 0A000, 42601.
    """
    resolver = Resolver(context)
    resolver.expect_fields("CopyStmt", body, _FIELDS)
    _check_options(body)
    found = relation_to_copy(body, resolver)
    check_action(found, "insert")
    names = _columns(resolver, body, found)
    if takes_any_row(found) and "whereClause" not in body:
        return _straight(body, found, names)
    return _staged(body, context, found, names, rewrite_query)


def is_copied_whole(body: dict[str, Any], context: RewriteContext) -> bool:
    """Say whether a COPY of a table, either way, is about all its columns and rows, so that it may be sent as written."""
    found = relation_to_copy(body, Resolver(context))
    if found.relation.name.schema in SYSTEM_SCHEMAS or found.row_filter is not None:
        return False
    return takes_any_row(found) if body.get("is_from") else True


def rewrite_written_copy(stmt: Node, context: RewriteContext) -> Rewritten:
    """Decide a COPY for who sees everything and calls every function. Raises FaucetError: 42P01, 42501."""
    body = stmt["CopyStmt"]
    found = relation_to_copy(body, Resolver(context))
    check_parts("CopyStmt", body, "COPY", context.world)
    if body.get("is_from"):
        check_action(found, "insert")
    return Rewritten(stmt, "COPY", tables=(str(found.relation.name),), reasons=(found.grant_source,))


def _check_options(body: dict[str, Any]) -> None:
    for option in body.get("options", []):
        name = option["DefElem"]["defname"]
        if name not in OPTIONS:
            raise FaucetError(Sqlstate.FEATURE_NOT_SUPPORTED, f'COPY option "{name}" is not supported')


def _columns(resolver: Resolver, body: dict[str, Any], found: VisibleRelation) -> list[str]:
    """Return the columns that the rows have: those that are named, else all in sight, in the table's order; all must be open."""
    every = (name for name, column in found.columns.items() if is_in_sight(column) and not column.column.generated)
    names: list[str] = []
    for name in strings(body["attlist"]) if "attlist" in body else every:
        column = find_written(resolver, found, name, "insert", None)
        if column.column.generated:
            detail = "Generated columns cannot be used in COPY."
            raise FaucetError("42P10", f'column "{name}" is a generated column', detail=detail)
        if name in names:
            raise FaucetError("42701", f'column "{name}" specified more than once')
        names.append(name)
    return names


def _copy(body: dict[str, Any], into: QualifiedName, names: list[str]) -> Node:
    made: dict[str, Any] = {
        "relation": build.relation(*into)["RangeVar"],
        "attlist": [build.string(name) for name in names],
        "is_from": True,
    }
    if "options" in body:
        made["options"] = body["options"]
    return {"CopyStmt": made}


def _straight(body: dict[str, Any], found: VisibleRelation, names: list[str]) -> Rewritten:
    name = found.relation.name
    return Rewritten(_copy(body, name, names), "COPY", tables=(str(name),), reasons=(found.grant_source,))


def _staged(
    body: dict[str, Any], context: RewriteContext, found: VisibleRelation, names: list[str], rewrite_query: RewriteQuery
) -> Rewritten:
    inserted = rewrite_query(_insert(body, found, names), _with_stage(context, found, names))
    columns = [build.target(build.column(name)) for name in names]
    source = build.select(columns, fromClause=[build.relation(*found.relation.name)])
    stage = build.relation(*STAGE)["RangeVar"] | {"relpersistence": "t"}
    made = {
        "query": source,
        "into": {"rel": stage, "onCommit": "ONCOMMIT_DROP", "skipData": True},
        "objtype": "OBJECT_TABLE",
    }
    dropped = {
        "objects": [{"List": {"items": [build.string(part) for part in STAGE]}}],
        "removeType": "OBJECT_TABLE",
        "behavior": "DROP_RESTRICT",
    }
    steps = (
        Step({"CreateTableAsStmt": made}),
        Step(_copy(body, STAGE, names)),
        Step(inserted.tree, tag="COPY *", swallow_rows=True),
        Step({"DropStmt": dropped}),
    )
    tables = tuple(name for name in inserted.tables if name != str(STAGE))
    return replace(inserted, verb="COPY", tables=tables, steps=steps)


def _insert(body: dict[str, Any], found: VisibleRelation, names: list[str]) -> Node:
    """Write INSERT INTO the table SELECT from the stage, as a client might have; COPY overrides identities (copy.c)."""
    clauses: dict[str, Any] = {"fromClause": [build.relation(*STAGE)]}
    if "whereClause" in body:
        clauses["whereClause"] = body["whereClause"]
    made: dict[str, Any] = {
        "relation": build.relation(*found.relation.name)["RangeVar"],
        "cols": [{"ResTarget": {"name": name}} for name in names],
        "selectStmt": build.select([build.target(build.column(name)) for name in names], **clauses),
    }
    if any(found.columns[name].column.identity for name in names):
        made["override"] = "OVERRIDING_SYSTEM_VALUE"
    return {"InsertStmt": made}


def _with_stage(context: RewriteContext, found: VisibleRelation, names: list[str]) -> RewriteContext:
    """Return a context in which the temporary table exists too."""
    columns = {
        name: VisibleColumn(found.columns[name].column, is_readable=True, is_insertable=False, is_updatable=False)
        for name in names
    }
    relation = replace(found.relation, name=STAGE, oid=0, columns=tuple(column.column for column in columns.values()))
    stage = VisibleRelation(
        relation=relation,
        columns=columns,
        can_select=True,
        can_insert=False,
        can_update=False,
        can_delete=False,
        can_truncate=False,
        row_filter=None,
        check=None,
        grant_source="rows that COPY brings",
    )
    world = replace(context.world, relations=ChainMap({STAGE: stage}, context.world.relations))  # type: ignore[arg-type] # a Mapping
    return replace(context, world=world)
