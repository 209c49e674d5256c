"""Type names: which types a statement may name (RECIPES G5), and what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgfaucet.errors import Sqlstate
from pgfaucet.sql import build
from pgfaucet.sql.builtins import is_type_allowed
from pgfaucet.sql.catalog import QualifiedName
from pgfaucet.sql.tree import strings

if TYPE_CHECKING:
    from pgfaucet.sql.catalog import Type
    from pgfaucet.sql.resolve import Resolver

FIELDS: Final = frozenset({"names", "typmods", "typemod", "arrayBounds", "location"})


def resolve_type(resolver: Resolver, body: dict[str, Any]) -> int:
    """Resolve a TypeName in place; return its oid.

    Raises FaucetError: 42704 for a type that does not exist for the role, 42501 for a built-in one that is closed.
    """
    location = body.get("location")
    if body.get("setof") or body.get("pct_type"):
        resolver.fail(Sqlstate.UNDEFINED_OBJECT, "SETOF and %TYPE are not supported here", location)
    resolver.expect_fields("TypeName", body, FIELDS)
    for modifier in body.get("typmods", ()):
        if "A_Const" not in modifier and "ColumnRef" not in modifier:
            resolver.refuse("TypeName.typmods", body)
    names = strings(body["names"])
    found = _find(resolver, names, location)
    check_type(resolver, found, names[-1], location)
    body["names"] = build.type_names(found.name.schema, found.name.name, has_length="typmods" in body)
    return found.array if body.get("arrayBounds") else found.oid


def find_oid(resolver: Resolver, body: dict[str, Any]) -> int:
    """Find the oid of a TypeName, whatever it is. Raises FaucetError 42704 where the catalog does not have it."""
    found = _find(resolver, strings(body["names"]), body.get("location"))
    return found.array if body.get("arrayBounds") else found.oid


def check_type(resolver: Resolver, found: Type, shown: str, location: int | None) -> None:
    """Refuse a type that the role may not use."""
    element = resolver.world.catalog.types.get(found.element) if found.element else None
    judged = element if element is not None and element.array == found.oid else found
    if judged.name.schema == "pg_catalog":
        if not is_type_allowed(judged.name.name) and not resolver.world.may_define:
            resolver.fail(Sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied for type {shown}", location)
    elif judged.name.schema == "information_schema" and judged.kind == "d":
        return  # its five domains: cardinal_number, character_data, sql_identifier, time_stamp, yes_or_no
    elif judged.oid not in resolver.world.types or not _is_whole(resolver, judged):
        resolver.fail(Sqlstate.UNDEFINED_OBJECT, f'type "{shown}" does not exist', location)


def _is_whole(resolver: Resolver, judged: Type) -> bool:
    """Say whether a row type, if it is one, belongs to a relation that the role sees whole."""
    relation = resolver.world.catalog.relation_by_oid(judged.relation) if judged.relation else None
    if relation is None:
        return True
    visible = resolver.world.relations.get(relation.name)
    return visible is not None and visible.can_select and len(visible.columns) == len(relation.columns)


def find_type(resolver: Resolver, schema: str | None, name: str) -> Type | None:
    """Find a type as the client's search path would, pg_catalog first."""
    catalog = resolver.world.catalog
    if schema is not None:
        return catalog.type_named(QualifiedName(schema, name))
    for candidate in ("pg_catalog", "pg_temp", *resolver.context.search_path):
        found = catalog.type_named(QualifiedName(candidate, name))
        if found is not None and (candidate == "pg_catalog" or _is_usable(resolver, found)):
            return found
    return None


def _is_usable(resolver: Resolver, found: Type) -> bool:
    return (found.element or found.oid) in resolver.world.types or found.oid in resolver.world.types


def _find(resolver: Resolver, names: list[str], location: int | None) -> Type:
    if len(names) == 3 and names[0] == resolver.world.catalog.database:
        names = names[1:]
    if len(names) > 2:
        resolver.fail(Sqlstate.UNDEFINED_OBJECT, f'type "{".".join(names)}" does not exist', location)
    found = find_type(resolver, names[0] if len(names) == 2 else None, names[-1])
    if found is None:
        resolver.fail(Sqlstate.UNDEFINED_OBJECT, f'type "{".".join(names)}" does not exist', location)
    return found
