"""Reads the live catalog into a CatalogSnapshot, and tells cheaply whether it has changed since.

Never writes, and never trusts a name it reads: the statements are constant, and only pg_catalog is on their search_path.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pgfaucet.sql.catalog import CatalogSnapshot, OperatorKey, Relation
from pgfaucet.upstream import catalog_queries as queries
from pgfaucet.upstream.catalog_rows import RelationRows, functions_of, relations_of, types_of

if TYPE_CHECKING:
    import asyncpg

YIELD_EVERY: Final = 500
"""Relations built before other tasks get a turn: about 5 ms."""


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
        types=types_of(await connection.fetch(queries.TYPES)),
        functions=functions_of(await connection.fetch(queries.FUNCTIONS)),
        system_functions=frozenset(row["name"] for row in builtins),
        leakproof_operators=frozenset(OperatorKey(*row) for row in await connection.fetch(queries.LEAKPROOF_OPERATORS)),
        schemas={row["name"]: row["oid"] for row in await connection.fetch(queries.SCHEMAS)},
        composites={found.oid: found for found in relations if found.kind == "c"},
        volatile_functions=frozenset(row["name"] for row in builtins if row["is_volatile"]),
        aggregate_functions=frozenset(row["name"] for row in builtins if row["is_aggregate"]),
        set_functions=frozenset(row["name"] for row in builtins if row["returns_set"]),
        system_operators=frozenset(row["name"] for row in await connection.fetch(queries.SYSTEM_OPERATORS)),
        function_columns={row["name"]: tuple(row["columns"]) for row in builtins if row["agrees"] and row["columns"]},
        seen=server["seen"],
    )


async def _read_relations(connection: asyncpg.Connection, previous: CatalogSnapshot | None) -> list[Relation]:
    rows = RelationRows(
        relations=await connection.fetch(queries.RELATIONS),
        columns=await connection.fetch(queries.COLUMNS),
        indexes=await connection.fetch(queries.INDEXES),
        constraints=await connection.fetch(queries.CONSTRAINTS),
        triggers=await connection.fetch(queries.TRIGGERS),
        parents=await connection.fetch(queries.PARENTS),
        sequence_owners=await connection.fetch(queries.SEQUENCE_OWNERS),
    )
    relations = []
    for place, made in enumerate(relations_of(rows)):
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
