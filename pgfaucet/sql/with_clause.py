"""WITH: which WITH queries are in sight where, and what their columns are (parser/parse_cte.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql.catalog import QualifiedName
from pgfaucet.sql.facts import BOOL, Facts
from pgfaucet.sql.scope import Scope, WithQuery
from pgfaucet.sql.tree import strings, walk

if TYPE_CHECKING:
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Columns
    from pgfaucet.sql.world import Node

_WITH_FIELDS: Final = frozenset({"ctes", "recursive", "location"})
_FIELDS: Final = frozenset(
    {"ctename", "aliascolnames", "ctematerialized", "ctequery", "search_clause", "cycle_clause", "location"}
)
_SEARCH_FIELDS: Final = frozenset({"search_col_list", "search_breadth_first", "search_seq_column", "location"})
_CYCLE_FIELDS: Final = frozenset(
    {
        "cycle_col_list",
        "cycle_mark_column",
        "cycle_mark_value",
        "cycle_mark_default",
        "cycle_path_column",
        "location",
    }
)


def resolve_with(resolver: Resolver, body: dict[str, Any], scope: Scope) -> None:
    """Resolve the WITH clause of a statement, if it has one, and put its queries in sight of `scope`."""
    clause = body.get("withClause")
    if clause is None:
        return
    resolver.expect_fields("WithClause", clause, _WITH_FIELDS)
    queries: list[WithQuery] = []
    for node in clause["ctes"]:
        written = node["CommonTableExpr"]
        resolver.expect_fields("CommonTableExpr", written, _FIELDS)
        queries.append(WithQuery(_name(resolver, written, queries), written, scope))
    if clause.get("recursive"):
        scope.with_queries = {query.name: query for query in queries}
    for query in queries:
        if query.columns is None:
            _resolve(resolver, query)
        scope.with_queries[query.name] = query


def columns_of(resolver: Resolver, query: WithQuery, location: int | None) -> Columns:
    """Return the columns of a WITH query that is referred to; one that stands further on is resolved now."""
    if query.columns is None:
        if query.is_in_progress:
            message = f'recursive reference to query "{query.name}" must not appear within its non-recursive term'
            resolver.fail("42P19", message, location)
        _resolve(resolver, query)
    return query.columns or []


def _name(resolver: Resolver, written: dict[str, Any], others: list[WithQuery]) -> str:
    name: str = written["ctename"]
    location = written.get("location")
    if name.startswith("pgf_") or QualifiedName("pg_catalog", name) in resolver.world.catalog.relations:
        resolver.fail(Sqlstate.FEATURE_NOT_SUPPORTED, f'WITH query name "{name}" is reserved', location)
    if any(query.name == name for query in others):
        message = f'WITH query name "{name}" specified more than once'
        resolver.fail(Sqlstate.DUPLICATE_ALIAS, message, location)
    return name


def _resolve(resolver: Resolver, query: WithQuery) -> None:
    query.is_in_progress = True
    node: Node = query.body["ctequery"]
    recursive = _recursive_arms(query, node)
    if recursive is not None:
        left, right = recursive
        _resolve_recursive(resolver, query, node, left, right)
    else:
        found = resolver.query(node, query.scope)
        query.columns = _named(query, found.columns)
        query.sources = found.sources
        query.is_open = found.is_open
        query.is_clean = found.is_clean
        query.is_volatile = found.is_volatile
    _add_search_and_cycle(resolver, query)
    query.is_in_progress = False


def _recursive_arms(query: WithQuery, node: Node) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the arms of a query that refers to itself: a UNION in WITH RECURSIVE."""
    body = node.get("SelectStmt")
    if body is None or query.scope.with_queries.get(query.name) is not query or body.get("op") != "SETOP_UNION":
        return None
    if not _mentions(body["rarg"], query.name):
        return None
    return body["larg"], body["rarg"]


def _mentions(root: dict[str, Any], name: str) -> bool:
    """Say whether an unqualified relation name stands anywhere below a node."""
    return any(node.get("relname") == name and "schemaname" not in node for node in walk(root))


def _resolve_recursive(
    resolver: Resolver, query: WithQuery, node: Node, left: dict[str, Any], right: dict[str, Any]
) -> None:
    """Resolve a recursive UNION: its right arm sees the columns of its left one.

    Its rows are made before anyone reads them: no qual gets below it and the planner has no statistics of it, so that its columns
    betray nothing; they have the left arm's types.
    """
    body = node["SelectStmt"]
    for key in ("sortClause", "limitCount", "limitOffset", "lockingClause"):
        if key in body:
            message = "ORDER BY, LIMIT, OFFSET and FOR UPDATE in a recursive query are not implemented"
            resolver.fail(Sqlstate.FEATURE_NOT_SUPPORTED, message, query.body.get("location"))
    scope = Scope(resolver.world, query.scope)
    resolve_with(resolver, body, scope)
    first = resolver.query({"SelectStmt": left}, scope)
    query.columns = [(name, Facts(facts.type)) for name, facts in _named(query, first.columns)]
    query.is_open = first.is_open
    query.is_volatile = first.is_volatile
    query.is_clean = False
    _add_search_and_cycle(resolver, query)
    second = resolver.query({"SelectStmt": right}, scope)
    query.columns = [(name, Facts(facts.type)) for name, facts in _named(query, first.columns)]
    query.sources = first.sources | second.sources
    query.is_volatile = first.is_volatile or second.is_volatile


def _named(query: WithQuery, columns: Columns) -> Columns:
    given = strings(query.body.get("aliascolnames", ()))
    return [(name, facts) for name, (_, facts) in zip(given, columns, strict=False)] + columns[len(given) :]


def _add_search_and_cycle(resolver: Resolver, query: WithQuery) -> None:
    """Add the columns that SEARCH and CYCLE make."""
    added: Columns = []
    search = query.body.get("search_clause")
    if search is not None:
        resolver.expect_fields("CTESearchClause", search, _SEARCH_FIELDS)
        added.append((search["search_seq_column"], Facts()))
    cycle = query.body.get("cycle_clause")
    if cycle is not None:
        resolver.expect_fields("CTECycleClause", cycle, _CYCLE_FIELDS)
        for key in ("cycle_mark_value", "cycle_mark_default"):
            if key in cycle:
                resolver.expression(cycle[key], query.scope)
        added += [(cycle["cycle_mark_column"], Facts(BOOL if "cycle_mark_value" not in cycle else 0))]
        added += [(cycle["cycle_path_column"], Facts())]
    query.columns = (query.columns or []) + added
