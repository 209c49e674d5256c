"""asyncpg with its statement cache on, unchanged but for the DSN."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from decimal import Decimal

import asyncpg
import pytest


@pytest.fixture
def session(proxy):
    """Run a coroutine with an open connection."""

    def run(body, **options):
        async def main():
            connection = await asyncpg.connect(proxy.dsn(), **options)
            try:
                return await body(connection)
            finally:
                await connection.close()

        return asyncio.run(main())

    return run


def test_a_repeated_query_is_answered_from_the_statement_cache(session):
    async def body(connection):
        for number in range(30):
            assert (
                await connection.fetchval("select body from notes where id = $1", 2 + number % 2)
                == ("first", "second")[number % 2]
            )

    session(body)


def test_types_survive_the_round_trip_in_binary(session):
    async def body(connection):
        values = (
            "größe", True, 2.5, Decimal("12.3400"), ["a", None, "c d"], '{"k": 1}', b"\x00\xff",
            dt.date(2026, 5, 4), dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC), uuid.UUID(int=7),
        )  # fmt: skip
        columns = "body, pinned, score, price, tags, details, raw, day, at, key"
        async with connection.transaction():
            row = await connection.fetchrow(
                f"insert into notes ({columns}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) returning {columns}",
                *values,
            )
            assert tuple(row) == values
            await connection.execute("delete from notes where body = $1", "größe")

    session(body)


def test_a_transaction_and_its_savepoint_survive_a_refusal(session):
    async def body(connection):
        async with connection.transaction():
            with pytest.raises(asyncpg.UndefinedTableError):
                async with connection.transaction():
                    await connection.fetch("select * from api_keys")
            assert await connection.fetchval("select count(*) from notes") == 2

    session(body)


def test_cursors_and_row_limits_work(session):
    async def body(connection):
        async with connection.transaction():
            assert [row["id"] async for row in connection.cursor("select id from notes order by id", prefetch=1)] == [
                2,
                3,
            ]
            cursor = await connection.cursor("select id from notes order by id")
            assert await cursor.fetch(1) == [(2,)]
            assert await cursor.forward(1) == 1
            assert await cursor.fetch(1) == []

    session(body)


def test_executemany_and_status_strings_work(session):
    async def body(connection):
        await connection.executemany("insert into notes (body) values ($1)", [("em",), ("em",)])
        assert await connection.execute("update notes set pinned = true where body = $1", "em") == "UPDATE 2"
        assert await connection.execute("delete from notes where body = 'em'") == "DELETE 2"

    session(body)


def test_a_statement_timeout_of_the_client_cancels(session):
    async def body(connection):
        with pytest.raises(TimeoutError):
            await connection.fetchval("select count(*) from generate_series(1, 20000000000)", timeout=0.3)
        assert await connection.fetchval("select 1") == 1

    session(body)


def test_copy_from_query_streams_out(session):
    async def body(connection):
        parts = []

        async def take(data):
            parts.append(data)

        await connection.copy_from_query("select id, body from notes order by id", output=take, format="csv")
        assert b"".join(parts) == b"2,first\n3,second\n"

    session(body)


def test_a_pool_with_more_clients_than_upstream_connections_works(proxy):
    async def main():
        async with asyncpg.create_pool(proxy.dsn(), min_size=1, max_size=20) as pool:

            async def one(number):
                async with pool.acquire() as connection, connection.transaction():
                    return await connection.fetchval("select $1::int + count(*) from notes", number)

            assert await asyncio.gather(*(one(number) for number in range(100))) == [
                number + 2 for number in range(100)
            ]

    asyncio.run(main())


def test_columns_that_are_not_granted_do_not_exist(session):
    async def body(connection):
        with pytest.raises(asyncpg.UndefinedColumnError) as refused:
            await connection.fetch("select secret from notes")
        assert refused.value.sqlstate == "42703"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("delete from orders where id = $1", 1)

    session(body)
