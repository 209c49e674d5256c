"""DDL and temporary tables under a policy: what a session has defined is there for its next statement, and nobody's before its time."""

from __future__ import annotations

import asyncio
import threading

import asyncpg
import psycopg
import pytest
from psycopg.rows import scalar_row

from pgfaucet.upstream.catalog_changes import CHANGES, with_changes
from pgfaucet.upstream.introspect import read_catalog
from tests.kit.policies import WIDE
from tests.kit.proxy import Proxy
from tests.kit.wire import SYNC, Wire, bind, describe, errors, execute, parse, query, tags


@pytest.fixture(scope="module")
def proxy(postgres, tmp_path_factory):
    name = postgres.new_database()
    postgres.run_sql(
        name,
        "grant create on schema public to faucet_svc; grant create, temporary on database " + name + " to faucet_svc",
    )
    with Proxy(postgres, name, tmp_path_factory.mktemp("ddl"), roles=WIDE) as running:
        yield running
    postgres.drop_database(name)


@pytest.fixture
def session(proxy):
    with Wire.logged_in(proxy.port, proxy.token(role="migrator")) as opened:
        yield opened


@pytest.fixture
def other(proxy):
    with Wire.logged_in(proxy.port, proxy.token(role="migrator")) as opened:
        yield opened


def run(session, *statements):
    for statement in statements:
        assert errors(session.run(statement)) == [], statement


def test_what_was_defined_is_there_for_the_next_statement(session):
    run(session, "create table a1 (id int, b text)", "insert into a1 values (1, 'x')")
    assert session.rows("select * from a1") == [["1", "x"]]
    run(session, "alter table a1 add c int default 7")
    assert session.rows("select * from a1") == [["1", "x", "7"]]
    run(session, "alter table a1 rename to a2")
    assert errors(session.run("select * from a1"))[0][0] == "42P01"
    run(session, "drop table a2")
    assert errors(session.run("select * from a2"))[0][0] == "42P01"


def test_it_is_there_for_other_sessions_as_soon_as_it_is_committed(session, other):
    for number in range(20):
        run(session, f"create table shared{number} (a int)")
        run(other, f"insert into shared{number} values ({number})", f"drop table shared{number}")
        assert errors(session.run(f"select * from shared{number}"))[0][0] == "42P01"


def test_in_a_block_only_the_session_itself_knows(session, other):
    run(session, "begin", "create table inner1 (a int)", "insert into inner1 values (1)")
    assert session.rows("select a from inner1") == [["1"]]
    assert errors(other.run("select * from inner1"))[0][0] == "42P01"
    run(session, "savepoint s", "alter table inner1 add b int", "select b from inner1", "rollback to s")
    assert errors(session.run("select b from inner1"))[0][0] == "42703"
    run(session, "rollback")
    assert errors(session.run("select * from inner1"))[0][0] == "42P01"


def test_a_string_of_several_statements_is_one_transaction(proxy, session):
    answers = session.run("create table s1 (a int primary key); insert into s1 values (1), (2); select sum(a) from s1")
    assert tags(answers) == "CCTDCZ"
    failed = session.run("create table s2 (a int); insert into s2 values (1); select 1/0; select 2")
    assert (tags(failed), errors(failed)[0][0]) == ("CCTEZ" if "T" in tags(failed) else "CCEZ", "22012")
    assert errors(session.run("select * from s2"))[0][0] == "42P01"
    deferred = "create table s3 (a int references s1 deferrable initially deferred); insert into s3 values (9)"
    assert errors(session.run(deferred))[0][0] == "23503"
    assert errors(session.run("select * from s3"))[0][0] == "42P01"
    refused = session.run("create table s4 (a int); select * from s4; select * from pg_authid")
    assert errors(refused)[0][0] in ("42501", "42P01")
    assert proxy.postgres.value(proxy.database, "select to_regclass('s4') is null") == "t"
    run(session, "drop table s1")


def test_copy_in_such_a_string_gets_its_data(session):
    session.send(query("create table c1 (a int); copy c1 from stdin; select sum(a) from c1"))
    assert session.until("G")
    session.send(b"d\0\0\0\x08" + b"1\n2\n", b"c\0\0\0\4")
    assert tags(session.until("Z")).endswith("CTDCZ")
    run(session, "drop table c1")


