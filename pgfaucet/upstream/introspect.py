"""Reads the live catalog into a CatalogSnapshot, and tells cheaply whether it has changed since.

Never writes, and never trusts a name it reads: the statements are constant, and only pg_catalog is on their search_path.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pgfaucet.sql.catalog import (
    CatalogSnapshot,
    Column,
    Constraint,
    Function,
    Index,
    OperatorKey,
    QualifiedName,
    Relation,
    Trigger,
    Type,
    UniqueKey,
)
from pgfaucet.upstream import catalog_queries as queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    Rows = Sequence[asyncpg.Record]
    ByRelation = dict[int, list[asyncpg.Record]]

_NONE: Final[frozenset[int]] = frozenset()
YIELD_EVERY: Final = 500
"""Relations built before other tasks get a turn: about 5 ms."""

TRIGGER_IS_ROW: Final = 1
TRIGGER_IS_BEFORE: Final = 2
TRIGGER_EVENTS: Final = {4: "insert", 8: "delete", 16: "update"}
"""Bits of pg_trigger.tgtype (PostgreSQL's catalog/pg_trigger.h)."""


async def catalog_mark(connection: asyncpg.Connection) -> str:
    """Return a string that differs when anything in a snapshot differs.

    Made of hashes over what the catalog says, so that neither temporary tables nor TRUNCATE nor VACUUM change it. It does not
    notice that a sequence got another owning column.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(queries.PIN_SEARCH_PATH)
        return str(await connection.fetchval(queries.MARK))


async def read_catalog(connection: asyncpg.Connection, previous: CatalogSnapshot | None) -> CatalogSnapshot:
    """Read one consistent snapshot; `previous` itself is returned when nothing differs from it."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(queries.PIN_SEARCH_PATH)
        snapshot = await _read_snapshot(connection, previous)
    if previous is None:
        return snapshot
    snapshot = replace(snapshot, version=previous.version)
    return previous if snapshot == previous else replace(snapshot, version=previous.version + 1)


async def _read_snapshot(connection: asyncpg.Connection, previous: CatalogSnapshot | None) -> CatalogSnapshot:
    relations = await _read_relations(connection, previous)
    builtins = await connection.fetch(queries.SYSTEM_FUNCTIONS)
    server = await connection.fetchrow(queries.SERVER)
    return CatalogSnapshot(
        version=1,
        server_version=server["server_version"],
        database=server["database"],
        relations={found.name: found for found in relations if found.kind != "c"},
        types=_types(await connection.fetch(queries.TYPES)),
        functions=_functions(await connection.fetch(queries.FUNCTIONS)),
        system_functions=frozenset(row["name"] for row in builtins),
        leakproof_operators=frozenset(OperatorKey(*row) for row in await connection.fetch(queries.LEAKPROOF_OPERATORS)),
        schemas={row["name"]: row["oid"] for row in await connection.fetch(queries.SCHEMAS)},
        composites={found.oid: found for found in relations if found.kind == "c"},
        volatile_functions=frozenset(row["name"] for row in builtins if row["is_volatile"]),
        aggregate_functions=frozenset(row["name"] for row in builtins if row["is_aggregate"]),
        set_functions=frozenset(row["name"] for row in builtins if row["returns_set"]),
        system_operators=frozenset(row["name"] for row in await connection.fetch(queries.SYSTEM_OPERATORS)),
        function_columns={row["name"]: tuple(row["columns"]) for row in builtins if row["agrees"] and row["columns"]},
    )


async def _read_relations(connection: asyncpg.Connection, previous: CatalogSnapshot | None) -> list[Relation]:
    columns = _by_relation(await connection.fetch(queries.COLUMNS))
    indexes = _by_relation(await connection.fetch(queries.INDEXES))
    constraints = _by_relation(await connection.fetch(queries.CONSTRAINTS))
    triggers = _by_relation(await connection.fetch(queries.TRIGGERS))
    parents = _by_relation(await connection.fetch(queries.PARENTS))
    owners = {row["sequence"]: row for row in await connection.fetch(queries.SEQUENCE_OWNERS)}
    relations = []
    for place, row in enumerate(await connection.fetch(queries.RELATIONS)):
        oid = row["oid"]
        owner = owners.get(oid)
        own_indexes = indexes.get(oid, ())
        made = Relation(
            oid=oid,
            name=QualifiedName(row["schema"], row["name"]),
            kind=row["kind"],
            owner=row["owner"],
            columns=tuple([_column(found) for found in columns.get(oid, ())]),
            unique_keys=tuple(_unique_key(found) for found in own_indexes if found["is_unique"]),
            before_triggers=_before_triggers(triggers.get(oid, ())),
            parents=tuple(found["parent"] for found in parents.get(oid, ())),
            row_type=row["row_type"],
            indexes=tuple(_index(found) for found in own_indexes),
            constraints=tuple(_constraint(found) for found in constraints.get(oid, ())),
            triggers=tuple(_trigger(found) for found in triggers.get(oid, ())),
            toast=tuple(found for found in (row["toast"], row["toast_index"]) if found),
            owned_by=(owner["relation"], owner["number"]) if owner is not None else None,
        )
        relations.append(_known(made, previous))
        if place % YIELD_EVERY == 0:
            await asyncio.sleep(0)
    return relations


def _known(made: Relation, previous: CatalogSnapshot | None) -> Relation:
    """Return the object of the previous snapshot if it says the same: snapshots share what did not change."""
    if previous is None:
        return made
    before = previous.composites.get(made.oid) if made.kind == "c" else previous.relations.get(made.name)
    return before if before == made else made


def _by_relation(rows: Rows) -> ByRelation:
    found: ByRelation = defaultdict(list)
    for row in rows:
        found[row["relation"]].append(row)
    return found


def _column(row: asyncpg.Record) -> Column:
    return Column(*row[1:-2], *(frozenset(found) if found else _NONE for found in row[-2:]))


def _unique_key(row: asyncpg.Record) -> UniqueKey:
    return UniqueKey(row["name"], tuple(row["key"]), row["is_primary"])


def _index(row: asyncpg.Record) -> Index:
    columns = frozenset((*row["columns"], *(row["used"] or ()))) - {0}
    return Index(row["oid"], row["name"], row["is_unique"], row["is_primary"], tuple(row["key"]), columns)


def _constraint(row: asyncpg.Record) -> Constraint:
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


def _trigger(row: asyncpg.Record) -> Trigger:
    columns = frozenset((*row["columns"], *(row["used"] or ()))) - {0}
    return Trigger(row["oid"], row["name"], columns, row["references"], row["constraint"])


def _before_triggers(rows: Sequence[asyncpg.Record]) -> frozenset[str]:
    """Return the events with a row-level BEFORE trigger; a disabled one counts, since it may be enabled at any time."""
    wanted = TRIGGER_IS_ROW | TRIGGER_IS_BEFORE
    types = [row["type"] for row in rows if row["type"] & wanted == wanted]
    return frozenset(event for bit, event in TRIGGER_EVENTS.items() if any(found & bit for found in types))


def _types(rows: Rows) -> dict[int, Type]:
    return {row["oid"]: Type(row["oid"], QualifiedName(row["schema"], row["name"]), *row[3:]) for row in rows}


def _functions(rows: Rows) -> dict[QualifiedName, tuple[Function, ...]]:
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
