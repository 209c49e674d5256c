"""Reads the catalogs of a policy's databases, for the commands that decide or check without serving."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg

from pgfaucet.upstream.connection import connect_catalog
from pgfaucet.upstream.dsn import DsnError
from pgfaucet.upstream.introspect import read_catalog
from pgfaucet.upstream.password import target_of

if TYPE_CHECKING:
    from pgfaucet.config import Config, DatabaseConfig
    from pgfaucet.sql.catalog import CatalogSnapshot


async def read_catalogs(config: Config) -> tuple[dict[str, CatalogSnapshot], dict[str, Exception]]:
    """Return the catalog of each database that can be reached, and why the others can't."""
    names = list(config.databases)
    results = await asyncio.gather(*(_read(config.databases[name]) for name in names))
    catalogs = {name: found for name, found in zip(names, results, strict=True) if not isinstance(found, Exception)}
    errors = {name: found for name, found in zip(names, results, strict=True) if isinstance(found, Exception)}
    return catalogs, errors


async def _read(database: DatabaseConfig) -> CatalogSnapshot | Exception:
    try:
        connection = await connect_catalog(target_of(database))
        try:
            return await read_catalog(connection, None)
        finally:
            connection.terminate()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, DsnError) as error:
        return error
