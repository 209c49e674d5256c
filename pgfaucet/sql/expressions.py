"""Expressions: one table from node class to what its fields hold, and handlers for the classes that need more than that.

Every class that may stand in an expression is listed here; anything else is refused. A class resolved by its fields alone is leaky.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import build, columns, functions, literals, operators, registered, sublink, types
from pgfaucet.sql.builtins import FunctionClass, classify, is_type_allowed
from pgfaucet.sql.catalog import QualifiedName
from pgfaucet.sql.facts import BOOL, INT4, TEXT, UNKNOWN, Facts, combine
from pgfaucet.sql.scope import RelationItem
from pgfaucet.sql.tree import string, strings

if TYPE_CHECKING:
    from pgfaucet.sql.resolve import Expression, Resolver
    from pgfaucet.sql.scope import Scope
    from pgfaucet.sql.world import Node

_RES_TARGET_FIELDS: Final = frozenset({"name", "val", "location"})
_BOOL_EXPR_FIELDS: Final = frozenset({"boolop", "args", "location"})
_NULL_TEST_FIELDS: Final = frozenset({"arg", "nulltesttype", "argisrow", "location"})
_BOOLEAN_TEST_FIELDS: Final = frozenset({"arg", "booltesttype", "location"})
_TYPE_CAST_FIELDS: Final = frozenset({"arg", "typeName", "location"})
_COLLATE_CLAUSE_FIELDS: Final = frozenset({"arg", "collname", "location"})
_INDIRECTION_FIELDS: Final = frozenset({"arg", "indirection"})
_MERGE_SUPPORT_FUNC_FIELDS: Final = frozenset({"msftype", "location"})
ONE: Final = "an expression"
MANY: Final = "expressions"
TYPE: Final = "a type name"
PLAIN: Final = "a plain value"
KEYS: Final = "sort keys"
QUERY: Final = "a query"
WINDOW: Final = "a window"
TARGETS: Final = "named expressions"

# What the fields of a class hold; a dictionary stands for a message without a class of its own around it.
_FORMAT: Final = {"format_type": PLAIN, "encoding": PLAIN, "location": PLAIN}
_OUTPUT: Final = {"typeName": TYPE, "returning": {"format": _FORMAT, "typmod": PLAIN}}
_JSON_VALUE: Final = {"raw_expr": ONE, "format": _FORMAT}
_BEHAVIOR: Final = {"btype": PLAIN, "expr": ONE, "coerce": PLAIN, "location": PLAIN}
_AGGREGATE: Final = {"output": _OUTPUT, "agg_filter": ONE, "agg_order": KEYS, "over": WINDOW, "location": PLAIN}
_KEY_VALUE: Final = {"key": ONE, "value": _JSON_VALUE}
FIELDS: Final[dict[str, dict[str, Any]]] = {
    "A_ArrayExpr": {"elements": MANY, "list_start": PLAIN, "list_end": PLAIN, "location": PLAIN},
    "A_Indices": {"is_slice": PLAIN, "lidx": ONE, "uidx": ONE},
    "CaseExpr": {"arg": ONE, "args": MANY, "defresult": ONE, "location": PLAIN},
    "CaseWhen": {"expr": ONE, "result": ONE, "location": PLAIN},
    "CoalesceExpr": {"args": MANY, "location": PLAIN},
    "MinMaxExpr": {"op": PLAIN, "args": MANY, "location": PLAIN},
    "RowExpr": {"args": MANY, "row_format": PLAIN, "location": PLAIN},
    "GroupingFunc": {"args": MANY, "location": PLAIN},
    "List": {"items": MANY},
    "XmlExpr": {
        "op": PLAIN,
        "name": PLAIN,
        "named_args": TARGETS,
        "args": MANY,
        "xmloption": PLAIN,
        "indent": PLAIN,
        "typmod": PLAIN,
        "location": PLAIN,
    },
    "XmlSerialize": {"xmloption": PLAIN, "expr": ONE, "typeName": TYPE, "indent": PLAIN, "location": PLAIN},
    "JsonValueExpr": _JSON_VALUE,
    "JsonKeyValue": _KEY_VALUE,
    "JsonArgument": {"val": _JSON_VALUE, "name": PLAIN},
    "JsonFuncExpr": {
        "op": PLAIN,
        "context_item": _JSON_VALUE,
        "pathspec": ONE,
        "passing": MANY,
        "output": _OUTPUT,
        "on_empty": _BEHAVIOR,
        "on_error": _BEHAVIOR,
        "wrapper": PLAIN,
        "quotes": PLAIN,
        "location": PLAIN,
    },
    "JsonParseExpr": {"expr": _JSON_VALUE, "output": _OUTPUT, "unique_keys": PLAIN, "location": PLAIN},
    "JsonScalarExpr": {"expr": ONE, "output": _OUTPUT, "location": PLAIN},
    "JsonSerializeExpr": {"expr": _JSON_VALUE, "output": _OUTPUT, "location": PLAIN},
    "JsonObjectConstructor": {
        "exprs": MANY,
        "output": _OUTPUT,
        "absent_on_null": PLAIN,
        "unique": PLAIN,
        "location": PLAIN,
    },
    "JsonArrayConstructor": {"exprs": MANY, "output": _OUTPUT, "absent_on_null": PLAIN, "location": PLAIN},
    "JsonArrayQueryConstructor": {
        "query": QUERY,
        "output": _OUTPUT,
        "format": _FORMAT,
        "absent_on_null": PLAIN,
        "location": PLAIN,
    },
    "JsonIsPredicate": {"expr": ONE, "format": _FORMAT, "item_type": PLAIN, "unique_keys": PLAIN, "location": PLAIN},
}
_AGGREGATES: Final[dict[str, dict[str, Any]]] = {
    "JsonObjectAgg": {"constructor": _AGGREGATE, "arg": _KEY_VALUE, "absent_on_null": PLAIN, "unique": PLAIN},
    "JsonArrayAgg": {"constructor": _AGGREGATE, "arg": _JSON_VALUE, "absent_on_null": PLAIN},
}


def resolve_fields(  # noqa: C901 - one branch for each thing that a field can hold
    resolver: Resolver, kind: str, fields: dict[str, Any], body: dict[str, Any], scope: Scope, parts: list[Facts]
) -> None:
    """Resolve everything a node holds, by its table of fields; gather the facts in `parts`."""
    for name, value in body.items():
        holds = fields.get(name)
        if holds is PLAIN:
            continue
        if holds is ONE:
            parts.append(resolver.expression(value, scope))
        elif holds is MANY:
            parts += [resolver.expression(item, scope) for item in value if item]
        elif isinstance(holds, dict):
            resolve_fields(resolver, f"{kind}.{name}", holds, value, scope, parts)
        elif holds is TYPE:
            types.resolve_type(resolver, value)
        elif holds is KEYS:
            parts += [resolver.sort_key(key, scope) for key in value]
        elif holds is WINDOW:
            parts += resolver.window(value, scope)
        elif holds is TARGETS:
            parts += [_named(resolver, item, scope) for item in value]
        elif holds is QUERY:
            parts.append(_query(resolver, value, scope))
        else:
            resolver.refuse(f"{kind}.{name}", body)


def _by_fields(kind: str, fields: dict[str, Any]) -> Expression:
    def resolve(resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope) -> Facts:
        parts: list[Facts] = []
        resolve_fields(resolver, kind, fields, body, scope, parts)
        return combine(parts)

    return resolve


def _aggregate(kind: str, fields: dict[str, Any]) -> Expression:
    def resolve(resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope) -> Facts:
        scope.has_aggregate = True
        resolver.aggregate_depth += 1
        parts: list[Facts] = []
        resolve_fields(resolver, kind, fields, body, scope, parts)
        resolver.aggregate_depth -= 1
        return combine(parts).opaque()

    return resolve


def _query(resolver: Resolver, node: Node, scope: Scope) -> Facts:
    return sublink.resolve_sublink(resolver, node, {"subLinkType": "ARRAY_SUBLINK", "subselect": node}, scope)


def _named(resolver: Resolver, node: Node, scope: Scope) -> Facts:
    target = node["ResTarget"]
    resolver.expect_fields("ResTarget", target, _RES_TARGET_FIELDS)
    return resolver.expression(target["val"], scope)


def _array(resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope) -> Facts:
    parts: list[Facts] = []
    resolve_fields(resolver, "A_ArrayExpr", FIELDS["A_ArrayExpr"], body, scope, parts)
    kinds = {part.type for part in parts}
    element = TEXT if kinds == {UNKNOWN} else kinds.pop() if len(kinds) == 1 else 0
    found = resolver.world.catalog.types.get(element)
    return combine(parts, found.array if found is not None else 0)


def _bool(resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope) -> Facts:
    resolver.expect_fields("BoolExpr", body, _BOOL_EXPR_FIELDS)
    return combine([resolver.expression(arg, scope) for arg in body["args"]], BOOL, is_leakproof=True)


def _null_test(resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope) -> Facts:
    resolver.expect_fields("NullTest", body, _NULL_TEST_FIELDS)
    return combine((resolver.expression(body["arg"], scope),), BOOL, is_leakproof=True)


def _boolean_test(resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope) -> Facts:
    resolver.expect_fields("BooleanTest", body, _BOOLEAN_TEST_FIELDS)
    tested = resolver.expression(body["arg"], scope)
    return combine((tested,), BOOL, is_leakproof=tested.type == BOOL)


def _cast(resolver: Resolver, node: Node, body: dict[str, Any], scope: Scope) -> Facts:
    resolver.expect_fields("TypeCast", body, _TYPE_CAST_FIELDS)
    value = resolver.expression(body["arg"], scope)
    held = registered.resolve_cast(resolver, node, body, value)
    if held is not None:
        return held
    type_oid = types.resolve_type(resolver, body["typeName"])
    value = registered.show_for(resolver, body, value, type_oid)
    operators.note_parameters(resolver, value, type_oid)
    return combine((value,), resolver.world.catalog.base_type(type_oid))


def _collate(resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope) -> Facts:
    resolver.expect_fields("CollateClause", body, _COLLATE_CLAUSE_FIELDS)
    names = strings(body["collname"])
    if len(names) > 1 and names[:-1] != ["pg_catalog"]:
        message = f'collation "{".".join(names)}" for encoding "UTF8" does not exist'
        resolver.fail(Sqlstate.UNDEFINED_OBJECT, message, body.get("location"))
    body["collname"] = [build.string("pg_catalog"), build.string(names[-1])]
    value = resolver.expression(body["arg"], scope)
    return combine((value,), value.type)


def _indirection(resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope) -> Facts:
    """Resolve `(x).field[1].*`: a field must be a column in sight, or a name that calls and casts nothing (RECIPES G4)."""
    resolver.expect_fields("A_Indirection", body, _INDIRECTION_FIELDS)
    row = _row_of(resolver, body["arg"], scope)
    parts = [resolver.expression(body["arg"], scope)]
    for position, step in enumerate(body["indirection"]):
        if "A_Indices" in step:
            resolve_fields(resolver, "A_Indices", FIELDS["A_Indices"], step["A_Indices"], scope, parts)
        elif "String" in step:
            _check_field(resolver, string(step), row if position == 0 else None, body["arg"])
        elif "A_Star" not in step:
            resolver.refuse("A_Indirection.indirection", body)
    return combine(parts)


def _row_of(resolver: Resolver, node: Node, scope: Scope) -> RelationItem | None:
    """Return the relation whose whole row a node is."""
    reference = node.get("ColumnRef")
    if reference is None:
        return None
    names, is_star = columns.names_of(resolver, reference)
    if is_star or len(names) != 1 or columns.find_column(resolver, names[0], scope, None) is not None:
        return None
    found = columns.seek_item(resolver, None, names[0], scope, None)
    return found[0] if found is not None and isinstance(found[0], RelationItem) else None


def _check_field(resolver: Resolver, name: str, row: RelationItem | None, argument: Node) -> None:
    location = argument.get("ColumnRef", {}).get("location")
    if row is not None:
        if name not in row.names():
            resolver.fail(Sqlstate.UNDEFINED_COLUMN, f"column {row.name}.{name} does not exist", location)
        return
    catalog = resolver.world.catalog
    is_closed_function = name in catalog.system_functions and classify(name) is not FunctionClass.SAFE
    is_closed_type = catalog.type_named(QualifiedName("pg_catalog", name)) is not None and not is_type_allowed(name)
    if is_closed_function or is_closed_type:
        resolver.fail(Sqlstate.UNDEFINED_COLUMN, f'column "{name}" not found', location)


def _merge_action(resolver: Resolver, _node: Node, body: dict[str, Any], _scope: Scope) -> Facts:
    """Resolve MERGE_ACTION(); the server says where it may stand."""
    resolver.expect_fields("MergeSupportFunc", body, _MERGE_SUPPORT_FUNC_FIELDS)
    return Facts(TEXT, is_fixed=True)


def _grouping(resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope) -> Facts:
    parts: list[Facts] = []
    resolve_fields(resolver, "GroupingFunc", FIELDS["GroupingFunc"], body, scope, parts)
    return combine(parts, INT4).opaque()


EXPRESSIONS: Final[dict[str, Expression]] = {
    **{kind: _by_fields(kind, fields) for kind, fields in FIELDS.items()},
    **{kind: _aggregate(kind, fields) for kind, fields in _AGGREGATES.items()},
    "A_ArrayExpr": _array,
    "A_Const": literals.resolve_constant,
    "A_Expr": operators.resolve_operation,
    "A_Indirection": _indirection,
    "BoolExpr": _bool,
    "BooleanTest": _boolean_test,
    "CollateClause": _collate,
    "ColumnRef": columns.resolve_column,
    "FuncCall": functions.resolve_call,
    "GroupingFunc": _grouping,
    "MergeSupportFunc": _merge_action,
    "NamedArgExpr": functions.resolve_named_argument,
    "NullTest": _null_test,
    "ParamRef": literals.resolve_parameter,
    "SQLValueFunction": literals.resolve_value_function,
    "SetToDefault": literals.reject_default,
    "SubLink": sublink.resolve_sublink,
    "TypeCast": _cast,
}
