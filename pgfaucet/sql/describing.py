"""Calls of functions that tell of objects: each becomes an expression that speaks of what is in the role's sight only.

An argument is evaluated once: what is judged and what is described must be the same value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import build
from pgfaucet.sql.expression import bind_row, replace_nodes, substitute_columns
from pgfaucet.sql.facts import BOOL, TEXT, Facts, combine
from pgfaucet.sql.literals import replace_node
from pgfaucet.sql.scope import RelationItem
from pgfaucet.sql.tree import walk
from pgfaucet.sql.world import SEARCH_PATH

if TYPE_CHECKING:
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Scope
    from pgfaucet.sql.world import Description, Node

ARGUMENTS: Final = "pgf_arguments"
_CALL_FIELDS: Final = frozenset({"funcname", "args", "funcformat", "location"})
_CAST_SAFELY: Final = {
    "oid": frozenset({21, 23, 24, 26, 2202, 2205, 2206, 4089}),  # int2, int4, oid, reg*
    "int4": frozenset({21, 23}),
    "bool": frozenset({16}),
    "name": frozenset({19}),
    "pg_node_tree": frozenset({194}),
}
_OID: Final = 26
_NUMBERS: Final = frozenset({20, *_CAST_SAFELY["oid"]})
_NAME_ARRAY: Final = {
    "names": [build.string("pg_catalog"), build.string("name")],
    "typemod": -1,
    "arrayBounds": [{"Integer": {"ival": -1}}],
}


def describe(resolver: Resolver, node: Node, body: dict[str, Any], scope: Scope) -> Facts | None:
    """Put an expression in the place of a call that tells of objects; None when it is not one of those."""
    names = [part["String"].get("sval", "") for part in body["funcname"]]
    arguments = body.get("args", [])
    if len(names) > 2 or names[:-1] not in ([], ["pg_catalog"]) or names[-1] in resolver.world.system_functions:
        return None
    found = resolver.world.descriptions.get((names[-1], len(arguments)))
    if found is None or not body.keys() <= _CALL_FIELDS or any("NamedArgExpr" in argument for argument in arguments):
        return None
    facts = [resolver.expression(argument, scope) for argument in arguments]
    if found.is_argument:
        made: Node = {}
        described = write(resolver, made, found, facts, 0, arguments)
        body["funcname"], body["args"] = [build.string("pg_catalog"), build.string(names[-1])], [made]
        return described
    return write(resolver, node, found, facts, BOOL if names[-1].endswith("_is_visible") else TEXT, arguments)


def describe_cast(resolver: Resolver, node: Node, body: dict[str, Any], value: Facts) -> Facts | None:
    """Put an expression in the place of a cast to regclass and its kin; None when the cast is another one or is not open."""
    type_name = body["typeName"]
    names = [part["String"].get("sval", "") for part in type_name["names"]]
    if names[:-1] not in ([], ["pg_catalog"]) or "arrayBounds" in type_name or not names[-1].startswith("reg"):
        return None
    name = names[-1]
    if value.type not in _NUMBERS:
        name = f"text_to_{name}"
    found = resolver.world.descriptions.get((name, 1))
    return write(resolver, node, found, [value], _OID, [body["arg"]]) if found is not None else None


def write(
    resolver: Resolver, node: Node, found: Description, facts: list[Facts], result_type: int, arguments: list[Node]
) -> Facts:
    """Put the expression of a description, over resolved arguments, in the place of `node`."""
    values = {
        name: build.cast(argument, kind) for (name, kind), argument in zip(found.parameters, arguments, strict=True)
    }
    described = replace_nodes(found.node, lambda each: _search_path(resolver) if SEARCH_PATH in each else None)
    is_plain = not found.has_sublink and all(map(_is_plain, arguments, facts))
    if is_plain:
        replace_node(resolver, node, substitute_columns(described, values))
    else:
        _refuse_aggregates(resolver, arguments)
        replace_node(resolver, node, _over_arguments(described, values))
    is_quiet = not found.is_leaky and all(map(_never_raises, found.parameters, facts))
    combined = combine(facts, result_type, is_leakproof=is_quiet)
    if is_plain:
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


def _refuse_aggregates(resolver: Resolver, arguments: list[Node]) -> None:
    """In a sub-select they would be computed over its one row."""
    for found in (found for argument in arguments for found in walk(argument)):
        call = found.get("FuncCall", {})
        if "over" in call or (
            call and call["funcname"][-1]["String"]["sval"] in resolver.world.catalog.aggregate_functions
        ):
            resolver.fail(
                Sqlstate.FEATURE_NOT_SUPPORTED, "an aggregate or window function is not supported in this argument"
            )


def _is_plain(argument: Node, facts: Facts) -> bool:
    """Whether an argument is the same however often it is evaluated, whatever the planner makes of the statement."""
    while "TypeCast" in argument:
        argument = argument["TypeCast"]["arg"]
    if "ColumnRef" in argument:
        return not facts.is_fixed and all(isinstance(item, RelationItem) for item in facts.reads)
    return "A_Const" in argument or "ParamRef" in argument


def _never_raises(parameter: tuple[str, Node], facts: Facts) -> bool:
    """Whether the cast of an argument to the parameter's type succeeds for every value."""
    kind = parameter[1]["names"][-1]["String"]["sval"]
    return not facts.reads or facts.type in _CAST_SAFELY.get(kind, ())


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


def _search_path(resolver: Resolver) -> Node:
    path = resolver.context.search_path
    names = path if "pg_catalog" in path else ("pg_catalog", *path)
    return build.cast({"A_ArrayExpr": {"elements": [build.text(name) for name in names]}}, _NAME_ARRAY)