def test_several_strings_at_once_are_answered_in_order(session):
    session.send(
        query("create table p1 (a int); insert into p1 values (1); select 11"),
        query("select a from p1; select 12"),
        query("drop table p1; select 13"),
    )
    answers = session.until("Z") + session.until("Z") + session.until("Z")
    assert tags(answers) == "CCTDCZTDCTDCZCTDCZ"


def test_names_are_found_on_the_search_path_of_the_client(session):
    run(session, "create schema here", "set search_path = here, public", "create table found (only_here int)")
    assert session.rows("show search_path") == [["here, public"]]
    run(session, "select only_here from found")
    run(session, "reset search_path")
    assert errors(session.run("select * from found"))[0][0] == "42P01"
    run(session, "drop schema here cascade")


def test_the_search_path_does_not_reach_the_next_client(session, other):
    run(session, "create schema mine", "set search_path = mine")
    assert other.rows("show search_path") == [["public"]]
    run(other, "create table in_public (a int)", "drop table public.in_public")
    run(session, "drop schema mine")


def test_a_view_over_a_catalog_and_a_closed_function_are_refused(session):
    assert errors(session.run("create view v as select * from pg_authid"))[0][0] == "42501"
    assert errors(session.run("create view v as select pg_read_file('/etc/passwd')"))[0][0] == "42501"
    assert errors(session.run("create role r"))[0][0] == "42501"


def test_who_sees_a_part_defines_nothing(proxy):
    with Wire.logged_in(proxy.port, proxy.token()) as desk:
        for sql in ("create table t (a int)", "drop table orders", "create temp table t (a int)", "vacuum"):
            assert errors(desk.run(sql))[0][0] == "42501"


def test_a_temporary_table_holds_what_its_session_may_see(proxy):
    with Wire.logged_in(proxy.port, proxy.token(role="sketcher")) as one:
        run(one, "create temp table sketch as select * from notes", "insert into sketch values (999, 'own')")
        assert one.rows("select count(*) > 1, count(*) filter (where id = 999) from sketch") == [["t", "1"]]
        assert errors(one.run("select tenant_id from sketch"))[0][0] == "42703"
        run(one, "create temp table plain (a int, b text default lower('X'))", "insert into plain values (1)")
        assert one.rows("select * from plain") == [["1", "x"]]
        run(one, "drop table plain")
        assert errors(one.run("select * from plain"))[0][0] == "42P01"
        with Wire.logged_in(proxy.port, proxy.token(role="sketcher")) as two:
            assert errors(two.run("select * from sketch"))[0][0] == "42P01"


def test_a_temporary_table_may_hide_another_only_from_its_own_session(proxy):
    with Wire.logged_in(proxy.port, proxy.token(role="sketcher")) as one:
        run(one, "create temp table notes (id int)")
        assert one.rows("select count(*) from notes") == [["0"]]
        assert int(one.rows("select count(*) from public.notes")[0][0]) > 0
        run(one, "discard temp")
        assert int(one.rows("select count(*) from notes")[0][0]) > 0


def test_a_prepared_statement_tells_when_its_result_has_changed(proxy):
    async def follow():
        one = await asyncpg.connect(proxy.dsn(proxy.token("migrator")))
        two = await asyncpg.connect(proxy.dsn(proxy.token("migrator")))
        try:
            await one.execute("create table shape (a int, b int)")
            await one.execute("insert into shape values (1, 2)")
            assert tuple(await two.fetchrow("select * from shape")) == (1, 2)
            await one.execute("alter table shape add c text default 'x'")
            assert tuple(await two.fetchrow("select * from shape")) == (1, 2, "x")
            await one.execute("alter table shape alter a type text")
            assert tuple(await two.fetchrow("select * from shape")) == ("1", 2, "x")
            prepared = await two.prepare("select * from shape")
            assert len(await prepared.fetch()) == 1
            await one.execute("alter table shape drop c")
            with pytest.raises(asyncpg.InvalidCachedStatementError):
                async with two.transaction():
                    await prepared.fetch()
            await one.execute("drop table shape")
        finally:
            await one.close()
            await two.close()

    asyncio.run(follow())


