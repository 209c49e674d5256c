"""Quals taken apart: each conjunct is resolved and judged by itself (RECIPES R3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pgfaucet.sql import sublink
from pgfaucet.sql.facts import Facts
from pgfaucet.sql.scope import RelationItem

if TYPE_CHECKING:
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Item, Scope
    from pgfaucet.sql.world import Node

_BOOL_EXPR_FIELDS: Final = frozenset({"boolop", "args", "location"})


class Place:
    """A join in a FROM tree; `nullable` counts the outer joins on whose nullable side it stands."""

    __slots__ = ("nullable",)

    def __init__(self) -> None:
        self.nullable = 0


@dataclass(slots=True)
class Conjunct:
    """One condition that every row must pass."""

    node: Node
    facts: Facts


@dataclass(slots=True)
class Condition:
    """A qual: WHERE, HAVING, or ON. `holder[key]` is where its remains are written back.

    `place` None: WHERE. `nullable_side` None: an inner join or WHERE; else the items of an outer join that its ON may filter.
    """

    holder: dict[str, Any]
    key: str
    scope: Scope
    conjuncts: list[Conjunct] = field(default_factory=list)
    place: Place | None = None
    nullable_side: frozenset[Item] | None = None
    may_move: bool = True


def resolve_condition(  # noqa: PLR0913 - a qual is told by where it stands
    resolver: Resolver,
    holder: dict[str, Any],
    key: str,
    scope: Scope,
    *,
    place: Place | None = None,
    nullable_side: frozenset[Item] | None = None,
    may_move: bool = True,
) -> Condition:
    """Resolve the qual in holder[key] conjunct by conjunct."""
    condition = Condition(holder, key, scope, place=place, nullable_side=nullable_side, may_move=may_move)
    is_write = any(isinstance(item, RelationItem) and item.is_raw for item in scope.items)
    becomes_join = may_move and nullable_side is None and not is_write
    for node in split(holder[key]):
        facts = sublink.resolve_conjunct(resolver, node, scope) if becomes_join else resolver.expression(node, scope)
        if not facts.is_leakproof:
            scope.is_clean = False
        if facts.is_volatile:
            scope.is_volatile = True
            facts = _anywhere(facts, scope)
        condition.conjuncts.append(Conjunct(node, facts))
    return condition


def _anywhere(facts: Facts, scope: Scope) -> Facts:
    """Return the facts of a volatile condition: it may be run for every row of every relation of the level."""
    return Facts(
        facts.type,
        is_leakproof=False,
        reads=facts.reads,
        sources=facts.sources | scope.sources(),
        is_volatile=True,
        is_fixed=True,
    )


def split(node: Node) -> list[Node]:
    """Take an expression apart at its top-level ANDs."""
    both = node.get("BoolExpr")
    if both is None or both.get("boolop") != "AND_EXPR" or not both.keys() <= _BOOL_EXPR_FIELDS:
        return [node]
    return [part for arg in both["args"] for part in split(arg)]
