"""Makes the objects of a CatalogSnapshot out of the rows that `catalog_queries` gives, however they were read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pgfaucet.sql.catalog import Column, Constraint, Function, Index, QualifiedName, Relation, Trigger, Type, UniqueKey

Row: TypeAlias = Mapping[str, Any]
Rows: TypeAlias = Sequence[Row]
ByRelation: TypeAlias = Mapping[int, Rows]

_NONE: Final[frozenset[int]] = frozenset()

TRIGGER_IS_ROW: Final = 1
TRIGGER_IS_BEFORE: Final = 2
TRIGGER_EVENTS: Final = {4: "insert", 8: "delete", 16: "update"}
"""Bits of pg_trigger.tgtype (PostgreSQL's catalog/pg_trigger.h)."""


@dataclass(frozen=True, slots=True)
class RelationRows:
    """What the queries of the same names gave, for the same relations."""

    relations: Rows
    columns: Rows
    indexes: Rows
    constraints: Rows
    triggers: Rows
    parents: Rows
    sequence_owners: Rows


def relations_of(rows: RelationRows) -> Iterator[Relation]:
    """Make the relations and stand-alone composite types of these rows."""
    columns, indexes, constraints = map(_by_relation, (rows.columns, rows.indexes, rows.constraints))
    triggers, parents = map(_by_relation, (rows.triggers, rows.parents))
    owners = {row["sequence"]: row for row in rows.sequence_owners}
    for row in rows.relations:
        oid = row["oid"]
        owner = owners.get(oid)
        own_indexes = indexes.get(oid, ())
        yield Relation(
            oid=oid,
            name=QualifiedName(row["schema"], row["name"]),
            kind=row["kind"],
            owner=row["owner"],
            columns=tuple([_column_of(found) for found in columns.get(oid, ())]),
            unique_keys=tuple(_unique_key_of(found) for found in own_indexes if found["is_unique"]),
            before_triggers=_before_triggers_of(triggers.get(oid, ())),
            parents=tuple(found["parent"] for found in parents.get(oid, ())),
            row_type=row["row_type"],
            indexes=tuple(_index_of(found) for found in own_indexes),
            constraints=tuple(_constraint_of(found) for found in constraints.get(oid, ())),
            triggers=tuple(_trigger_of(found) for found in triggers.get(oid, ())),
            toast=tuple(found for found in (row["toast"], row["toast_index"]) if found),
            owned_by=(owner["relation"], owner["number"]) if owner is not None else None,
        )


def _by_relation(rows: Rows) -> ByRelation:
    found: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["relation"]].append(row)
    return found


def _column_of(row: Row) -> Column:
    values = tuple(row.values())
    return Column(*values[1:-2], *(frozenset(found) if found else _NONE for found in values[-2:]))


def _unique_key_of(row: Row) -> UniqueKey:
    return UniqueKey(row["name"], tuple(row["key"]), row["is_primary"])


def _index_of(row: Row) -> Index:
    columns = frozenset((*row["columns"], *(row["used"] or ()))) - {0}
    return Index(row["oid"], row["name"], row["is_unique"], row["is_primary"], tuple(row["key"]), columns)


def _constraint_of(row: Row) -> Constraint:
    return Constraint(
        oid=row["oid"],
        name=row["name"],
        kind=row["kind"],
        columns=frozenset(row["columns"] or ()) - {0},
        references=row["references"],
        referenced_columns=frozenset(row["referenced_columns"] or ()),
        index=row["index"],
        on_delete=row["on_delete"].strip(),
        on_update=row["on_update"].strip(),
    )


def _trigger_of(row: Row) -> Trigger:
    columns = frozenset((*row["columns"], *(row["used"] or ()))) - {0}
    return Trigger(row["oid"], row["name"], columns, row["references"], row["constraint"])


def _before_triggers_of(rows: Rows) -> frozenset[str]:
    """Return the events with a row-level BEFORE trigger; a disabled one counts, since it may be enabled at any time."""
    wanted = TRIGGER_IS_ROW | TRIGGER_IS_BEFORE
    types = [row["type"] for row in rows if row["type"] & wanted == wanted]
    return frozenset(event for bit, event in TRIGGER_EVENTS.items() if any(found & bit for found in types))


def types_of(rows: Rows) -> dict[int, Type]:
    """Make the types of these rows, by oid."""
    made = (tuple(row.values()) for row in rows)
    return {oid: Type(oid, QualifiedName(schema, name), *others) for oid, schema, name, *others in made}


def functions_of(rows: Rows) -> dict[QualifiedName, tuple[Function, ...]]:
    """Make the functions of these rows, overloads together."""
    found: dict[QualifiedName, list[Function]] = defaultdict(list)
    for row in rows:
        name = QualifiedName(row["schema"], row["name"])
        found[name].append(
            Function(
                oid=row["oid"],
                name=name,
                kind=row["kind"],
                volatility=row["volatility"],
                argument_types=tuple(row["argument_types"]),
                return_type=row["return_type"],
                returns_set=row["returns_set"],
                language=row["language"],
                is_leakproof=row["is_leakproof"],
                extension=row["extension"],
                output_columns=tuple(row["output_columns"]),
                signature=frozenset((*row["signature"], row["return_type"])),
            )
        )
    return {name: tuple(overloads) for name, overloads in found.items()}
