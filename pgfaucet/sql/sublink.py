"""Sub-selects inside expressions, and what they do to the leakproofness of what is around them.

As a conjunct, `x IN (uncorrelated)` and `[NOT] EXISTS (plain, correlated)` always become joins (pull_up_sublinks in the planner's
prepjointree.c): what they evaluate inside is then never run on a hidden row of the outer level. Anywhere else a sub-select is a SubPlan
that may run before the outer row's filter, so that everything inside must be leakproof.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.sql import operators
from pgfaucet.sql.facts import BOOL, NONE, TEXT, UNKNOWN, Facts, combine

if TYPE_CHECKING:
    from pgfaucet.sql.query import Query
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Item, Scope
    from pgfaucet.sql.world import Node

_BOOL_EXPR_FIELDS: Final = frozenset({"boolop", "args", "location"})
_FIELDS = frozenset({"subLinkType", "testexpr", "operName", "subselect", "location"})


def resolve_conjunct(resolver: Resolver, node: Node, scope: Scope) -> Facts:
    """Resolve a conjunct of WHERE or of an inner join's ON."""
    link = node.get("SubLink")
    if link is not None:
        return _resolve(resolver, link, scope, is_conjunct=True)
    negation = node.get("BoolExpr")
    if negation is not None and negation.get("boolop") == "NOT_EXPR":
        inner = negation["args"][0].get("SubLink")
        if inner is not None and inner.get("subLinkType") == "EXISTS_SUBLINK":
            resolver.expect_fields("BoolExpr", negation, _BOOL_EXPR_FIELDS)
            return _resolve(resolver, inner, scope, is_conjunct=True)
    return resolver.expression(node, scope)


def resolve_sublink(resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope) -> Facts:
    """Resolve a SubLink in place."""
    return _resolve(resolver, body, scope, is_conjunct=False)


def _resolve(resolver: Resolver, body: dict[str, Any], scope: Scope, *, is_conjunct: bool) -> Facts:
    resolver.expect_fields("SubLink", body, _FIELDS)
    kind = body.get("subLinkType")
    test = resolver.expression(body["testexpr"], scope) if "testexpr" in body else None
    query = resolver.query(body["subselect"], scope)
    if kind == "EXISTS_SUBLINK":
        return _exists(query, scope, is_conjunct=is_conjunct)
    if kind == "EXPR_SUBLINK":
        return _facts(query, _type(query), is_leakproof=query.is_clean and query.has_one_row)
    if kind == "ARRAY_SUBLINK":
        return _facts(query, _array_of(resolver, query), is_leakproof=query.is_clean)
    if kind in ("ANY_SUBLINK", "ALL_SUBLINK") and test is not None:
        is_join = is_conjunct and kind == "ANY_SUBLINK" and _only_reads(test.reads, scope)
        return _compare(resolver, body, test, query, is_conjunct=is_join)
    resolver.refuse(f"SubLink {kind}", body)


def _facts(query: Query, type_oid: int, *, is_leakproof: bool, sources: frozenset[Any] = NONE) -> Facts:
    return Facts(
        type_oid,
        is_leakproof=is_leakproof,
        reads=query.outer,
        sources=query.outer_sources | sources,
        is_volatile=query.is_volatile,
        is_fixed=True,
        is_lazy=not is_leakproof,
    )


def _only_reads(items: frozenset[Item], scope: Scope) -> bool:
    """Say whether what is read belongs to this very level: the planner makes no join of a sub-select that reaches further out."""
    return bool(items) and all(item.scope is scope for item in items)


def _exists(query: Query, scope: Scope, *, is_conjunct: bool) -> Facts:
    is_join = is_conjunct and query.joins_when_exists and not query.is_volatile
    becomes_join = is_join and _only_reads(query.outer, scope)
    return _facts(query, BOOL, is_leakproof=query.is_clean or becomes_join)


def _type(query: Query) -> int:
    """Return the type of the first output column; a literal without a type becomes text there."""
    found = query.columns[0][1].type if query.columns else 0
    return TEXT if found == UNKNOWN else found


def _array_of(resolver: Resolver, query: Query) -> int:
    element = resolver.world.catalog.types.get(_type(query))
    return element.array if element is not None else 0


def _compare(resolver: Resolver, body: dict[str, Any], test: Facts, query: Query, *, is_conjunct: bool) -> Facts:
    """Judge `test op ANY|ALL (query)`."""
    name = operators.operator_name(resolver, body["operName"], body) if "operName" in body else "="
    becomes_join = is_conjunct and not query.outer and not query.is_volatile and not test.is_volatile
    compared = query.columns[0][1].retyped(_type(query)) if len(query.columns) == 1 else None
    is_leakproof = (
        compared is not None
        and test.is_leakproof
        and (compared.is_leakproof or not (compared.sources or compared.is_lazy))
        and (query.is_clean or becomes_join)
        and operators.is_leakproof_operator(resolver, name, test, compared)
    )
    inner = NONE.union(*(facts.sources for _, facts in query.columns)) if not is_leakproof else NONE
    whole = _facts(query, BOOL, is_leakproof=is_leakproof, sources=inner)
    joined = combine((test, whole), BOOL, is_leakproof=True)
    joined.is_leakproof = is_leakproof
    joined.is_lazy = not query.is_clean
    return joined
