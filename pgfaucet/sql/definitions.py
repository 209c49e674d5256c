"""DDL: statements that define objects, for a role from which nothing is hidden and which may call every function (`World.may_define`).

The server finds the names in them: such a role has its search_path on the server. What is looked for here is what would open more than the
role has: a function that is closed, called or under another name (an operator, a cast, a renamed function: these need `do` as well, which
runs any text), a catalog behind a view, another server, a file, another database, a role. What is listed nowhere is refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import FaucetError, Sqlstate
from pgfaucet.sql import temporary
from pgfaucet.sql.builtins import FunctionClass, classify, is_type_allowed
from pgfaucet.sql.catalog import QualifiedName
from pgfaucet.sql.command import command_of, observe_statement, tables_named
from pgfaucet.sql.prepared import rewrite_execute
from pgfaucet.sql.rewritten import RewriteContext, Rewritten
from pgfaucet.sql.tree import strings, walk

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.sql.rewritten import RewriteQuery
    from pgfaucet.sql.world import Node, World

DDL: Final = frozenset({"ddl"})
NAMES_FUNCTIONS: Final = frozenset({"ddl", "do"})
"""For what runs text of its own, or puts a function under another name."""

DEFINITIONS: Final[dict[str, frozenset[str]]] = {
    "AlterCollationStmt": DDL,
    "AlterDefaultPrivilegesStmt": DDL,
    "AlterDomainStmt": DDL,
    "AlterEnumStmt": DDL,
    "AlterEventTrigStmt": NAMES_FUNCTIONS,
    "AlterFunctionStmt": NAMES_FUNCTIONS,
    "AlterObjectDependsStmt": DDL,
    "AlterObjectSchemaStmt": DDL,
    "AlterOperatorStmt": NAMES_FUNCTIONS,
    "AlterOpFamilyStmt": NAMES_FUNCTIONS,
    "AlterOwnerStmt": DDL,
    "AlterPolicyStmt": DDL,
    "AlterSeqStmt": DDL,
    "AlterStatsStmt": DDL,
    "AlterTableStmt": DDL,
    "AlterTSConfigurationStmt": DDL,
    "AlterTSDictionaryStmt": DDL,
    "AlterTypeStmt": NAMES_FUNCTIONS,
    "ClusterStmt": DDL,
    "CommentStmt": DDL,
    "CompositeTypeStmt": DDL,
    "CreateCastStmt": NAMES_FUNCTIONS,
    "CreateConversionStmt": NAMES_FUNCTIONS,
    "CreateDomainStmt": DDL,
    "CreateEnumStmt": DDL,
    "CreateEventTrigStmt": NAMES_FUNCTIONS,
    "CreateExtensionStmt": DDL,
    "CreateFunctionStmt": NAMES_FUNCTIONS,
    "CreateOpClassStmt": NAMES_FUNCTIONS,
    "CreateOpFamilyStmt": NAMES_FUNCTIONS,
    "CreatePolicyStmt": DDL,
    "CreateRangeStmt": NAMES_FUNCTIONS,
    "CreateSchemaStmt": DDL,
    "CreateSeqStmt": DDL,
    "CreateStatsStmt": DDL,
    "CreateStmt": DDL,
    "CreateTransformStmt": NAMES_FUNCTIONS,
    "CreateTrigStmt": DDL,
    "DefineStmt": DDL,
    "DropStmt": DDL,
    "GrantStmt": DDL,
    "IndexStmt": DDL,
    "RefreshMatViewStmt": DDL,
    "ReindexStmt": DDL,
    "RenameStmt": DDL,
    "ReplicaIdentityStmt": DDL,
    "RuleStmt": DDL,
    "VacuumStmt": DDL,
    "ViewStmt": DDL,
}
"""Which statement kinds a policy has to open for which class of statement."""

SYSTEM_SCHEMAS: Final = frozenset({"pg_catalog", "information_schema", "pg_toast"})
TRUSTED_EXTENSIONS: Final = frozenset(
    {
        "bloom",
        "btree_gin",
        "btree_gist",
        "citext",
        "cube",
        "dict_int",
        "earthdistance",
        "fuzzystrmatch",
        "hstore",
        "intarray",
        "isn",
        "lo",
        "ltree",
        "pg_trgm",
        "pgcrypto",
        "plpgsql",
        "seg",
        "tcn",
        "tsm_system_rows",
        "tsm_system_time",
        "unaccent",
        "uuid-ossp",
        "vector",
    }
)
"""Extensions that only compute (most are `trusted` to the server too). Not tablefunc, which runs SQL text; not what reaches elsewhere."""

_OBJECT_KINDS: Final = ("objtype", "objectType", "removeType", "renameType", "kind")
_ELSEWHERE: Final = frozenset(
    {
        "OBJECT_ACCESS_METHOD",
        "OBJECT_DATABASE",
        "OBJECT_FDW",
        "OBJECT_FOREIGN_SERVER",
        "OBJECT_FOREIGN_TABLE",
        "OBJECT_LANGUAGE",
        "OBJECT_PARAMETER_ACL",
        "OBJECT_PUBLICATION",
        "OBJECT_PUBLICATION_NAMESPACE",
        "OBJECT_PUBLICATION_REL",
        "OBJECT_ROLE",
        "OBJECT_SUBSCRIPTION",
        "OBJECT_TABLESPACE",
        "OBJECT_USER_MAPPING",
    }
)
"""Kinds of objects that are not the database's own, or reach out of it."""

