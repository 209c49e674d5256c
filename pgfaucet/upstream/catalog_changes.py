"""What the catalog says beyond a snapshot, as one session sees it: its own uncommitted changes and temporary tables too.

One statement reads every row of the catalogs that is newer than the snapshot or of a temporary table of the session's, and the oids of all objects, so that what was dropped
is known as well. It is sent on the session's own connection; what comes back is one JSON text.
"""

# ruff: noqa: S608 - constant texts, put together once
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from pgfaucet.upstream import catalog_queries as queries
from pgfaucet.upstream.catalog_rows import RelationRows, Row, functions_of, relations_of, types_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgfaucet.sql.catalog import CatalogSnapshot, Function, QualifiedName, Relation

FIRST_NORMAL_OID: Final = 16384
"""FirstNormalObjectId of PostgreSQL's access/transam.h: lower oids belong to what initdb made, and stay."""


def _is_new(column: str) -> str:
    """Say in SQL that a row version may be newer than the snapshot: its xid, modulo 2**32, is not below the snapshot's oldest.

    Every transaction that the snapshot does not see, its subtransactions too, has such an xid.
    """
    oldest = "pg_snapshot_xmin($1::text::pg_snapshot)::text::int8"
    return f"({column}::text::int8 - {oldest}) & 4294967295 < 2147483648"


_TOUCHED: Final = f"""
SELECT oid FROM pg_class WHERE {_is_new("xmin")} OR relnamespace = pg_my_temp_schema()
UNION SELECT attrelid FROM pg_attribute WHERE attnum > 0 AND {_is_new("xmin")}
UNION SELECT adrelid FROM pg_attrdef WHERE {_is_new("xmin")}
UNION SELECT indrelid FROM pg_index WHERE {_is_new("xmin")}
UNION SELECT conrelid FROM pg_constraint WHERE {_is_new("xmin")}
UNION SELECT inhrelid FROM pg_inherits WHERE {_is_new("xmin")}
UNION SELECT tgrelid FROM pg_trigger WHERE {_is_new("xmin")}
UNION SELECT refobjid FROM pg_depend WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND {_is_new("xmin")}
UNION SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND {_is_new("xmin")}
"""


def _rows_of(query: str, condition: str = "true") -> str:
    return f"(SELECT coalesce(json_agg(q), '[]') FROM ({query}) q WHERE {condition})"


def _among(column: str, oids: str) -> str:
    """Write a condition that leaves the rows in their order, as a join would not."""
    return f"q.{column} = ANY (ARRAY(SELECT chosen.oid::int8 FROM ({oids}) chosen))"


def _oids_of(catalog: str, condition: str = "true") -> str:
    return (
        f"(SELECT coalesce(json_agg(oid::int8), '[]') FROM {catalog} WHERE oid >= {FIRST_NORMAL_OID} AND {condition})"
    )


_PARTS: Final = {
    "seen": "pg_current_snapshot()::text",
    "schemas": _rows_of(queries.SCHEMAS),
    "relations": _rows_of(queries.RELATIONS, _among("oid", "SELECT oid FROM touched")),
    "columns": _rows_of(queries.COLUMNS, _among("relation", "SELECT oid FROM touched")),
    "indexes": _rows_of(queries.INDEXES, _among("relation", "SELECT oid FROM touched")),
    "constraints": _rows_of(queries.CONSTRAINTS, _among("relation", "SELECT oid FROM touched")),
    "triggers": _rows_of(queries.TRIGGERS, _among("relation", "SELECT oid FROM touched")),
    "parents": _rows_of(queries.PARENTS, _among("relation", "SELECT oid FROM touched")),
    "sequence_owners": _rows_of(queries.SEQUENCE_OWNERS, _among("sequence", "SELECT oid FROM touched")),
    "types": _rows_of(
        queries.TYPES,
        _among("oid", f"SELECT oid FROM pg_type WHERE {_is_new('xmin')} OR typnamespace = pg_my_temp_schema()"),
    ),
    "functions": _rows_of(queries.FUNCTIONS, _among("oid", f"SELECT oid FROM pg_proc WHERE {_is_new('xmin')}")),
    "all_relations": _oids_of("pg_class"),
    "all_types": _oids_of("pg_type"),
    "all_functions": _oids_of("pg_proc"),
    "all_constraints": _oids_of("pg_constraint", "conrelid <> 0"),
    "all_triggers": _oids_of("pg_trigger"),
}

