"""Expressions that the policy's author wrote: compiled so that they mean the same wherever the rewrite puts them.

In a compiled expression every name is resolved and qualified, the relation's own columns stand as `ColumnRef [OWN_ROW, column]`, and no
name of the client's statement can capture anything. Client SQL never comes through here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

from pgfaucet.errors import FaucetError
from pgfaucet.sql import build
from pgfaucet.sql.expression_names import Names
from pgfaucet.sql.expression_scope import PolicyError
from pgfaucet.sql.parse import parse
from pgfaucet.sql.tree import copy_tree, strings, walk
from pgfaucet.sql.world import OWN_ROW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgfaucet.sql.catalog import CatalogSnapshot, Relation
    from pgfaucet.sql.expression_names import Pseudo
    from pgfaucet.sql.world import Node

__all__ = [
    "Compiled",
    "Expression",
    "PolicyError",
    "bind_row",
    "bind_values",
    "claim_name",
    "claims_in",
    "compile_expression",
    "own_column",
    "own_columns",
    "parse_expression",
    "replace_claims",
    "replace_nodes",
    "resolve_expression",
    "substitute_columns",
    "text_constant",
]

Purpose = Literal["row_filter", "check", "preset", "mask"]

PREFIX: Final = "SELECT "
MAX_BYTES: Final = 65_536
MAX_DEPTH: Final = 100  # nodes inside nodes: what walks an expression may recurse
TEXT_TYPE: Final = {"names": [build.string("pg_catalog"), build.string("text")], "typemod": -1}


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression with the claims of one token in it."""

    node: Node
    columns: frozenset[str]  # the relation's own columns that it reads
    has_sublink: bool
    claims: frozenset[str]  # claims it names
    missing_claim: bool  # a claim it names is absent: a row filter or check is then FALSE, and so is `node`


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression before claims: `claim('k')` still stands in it as a function call."""

    node: Node
    purpose: Purpose
    columns: frozenset[str]
    has_sublink: bool
    claims: frozenset[str]

    def with_claims(self, claims: Mapping[str, str]) -> Compiled:
        """Put a token's claims in: text constants, NULL for one that is absent."""
        is_missing = not claims.keys() >= self.claims
        if is_missing and self.purpose in {"row_filter", "check"}:
            return Compiled(
                build.boolean(value=False), frozenset(), has_sublink=False, claims=self.claims, missing_claim=True
            )
        node = replace_claims(self.node, lambda name: text_constant(claims.get(name))) if self.claims else self.node
        return Compiled(node, self.columns, self.has_sublink, self.claims, is_missing)


def compile_expression(
    text: str,
    relation: Relation,
    catalog: CatalogSnapshot,
    claims: Mapping[str, str],
    search_path: tuple[str, ...],
    *,
    purpose: Purpose,
) -> Compiled:
    """Compile an expression over a relation's columns. Raises PolicyError."""
    return resolve_expression(text, relation, catalog, search_path, purpose=purpose).with_claims(claims)


def resolve_expression(
    text: str,
    relation: Relation,
    catalog: CatalogSnapshot,
    search_path: tuple[str, ...],
    *,
    purpose: Purpose,
    pseudo: Mapping[str, Pseudo] | None = None,
) -> Expression:
    """Resolve every name of an expression; claims stay open. `pseudo` are further functions that stand for a tree.

    Raises PolicyError, with the position in `text`.
    """
    names = Names(catalog, search_path, relation, pseudo=pseudo or {}, may_read_row=purpose != "preset")
    try:
        node = names.resolve(parse_expression(text))
    except PolicyError as error:
        raise error.located_in(text, len(PREFIX)) from None
    except RecursionError:
        raise PolicyError("the expression is nested too deeply") from None
    return Expression(node, purpose, frozenset(names.own_columns), names.has_sublink, _claims_of(node))