_FUNCTION_KINDS: Final = frozenset(
    {
        "OBJECT_AGGREGATE",
        "OBJECT_CAST",
        "OBJECT_CONVERSION",
        "OBJECT_EVENT_TRIGGER",
        "OBJECT_FUNCTION",
        "OBJECT_OPCLASS",
        "OBJECT_OPERATOR",
        "OBJECT_OPFAMILY",
        "OBJECT_PROCEDURE",
        "OBJECT_ROUTINE",
        "OBJECT_TRANSFORM",
        "OBJECT_TSPARSER",
        "OBJECT_TSTEMPLATE",
    }
)
_GIVES_NAMES: Final = frozenset({"AlterObjectSchemaStmt", "DefineStmt", "RenameStmt"})
"""Statements that, for such a kind of object, put a function under a name of the client's."""

_QUERIES: Final = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})


def rewrite_definition(stmt: Node, context: RewriteContext) -> Rewritten:
    """Decide a DDL statement; it is sent as it is written.

    Raises FaucetError: 42501.
    """
    ((kind, body),) = stmt.items()
    world = context.world
    verb = command_of(stmt)
    check_may_define(verb, world)
    objects = {body.get(field) for field in _OBJECT_KINDS}
    needs = DEFINITIONS[kind]
    is_base_type = kind == "DefineStmt" and "OBJECT_TYPE" in objects
    if is_base_type or (kind in _GIVES_NAMES and not objects.isdisjoint(_FUNCTION_KINDS)):
        needs = NAMES_FUNCTIONS
    if not needs <= world.statements:
        raise denied(verb, "It can run text that is not looked into: the policy has to open the statement kind do too.")
    if not objects.isdisjoint(_ELSEWHERE):
        raise denied(verb, "No statement kind opens what is not the database's own.")
    check_parts(kind, body, verb, world)
    return Rewritten(
        stmt,
        verb,
        tables=tables_named(stmt),
        reasons=('statement kind "ddl"',),
        pin=_pin(stmt, context),
        changes_catalog=True,
    )


