"""Operators: only pg_catalog's, and which of them are leakproof for which operand types (RECIPES section 3).

An operator is leakproof when the catalog has exactly that operator for exactly these types and says so: PostgreSQL then takes that entry
without looking for another (binary_oper_exact in parser/parse_oper.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import registered
from pgfaucet.sql.catalog import OperatorKey
from pgfaucet.sql.facts import (
    BOOL,
    DATE,
    INT4,
    INTERVAL,
    NUMERIC,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    UNKNOWN,
    Facts,
    combine,
)
from pgfaucet.sql.tree import strings

if TYPE_CHECKING:
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Scope
    from pgfaucet.sql.world import Node

_FIELDS = frozenset({"kind", "name", "lexpr", "rexpr", "rexpr_list_start", "rexpr_list_end", "location"})
_BETWEEN: Final = {
    "AEXPR_BETWEEN": (">=", "<="),
    "AEXPR_NOT_BETWEEN": ("<", ">"),
    "AEXPR_BETWEEN_SYM": (">=", "<="),
    "AEXPR_NOT_BETWEEN_SYM": ("<", ">"),
}
_LEAKY_KINDS: Final = frozenset({"AEXPR_NULLIF", "AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_SIMILAR"})
_LIST_FIELDS: Final = frozenset({"items"})
_OID: Final = 26  # what a value of regclass and its kin is held as
_COMPARING: Final = frozenset({"AEXPR_OP", "AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT", "AEXPR_NULLIF"})
_STORED_AS: Final = {1043: TEXT, 650: 869}  # varchar is compared as text, cidr as inet
_ARITHMETIC: Final = {  # what constant date arithmetic gives
    ("+", TIMESTAMPTZ, INTERVAL): TIMESTAMPTZ,
    ("-", TIMESTAMPTZ, INTERVAL): TIMESTAMPTZ,
    ("+", INTERVAL, TIMESTAMPTZ): TIMESTAMPTZ,
    ("+", TIMESTAMP, INTERVAL): TIMESTAMP,
    ("-", TIMESTAMP, INTERVAL): TIMESTAMP,
    ("+", DATE, INTERVAL): TIMESTAMP,
    ("-", DATE, INTERVAL): TIMESTAMP,
    ("+", DATE, INT4): DATE,
    ("-", DATE, INT4): DATE,
    ("+", INT4, INT4): INT4,
    ("-", INT4, INT4): INT4,
}
_NEVER_RAISE: Final = {  # reviewed: not marked leakproof in the catalog, yet they raise on no value (RECIPES X1)
    NUMERIC: frozenset({"=", "<>", "<", "<=", ">", ">="})
}
_ENUM_NEVER_RAISE: Final = frozenset({"=", "<>"})
_COMPARISONS: Final = frozenset({"=", "<>", "<", "<=", ">", ">="})


def resolve_operation(resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope) -> Facts:
    """Resolve an A_Expr in place."""
    resolver.expect_fields("A_Expr", body, _FIELDS)
    kind = body.get("kind")
    name = operator_name(resolver, body["name"], body)
    left = resolver.expression(body["lexpr"], scope) if "lexpr" in body else None
    if kind == "AEXPR_IN" or kind in _BETWEEN:
        return _over_list(resolver, body, name, left, scope)
    right = resolver.expression(body["rexpr"], scope)
    if left is not None:
        left, right = registered.match_operands(
            resolver, name, [(body["lexpr"], left), (body["rexpr"], right)], is_comparison=kind in _COMPARING
        )
    parts = (right,) if left is None else (left, right)
    if kind == "AEXPR_OP" and left is not None:
        is_leakproof = is_leakproof_operator(resolver, name, left, right)
        return combine(parts, _result(name, left, right), is_leakproof=is_leakproof)
    if kind in ("AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT") and left is not None:
        return combine(parts, BOOL, is_leakproof=is_leakproof_operator(resolver, "=", left, right))
    if kind in ("AEXPR_OP_ANY", "AEXPR_OP_ALL") and left is not None:
        return combine(parts, BOOL, is_leakproof=_is_leakproof_over_array(resolver, name, left, right))
    if kind in _LEAKY_KINDS or (kind == "AEXPR_OP" and left is None):
        return combine(parts, 0)
    resolver.refuse(f"A_Expr {kind}", body)


def operator_name(resolver: Resolver, parts: list[Node], body: dict[str, Any]) -> str:
    """Return the name of an operator of pg_catalog; refuse one of another schema."""
    names: list[str] = strings(parts)
    if len(names) > 1 and names[:-1] != ["pg_catalog"]:
        message = f"operator does not exist: {'.'.join(names)}"
        resolver.fail(Sqlstate.UNDEFINED_FUNCTION, message, body.get("location"))
    return names[-1]


def is_leakproof_operator(resolver: Resolver, name: str, left: Facts, right: Facts) -> bool:
    """Say whether `left name right` is leakproof; undeclared parameters are taken to have the other side's type, and noted."""
    left_type, right_type = stored_as(left.type), stored_as(right.type)
    if left_type == UNKNOWN:
        left_type = right_type
    if right_type == UNKNOWN:
        right_type = left_type
    note_parameters(resolver, left, right_type)
    note_parameters(resolver, right, left_type)
    if left_type in (0, UNKNOWN) or right_type in (0, UNKNOWN):
        return False
    return has_leakproof_entry(resolver, name, left_type, right_type)