@lru_cache(maxsize=4096)
def parse_expression(text: str) -> Node:
    """Parse one expression. Raises PolicyError. The tree is shared: copy before changing it."""
    try:
        statements = parse(PREFIX + text, max_bytes=MAX_BYTES, max_depth=MAX_DEPTH)
    except FaucetError as error:
        position = error.position - len(PREFIX) if error.position is not None else None
        raise PolicyError(error.message, position) from None
    select = statements[0].stmt.get("SelectStmt", {}) if len(statements) == 1 else {}
    targets = select.get("targetList", [])
    if select.keys() != {"targetList", "limitOption", "op"} or select["op"] != "SETOP_NONE" or len(targets) != 1:
        raise PolicyError("this is not one expression")
    target = targets[0]["ResTarget"]
    if target.keys() - {"val", "location"}:
        raise PolicyError("an expression has no name")
    node: Node = target["val"]
    return node


def claims_in(text: str) -> frozenset[str]:
    """Return the claims that an expression names; none if it does not parse."""
    try:
        return _claims_of(parse_expression(text))
    except PolicyError:
        return frozenset()


def bind_row(node: Node, alias: str) -> Node:
    """Copy an expression with the relation's alias in force as the owner of its columns."""

    def bound(found: Node) -> Node | None:
        column = own_column(found)
        return build.column(alias, column) if column is not None else None

    return replace_nodes(node, bound)


def substitute_columns(node: Node, values: Mapping[str, Node]) -> Node:
    """Copy an expression with the given own columns replaced by expressions; other columns stay unbound."""

    def value(found: Node) -> Node | None:
        column = own_column(found)
        return copy_tree(values[column]) if column is not None and column in values else None

    return replace_nodes(node, value)


def bind_values(node: Node, values: Mapping[str, Node], alias: str | None) -> Node:
    """Copy an expression with own columns replaced by values, and the others bound to `alias` where there is one.

    The values themselves stand in it, not copies: the relations in their sub-selects get their filters in place, after this.
    """

    def value(found: Node) -> Node | None:
        column = own_column(found)
        if column is None:
            return None
        return values.get(column) or (build.column(alias, column) if alias is not None else None)

    return replace_nodes(node, value)


def own_columns(node: Node) -> frozenset[str]:
    """Return the relation's own columns that a compiled expression reads."""
    return frozenset(column for found in walk(node) if (column := own_column(found)) is not None)


def own_column(node: Node) -> str | None:
    """Return the column if a node is a reference to a column of the relation itself."""
    reference = node.get("ColumnRef")
    if reference is None:
        return None
    fields = reference["fields"]
    if len(fields) != 2 or fields[0].get("String", {}).get("sval") != OWN_ROW:
        return None
    return str(fields[1]["String"]["sval"])


def text_constant(value: str | None) -> Node:
    """Make `CAST('value' AS pg_catalog.text)`, or NULL of that type."""
    return build.cast(build.null() if value is None else build.text(value), TEXT_TYPE)


def _claims_of(node: Node) -> frozenset[str]:
    return frozenset(claim for found in walk(node) if (claim := claim_name(found)) is not None)


def claim_name(node: Node) -> str | None:
    """Return k if a node is `claim('k')`."""
    call = node.get("FuncCall")
    if call is None or strings(call["funcname"]) != ["claim"]:
        return None
    args = call.get("args", [])
    constant = args[0].get("A_Const", {}).get("sval") if len(args) == 1 else None
    return None if constant is None else str(constant.get("sval", ""))


def replace_claims(node: Node, value: Callable[[str], Node]) -> Node:
    """Copy an expression with a value in the place of each `claim('k')`."""

    def found_value(found: Node) -> Node | None:
        name = claim_name(found)
        return None if name is None else value(name)

    return replace_nodes(node, found_value)


def replace_nodes(node: Node, replacement: Callable[[Node], Node | None]) -> Node:
    """Copy a tree, with what `replacement` returns in the place of a node; None leaves it as it is."""
    replaced: Node = _replaced(node, replacement)
    return replaced


def _replaced(value: Any, replacement: Callable[[Node], Node | None]) -> Any:
    if isinstance(value, dict):
        instead = replacement(value)
        return instead if instead is not None else {key: _replaced(part, replacement) for key, part in value.items()}
    return [_replaced(part, replacement) for part in value] if isinstance(value, list) else value