def test_many_sessions_defining_at_once_see_their_own(proxy):
    failures = []

    def work(number):
        try:
            with psycopg.connect(
                proxy.dsn(proxy.token("migrator")), autocommit=True, row_factory=scalar_row
            ) as connection:
                for turn in range(6):
                    name = f"many_{number}_{turn}"
                    connection.execute(f"create table {name} (a int)")
                    connection.execute(f"insert into {name} select generate_series(1, 10)")
                    assert connection.execute(f"select count(*) from {name}").fetchone() == 10
                    connection.execute(f"drop table {name}")
        except Exception as problem:  # noqa: BLE001 - told by the main thread
            failures.append(problem)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


STEPS = (
    "create table public.d1 (id serial primary key, a int, b text default 'x' unique)",
    "alter table public.d0 add column z int",
    "alter table public.d0 drop column a",
    "alter table public.d1 drop constraint d1_b_key",
    "create index i1 on public.d1 (a)",
    "drop index public.i1",
    "create type public.mood as enum ('a')",
    "create domain public.positive as int check (value > 0)",
    "create type public.pair as (a int, b text)",
    "alter type public.pair add attribute c int",
    "create function public.f(int) returns int language sql as 'select 1'",
    "create function public.f(text) returns int language sql as 'select 1'",
    "drop function public.f(int)",
    "alter table public.d1 rename to d2",
    "alter table public.d2 rename a to aa",
    "create schema s2",
    "alter table public.d2 set schema s2",
    "create view public.v as select * from s2.d2",
    "create table public.kid () inherits (s2.d2)",
    "alter table public.kid no inherit s2.d2",
    "alter table public.d0 add foreign key (z) references s2.d2 (id)",
    "alter table public.d0 drop constraint d0_z_fkey",
    "create trigger t before update on public.d0 for each row execute function suppress_redundant_updates_trigger()",
    "drop trigger t on public.d0",
    "alter table s2.d2 alter b drop default, alter aa set not null",
    "drop view public.v",
    "alter table s2.d2 alter aa type bigint",
    "alter sequence s2.d1_id_seq owned by none",
    "create table public.part (a int) partition by range (a)",
    "create table public.part1 partition of public.part for values from (1) to (2)",
    "drop table s2.d2 cascade",
    "drop schema s2 cascade",
    "drop type public.mood",
)


PARTS = ("relations", "types", "functions", "schemas", "composites")


async def changes(connection, base):
    return with_changes(base, (await connection.fetchval(CHANGES, base.seen)).encode())


def same(found, whole, step):
    for part in PARTS:
        one, other = getattr(found, part), getattr(whole, part)
        differ = {key: (one.get(key), other.get(key)) for key in one | other if one.get(key) != other.get(key)}
        assert differ == {}, step


async def compare(reader, writer, *, is_block):
    await writer.execute("create table public.d0 (a int, b int)")
    await writer.execute("set search_path = pg_catalog, pg_temp")
    await writer.execute("begin" if is_block else "select 1")
    base = await read_catalog(reader, None)
    for number, step in enumerate(STEPS):
        if is_block:
            await writer.execute(f"savepoint s{number}")
        await writer.execute(step)
        found = await changes(writer, base)
        if not is_block:
            same(found, await read_catalog(reader, None), step)
    await writer.execute("commit" if is_block else "select 1")
    late = await read_catalog(reader, None)
    same(found, late, "all")
    assert await changes(writer, late) is late
    await writer.execute("create temp table own (a int)")
    own = await changes(writer, await read_catalog(reader, None))  # newer than the table itself
    assert [str(relation) for relation in own.relations.keys() - late.relations.keys()] == ["pg_temp.own"]


@pytest.mark.parametrize("is_block", [False, True])
def test_what_is_read_as_changes_is_what_a_whole_reading_says(postgres, *, is_block):
    """After each step; or in one transaction with savepoints, just before its end."""

    async def run_it(dsn):
        reader, writer = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
        try:
            await compare(reader, writer, is_block=is_block)
        finally:
            await reader.close()
            await writer.close()

    name = postgres.new_database()
    asyncio.run(run_it(postgres.dsn(name)))
    postgres.drop_database(name)


