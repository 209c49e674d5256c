"""Function calls: which may be called, and what is known of their result.

A name means pg_catalog's function if that is classified safe, else one that the role's policy grants; anything else is refused in the same
words, whether it exists or not. What is emitted is always qualified (RECIPES S0.3, G3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import build, catalog_calls, emulation, registered
from pgfaucet.sql.builtins import FunctionClass, classify, is_type_allowed
from pgfaucet.sql.catalog import QualifiedName
from pgfaucet.sql.command import LEAVES_BEHIND
from pgfaucet.sql.facts import DATE, FLOAT8, INT8, TIMESTAMPTZ, Facts, combine
from pgfaucet.sql.tree import strings

if TYPE_CHECKING:
    from pgfaucet.sql.catalog import Function
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Scope
    from pgfaucet.sql.world import Node

_NAMED_ARG_EXPR_FIELDS: Final = frozenset({"arg", "name", "argnumber", "location"})
_FIELDS: Final = frozenset(
    {
        "funcname",
        "args",
        "agg_order",
        "agg_filter",
        "over",
        "agg_within_group",
        "agg_star",
        "agg_distinct",
        "func_variadic",
        "funcformat",
        "location",
    }
)
_RESULT_TYPES: Final = {
    "now": TIMESTAMPTZ,
    "transaction_timestamp": TIMESTAMPTZ,
    "statement_timestamp": TIMESTAMPTZ,
    "clock_timestamp": TIMESTAMPTZ,
    "count": INT8,
    "row_number": INT8,
    "rank": INT8,
    "dense_rank": INT8,
    "random": FLOAT8,
    "make_date": DATE,
}
_TYPE_OF_ARGUMENT: Final = frozenset(
    {"min", "max", "any_value", "lag", "lead", "first_value", "last_value", "nth_value"}
)
_NEVER_RAISING_AGGREGATES: Final = frozenset({"count", "min", "max", "bool_and", "bool_or", "every"})

_HELPERS: Final = frozenset({"_pg_expandarray"})
"""Functions of information_schema that only compute from their arguments; drivers take index keys apart with them."""


def resolve_call(resolver: Resolver, node: Node, body: dict[str, Any], scope: Scope) -> Facts:
    """Resolve a FuncCall in place."""
    resolver.expect_fields("FuncCall", body, _FIELDS)
    emulated = emulation.emulate(resolver, node, body) or catalog_calls.describe(resolver, node, body, scope)
    if emulated is not None:
        return emulated
    location = body.get("location")
    name, granted = resolve_name(resolver, body)
    catalog = resolver.world.catalog
    is_window = "over" in body
    is_aggregate = (
        is_window or (not granted and name in catalog.aggregate_functions) or any(f.kind in "aw" for f in granted)
    )
    arguments = body.get("args", [])
    if len(arguments) > 100:
        resolver.fail("54023", "cannot pass more than 100 arguments to a function", location)
    if is_aggregate and not is_window:
        resolver.aggregate_depth += 1
    parts = registered.resolve_arguments(resolver, name, arguments, scope)
    parts += [resolver.sort_key(key, scope) for key in body.get("agg_order", ())]
    if "agg_filter" in body:
        parts.append(resolver.expression(body["agg_filter"], scope))
    if is_aggregate and not is_window:
        resolver.aggregate_depth -= 1
    if is_aggregate:
        scope.has_aggregate = True
    if is_window:
        parts += resolver.window(body["over"], scope)
    volatile = any(f.volatility == "v" for f in granted) if granted else name in catalog.volatile_functions
    facts = combine(parts, _type(name, granted, parts, arguments), is_volatile=volatile)
    if not granted:
        facts = registered.result_of(resolver, node, name, parts, facts)
    if not is_aggregate:
        return facts
    is_harmless = name in _NEVER_RAISING_AGGREGATES and not granted and all(part.is_leakproof for part in parts)
    return facts.opaque(is_leakproof=is_harmless)


def resolve_name(resolver: Resolver, body: dict[str, Any]) -> tuple[str, tuple[Function, ...]]:
    """Qualify a call's function name in place; return the name and, unless it is pg_catalog's, the granted functions.

    Raises FaucetError: 42501 for everything that the role may not call.
    """
    names = strings(body["funcname"])
    if len(names) == 3 and names[0] == resolver.world.catalog.database:
        names = names[1:]
    schema = names[0] if len(names) == 2 else None
    name = names[-1]
    if len(names) <= 2:
        overloads = overloads_of(resolver, name) if schema is None else ()
        if overloads:
            body["funcname"] = [build.string(name)]
            return name, overloads
        if schema in (None, "pg_catalog") and is_builtin_open(resolver, name):
            body["funcname"] = [build.string("pg_catalog"), build.string(name)]
            if name == "overlay":
                body["funcformat"] = "COERCE_SQL_SYNTAX"  # libpg_query prints it so either way
            if name in LEAVES_BEHIND:
                resolver.pin = "session state"
            return name, ()
        if schema == "information_schema" and name in _HELPERS:
            return name, ()
        for candidate in (schema,) if schema is not None else resolver.context.search_path:
            found = resolver.world.functions.get(QualifiedName(candidate, name))
            if found and (candidate != "pg_temp" or schema is not None):  # the path never leads there (namespace.c)
                body["funcname"] = [build.string(candidate), build.string(name)]
                resolver.notes[f"function {candidate}.{name}: granted"] = None
                return name, found
    shown = ".".join(names)
    resolver.fail(Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied for function {shown}", body.get("location"))


def overloads_of(resolver: Resolver, name: str) -> tuple[Function, ...]:
    """Return the functions that share a name with an open one of pg_catalog, where the server may choose among them by the arguments' types.

    The role may call all of them, and the server's search_path is the client's (parser/parse_func.c, FuncnameGetCandidates).
    """
    if not (resolver.world.may_define and is_builtin_open(resolver, name)):
        return ()
    path = [schema for schema in resolver.context.search_path if schema != "pg_temp"]
    return tuple(each for schema in path for each in resolver.world.functions.get(QualifiedName(schema, name), ()))


def is_builtin_open(resolver: Resolver, name: str) -> bool:
    """Say whether pg_catalog's function, or cast in functional notation, of that name may be called."""
    if name in resolver.world.catalog.system_functions:
        return classify(name) is FunctionClass.SAFE or name in resolver.world.system_functions
    return resolver.world.catalog.type_named(QualifiedName("pg_catalog", name)) is not None and is_type_allowed(name)


def resolve_named_argument(resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope) -> Facts:
    """Resolve `name => value`."""
    resolver.expect_fields("NamedArgExpr", body, _NAMED_ARG_EXPR_FIELDS)
    return resolver.expression(body["arg"], scope)


def _type(name: str, granted: tuple[Function, ...], parts: list[Facts], arguments: list[Node]) -> int:
    if granted:
        results = {function.return_type for function in granted}
        return results.pop() if len(results) == 1 and not any(f.returns_set for f in granted) else 0
    if name in _TYPE_OF_ARGUMENT and arguments:
        return parts[0].type
    return _RESULT_TYPES.get(name, 0)