def check_may_define(verb: str, world: World) -> None:
    """Refuse DDL to a role that does not have all that a definition could reach. Raises FaucetError 42501."""
    if "ddl" not in world.statements:
        raise FaucetError(Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied to execute {verb}")
    if not world.may_define:
        raise denied(
            verb,
            'DDL is for roles that select from every table ("*") without row_filter and mask, and call every function ("*").',
        )


def denied(verb: str, hint: str) -> FaucetError:
    """Word the refusal of a statement."""
    return FaucetError(Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied to execute {verb}", hint=hint, reason=hint)


def _pin(stmt: Node, context: RewriteContext) -> str | None:
    """Say why the connection has to stay with the client: temporary objects live on it. Raises FaucetError 42501."""
    is_named = any(temporary.SCHEMA in (node.get("schemaname"), node.get("sval")) for node in walk(stmt))
    is_temporary = is_named or context.search_path[:1] == (temporary.SCHEMA,)
    pin = observe_statement(stmt).pin or (temporary.PIN if is_temporary else None)
    if pin is not None and "temp" not in context.world.statements:
        raise denied(command_of(stmt), "The policy does not open the statement kind temp.")
    return pin


# -- what a definition may name ----------------------------------------------------------------------------------------------------


def check_parts(kind: str, body: dict[str, Any], verb: str, world: World) -> None:
    """Check every name in a statement that is sent as written. Raises FaucetError 42501."""
    if kind == "CreateExtensionStmt" and body["extname"] not in TRUSTED_EXTENSIONS:
        raise denied(verb, "Only extensions that do nothing but compute are open.")
    if kind == "CreateTrigStmt":
        check_function(strings(body["funcname"]), verb, world)
    if kind == "GrantStmt" and body.get("targtype") != "ACL_TARGET_OBJECT":
        for name in body.get("objects", ()):
            _check_schema(name.get("String", {}).get("sval"), verb)
    for node in walk(body):
        for found, check in _CHECKS.items():
            if found in node:
                check(node[found], verb, world)
        if "relname" in node and "relpersistence" in node:
            check_relation(node, verb, world)
        if len(node) == 1 and next(iter(node)).endswith("Stmt"):
            _check_inner(next(iter(node)), verb)


def _check_inner(kind: str, verb: str) -> None:
    """What stands inside CREATE SCHEMA, a rule or a function is a query, or DDL of the plain kind."""
    if kind not in _QUERIES and kind not in ("ReturnStmt", "NotifyStmt") and DEFINITIONS.get(kind) != DDL:
        raise denied(verb, "A statement in it is not open.")


def check_relation(body: dict[str, Any], verb: str, world: World) -> None:
    """Refuse a catalog: through a view or a grant it would show everything. Raises FaucetError 42501."""
    schema, name = body.get("schemaname"), body["relname"]
    _check_schema(schema, verb)
    if schema is None and QualifiedName("pg_catalog", name) in world.catalog.relations:
        raise denied(verb, f'"{name}" is a catalog: give the schema if another table is meant.')


def _check_schema(schema: str | None, verb: str) -> None:
    if schema in SYSTEM_SCHEMAS:
        raise denied(verb, f'The schema "{schema}" is the server\'s.')


def _check_call(body: dict[str, Any], verb: str, world: World) -> None:
    check_function(strings(body["funcname"]), verb, world)


def _check_object(body: dict[str, Any], verb: str, world: World) -> None:
    names = strings(body["objname"])
    if names[-1] in world.catalog.system_functions or names[0] not in SYSTEM_SCHEMAS:
        check_function(names, verb, world)


def check_function(names: list[str], verb: str, world: World) -> None:
    """Refuse a function that the role may not call, also by a name that stands for several. Raises FaucetError 42501."""
    schema = names[-2] if len(names) > 1 else None
    name = names[-1]
    catalog = world.catalog
    is_known = True
    if schema in (None, "pg_catalog"):
        if name in catalog.system_functions:
            is_known = classify(name) is FunctionClass.SAFE or name in world.system_functions
        elif schema is not None:
            is_known = is_type_allowed(name)
    elif schema == "information_schema":
        is_known = name == "_pg_expandarray"
    named = (found for found in catalog.functions if found.name == name and schema in (None, found.schema))
    is_open = all(len(world.functions.get(found, ())) == len(catalog.functions[found]) for found in named)
    if not is_known or not is_open:
        raise FaucetError(
            Sqlstate.INSUFFICIENT_PRIVILEGE,
            f"permission denied for function {'.'.join(names)}",
            reason=f"{verb} names a function that is never opened",
        )


_CHECKS: Final[dict[str, Callable[[dict[str, Any], str, World], None]]] = {
    "FuncCall": _check_call,
    "ObjectWithArgs": _check_object,
}


# -- tables out of queries ---------------------------------------------------------------------------------------------------------


def rewrite_table_as(stmt: Node, context: RewriteContext, rewrite_query: RewriteQuery) -> Rewritten:
    """Decide CREATE TABLE AS, whose query is rewritten like any other, and CREATE MATERIALIZED VIEW, which is sent as written.

    Raises FaucetError: 42501, 0A000, and as the query does.
    """
    body: dict[str, Any] = stmt["CreateTableAsStmt"]
    verb = command_of(stmt)
    if "ExecuteStmt" in body["query"]:  # its columns are known to the server alone
        check_may_define(f"{verb} EXECUTE", context.world)
        rewrite_query = rewrite_execute
    elif "SelectStmt" not in body["query"]:
        raise FaucetError(Sqlstate.FEATURE_NOT_SUPPORTED, f"{verb} of that is not supported")
    if body.get("objtype") == "OBJECT_MATVIEW":
        check_may_define(verb, context.world)
        check_parts("", body, verb, context.world)
        return Rewritten(stmt, verb, tables=tables_named(stmt), reasons=('statement kind "ddl"',), changes_catalog=True)
    pin = _check_target(body["into"], verb, stmt, context)
    inner = rewrite_query(body["query"], context)
    body["query"] = inner.tree
    return replace(inner, tree=stmt, verb=verb, tag=None, pin=pin or inner.pin, changes_catalog=True)


def rewrite_select_into(stmt: Node, context: RewriteContext, rewrite_query: RewriteQuery) -> Rewritten:
    """Decide SELECT INTO: the query is rewritten, what it goes into stays. Raises as `rewrite_table_as`."""
    into = stmt["SelectStmt"]["intoClause"]
    pin = _check_target(into, "SELECT INTO", {"CreateTableAsStmt": {"into": into}}, context)
    del stmt["SelectStmt"]["intoClause"]
    inner = rewrite_query(stmt, context)
    inner.tree["SelectStmt"]["intoClause"] = into
    return replace(inner, verb="SELECT INTO", tag=None, pin=pin or inner.pin, changes_catalog=True)


def _check_target(into: dict[str, Any], verb: str, stmt: Node, context: RewriteContext) -> str | None:
    """Check what a query is written into; return why the connection is pinned."""
    target, world = into["rel"], context.world
    if world.may_define:
        check_relation(target, verb, world)
        return _pin(stmt, context)
    if "temp" not in world.statements or not temporary.is_temporary(target):
        check_may_define(verb, world)
    temporary.check_into(into, verb)
    return temporary.PIN