def batch(*statements, describes=False):
    """Statements of the extended protocol behind each other, with one Sync."""
    sent = b""
    for statement in statements:
        sent += parse(statement) + bind() + (describe("P") if describes else b"") + execute()
    return sent + SYNC


@pytest.mark.parametrize("describes", [False, True])
@pytest.mark.parametrize("in_block", [False, True])
def test_what_a_batch_defines_is_there_for_what_comes_behind_it_in_the_batch(session, other, *, describes, in_block):
    run(session, *(["begin"] if in_block else []))
    statements = [
        "create table b1 (id int)",
        "insert into b1 values (7)",
        "alter table b1 add c text default 'x'",
        "select * from b1",
    ]
    session.send(batch(*statements, describes=describes))
    answers = session.until("Z")
    assert errors(answers) == []
    assert [answer.values for answer in answers if answer.tag == "D"] == [["7", "x"]]
    if in_block:
        assert errors(other.run("select * from b1"))[0][0] == "42P01"
        run(session, "commit")
    assert other.rows("select * from b1") == [["7", "x"]]
    run(session, "drop table b1")


def test_a_batch_that_fails_defines_nothing(session, other):
    session.send(batch("create table b2 (id int)", "insert into b2 values (1)", "select 1 / 0", "select * from b2"))
    assert [state for state, _ in errors(session.until("Z"))] == ["22012"]
    for each in (session, other):
        assert errors(each.run("select * from b2"))[0][0] == "42P01"
    session.send(batch("create table b3 (id int)", "select nosuch from b3"), batch("select 1"))
    assert [state for state, _ in errors(session.until("Z"))] == ["42703"]
    assert errors(session.until("Z")) == []
    assert errors(session.run("select * from b3"))[0][0] == "42P01"


def test_a_portal_that_is_open_stays_open_while_a_batch_defines(session):
    session.send(
        parse("select n from generate_series(1, 3) n"), bind(), execute(limit=1),
        parse("create table b4 (id int)", "d"), bind(name="d", portal="p"), execute("p"),
        describe("P", "p"), parse("select count(*) from b4", "s"), bind(name="s", portal="q"), execute("q"), execute(), SYNC,
    )  # fmt: skip
    answers = session.until("Z")
    assert errors(answers) == []
    assert [answer.values for answer in answers if answer.tag == "D"] == [["1"], ["0"], ["2"], ["3"]]
    run(session, "drop table b4")


def test_a_search_path_of_the_session_s_own_holds_behind_a_definition_in_a_batch(session):
    run(session, "create schema there", "set search_path to there, public")
    session.send(
        batch(
            "create table b5 (id int)", "insert into b5 values (5)", "select * from there.b5", "select current_schema()"
        )
    )
    answers = session.until("Z")
    assert errors(answers) == []
    assert [answer.values for answer in answers if answer.tag == "D"] == [["5"], ["there"]]
    run(session, "drop schema there cascade", "reset search_path")


def test_a_pipeline_of_psycopg_may_define_and_use(proxy):
    with psycopg.connect(proxy.dsn(proxy.token(role="migrator")), autocommit=True) as client, client.pipeline():
        client.execute("create temp table b6 (id int)")
        client.execute("insert into b6 values (%s), (%s)", (1, 2))
        found = client.execute("select sum(id) from b6")
        assert found.fetchone() == (3,)


def test_a_statement_whose_parameter_s_type_is_gone_fails_as_on_the_server(session, other):
    run(session, "create type mood as enum ('ok')", "create table days (m mood)")
    for user in (session, other):
        user.send(parse("insert into days values ($1)", name="s"), describe("S", "s"), SYNC)
        assert errors(user.until("Z")) == []
        user.send(bind(("ok",), name="s"), execute(), SYNC)
        assert errors(user.until("Z")) == []
    run(session, "drop table days", "drop type mood", "create type mood as enum ('ok')", "create table days (m mood)")
    for user in (session, other):
        user.send(bind(("ok",), name="s"), execute(), SYNC)
        ((sqlstate, message),) = errors(user.until("Z"))
        assert (sqlstate, message[:29]) == ("XX000", "cache lookup failed for type ")
        user.send(parse("insert into days values ($1)"), bind(("ok",)), execute(), SYNC)
        assert errors(user.until("Z")) == []
    run(session, "drop table days", "drop type mood")
