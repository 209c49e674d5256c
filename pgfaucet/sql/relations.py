"""Relations in FROM: WITH queries, tables and views of the role's world, TABLESAMPLE, and aliases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import with_clause
from pgfaucet.sql.scope import Item, RelationItem
from pgfaucet.sql.tree import string, strings

if TYPE_CHECKING:
    from pgfaucet.sql.conjunct import Place
    from pgfaucet.sql.resolve import Resolver
    from pgfaucet.sql.scope import Columns, Scope, WithQuery
    from pgfaucet.sql.world import Node, VisibleRelation

    Members = list[Item | Place]

_ALIAS_FIELDS: Final = frozenset({"aliasname", "colnames"})
_FIELDS: Final = frozenset({"catalogname", "schemaname", "relname", "inh", "relpersistence", "alias", "location"})
_SAMPLE_FIELDS: Final = frozenset({"relation", "method", "args", "repeatable", "location"})
_SELECTABLE: Final = "rpvmf"
_SEQUENCE: Final = "S"  # tells how many rows others have made
_RESERVED: Final = "pgf_"


def resolve_relation(resolver: Resolver, node: Node, body: dict[str, Any], scope: Scope) -> tuple[list[Item], Members]:
    """Resolve a RangeVar in FROM in place: a WITH query, or a relation of the world."""
    found = scope.find_with_query(body["relname"]) if "schemaname" not in body else None
    if found is not None:
        return _with_query(resolver, body, scope, found)
    relation = find_relation(resolver, body)
    is_open = relation.relation.kind in _SELECTABLE or (
        relation.relation.kind == _SEQUENCE and resolver.world.sees_everything
    )
    if not (relation.can_select and is_open):
        name = relation.relation.name.name
        resolver.fail(Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied for table {name}", body.get("location"))
    item = open_relation(resolver, node, body, scope, relation)
    return [item], [item]


def find_relation(resolver: Resolver, body: dict[str, Any]) -> VisibleRelation:
    """Find the relation that a RangeVar names. Raises FaucetError: 42P01 when it does not exist for the role."""
    resolver.expect_fields("RangeVar", body, _FIELDS)
    location = body.get("location")
    schema, name = body.get("schemaname"), body["relname"]
    if body.get("catalogname", resolver.world.catalog.database) != resolver.world.catalog.database:
        shown = f"{body['catalogname']}.{schema}.{name}"
        resolver.fail(
            Sqlstate.FEATURE_NOT_SUPPORTED, f'cross-database references are not implemented: "{shown}"', location
        )
    found = resolver.world.lookup(schema, name, resolver.context.search_path)
    if found is None:
        shown = name if schema is None else f"{schema}.{name}"
        resolver.fail(Sqlstate.UNDEFINED_TABLE, f'relation "{shown}" does not exist', location)
    resolver.note(found)
    return found


def open_relation(
    resolver: Resolver,
    node: Node,
    body: dict[str, Any],
    scope: Scope,
    relation: VisibleRelation,
    *,
    is_raw: bool = False,
) -> RelationItem:
    """Make the item of a relation, and qualify its reference in place."""
    alias, given = alias_of(resolver, body)
    item = RelationItem(alias or body["relname"], scope, relation, node, is_raw=is_raw)
    if alias is None:
        item.schema = relation.relation.name.schema
    count = len(item.readable())
    if len(given) > count:
        message = f'table "{item.name}" has {count} columns available but {len(given)} columns specified'
        resolver.fail("42P10", message)
    item.column_names = given
    body["schemaname"], body["relname"] = relation.relation.name
    resolver.opened.append(body)
    body.pop("catalogname", None)
    resolver.relations.append(item)
    return item


def resolve_sample(resolver: Resolver, _node: Node, body: dict[str, Any], scope: Scope) -> tuple[list[Item], Members]:
    """Resolve TABLESAMPLE: only over relations that the role sees whole (RECIPES R8)."""
    resolver.expect_fields("RangeTableSample", body, _SAMPLE_FIELDS)
    names = strings(body["method"])
    if names[-1] not in ("bernoulli", "system") or names[:-1] not in ([], ["pg_catalog"]):
        message = f"tablesample method {'.'.join(names)} does not exist"
        resolver.fail(Sqlstate.UNDEFINED_OBJECT, message, body.get("location"))
    items, members = resolve_relation(resolver, body["relation"], body["relation"].get("RangeVar", {}), scope)
    item = items[0]
    if not isinstance(item, RelationItem) or item.is_wrapped:
        message = "TABLESAMPLE is not supported on this relation"
        resolver.fail(Sqlstate.FEATURE_NOT_SUPPORTED, message, body.get("location"))
    for argument in (*body.get("args", ()), *((body["repeatable"],) if "repeatable" in body else ())):
        resolver.value(argument, scope)
    return items, members


def alias_of(resolver: Resolver, body: dict[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """Return the alias in body["alias"] and its column names."""
    alias = body.get("alias")
    if alias is None:
        return None, ()
    resolver.expect_fields("Alias", alias, _ALIAS_FIELDS)
    name: str = alias["aliasname"]
    check_alias(resolver, name)
    return name, tuple(string(part) for part in alias.get("colnames", ()))


def check_alias(resolver: Resolver, name: str) -> None:
    """Refuse the names that rewriting keeps for itself."""
    if name.startswith(_RESERVED):
        resolver.fail(Sqlstate.FEATURE_NOT_SUPPORTED, f'alias "{name}" is reserved')


def name_columns(resolver: Resolver, item: Item, columns: Columns, given: tuple[str, ...]) -> None:
    """Give an item its columns, the first ones by the alias list."""
    if len(given) > len(columns) and not item.is_open:
        message = f'table "{item.name}" has {len(columns)} columns available but {len(given)} columns specified'
        resolver.fail("42P10", message)
    item.columns = [(name, facts) for name, (_, facts) in zip(given, columns, strict=False)] + columns[len(given) :]


def _with_query(resolver: Resolver, body: dict[str, Any], scope: Scope, found: WithQuery) -> tuple[list[Item], Members]:
    resolver.expect_fields("RangeVar", body, _FIELDS)
    resolver.opened.append(body)
    alias, given = alias_of(resolver, body)
    query = with_clause.columns_of(resolver, found, body.get("location"))
    item = Item(alias or found.name, scope, sources=found.sources, is_open=found.is_open)
    scope.is_clean = scope.is_clean and found.is_clean
    scope.is_volatile = scope.is_volatile or found.is_volatile
    name_columns(resolver, item, [(name, facts.as_column(item)) for name, facts in query], given)
    return [item], [item]
