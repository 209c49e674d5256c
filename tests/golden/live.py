"""Reads the catalog of a suite's schema from a live server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from pgfaucet.upstream.introspect import read_catalog
from tests.golden.decisions import TESTS

if TYPE_CHECKING:
    from pgfaucet.sql.catalog import CatalogSnapshot
    from tests.kit.postgres import Postgres

ROLES = """do $$ begin
    if to_regrole('svc') is null then create role svc login; end if;
    if to_regrole('agent') is null then create role agent login; end if;
end $$"""


async def read_live(postgres: Postgres, suite: str) -> CatalogSnapshot:
    """Load the schema into a database of its own and read it."""
    name = f"golden_{suite}"
    postgres.run_sql("postgres", ROLES)
    postgres.run_sql("postgres", f"create database {name}")
    try:
        postgres.run_sql(name, (TESTS / suite / "schema.sql").read_text())
        connection = await asyncpg.connect(postgres.dsn(name))
        try:
            return await read_catalog(connection, None)
        finally:
            await connection.close()
    finally:
        postgres.drop_database(name)
