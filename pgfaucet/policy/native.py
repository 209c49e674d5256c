"""Pieces of native DDL: names, strings, comments, and a policy's expressions as they stand in CREATE POLICY."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from pgfaucet.sql import build
from pgfaucet.sql.catalog import OperatorKey
from pgfaucet.sql.expression import (
    claim_name,
    own_column,
    parse_expression,
    replace_claims,
    replace_nodes,
    text_constant,
)
from pgfaucet.sql.printer import print_verified
from pgfaucet.sql.tree import walk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgfaucet.sql.catalog import CatalogSnapshot, Column, QualifiedName
    from pgfaucet.sql.expression import Expression
    from pgfaucet.sql.world import Node

MAX_NAME_BYTES: Final = 63  # NAMEDATALEN - 1
SETTING: Final = "pgfaucet.claim_"
_SETTING_NAME: Final = re.compile(r"[A-Za-z0-9_$]+", re.ASCII)
_COMPARISONS: Final = frozenset({"=", "<>", "<", ">", "<=", ">="})
"""Operators of pg_catalog that give NULL for NULL, whatever their operands."""


def identifier(name: str) -> str:
    """Quote a name."""
    return '"' + name.replace('"', '""') + '"'


def identifiers(names: list[str]) -> str:
    """Quote names, separated by commas."""
    return ", ".join(map(identifier, names))


def qualified(name: QualifiedName) -> str:
    """Quote a name with its schema."""
    return f"{identifier(name.schema)}.{identifier(name.name)}"


def literal(text: str) -> str:
    """Write a string constant, for standard_conforming_strings = on."""
    return "'" + text.replace("'", "''") + "'"


def comment(text: str, indent: int = 0) -> str:
    """Write a comment: one line, whatever is in the text."""
    return "-- " + " " * indent + " ".join(text.split())


def fits_name(name: str) -> bool:
    """Say whether PostgreSQL would take a name as it is."""
    return 0 < len(name.encode()) <= MAX_NAME_BYTES


def object_name(*parts: str) -> str:
    """Make the name of an object of ours; one that is too long ends in a hash of what it should be."""
    name = " ".join(parts)
    if fits_name(name):
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name.encode()[: MAX_NAME_BYTES - 9].decode(errors="ignore") + " " + digest


def is_settable(claim: str) -> bool:
    """Say whether a claim can be a setting: PostgreSQL allows letters, digits, _ and $ in its name."""
    return _SETTING_NAME.fullmatch(claim) is not None


def printed(expression: Node) -> str:
    """Print one expression; the text is proved to parse into it."""
    return print_verified(build.select([build.target(expression)])).removeprefix("SELECT ")


def bare(expression: Node) -> Node:
    """Copy an expression with the table's own columns by their bare names, as CREATE POLICY has them."""

    def named(found: Node) -> Node | None:
        column = own_column(found)
        return build.column(column) if column is not None else None

    return replace_nodes(expression, named)


def with_claims(expression: Expression, claims: Mapping[str, str]) -> Node:
    """Put claims into an expression: constants where they are given, settings elsewhere."""
    return replace_claims(expression.node, lambda name: _claim(name, claims))


def condition(expression: Expression, claims: Mapping[str, str]) -> Node:
    """Put claims into a row filter or check, so that it is not true for any row when one of them is absent."""
    open_claims = sorted(expression.claims - claims.keys() - _compared(expression.node))
    present = [_is_not_null(_claim(name, claims)) for name in open_claims]
    return build.all_of(*present, with_claims(expression, claims))


def is_preset(column: Column, preset: Node, catalog: CatalogSnapshot) -> Node:
    """Make the condition that a new row's column holds what the policy presets."""
    type_name = parse_expression(f"NULL::{column.type_sql}")["TypeCast"]["typeName"]
    own, value = build.column(column.name), build.cast(preset, type_name)
    base = catalog.base_type(column.type_oid)
    if OperatorKey("=", base, base) not in catalog.leakproof_operators:  # it may have no operator = at all, as json
        text = {"names": [build.string("pg_catalog"), build.string("text")], "typemod": -1}
        own, value = build.cast(own, text), build.cast(value, text)
    return build.operation(own, "=", value, "AEXPR_NOT_DISTINCT")


def needs_owner(expression: Node) -> bool:
    """Say whether an expression reaches what the role need not have a right to: other tables, functions outside pg_catalog."""
    for node in walk(expression):
        if "SubLink" in node:
            return True
        names = node.get("FuncCall", {}).get("funcname", ()) or node.get("A_Expr", {}).get("name", ())
        if len(names) > 1 and names[0]["String"]["sval"] != "pg_catalog":
            return True
    return False


def _claim(name: str, claims: Mapping[str, str]) -> Node:
    if name in claims:
        return text_constant(claims[name])
    setting = build.call("current_setting", build.text(SETTING + name), build.boolean(value=True))
    return build.operation(setting, "=", build.text(""), "AEXPR_NULLIF")  # SET LOCAL leaves '' behind, not NULL


def _is_not_null(value: Node) -> Node:
    return {"NullTest": {"arg": value, "nulltesttype": "IS_NOT_NULL"}}


def _compared(expression: Node) -> frozenset[str]:
    """Return the claims that a condition compares as they are: it cannot be true without them."""
    found = set()
    for part in build.conjuncts(expression):
        body = part.get("A_Expr", {})
        if body.get("kind") != "AEXPR_OP" or [name["String"]["sval"] for name in body["name"]][-1] not in _COMPARISONS:
            continue
        sides = (body.get("lexpr", {}), body.get("rexpr", {}))
        found |= {name for side in sides if len(body["name"]) == 1 and (name := _cast_claim(side)) is not None}
    return frozenset(found)


def _cast_claim(node: Node) -> str | None:
    """Return k if a node is `claim('k')`, cast or not."""
    while "TypeCast" in node:
        node = node["TypeCast"]["arg"]
    return claim_name(node)
