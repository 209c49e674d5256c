"""Temporary tables of a role that sees only a part: made of what it may read, and gone with its connection.

Every name is resolved as in a query; what stands in a temporary table is the session's own. Expressions, LIKE, INHERITS and references
to other tables are left to roles that may define anything (`sql.definitions`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.sql import fence
from pgfaucet.sql.command import command_of
from pgfaucet.sql.resolve import Resolver
from pgfaucet.sql.rewritten import RewriteContext, Rewritten
from pgfaucet.sql.scope import Scope
from pgfaucet.sql.tree import strings
from pgfaucet.sql.types import resolve_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.sql.world import Node

SCHEMA: Final = "pg_temp"
PIN: Final = "temporary object"

_TABLE_FIELDS: Final = frozenset({"relation", "tableElts", "oncommit", "if_not_exists"})
_COLUMN_FIELDS: Final = frozenset({"colname", "typeName", "is_local", "constraints", "location"})
_INTO_FIELDS: Final = frozenset({"rel", "colNames", "onCommit", "skipData"})
_INDEX_FIELDS: Final = frozenset(
    {"idxname", "relation", "accessMethod", "indexParams", "unique", "nulls_not_distinct", "if_not_exists"}
)
_ELEMENT_FIELDS: Final = frozenset({"name", "ordering", "nulls_ordering"})
_DROP_FIELDS: Final = frozenset({"objects", "removeType", "behavior", "missing_ok"})
_KEYS: Final = frozenset({"CONSTR_PRIMARY", "CONSTR_UNIQUE"})
_PLAIN: Final = _KEYS | {"CONSTR_NULL", "CONSTR_NOTNULL", "CONSTR_DEFAULT"}
_METHODS: Final = frozenset({"btree", "hash"})
_HINT: Final = "Of a temporary table this role may give names, types, NOT NULL, DEFAULT, PRIMARY KEY and UNIQUE."


def is_temporary(target: dict[str, Any]) -> bool:
    """Whether a RangeVar names a temporary relation that is to be made."""
    schema = target.get("schemaname")
    return schema == SCHEMA or (schema is None and target.get("relpersistence") == "t")


def check_into(into: dict[str, Any], verb: str) -> None:
    """Refuse what a query's target may not have. Raises FaucetError 42501."""
    _only(into, _INTO_FIELDS, verb)


def rewrite_temporary(stmt: Node, context: RewriteContext) -> Rewritten:
    """Decide CREATE TEMPORARY TABLE, and CREATE INDEX and DROP TABLE of temporary tables.

    Raises FaucetError: 42501, 42P01, and as expressions and types do.
    """
    ((kind, body),) = stmt.items()
    resolver = Resolver(context)
    _TEMPORARY[kind](resolver, body, command_of(stmt))
    return Rewritten(
        stmt,
        command_of(stmt),
        tables=tuple(sorted(resolver.tables)),
        reasons=('statement kind "temp"',),
        pin=PIN,
        changes_catalog=True,
    )


def _table(resolver: Resolver, body: dict[str, Any], verb: str) -> None:
    _only(body, _TABLE_FIELDS, verb)
    if not is_temporary(body["relation"]):
        _deny(verb, "Only temporary tables are open to this role.")
    resolver.tables.add(f"{SCHEMA}.{body['relation']['relname']}")
    for element in body.get("tableElts", ()):
        if "ColumnDef" in element:
            _column(resolver, element["ColumnDef"], verb)
        elif element.get("Constraint", {}).get("contype") not in _KEYS:
            _deny(verb, _HINT)


def _column(resolver: Resolver, body: dict[str, Any], verb: str) -> None:
    _only(body, _COLUMN_FIELDS, verb)
    resolve_type(resolver, body["typeName"])
    for node in body.get("constraints", ()):
        constraint = node["Constraint"]
        if constraint["contype"] not in _PLAIN:
            _deny(verb, _HINT)
        if "raw_expr" in constraint:
            resolver.value(constraint["raw_expr"], Scope(resolver.world))
            if resolver.relations:
                _deny(verb, _HINT)
            fence.finish(resolver)


def _index(resolver: Resolver, body: dict[str, Any], verb: str) -> None:
    _only(body, _INDEX_FIELDS, verb)
    _own(resolver, body["relation"], verb)
    if body.get("accessMethod", "btree") not in _METHODS:
        _deny(verb, "An index of this role is a plain one.")
    for node in body["indexParams"]:
        _only(node["IndexElem"], _ELEMENT_FIELDS, verb)


def _own(resolver: Resolver, target: dict[str, Any], verb: str) -> None:
    """Find a temporary table of the session's, and qualify its name."""
    found = resolver.world.lookup(target.get("schemaname"), target["relname"], resolver.context.search_path)
    if found is None:
        resolver.fail(
            Sqlstate.UNDEFINED_TABLE, f'relation "{target["relname"]}" does not exist', target.get("location")
        )
    if found.relation.name.schema != SCHEMA:
        _deny(verb, "Only temporary tables are open to this role.")
    target["schemaname"] = SCHEMA
    resolver.tables.add(str(found.relation.name))


def _drop(resolver: Resolver, body: dict[str, Any], verb: str) -> None:
    _only(body, _DROP_FIELDS, verb)
    if body.get("removeType") not in ("OBJECT_TABLE", "OBJECT_INDEX") or body.get("behavior") == "DROP_CASCADE":
        _deny(verb, "Only temporary tables are open to this role.")
    for node in body["objects"]:
        items: list[Node] = node["List"]["items"]
        names = strings(items)
        if len(names) > 1 and names[:-1] != [SCHEMA]:
            _deny(verb, "Only temporary tables are open to this role.")
        items[:] = [{"String": {"sval": SCHEMA}}, items[-1]]  # what isn't there does not exist for the server
        resolver.tables.add(f"{SCHEMA}.{names[-1]}")


_TEMPORARY: Final[dict[str, Callable[[Resolver, dict[str, Any], str], None]]] = {
    "CreateStmt": _table,
    "DropStmt": _drop,
    "IndexStmt": _index,
}
STATEMENTS: Final = frozenset(_TEMPORARY)


def _only(body: dict[str, Any], fields: frozenset[str], verb: str) -> None:
    if not body.keys() <= fields:
        _deny(verb, _HINT)


def _deny(verb: str, hint: str) -> NoReturn:
    raise FaucetError(Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied to execute {verb}", hint=hint, reason=hint)