def has_leakproof_entry(resolver: Resolver, name: str, left: int, right: int) -> bool:
    """Say whether the catalog's operator for exactly these types is leakproof, or reviewed as never raising."""
    catalog = resolver.world.catalog
    if OperatorKey(name, left, right) in catalog.leakproof_operators:
        return True
    if left != right:
        return False
    if name in _NEVER_RAISE.get(left, ()):
        return True
    found = catalog.types.get(left)
    return found is not None and found.kind == "e" and name in _ENUM_NEVER_RAISE


def note_parameters(resolver: Resolver, facts: Facts, type_oid: int) -> None:
    """Take down that a parameter without a declared type stands against a type (0: none that is certain)."""
    if facts.type != UNKNOWN:
        return
    for number in facts.assumes:
        resolver.parameter_uses[number][facts].add(0 if type_oid == UNKNOWN else type_oid)


def stored_as(type_oid: int) -> int:
    """Return the type whose operators are used for a type."""
    return _OID if type_oid < 0 else _STORED_AS.get(type_oid, type_oid)


def _result(name: str, left: Facts, right: Facts) -> int:
    if name in _COMPARISONS:
        return BOOL
    if left.reads or right.reads:
        return 0
    return _ARITHMETIC.get((name, left.type, right.type), 0)


def _over_list(resolver: Resolver, body: dict[str, Any], name: str, left: Facts | None, scope: Scope) -> Facts:
    """Judge IN (list) and BETWEEN: leakproof when every comparison in them is."""
    listed = body["rexpr"].get("List")
    if left is None or listed is None:
        resolver.refuse("A_Expr.rexpr", body)
    resolver.expect_fields("List", listed, _LIST_FIELDS)
    items = [resolver.expression(item, scope) for item in listed["items"]]
    nodes = [body["lexpr"], *listed["items"]]
    left, *items = registered.match_operands(
        resolver, name, list(zip(nodes, (left, *items), strict=True)), is_comparison=True
    )
    names = _BETWEEN.get(body["kind"], (name,))
    is_symmetric = body["kind"].endswith("_SYM")
    is_leakproof = True
    for item in items:
        for each in (">=", "<=", "<", ">") if is_symmetric else names:
            is_leakproof = is_leakproof_operator(resolver, each, left, item) and is_leakproof
    if body["kind"] == "AEXPR_IN":
        kinds = {item.type for item in items} - {UNKNOWN}
        is_leakproof = is_leakproof and len(kinds) <= 1
    return combine((left, *items), BOOL, is_leakproof=is_leakproof)


def _is_leakproof_over_array(resolver: Resolver, name: str, left: Facts, right: Facts) -> bool:
    """Judge `column op ANY|ALL (constant array)`: leakproof when the operator on the elements is (ScalarArrayOpExpr)."""
    own = stored_as(left.type)
    element = resolver.world.catalog.types.get(own)
    if right.reads or own in (0, UNKNOWN) or element is None:
        return False
    if right.type == UNKNOWN:
        note_parameters(resolver, right, element.array)
        return has_leakproof_entry(resolver, name, own, own)
    found = resolver.world.catalog.types.get(right.type)
    return (
        found is not None and found.element != 0 and has_leakproof_entry(resolver, name, own, stored_as(found.element))
    )
