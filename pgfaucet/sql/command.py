"""Names of statements as PostgreSQL's command tags have them, and what can be told of a statement without deciding it.

For metrics, the audit of refusals, and `access: full`; nothing is allowed or refused here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pgfaucet.plan import StatementKind
from pgfaucet.sql.tree import walk

if TYPE_CHECKING:
    from pgfaucet.sql.world import Node

COMMANDS: Final = {
    "AlterDefaultPrivilegesStmt": "ALTER DEFAULT PRIVILEGES",
    "AlterRoleStmt": "ALTER ROLE",
    "AlterRoleSetStmt": "ALTER ROLE",
    "AlterSeqStmt": "ALTER SEQUENCE",
    "AlterSystemStmt": "ALTER SYSTEM",
    "CallStmt": "CALL",
    "CheckPointStmt": "CHECKPOINT",
    "ClosePortalStmt": "CLOSE",
    "ClusterStmt": "CLUSTER",
    "CommentStmt": "COMMENT",
    "CompositeTypeStmt": "CREATE TYPE",
    "ConstraintsSetStmt": "SET CONSTRAINTS",
    "CopyStmt": "COPY",
    "CreateEnumStmt": "CREATE TYPE",
    "CreateRangeStmt": "CREATE TYPE",
    "CreateSeqStmt": "CREATE SEQUENCE",
    "CreateStmt": "CREATE TABLE",
    "CreateTrigStmt": "CREATE TRIGGER",
    "CreatedbStmt": "CREATE DATABASE",
    "DeallocateStmt": "DEALLOCATE",
    "DeclareCursorStmt": "DECLARE CURSOR",
    "DefineStmt": "CREATE",
    "DeleteStmt": "DELETE",
    "DiscardStmt": "DISCARD",
    "DoStmt": "DO",
    "DropRoleStmt": "DROP ROLE",
    "DropdbStmt": "DROP DATABASE",
    "ExecuteStmt": "EXECUTE",
    "ExplainStmt": "EXPLAIN",
    "GrantRoleStmt": "GRANT ROLE",
    "ImportForeignSchemaStmt": "IMPORT FOREIGN SCHEMA",
    "IndexStmt": "CREATE INDEX",
    "InsertStmt": "INSERT",
    "ListenStmt": "LISTEN",
    "LoadStmt": "LOAD",
    "LockStmt": "LOCK TABLE",
    "MergeStmt": "MERGE",
    "NotifyStmt": "NOTIFY",
    "PrepareStmt": "PREPARE",
    "RefreshMatViewStmt": "REFRESH MATERIALIZED VIEW",
    "ReindexStmt": "REINDEX",
    "RenameStmt": "ALTER",
    "RuleStmt": "CREATE RULE",
    "SecLabelStmt": "SECURITY LABEL",
    "SelectStmt": "SELECT",
    "TruncateStmt": "TRUNCATE TABLE",
    "UnlistenStmt": "UNLISTEN",
    "UpdateStmt": "UPDATE",
    "VacuumStmt": "VACUUM",
    "VariableShowStmt": "SHOW",
    "ViewStmt": "CREATE VIEW",
}
TRANSACTIONS: Final = {
    "TRANS_STMT_BEGIN": "BEGIN",
    "TRANS_STMT_START": "START TRANSACTION",
    "TRANS_STMT_COMMIT": "COMMIT",
    "TRANS_STMT_ROLLBACK": "ROLLBACK",
    "TRANS_STMT_SAVEPOINT": "SAVEPOINT",
    "TRANS_STMT_RELEASE": "RELEASE",
    "TRANS_STMT_ROLLBACK_TO": "ROLLBACK",
    "TRANS_STMT_PREPARE": "PREPARE TRANSACTION",
    "TRANS_STMT_COMMIT_PREPARED": "COMMIT PREPARED",
    "TRANS_STMT_ROLLBACK_PREPARED": "ROLLBACK PREPARED",
}
_WORDS: Final = re.compile(r"[A-Z][a-z]*")
_OBJECT_KINDS: Final = {
    "OBJECT_MATVIEW": "MATERIALIZED VIEW",
    "OBJECT_TABCONSTRAINT": "TABLE",
    "OBJECT_COLUMN": "TABLE",
}


@dataclass(frozen=True, slots=True)
class Observed:
    """What a statement is, as its text alone tells it."""

    verb: str
    tables: tuple[str, ...]  # as written, where no CTE of that name stands in the statement
    kind: StatementKind = StatementKind.ORDINARY
    name: str | None = None
    settings: tuple[str, ...] = ()
    pin: str | None = None
    resets: tuple[str, ...] = ()


def command_of(stmt: Node) -> str:
    """Name a statement as its command tag does, without the numbers."""
    ((kind, body),) = stmt.items()
    match kind:
        case "TransactionStmt":
            return TRANSACTIONS.get(body.get("kind", ""), "TRANSACTION")
        case "VariableSetStmt":
            return "RESET" if body.get("kind") in ("VAR_RESET", "VAR_RESET_ALL") else "SET"
        case "FetchStmt":
            return "MOVE" if body.get("ismove") else "FETCH"
        case "CreateTableAsStmt":
            return f"CREATE {_object_of(body, 'objtype')} AS" if not body.get("is_select_into") else "SELECT INTO"
        case "DropStmt":
            return f"DROP {_object_of(body, 'removeType')}"
        case "AlterTableStmt":
            return f"ALTER {_object_of(body, 'objtype')}"
        case "GrantStmt":
            return "GRANT" if body.get("is_grant") else "REVOKE"
        case "VacuumStmt":
            return "VACUUM" if body.get("is_vacuumcmd") else "ANALYZE"
        case _:
            return COMMANDS.get(kind) or " ".join(_WORDS.findall(kind.removesuffix("Stmt"))).upper()


def _object_of(body: dict[str, Any], field: str) -> str:
    kind: str = body.get(field, "OBJECT_TABLE")
    return _OBJECT_KINDS.get(kind) or kind.removeprefix("OBJECT_").replace("_", " ")


def observe_statement(stmt: Node) -> Observed:
    """Tell what a statement is without deciding it: for refusals, and for what `access: full` forwards."""
    ((kind, body),) = stmt.items()
    verb = command_of(stmt)
    tables = tables_named(stmt)
    match kind:
        case "TransactionStmt":
            return Observed(verb, tables, StatementKind.TRANSACTION)
        case "VariableSetStmt":
            names = _settings_of(body)
            pin = _pin_of(kind, body)
            return Observed(
                verb, tables, StatementKind.SETTING, settings=names, pin=pin, resets=_resets_of(body, names)
            )
        case "DeallocateStmt":
            return Observed(verb, tables, StatementKind.DEALLOCATE, name=body.get("name"))
        case "PrepareStmt":
            return Observed(verb, tables, StatementKind.PREPARE, name=body.get("name"))
        case "ExecuteStmt":
            return Observed(verb, tables, StatementKind.EXECUTE, name=body.get("name"))
        case "DeclareCursorStmt":
            return Observed(verb, tables, name=body.get("portalname"), pin=_pin_of(kind, body))
        case "FetchStmt":
            return Observed(verb, tables, name=body.get("portalname"))
        case "DiscardStmt" if body.get("target") == "DISCARD_ALL":
            return Observed(verb, tables, StatementKind.DISCARD_ALL)
        case _:
            return Observed(verb, tables, pin=_pin_of(kind, body))


def _settings_of(body: dict[str, Any]) -> tuple[str, ...]:
    name = body.get("name")
    if name is None:
        return ()
    if body.get("kind") == "VAR_SET_MULTI":
        options = [item.get("DefElem", {}).get("defname", "") for item in body.get("args", [])]
        is_session = name == "SESSION CHARACTERISTICS"  # else of the transaction: SET TRANSACTION
        return tuple(f"default_{option}" for option in options if option and is_session)
    return (name.lower(),) if not name.lower().startswith("transaction_") else ()


def _resets_of(body: dict[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    match body.get("kind"):
        case "VAR_RESET_ALL":
            return ("*",)
        case "VAR_RESET" | "VAR_SET_DEFAULT":
            return names
        case _:
            return ()


def _pin_of(kind: str, body: dict[str, Any]) -> str | None:
    """Tell what of a statement outlives its transaction on the connection (PROTOCOL line 83), as far as its text shows it."""
    match kind:
        case "DeclareCursorStmt" if body.get("options", 0) & CURSOR_HOLD:
            return "WITH HOLD cursor"
        case "ListenStmt":
            return "LISTEN"
        case "LoadStmt":
            return "LOAD"
        case "DoStmt":
            return "DO"
        case "SelectStmt" if any(_called(node) in LEAVES_BEHIND for node in walk(body)):
            return "session state"
        case "VariableSetStmt" if body.get("name") in ("role", "session_authorization"):
            return "SET ROLE"
        case "CreateStmt" | "ViewStmt" | "CreateSeqStmt" | "CreateTableAsStmt" | "SelectStmt" if _makes_temporary(body):
            return "temporary object"
        case _ if kind.startswith(("Create", "Composite", "Define", "AlterObjectSchema")) and _names_temporary(body):
            return "temporary object"
        case _:
            return None


LEAVES_BEHIND: Final = frozenset(
    {
        "pg_advisory_lock",
        "pg_advisory_lock_shared",
        "pg_try_advisory_lock",
        "pg_try_advisory_lock_shared",
        "set_config",
    }
)
"""Functions that leave something on the connection beyond their transaction (PROTOCOL 83)."""


def _called(node: Node) -> str:
    """Return the last name of the function that a FuncCall calls."""
    names = node.get("FuncCall", {}).get("funcname", ())
    return str(names[-1].get("String", {}).get("sval", "")) if names else ""


CURSOR_HOLD: Final = 0x20  # CURSOR_OPT_HOLD, parsenodes.h


def _makes_temporary(body: dict[str, Any]) -> bool:
    into = body.get("into") or body.get("intoClause") or {}
    target = body.get("relation") or body.get("view") or body.get("sequence") or into.get("rel") or {}
    return target.get("relpersistence") == "t" or target.get("schemaname") == "pg_temp"


def _names_temporary(body: dict[str, Any]) -> bool:
    return any("pg_temp" in (node.get("schemaname"), node.get("sval"), node.get("newschema")) for node in walk(body))


def tables_named(stmt: Node) -> tuple[str, ...]:
    """Return the relations that a statement names, as written and sorted; names of its CTEs are left out."""
    relations: set[str] = set()
    ctes: set[str] = set()
    for node in walk(stmt):
        name = node.get("relname")
        if isinstance(name, str) and "relpersistence" in node:
            schema = node.get("schemaname")
            relations.add(f"{schema}.{name}" if schema else name)
        cte = node.get("ctename")
        if isinstance(cte, str) and "ctequery" in node:
            ctes.add(cte)
    return tuple(sorted(relations - ctes))
