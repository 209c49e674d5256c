"""Makes parse tree nodes: the only way that text of ours gets into a statement. Never takes SQL text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgfaucet.sql.world import Node


def string(value: str) -> Node:
    """Make a String, as names are held in lists."""
    return {"String": {"sval": value}}


def type_names(schema: str, name: str, *, has_length: bool = False) -> list[Node]:
    """Make the name in a TypeName. libpg_query prints pg_catalog.bpchar as `char`, which is char(1); our search_path finds it bare."""
    if (schema, name) == ("pg_catalog", "bpchar") and not has_length:
        return [string(name)]
    return [string(schema), string(name)]


def text(value: str) -> Node:
    """Make a string constant."""
    return {"A_Const": {"sval": {"sval": value}}}


def boolean(value: bool) -> Node:
    """Make TRUE or FALSE."""
    return {"A_Const": {"boolval": {"boolval": True} if value else {}}}


def null() -> Node:
    """Make NULL."""
    return {"A_Const": {"isnull": True}}


def column(*names: str) -> Node:
    """Make a column reference."""
    return {"ColumnRef": {"fields": [string(name) for name in names]}}


def call(name: str, *args: Node) -> Node:
    """Make a call of a pg_catalog function."""
    made: dict[str, Any] = {
        "funcname": [string("pg_catalog"), string(name)],
        "args": list(args),
        "funcformat": "COERCE_EXPLICIT_CALL",
    }
    return {"FuncCall": made}


def operation(left: Node, operator: str, right: Node, kind: str = "AEXPR_OP") -> Node:
    """Make `left operator right` with an operator that only pg_catalog can supply under our search_path."""
    return {"A_Expr": {"kind": kind, "name": [string(operator)], "lexpr": left, "rexpr": right}}


def all_of(*conditions: Node) -> Node:
    """Make the conjunction of conditions; ANDs among them are taken apart first."""
    flat: list[Node] = []
    for condition in conditions:
        flat.extend(conjuncts(condition))
    return flat[0] if len(flat) == 1 else {"BoolExpr": {"boolop": "AND_EXPR", "args": flat}}


def conjuncts(condition: Node | None) -> list[Node]:
    """Take a condition apart at its ANDs."""
    if condition is None:
        return []
    both = condition.get("BoolExpr")
    if both is None or both.get("boolop") != "AND_EXPR":
        return [condition]
    return [part for arg in both["args"] for part in conjuncts(arg)]


def is_true(condition: Node) -> Node:
    """Make `condition IS TRUE`."""
    return {"BooleanTest": {"arg": condition, "booltesttype": "IS_TRUE"}}


def case(condition: Node, then: Node, otherwise: Node) -> Node:
    """Make `CASE WHEN condition THEN then ELSE otherwise END`."""
    return {"CaseExpr": {"args": [{"CaseWhen": {"expr": condition, "result": then}}], "defresult": otherwise}}


def coalesce(*args: Node) -> Node:
    """Make COALESCE(...)."""
    return {"CoalesceExpr": {"args": list(args)}}


def cast(value: Node, type_name: dict[str, Any]) -> Node:
    """Make `CAST(value AS type)`."""
    return {"TypeCast": {"arg": value, "typeName": type_name}}


def target(value: Node, name: str | None = None) -> Node:
    """Make an item of a target list."""
    return {"ResTarget": {"name": name, "val": value} if name is not None else {"val": value}}


def select(targets: list[Node], **clauses: Any) -> Node:
    """Make a SELECT; clauses by their names in the tree (fromClause, whereClause, sortClause)."""
    made: dict[str, Any] = {"limitOption": "LIMIT_OPTION_DEFAULT", "op": "SETOP_NONE"}
    if targets:
        made["targetList"] = targets
    return {"SelectStmt": made | clauses}


def relation(schema: str, name: str, *, alias: str | None = None, with_descendants: bool = True) -> Node:
    """Make a schema-qualified RangeVar; without descendants: ONLY."""
    made: dict[str, Any] = {"schemaname": schema, "relname": name, "relpersistence": "p"}
    if with_descendants:
        made["inh"] = True
    if alias is not None:
        made["alias"] = {"aliasname": alias}
    return {"RangeVar": made}
