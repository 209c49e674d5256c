"""A role that may define anything and sees everything meets the server's own words and choices."""

from __future__ import annotations

import pytest

from tests.kit.policies import WIDE
from tests.kit.proxy import Proxy
from tests.kit.wire import SYNC, Wire, errors, parse


@pytest.fixture(scope="module")
def proxy(postgres, tmp_path_factory):
    name = postgres.new_database()
    postgres.run_sql(
        name,
        "grant create on schema public to faucet_svc; grant create, temporary on database " + name + " to faucet_svc",
    )
    with Proxy(postgres, name, tmp_path_factory.mktemp("words"), roles=WIDE) as running:
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


WORDS = (
    ("select aa from notes where id =  1", "42703", 'column "aa" does not exist', None),
    ("select bodi from notes", "42703", 'column "bodi" does not exist', 'Perhaps you meant to reference the column "notes.body".'),
    ("select nosuch(id) from notes", "42883", "function nosuch(integer) does not exist", "No function matches"),
    ("select upper(id) from notes", "42883", "function upper(integer) does not exist", "No function matches"),
    ("select notes.id from notes n", "42P01", 'invalid reference to FROM-clause entry for table "notes"', "Perhaps you"),
)  # fmt: skip


@pytest.mark.parametrize(("sql", "sqlstate", "message", "hint"), WORDS)
@pytest.mark.parametrize("in_block", [False, True])
def test_a_wrong_query_of_who_sees_everything_fails_in_the_server_s_words(
    session, sql, sqlstate, message, hint, in_block
):
    if in_block:
        session.run("begin")
    (failed,) = (answer for answer in session.run(sql) if answer.tag == "E")
    assert (failed.fields["C"], failed.fields["M"]) == (sqlstate, message)
    assert failed.fields.get("H", "").startswith(hint or "")
    assert sql[int(failed.fields["P"]) - 1 :].startswith(
        message.split('"')[1] if '"' in message else sql.split()[1][:5]
    )
    assert errors(session.run("select 1")) == ([("25P02", ANY_BLOCK)] if in_block else [])


ANY_BLOCK = "current transaction is aborted, commands ignored until end of transaction block"


@pytest.mark.parametrize("opens", ["", "begin"])
def test_what_is_refused_and_not_wrong_is_parsed_by_the_server_and_not_run(session, opens):
    session.run(opens or "select 1")
    assert errors(session.run("select pg_advisory_lock_shared(4711), pg_read_file('x')"))[0][0] == "42501"
    session.run("rollback")
    assert session.rows("select 1") == [["1"]]
    for sql, sqlstate in (("select pg_read_file($1)", "42501"), ("select $1, nosuch(id) from notes", "42883")):
        session.send(parse(sql, types=(25,)), SYNC)
        assert [state for state, _ in errors(session.until("Z"))] == [sqlstate]


def test_who_sees_a_part_gets_our_words(proxy):
    with Wire.logged_in(proxy.port, proxy.token(role="sketcher")) as session:
        assert errors(session.run("select secret from notes")) == [("42703", 'column "secret" does not exist')]
        assert errors(session.run("select nosuch(id) from notes"))[0][0] == "42501"


def test_positions_in_the_text_of_functions_are_those_of_the_client_s_text(session):
    sql = "create   function bad() returns int language plpgsql as $x$\nbegin\n  return nosuch(; end $x$"
    (failed,) = (answer.fields for answer in session.run(sql) if answer.tag == "E")
    assert failed["C"] == "42601"
    assert sql[int(failed["P"]) - 1 :].startswith(";")


def test_a_syntax_error_has_the_server_s_hint_where_everything_is_seen(session, proxy):
    (failed,) = (answer.fields for answer in session.run("drop operator === (int4)") if answer.tag == "E")
    assert (failed["C"], failed["M"]) == ("42601", "missing argument")
    assert failed["H"] == "Use NONE to denote the missing argument of a unary operator."
    with Wire.logged_in(proxy.port, proxy.token(role="sketcher")) as other:
        (failed,) = (answer.fields for answer in other.run("drop operator === (int4)") if answer.tag == "E")
        assert failed["C"] == "42601"
        assert "H" not in failed


def test_a_lock_that_is_taken_is_told_of_under_the_name_that_was_written(session, other):
    run(session, "create table c1 (id int)", "begin", "lock table c1")
    assert errors(other.run("begin; lock table c1 in access share mode nowait")) == [
        ("55P03", 'could not obtain lock on relation "c1"')
    ]
    run(session, "rollback", "drop table c1")


def test_a_sequence_is_a_table_for_who_sees_everything(session, proxy):
    run(session, "create sequence c2", "select nextval('c2')")
    assert session.rows("select last_value, is_called from c2") == [["1", "t"]]
    run(session, "drop sequence c2")


def test_of_functions_of_one_name_the_server_chooses_by_the_arguments(session):
    run(
        session,
        "create function round(float8, int) returns text language sql as $$select 'ours'$$",
        "create function concat(text, variadic anyarray) returns text language sql as $$select array_to_string($2, $1)$$",
    )
    assert session.rows(
        "select round(1.25::float8, 1), round(1.25, 1), concat('%', 1, 2), concat('|', variadic array[1, 2])"
    ) == [["ours", "1.3", "1%2", "1|2"]]
    assert session.rows("select pg_catalog.concat('%', 1, 2)") == [["%12"]]
    run(session, "drop function round(float8, int)", "drop function concat(text, anyarray)")


def test_a_function_may_be_called_as_a_column(session):
    run(
        session,
        "create table people (id int, first text)",
        "insert into people values (1, 'Ada')",
        "create function greeting(people) returns text language sql as $$select 'Hello ' || $1.first$$",
        "create function id(people) returns text language sql as $$select 'never'$$",
        "create view greeted as select p.greeting from people p",
    )
    assert session.rows("select p.greeting, p.id from people p where p.greeting like 'H%' order by p.greeting") == [
        ["Hello Ada", "1"]
    ]
    assert session.rows("select * from greeted") == [["Hello Ada"]]
    assert errors(session.run("select p.farewell from people p")) == [("42703", "column p.farewell does not exist")]
    run(session, "drop table people cascade")


def test_who_may_define_reads_the_definitions(session):
    run(
        session,
        "create table d1 (id int)",
        "create view d2 as select id from d1",
        "create rule d3 as on delete to d1 do instead nothing",
        "create function d4() returns int language sql as 'select 4'",
    )
    for sql in (
        "select definition from pg_views where viewname = 'd2'",
        "select view_definition from information_schema.views where table_name = 'd2'",
        "select definition from pg_rules where rulename = 'd3'",
        "select prosrc from pg_proc where proname = 'd4'",
        "select routine_definition from information_schema.routines where routine_name = 'd4'",
    ):
        ((definition,),) = session.rows(sql)
        assert definition, sql
    run(session, "drop function d4()", "drop table d1 cascade")
