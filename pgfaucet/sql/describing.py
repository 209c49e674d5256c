"""Calls of functions that tell of objects: each becomes an expression that speaks of what is in the role's sight only.

An argument is evaluated once: what is judged and what is described must be the same value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import build, client_path
from pgfaucet.sql.expression import bind_row, substitute_columns
from pgfaucet.sql.facts import Facts, combine
from pgfaucet.sql.literals import replace_node
from pgfaucet.sql.scope import RelationItem
from pgfaucet.sql.tree import has_class, string, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.world import Description, Node

ARGUMENTS: Final = "pgf_arguments"
_CAST_SAFELY: Final = {
    "oid": frozenset({21, 23, 24, 26, 2202, 2205, 2206, 4089}),  # int2, int4, oid, reg*
    "int4": frozenset({21, 23}),
    "bool": frozenset({16}),
    "name": frozenset({19}),
    "pg_node_tree": frozenset({194}),
}


def type_name(kind: str) -> dict[str, Any]:
    """Make the name of a type of pg_catalog, or of its array when `[]` is written after it."""
    made: dict[str, Any] = {"names": [build.string("pg_catalog"), build.string(kind.removesuffix("[]"))], "typemod": -1}
    return made | {"arrayBounds": [{"Integer": {"ival": -1}}]} if kind.endswith("[]") else made


def write(
    resolver: Resolver,
    node: Node,
    found: Description,
    parameters: Sequence[tuple[str, str]],
    facts: list[Facts],
    arguments: list[Node],
) -> Facts:
    """Put the expression of a description, over resolved arguments, in the place of `node`; `parameters`: their names and types."""
    result_type = found.result
    values = {
        name: argument if kind == "any" else build.cast(argument, type_name(kind))
        for (name, kind), argument in zip(parameters, arguments, strict=True)
    }
    described = client_path.fill(resolver, found.node)
    is_plain = not found.has_sublink and all(map(_is_plain, arguments, facts))
    if found.is_record:
        _check_repeatable(resolver, arguments, facts)
        is_plain = True
    if is_plain:
        made = substitute_columns(described, values)
    else:
        _check_movable(resolver, arguments)
        made = _over_arguments(described, values)
    replace_node(resolver, node, build.call("unnest", made) if found.is_set else made)
    is_quiet = not found.is_leaky and all(map(_never_raises, parameters, facts))
    combined = combine(facts, result_type, is_leakproof=is_quiet)
    if is_plain and not found.has_sublink:
        return combined
    return Facts(
        result_type,
        is_leakproof=combined.is_leakproof,
        reads=combined.reads,
        sources=combined.sources,
        is_volatile=combined.is_volatile,
        is_fixed=True,
        is_lazy=combined.is_lazy or found.is_leaky,
        assumes=combined.assumes,
    )


def _check_movable(resolver: Resolver, arguments: list[Node]) -> None:
    """Refuse what would mean something else in a sub-select: there it would be computed over one row, or give several."""
    catalog = resolver.world.catalog
    for call in (found["FuncCall"] for argument in arguments for found in _own_level(argument) if "FuncCall" in found):
        name = string(call["funcname"][-1])
        is_unbound = name in catalog.aggregate_functions and not has_class(call, "ColumnRef")
        if "over" in call or is_unbound or name in catalog.set_functions:
            message = "an aggregate, window or set-returning function is not supported in this argument"
            resolver.fail(Sqlstate.FEATURE_NOT_SUPPORTED, message)


def _own_level(root: Node) -> Iterator[Node]:
    """Yield the nodes of an expression outside its sub-selects."""
    waiting: list[Any] = [root]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting.extend(found)
        elif isinstance(found, dict) and "SubLink" not in found:
            yield found
            waiting.extend(found.values())


def _check_repeatable(resolver: Resolver, arguments: list[Node], facts: list[Facts]) -> None:
    """Refuse arguments that cannot be written more than once, and at any depth: they would be other values there."""
    for argument, known in zip(arguments, facts, strict=True):
        if not _is_plain(argument, known) or any(
            len(found.get("ColumnRef", {}).get("fields", "..")) < 2 for found in walk(argument)
        ):
            resolver.fail(Sqlstate.FEATURE_NOT_SUPPORTED, "write this argument as a constant or a qualified column")


def _is_plain(argument: Node, facts: Facts) -> bool:
    """Whether an argument is the same however often it is evaluated, whatever the planner makes of the statement."""
    while "TypeCast" in argument:
        argument = argument["TypeCast"]["arg"]
    if "ColumnRef" in argument:
        return all(isinstance(item, RelationItem) for item in facts.reads)
    return "A_Const" in argument or "ParamRef" in argument


def _never_raises(parameter: tuple[str, str], facts: Facts) -> bool:
    """Whether the cast of an argument to the parameter's type succeeds for every value."""
    kind = parameter[1]
    if kind in ("oid", "any") and facts.type < 0:
        return True
    return not facts.reads or kind == "any" or facts.type in _CAST_SAFELY.get(kind, ())


def _over_arguments(described: Node, values: dict[str, Node]) -> Node:
    """Write `(SELECT described FROM (SELECT <argument> AS name, ... OFFSET 0) AS pgf_arguments)`."""
    inner = build.select(
        [build.target(value, name) for name, value in values.items()],
        limitOffset={"A_Const": {"ival": {}}},
        limitOption="LIMIT_OPTION_COUNT",
    )
    source = {"RangeSubselect": {"subquery": inner, "alias": {"aliasname": ARGUMENTS}}}
    outer = build.select([build.target(bind_row(described, ARGUMENTS))], fromClause=[source])
    return {"SubLink": {"subLinkType": "EXPR_SUBLINK", "subselect": outer}}
