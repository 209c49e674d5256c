"""The name PostgreSQL gives to an output column without an alias (FigureColname in parser/parse_target.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.sql.tree import string

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.sql.world import Node

ANONYMOUS: Final = "?column?"
_FIXED: Final = {
    "GroupingFunc": "grouping",
    "MergeSupportFunc": "merge_action",
    "A_ArrayExpr": "array",
    "RowExpr": "row",
    "CoalesceExpr": "coalesce",
    "XmlSerialize": "xmlserialize",
    "JsonParseExpr": "json",
    "JsonScalarExpr": "json_scalar",
    "JsonSerializeExpr": "json_serialize",
    "JsonObjectConstructor": "json_object",
    "JsonArrayConstructor": "json_array",
    "JsonArrayQueryConstructor": "json_array",
    "JsonObjectAgg": "json_objectagg",
    "JsonArrayAgg": "json_arrayagg",
}
_BY_OPERATION: Final = {
    "IS_GREATEST": "greatest",
    "IS_LEAST": "least",
    "IS_XMLCONCAT": "xmlconcat",
    "IS_XMLELEMENT": "xmlelement",
    "IS_XMLFOREST": "xmlforest",
    "IS_XMLPARSE": "xmlparse",
    "IS_XMLPI": "xmlpi",
    "IS_XMLROOT": "xmlroot",
    "JSON_EXISTS_OP": "json_exists",
    "JSON_QUERY_OP": "json_query",
    "JSON_VALUE_OP": "json_value",
}


def figure_column_name(node: Node) -> str:
    """Name the output column that an expression makes; to be called before the expression is rewritten."""
    return _figure(node)[0] or ANONYMOUS


def _figure(node: Node) -> tuple[str | None, int]:
    """Return a name and its strength: 2 a name, 1 a type's name, 0 none."""
    for kind, body in node.items():
        fixed = _FIXED.get(kind)
        if fixed is not None:
            return fixed, 2
        handler = _HANDLERS.get(kind)
        return handler(body) if handler is not None else (None, 0)
    return None, 0


def _last_string(parts: list[Node]) -> str | None:
    return next((string(part) for part in reversed(parts) if "String" in part), None)


def _column(body: dict[str, Any]) -> tuple[str | None, int]:
    name = _last_string(body["fields"])
    return name, 2 if name is not None else 0


def _indirection(body: dict[str, Any]) -> tuple[str | None, int]:
    name = _last_string(body["indirection"])
    return (name, 2) if name is not None else _figure(body["arg"])


def _call(body: dict[str, Any]) -> tuple[str | None, int]:
    return _last_string(body["funcname"]), 2


def _operation(body: dict[str, Any]) -> tuple[str | None, int]:
    return ("nullif", 2) if body.get("kind") == "AEXPR_NULLIF" else (None, 0)


def _cast(body: dict[str, Any]) -> tuple[str | None, int]:
    name, strength = _figure(body["arg"])
    if strength <= 1 and "typeName" in body:
        return _last_string(body["typeName"]["names"]), 1
    return name, strength


def _collate(body: dict[str, Any]) -> tuple[str | None, int]:
    return _figure(body["arg"])


def _case(body: dict[str, Any]) -> tuple[str | None, int]:
    name, strength = _figure(body["defresult"]) if "defresult" in body else (None, 0)
    return (name, strength) if strength > 1 else ("case", 1)


def _by_operation(body: dict[str, Any]) -> tuple[str | None, int]:
    return _BY_OPERATION.get(body["op"]), 2


def _value_function(body: dict[str, Any]) -> tuple[str | None, int]:
    return body["op"].removeprefix("SVFOP_").removesuffix("_N").lower(), 2


def _sublink(body: dict[str, Any]) -> tuple[str | None, int]:
    kind = body.get("subLinkType")
    if kind == "EXISTS_SUBLINK":
        return "exists", 2
    if kind == "ARRAY_SUBLINK":
        return "array", 2
    if kind != "EXPR_SUBLINK":
        return None, 0
    select = body["subselect"].get("SelectStmt", {})
    while "larg" in select:
        select = select["larg"]
    targets = select.get("targetList")
    if not targets:
        return ("column1", 2) if "valuesLists" in select else (None, 0)
    target = targets[0]["ResTarget"]
    return (target["name"], 2) if "name" in target else (figure_column_name(target["val"]), 2)


_HANDLERS: Final[dict[str, Callable[[dict[str, Any]], tuple[str | None, int]]]] = {
    "ColumnRef": _column,
    "A_Indirection": _indirection,
    "FuncCall": _call,
    "A_Expr": _operation,
    "TypeCast": _cast,
    "CollateClause": _collate,
    "CaseExpr": _case,
    "MinMaxExpr": _by_operation,
    "XmlExpr": _by_operation,
    "JsonFuncExpr": _by_operation,
    "SQLValueFunction": _value_function,
    "SubLink": _sublink,
}
