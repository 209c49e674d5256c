"""psycopg 3 and psycopg2, unchanged but for the DSN."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import uuid

import psycopg
import psycopg2
import psycopg2.errorcodes
import psycopg2.extras
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

VALUES = {
    "body": "größer 'als' $1 \\ ü",
    "pinned": True,
    "score": 2.5,
    "price": decimal.Decimal("12.3400"),
    "tags": ["a", "b c", 'd"e'],
    "raw": b"\x00\x01\xff",
    "day": dt.date(2026, 5, 4),
    "at": dt.datetime(2026, 5, 4, 12, 30, tzinfo=dt.UTC),
    "key": uuid.UUID("12345678-1234-4234-8234-123456789abc"),
}


@pytest.fixture
def connection(proxy):
    with psycopg.connect(proxy.dsn()) as opened:
        yield opened
        opened.rollback()


def test_parameters_and_types_survive_the_round_trip(connection):
    names = ", ".join(VALUES)
    places = ", ".join(f"%({name})s" for name in VALUES)
    insert = f"insert into notes ({names}, details) values ({places}, %(details)s) returning id, tenant_id"
    row_id, tenant = connection.execute(insert, {**VALUES, "details": Jsonb({"k": [1, None]})}).fetchone()
    row = (
        connection.cursor(row_factory=dict_row)
        .execute(f"select {names}, details from notes where id = %s", [row_id])
        .fetchone()
    )
    assert row == {**VALUES, "details": {"k": [1, None]}}
    assert tenant == 42


@pytest.mark.parametrize("binary", [False, True])
def test_results_come_in_text_and_binary(connection, binary):
    cursor = connection.cursor(binary=binary)
    assert cursor.execute("select id, body, tags, at from notes where id = %s", [2]).fetchall() == [
        (2, "first", ["a", "b"], dt.datetime(2026, 5, 5, 12, tzinfo=dt.UTC))
    ]
    assert cursor.execute("select %b::int4 + 1, %b::text", [41, "x"]).fetchone() == (42, "x")


def test_a_statement_is_prepared_after_a_few_runs_and_goes_on_working(connection):
    for number in range(20):
        assert connection.execute("select id from notes where id = %s", [2 + number % 2], prepare=True).fetchone() == (
            2 + number % 2,
        )
        connection.commit()


def test_a_server_side_cursor_fetches_in_parts(connection):
    with connection.cursor("part", row_factory=dict_row) as cursor:
        cursor.itersize = 1
        cursor.execute("select id from notes order by id")
        assert [row["id"] for row in cursor] == [2, 3]


def test_a_scrollable_cursor_goes_back(connection):
    with connection.cursor("part", scrollable=True) as cursor:
        cursor.execute("select id from notes order by id")
        assert cursor.fetchall() == [(2,), (3,)]
        cursor.scroll(0, mode="absolute")
        assert cursor.fetchone() == (2,)


def test_a_pipeline_gives_each_result_in_order(connection):
    with connection.pipeline():
        first = connection.execute("select id from notes where id = %s", [2])
        second = connection.execute("select count(*) from notes")
        third = connection.execute("select %s::text", ["x"])
    assert (first.fetchone(), second.fetchone(), third.fetchone()) == ((2,), (2,), ("x",))


def test_a_refusal_in_a_pipeline_aborts_the_rest_up_to_sync(proxy):
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        with connection.pipeline() as pipeline:
            first = connection.execute("select 1")
            connection.execute("select * from api_keys")
            after = connection.execute("select 2")
            with pytest.raises(psycopg.errors.UndefinedTable):
                pipeline.sync()
        assert first.fetchone() == (1,)
        with pytest.raises(psycopg.Error):  # no result, or PipelineAborted
            after.fetchone()
        assert connection.execute("select count(*) from notes").fetchone() == (2,)


def test_executemany_inserts_and_returns(connection):
    cursor = connection.cursor()
    cursor.executemany(
        "insert into notes (body) values (%s) returning tenant_id", [("m1",), ("m2",), ("m3",)], returning=True
    )
    found = []
    for _ in range(3):
        found.append(cursor.fetchone())
        cursor.nextset()
    assert found == [(42,)] * 3


def test_a_refusal_is_an_error_of_the_right_class_and_a_savepoint_recovers(connection):
    connection.execute("select 1")
    with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
        connection.execute("delete from orders")
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    with pytest.raises(psycopg.errors.UndefinedColumn) as refused:
        connection.execute("select secret from notes")
    assert refused.value.diag.message_primary == 'column "secret" does not exist'
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR


def test_copy_of_a_query_streams_out(connection):
    with connection.cursor().copy("copy (select id, body from notes order by id) to stdout") as copy:
        copy.set_types(["int4", "text"])
        assert list(copy.rows()) == [(2, "first"), (3, "second")]


def test_cancel_reaches_the_running_statement(proxy):
    async def main():
        connection = await psycopg.AsyncConnection.connect(proxy.dsn(), autocommit=True)
        async with connection:
            running = asyncio.ensure_future(connection.execute("select count(*) from generate_series(1, 20000000000)"))
            await asyncio.sleep(0.3)
            await connection.cancel_safe()
            with pytest.raises(psycopg.errors.QueryCanceled):
                await running
            assert await (await connection.execute("select 1")).fetchone() == (1,)

    asyncio.run(main())


def test_async_connections_work_side_by_side(proxy):
    async def one(tenant):
        async with await psycopg.AsyncConnection.connect(proxy.dsn(proxy.token("desk", tenant))) as connection:
            for _ in range(20):
                cursor = await connection.execute("select distinct tenant_id from notes")
                assert await cursor.fetchall() == [(tenant,)]
                await connection.commit()

    async def main():
        await asyncio.gather(*(one(tenant) for tenant in (41, 42, 43) * 3))

    proxy.token("desk", 41), proxy.token("desk", 43)
    asyncio.run(main())


# -- psycopg2 ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def old_connection(proxy):
    opened = psycopg2.connect(proxy.dsn())
    yield opened
    opened.close()


def test_psycopg2_reads_and_writes_with_client_side_parameters(old_connection):
    with old_connection, old_connection.cursor() as cursor:
        cursor.execute(
            "insert into notes (body, tags, raw) values (%s, %s, %s) returning id",
            ("it's", ["a'b", "c"], psycopg2.Binary(b"\x00\xff")),
        )
        (row_id,) = cursor.fetchone()
        cursor.execute("select body, tags, raw, tenant_id from notes where id = %s", (row_id,))
        body, tags, raw, tenant = cursor.fetchone()
        assert (body, tags, bytes(raw), tenant) == ("it's", ["a'b", "c"], b"\x00\xff", 42)
        cursor.execute("delete from notes where id = %s", (row_id,))
        assert cursor.rowcount == 1


def test_psycopg2_sees_refusals_as_its_own_error_classes(old_connection):
    cursor = old_connection.cursor()
    with pytest.raises(psycopg2.errors.UndefinedTable):
        cursor.execute("select * from api_keys")
    with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
        cursor.execute("select 1")
    old_connection.rollback()
    cursor.execute("select count(*) from notes")
    assert cursor.fetchone() == (2,)
    old_connection.rollback()


def test_psycopg2_named_cursors_execute_values_and_dict_rows_work(old_connection):
    with old_connection.cursor("named", cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
        cursor.itersize = 1
        cursor.execute("select id, body from notes order by id")
        assert [dict(row) for row in cursor] == [{"id": 2, "body": "first"}, {"id": 3, "body": "second"}]
    with old_connection.cursor() as cursor:
        rows = psycopg2.extras.execute_values(
            cursor, "insert into notes (body) values %s returning tenant_id", [("a",), ("b",)], fetch=True
        )
        assert rows == [(42,), (42,)]
    old_connection.rollback()


def test_psycopg2_autocommit_and_isolation_levels_work(old_connection):
    old_connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    cursor = old_connection.cursor()
    cursor.execute("select count(*) from notes")
    assert cursor.fetchone() == (2,)
    old_connection.rollback()
    old_connection.set_session(autocommit=True, readonly=False)
    cursor.execute("select 1")
    assert old_connection.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_IDLE
