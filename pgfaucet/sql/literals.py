"""Constants, parameters, and the values that the proxy answers in the server's stead (current_user and its kin)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import build
from pgfaucet.sql.facts import BOOL, DATE, INT4, INT8, NUMERIC, TIMESTAMP, TIMESTAMPTZ, UNKNOWN, Facts, constant
from pgfaucet.sql.shape import Literal

if TYPE_CHECKING:
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Scope
    from pgfaucet.sql.world import Node

_PARAM_REF_FIELDS: Final = frozenset({"number", "location"})
_CONST_FIELDS = frozenset({"ival", "fval", "boolval", "sval", "bsval", "isnull", "location"})
_VALUE_FIELDS = frozenset({"op", "typmod", "location"})
_CLOCK: Final = {
    "SVFOP_CURRENT_DATE": DATE,
    "SVFOP_CURRENT_TIME": 1266,
    "SVFOP_CURRENT_TIME_N": 1266,
    "SVFOP_CURRENT_TIMESTAMP": TIMESTAMPTZ,
    "SVFOP_CURRENT_TIMESTAMP_N": TIMESTAMPTZ,
    "SVFOP_LOCALTIME": 1083,
    "SVFOP_LOCALTIME_N": 1083,
    "SVFOP_LOCALTIMESTAMP": TIMESTAMP,
    "SVFOP_LOCALTIMESTAMP_N": TIMESTAMP,
}
_USER: Final = frozenset({"SVFOP_CURRENT_ROLE", "SVFOP_CURRENT_USER", "SVFOP_USER", "SVFOP_SESSION_USER"})
_MAX_PARAMETER: Final = 65535


def resolve_constant(resolver: Resolver, _node: Node, body: dict[str, Any], _scope: Scope) -> Facts:
    """Resolve an A_Const."""
    resolver.expect_fields("A_Const", body, _CONST_FIELDS)
    if "ival" in body:
        return constant(INT4)
    if "sval" in body or "isnull" in body:
        return constant(UNKNOWN)
    if "fval" in body:
        value = body["fval"]
        if isinstance(value, Literal):
            return constant(INT8 if value.kind == "d" else NUMERIC)
        return constant(_type_of_digits(value.get("fval", "0")))
    return constant(BOOL if "boolval" in body else 0)


def resolve_parameter(resolver: Resolver, _node: Node, body: dict[str, Any], _scope: Scope) -> Facts:
    """Resolve a ParamRef: its type is what Parse declared, else what it turns out to stand against."""
    resolver.expect_fields("ParamRef", body, _PARAM_REF_FIELDS)
    number: int = body.get("number", 0)
    if not 0 < number <= _MAX_PARAMETER:
        resolver.fail("42P02", f"there is no parameter ${number}", body.get("location"))
    declared = resolver.context.parameter_types
    type_oid = declared[number - 1] if number <= len(declared) else 0
    if type_oid not in (0, UNKNOWN):
        return Facts(resolver.world.catalog.base_type(type_oid))
    facts = Facts(UNKNOWN, assumes=frozenset((number,)))
    resolver.parameter_uses.setdefault(number, {})[facts] = set()
    return facts


def resolve_value_function(resolver: Resolver, node: Node, body: dict[str, Any], _scope: Scope) -> Facts:
    """Resolve a SQLValueFunction; the ones that would name the service user or its database become literals."""
    resolver.expect_fields("SQLValueFunction", body, _VALUE_FIELDS)
    operation = body.get("op")
    if operation in _CLOCK:
        return constant(_CLOCK[operation])
    if operation in _USER:
        return replace_with_name(resolver, node, resolver.world.user)
    if operation == "SVFOP_CURRENT_CATALOG":
        return replace_with_name(resolver, node, resolver.world.catalog.database)
    if operation == "SVFOP_CURRENT_SCHEMA":
        return replace_with_name(resolver, node, current_schema(resolver))
    resolver.refuse(f"SQLValueFunction {operation}", body)


def replace_with_name(resolver: Resolver, node: Node, value: str | None) -> Facts:
    """Put a constant of type name in a node's place."""
    literal = build.null() if value is None else build.text(value)
    replace_node(
        resolver,
        node,
        build.cast(literal, {"names": [build.string("pg_catalog"), build.string("name")], "typemod": -1}),
    )
    return Facts(19)


def replace_node(resolver: Resolver, node: Node, made: Node) -> None:
    """Put another node in a node's place."""
    node.clear()
    node.update(made)
    resolver.replacements += 1


def move_node(node: Node) -> Node:
    """Return a node to stand inside what will be put in its place. What is below it is shared, never copied.

    A relation in a sub-select there is still to be replaced by its filtered rows, and only the one that was resolved will be.
    """
    return dict(node)


def current_schema(resolver: Resolver) -> str | None:
    """Return the first schema of the client's search path that exists for the role."""
    schemas = resolver.world.schemas
    return next((name for name in resolver.context.search_path if name in schemas or name == "pg_catalog"), None)


def text_of(node: Node) -> str | None:
    """Return the value of a string constant, None for anything else."""
    value = node.get("A_Const", {}).get("sval")
    return value.get("sval", "") if value is not None else None


def reject_default(resolver: Resolver, _node: Node, body: dict[str, Any], _scope: Scope) -> Facts:
    """Refuse DEFAULT where no column stands behind it."""
    resolver.fail(Sqlstate.SYNTAX_ERROR, "DEFAULT is not allowed in this context", body.get("location"))


def _type_of_digits(digits: str) -> int:
    if digits.lstrip("-").isdigit() and -(2**63) <= int(digits) < 2**63:
        return INT8
    return NUMERIC