CHANGES: Final = (
    f"WITH touched AS MATERIALIZED ({_TOUCHED}) SELECT json_build_object("
    + ", ".join(f"'{name}', {expression}" for name, expression in _PARTS.items())
    + ")::text"
)
"""Takes `seen` of a snapshot as its parameter; to be run with only pg_catalog on the search_path."""


def with_changes(base: CatalogSnapshot, text: bytes) -> CatalogSnapshot:
    """Return the snapshot with what CHANGES gave; `base` itself when that says nothing new."""
    read = orjson.loads(text)
    made = replace(
        base,
        version=base.version + 1,
        relations=_relations(base, read),
        composites=_composites(base, read),
        types=_types(base, read),
        functions=_functions(base, read),
        schemas={row["name"]: row["oid"] for row in read["schemas"]},
        seen=base.seen,  # the next reading is compared with the same one
    )
    return base if replace(made, version=base.version) == base else made


def _new_relations(read: dict[str, Any]) -> list[Relation]:
    names = ("relations", "columns", "indexes", "constraints", "triggers", "parents", "sequence_owners")
    return list(relations_of(RelationRows(*(read[name] for name in names))))


def _relations(base: CatalogSnapshot, read: dict[str, Any]) -> dict[QualifiedName, Relation]:
    new = [relation for relation in _new_relations(read) if relation.kind != "c"]
    gone = _gone(base.relations.values(), read["all_relations"], new)
    kept = {name: relation for name, relation in base.relations.items() if relation.oid not in gone}
    relations = kept | {relation.name: relation for relation in new}
    objects = set(read["all_relations"]), set(read["all_constraints"]), set(read["all_triggers"])
    return {name: _without_dropped(relation, *objects) for name, relation in relations.items()}


def _composites(base: CatalogSnapshot, read: dict[str, Any]) -> dict[int, Relation]:
    new = [relation for relation in _new_relations(read) if relation.kind == "c"]
    gone = _gone(base.composites.values(), read["all_relations"], new)
    kept = {oid: relation for oid, relation in base.composites.items() if oid not in gone}
    return kept | {relation.oid: relation for relation in new}


def _gone(known: Iterable[Relation], present: list[int], new: list[Relation]) -> set[int]:
    """Return the oids of what was dropped, or is described anew."""
    oids = {relation.oid for relation in known if relation.oid >= FIRST_NORMAL_OID}
    return oids.difference(present).union(relation.oid for relation in new)


def _without_dropped(relation: Relation, indexes: set[int], constraints: set[int], triggers: set[int]) -> Relation:
    """Leave out what was dropped and left no other trace on its relation."""
    if relation.oid < FIRST_NORMAL_OID:
        return relation
    own = [index.oid for index in relation.indexes]
    if (
        indexes.issuperset(own)
        and constraints.issuperset([each.oid for each in relation.constraints])
        and triggers.issuperset([each.oid for each in relation.triggers])
    ):
        return relation
    kept = tuple(index for index in relation.indexes if index.oid in indexes)
    names = {index.name for index in kept}
    return replace(
        relation,
        indexes=kept,
        unique_keys=tuple(key for key in relation.unique_keys if key.name in names),
        constraints=tuple(each for each in relation.constraints if each.oid in constraints),
        triggers=tuple(each for each in relation.triggers if each.oid in triggers),
    )


def _types(base: CatalogSnapshot, read: dict[str, Any]) -> dict[int, Any]:
    present = set(read["all_types"])
    kept = {oid: found for oid, found in base.types.items() if oid < FIRST_NORMAL_OID or oid in present}
    return kept | types_of(read["types"])


def _functions(base: CatalogSnapshot, read: dict[str, Any]) -> dict[QualifiedName, tuple[Function, ...]]:
    new: list[Row] = read["functions"]
    outdated = {row["oid"] for row in new}
    present = set(read["all_functions"]) - outdated
    merged: dict[QualifiedName, tuple[Function, ...]] = {}
    for name, overloads in base.functions.items():
        kept = tuple(each for each in overloads if each.oid < FIRST_NORMAL_OID or each.oid in present)
        if kept:
            merged[name] = kept
    for name, overloads in functions_of(new).items():
        merged[name] = tuple(sorted((*merged.get(name, ()), *overloads), key=lambda each: each.oid))
    return merged
