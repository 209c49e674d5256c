"""Roles that may do everything, under a policy and with `access: full`: what a client sees is what it would see of the server."""

from __future__ import annotations

import time

import pytest

from tests.kit.policies import ROLES
from tests.kit.proxy import Proxy
from tests.kit.wire import (
    SYNC,
    Wire,
    bind,
    close,
    describe,
    errors,
    execute,
    message,
    parse,
    query,
    startup_packet,
    tags,
)

BOTH = pytest.mark.parametrize("role", ["definer", "unbound"])


@pytest.fixture(scope="module")
def wide(postgres, tmp_path_factory):
    name = postgres.new_database()
    grants = f"grant create on schema public to faucet_svc; grant temporary, create on database {name} to faucet_svc"
    postgres.run_sql(name, grants)
    with Proxy(postgres, name, tmp_path_factory.mktemp("wide"), roles=ROLES + WIDE) as running:
        yield running
    postgres.drop_database(name)


WIDE = """\
  definer:
    database: shop
    tables: {"*": {select: true, insert: true, update: true, delete: true, truncate: true}}
    functions: ["*"]
    statements: [ddl, temp, listen, copy, do]
    allow_set: ["*"]
    explain: full
  unbound: {database: shop, access: full}
"""


@BOTH
def test_an_execute_may_stand_in_other_statements(wide, role):
    with Wire.logged_in(wide.port, wide.token(role=role)) as session:
        session.run("drop table if exists made, other cascade")
        session.run("prepare p (int, regclass[]) as select body from notes where id <= $1 order by id")
        assert errors(session.run("create table made as execute p(2, null)")) == []
        assert session.rows("select count(*) from made") == [["2"]]
        assert errors(session.run("explain (costs off) create table other as execute p(1, null)")) == []
        assert errors(session.run("create table other as execute p(1)")) == [
            ("42601", 'wrong number of parameters for prepared statement "p"')
        ]
        assert errors(session.run("create table other as execute q")) == [
            ("26000", 'prepared statement "q" does not exist')
        ]


LIKE_THE_SERVER = {
    "create table seat (a int primary key, b text, c int)": None,
    "insert into seat values (50, 'x', 1)": None,
    "insert into seat values (50, 'x', 2) on conflict (a) do update set (a, b, c) = row(excluded.*)": None,
    "update seat t set (b, c) = row(v.*) from (values ('y', 3)) v (i, j)": None,
    "table seat": [["50", "y", "3"]],
    "create table one (q1 int, q2 int); create table two (f1 int); insert into one values (1, 2); insert into two values (1)": None,
    "select * from one x join (two x cross join two y (ff)) j on q1 = f1": [["1", "2", "1", "1"]],
    "create function all_seats() returns setof seat language sql as 'select * from seat'": None,
    "update seat set c = s.c + 1 from all_seats() s where s.a = seat.a returning s": [["(50,y,3)"]],
    "update seat set c = 5 from all_seats() where all_seats.a = seat.a returning all_seats": [["(50,y,4)"]],
    "create table filled (a int, b int default 3)": None,
    "insert into filled select * from generate_series(1, 2)": None,
    "insert into filled select g.* from generate_series(3, 3) g": None,
    "table filled": [["1", "3"], ["2", "3"], ["3", "3"]],
    "explain (costs off) select a into elsewhere from filled": [["Seq Scan on filled"]],
    "explain (costs off) declare c cursor for select a from filled": [["Seq Scan on filled"]],
    "begin; declare c cursor for table filled; fetch 2 from c; update filled set b = 4 where current of c": [
        ["1", "3"],
        ["2", "3"],
    ],
    "explain (costs off) delete from filled where current of c": [
        ["Delete on filled"],
        ["  ->  Tid Scan on filled"],
        ["        TID Cond: CURRENT OF c"],
    ],
    "commit": None,
    "select b from filled where a = 2": [["4"]],
    "create temp table fullname (first text, last text)": None,
    "select row('Joe', 'Blow')::fullname, ('(a,b)'::pg_temp.fullname).last": [["(Joe,Blow)", "b"]],
    "create function pg_temp.doubled(int) returns int language sql as 'select $1 * 2'": None,
    "select pg_temp.doubled(4)": [["8"]],
}


@BOTH
def test_statements_do_what_they_do_on_the_server(wide, role):
    with Wire.logged_in(wide.port, wide.token(role=role)) as session:
        session.run("drop table if exists seat, one, two, filled cascade")
        for text, expected in LIKE_THE_SERVER.items():
            assert session.rows(text) == (expected or []), text
        session.run("drop table seat, one, two, filled cascade")


@BOTH
def test_what_is_prepared_follows_the_search_path(wide, role):
    with Wire.logged_in(wide.port, wide.token(role=role)) as session:
        session.run("drop schema if exists aside cascade; create schema aside")
        session.run("create table aside.places (at text); insert into aside.places values ('aside')")
        session.run(
            "create table if not exists places (at text); truncate places; insert into places values ('public')"
        )
        session.run("set search_path = public")
        session.send(parse("select at, current_schema() from places", "where"), describe("S", "where"), SYNC)
        session.until("Z")
        session.run("prepare again as select at from places")
        for path in ("public", "aside", "public"):
            session.send(parse(f"set search_path = {path}"), bind(), execute(), SYNC)
            session.until("Z")
            session.send(bind(name="where"), execute(), SYNC)
            got = session.until("Z")
            assert errors(got) == []
            assert [answer.values for answer in got if answer.tag == "D"] == [[path, path]]
            assert session.rows("execute again") == [[path]]
        session.run("drop schema aside cascade; drop table places")


@BOTH
@pytest.mark.parametrize("kind", ["S", "P"])
def test_a_result_that_has_changed_is_told_on_a_connection_that_has_never_seen_the_old_one(wide, role, kind):
    token = wide.token(role=role)
    with Wire.logged_in(wide.port, token) as session, Wire.logged_in(wide.port, token) as other:
        session.run("create table shifting (a int); insert into shifting values (1)")
        session.send(parse("select * from shifting", "all"), bind(name="all"))
        session.send(describe("S", "all") if kind == "S" else describe("P"), execute(), SYNC)
        session.until("Z")
        wide.postgres.run_sql(wide.database, "alter table shifting add b int default 2")
        other.run("begin; select 1")  # on the connection that has served so far
        session.send(bind(name="all"), execute(), SYNC)
        assert errors(session.until("Z")) == [("0A000", "cached plan must not change result type")]
        session.send(bind(name="all"), execute(), SYNC)
        assert errors(session.until("Z"))[0][0] == "0A000"
        other.run("rollback")
        session.send(parse("select * from shifting", "all"), SYNC)
        assert errors(session.until("Z"))[0][0] == "42P05"
        session.send(close("S", "all"), parse("select * from shifting", "all"), bind(name="all"), execute(), SYNC)
        assert [answer.values for answer in session.until("Z") if answer.tag == "D"] == [["1", "2"]]
        session.run("drop table shifting")


@BOTH
def test_a_result_that_is_the_same_elsewhere_goes_on(wide, role):
    token = wide.token(role=role)
    with Wire.logged_in(wide.port, token) as session, Wire.logged_in(wide.port, token) as other:
        session.send(parse("select 1 as one", "same"), describe("S", "same"), SYNC)
        session.until("Z")
        other.run("begin; select 1")
        session.send(bind(name="same"), describe("P"), execute(), bind(name="same"), execute(), SYNC)
        assert tags(session.until("Z")) == "2TDC2DCZ"
        session.send(describe("S", "same"), bind(name="same"), execute(), SYNC)
        assert tags(session.until("Z")) == "tT2DCZ"


def test_a_temporary_function_is_found_by_its_schema_only(wide):
    with Wire.logged_in(wide.port, wide.token(role="definer")) as session:
        created = "create function pg_temp.hidden() returns int language sql as 'select 1'"
        assert errors(session.run(f"{created}; set search_path = pg_temp, public")) == []
        assert errors(session.run("select hidden()"))[0][0] in {"42501", "42883"}
        assert session.rows("select pg_temp.hidden()") == [["1"]]


def test_where_current_of_is_not_for_tables_that_are_filtered(proxy):
    with Wire.logged_in(proxy.port, proxy.token()) as session:
        session.run("begin; declare c cursor for select id from notes; fetch 1 from c")
        assert session.run("update notes set body = 'x' where current of c")[0].fields["C"] in {"0A000", "42501"}


SEEN = "select name, statement, from_sql, parameter_types from pg_prepared_statements order by name"


def test_under_access_full_prepared_statements_are_seen_under_the_client_s_names(wide):
    with (
        Wire.logged_in(wide.port, wide.token(role="unbound")) as other,
        Wire.logged_in(wide.port, wide.token(role="unbound")) as session,
    ):
        other.run("prepare elsewhere as select 0")
        session.run('prepare "B" (int) as select $1')
        session.send(parse("select 2", "wire"), SYNC)
        session.until("Z")
        assert session.rows(SEEN) == [
            ["B", 'prepare "B" (int) as select $1', "t", "{integer}"],
            ["wire", "select 2", "f", "{}"],
        ]
        assert session.rows('execute "B"(7)') == [["7"]]
        session.send(bind(name="wire"), execute(), close("S", "wire"), SYNC)
        assert tags(session.until("Z")) == "2DC3Z"
        session.run("prepare later as select 3")
        assert [row[0] for row in session.rows(SEEN)] == ["B", "later"]
        assert tags(session.run('deallocate "B"')) == "CZ"
        assert [row[0] for row in session.rows(SEEN)] == ["later"]
        session.run("deallocate all")
        assert session.rows(SEEN) == []
        assert tags(session.run('prepare "B" as select 8')) == "CZ"
        assert session.rows('execute "B"') == [["8"]]
        assert other.rows("execute elsewhere") == [["0"]]


def test_under_access_full_text_that_a_function_runs_may_execute_what_is_prepared(wide):
    with Wire.logged_in(wide.port, wide.token(role="unbound")) as session:
        session.run(
            "create or replace function run_text(text) returns text language plpgsql as $$declare r text; begin execute $1 into r; return r; end$$"
        )
        session.run("prepare five as select 5")
        assert session.rows("select run_text('execute five')") == [["5"]]
        assert session.rows("execute five") == [["5"]]
        session.send(parse("execute five"), bind(), execute(), SYNC)
        assert tags(session.until("Z")) == "12DCZ"


def test_a_close_that_is_skipped_leaves_what_the_server_still_has(wide):
    with Wire.logged_in(wide.port, wide.token(role="unbound")) as session:
        session.rows(SEEN)
        session.send(parse("select 4", "kept"), SYNC)
        session.until("Z")
        session.send(parse("select 1/0"), bind(), execute(), close("S", "kept"), SYNC)
        assert tags(session.until("Z")) == "1EZ"
        session.send(bind(name="kept"), execute(), SYNC)
        assert tags(session.until("Z")) == "2DCZ"


def test_under_access_full_arguments_are_the_server_s_business(wide):
    with Wire.logged_in(wide.port, wide.token(role="unbound")) as session:
        session.run("prepare p (text) as select $1")
        session.run("create function made_just_now() returns text language sql as $$select 'here'$$")
        assert session.rows("execute p(made_just_now())") == [["here"]]


@BOTH
@pytest.mark.parametrize(
    "marked",
    [
        "prepare   bad as  select  1 + »nosuch from notes",
        "select  bool   »'neither' from notes",
        "select 1;  select  int »'neither'",
        "create table unmade (a int default  »nosuch)",
    ],
)
def test_an_error_s_position_points_into_the_client_s_text(wide, role, marked):
    with Wire.logged_in(wide.port, wide.token(role=role)) as session:
        (failed,) = (answer for answer in session.run(marked.replace("»", "")) if answer.tag == "E")
        assert failed.fields["P"] == str(marked.index("»") + 1)


def test_an_error_in_what_an_execute_runs_has_no_position(wide):
    with Wire.logged_in(wide.port, wide.token(role="unbound")) as session:
        session.run("create table gone (a int); prepare p as select * from gone")
        session.run("drop table gone")
        (failed,) = (answer for answer in session.run("execute p") if answer.tag == "E")
        assert failed.fields["C"] == "42P01"
        assert "P" not in failed.fields


@BOTH
def test_settings_in_a_block_leave_set_transaction_its_place(wide, role):
    with Wire.logged_in(wide.port, wide.token(role=role)) as session:
        session.run("create table if not exists made_before (a int)")  # the catalog is behind now
        run = ("begin", "set local statement_timeout = '9s'", "set local search_path = public", "set timezone = 'UTC'")
        for sql in (*run, "set transaction isolation level serializable, read only", "set transaction read write"):
            assert errors(session.run(sql)) == []
        assert session.rows("show transaction_isolation") == [["serializable"]]
        assert session.rows("show statement_timeout") == [["9s"]]
        session.run("commit")
        assert session.rows("show statement_timeout") == [["0"]]


@BOTH
def test_a_setting_of_a_block_does_not_outlive_it(wide, role):
    with Wire.logged_in(wide.port, wide.token(role=role)) as session:
        for sql in (
            "set work_mem = '5MB'",
            "begin",
            "set local work_mem = '6MB'",
            "savepoint a",
            "set work_mem = '7MB'",
        ):
            session.run(sql)
        assert session.rows("show work_mem") == [["7MB"]]
        session.run("rollback to a")
        assert session.rows("show work_mem") == [["6MB"]]
        session.run("commit")
        assert session.rows("show work_mem") == [["5MB"]]


@BOTH
def test_what_an_error_skips_is_undone_from_its_end(wide, role):
    """A Parse and the Close of the same statement behind an error: the name is free."""
    with Wire.logged_in(wide.port, wide.token(role=role)) as session:
        failing = parse("select $1") + bind(())
        session.send(failing, parse("select 1", "a"), bind((), name="a"), execute(), close("S", "a"), SYNC)
        assert [state for state, _ in errors(session.until("Z"))] == ["08P01"]
        session.send(parse("select 2", "a"), bind((), name="a"), execute(), SYNC)
        assert tags(session.until("Z")) == "12DCZ"


@BOTH
def test_the_details_of_a_deferred_constraint_are_told(wide, role):
    with Wire.logged_in(wide.port, wide.token(role=role)) as session:
        session.run("create table if not exists late (a int primary key deferrable initially deferred)")
        session.send(parse("insert into late values ($1), ($1)", types=(23,)), bind(("1",)), execute(), SYNC)
        (failed,) = (answer for answer in session.until("Z") if answer.tag == "E")
        assert failed.fields["D"] == "Key (a)=(1) already exists."


@BOTH
@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select upper(1)", "function upper(integer) does not exist"),
        ("select pg_catalog.upper(1)", "function pg_catalog.upper(integer) does not exist"),
        ("select made_for_text(1)", "function made_for_text(integer) does not exist"),
        ("select public.made_for_text(1)", "function public.made_for_text(integer) does not exist"),
    ],
)
def test_functions_are_named_as_the_client_names_them(wide, role, sql, message):
    with Wire.logged_in(wide.port, wide.token(role=role)) as session:
        session.run("create or replace function made_for_text(text) returns text language sql as 'select $1'")
        assert errors(session.run(sql)) == [("42883", message)]


@pytest.mark.parametrize(
    "sql",
    [
        "select hashint4(1), float4send(1.5), float8larger(1, 2), cashsmaller('1', '2'), hash_array(array[1])",
        "create table if not exists hashed (a int) partition by hash (a); select satisfies_hash_partition('hashed'::regclass, 1, 0, 1)",
        "select pg_notify('made', 'up')",
        "listen made; select * from pg_listening_channels()",
    ],
)
def test_functions_that_only_compute_or_signal_are_open(wide, sql):
    with Wire.logged_in(wide.port, wide.token(role="definer")) as session:
        assert [state for state, _ in errors(session.run(sql)) if state != "22023"] == []


def test_copy_of_who_sees_everything_is_the_server_s(wide):
    with Wire.logged_in(wide.port, wide.token(role="definer")) as session:
        session.run("create table if not exists copied (a int default 7, b text)")
        session.run("truncate copied")
        session.send(query("copy copied from stdin with (format csv, default '*')"))
        session.until("G")
        session.send(message("d", b"*,x\n"), message("c"))
        assert errors(session.until("Z")) == []
        assert session.rows("select * from copied") == [["7", "x"]]
        assert (
            errors(session.run("copy copied from stdin where a > pg_backend_pid() and pg_read_file(b) = ''"))[0][0]
            == "42501"
        )
        assert errors(session.run("copy pg_authid to stdout"))[0][0] == "42501"
        assert errors(session.run("copy copied to '/tmp/copied'"))[0][0] == "42501"


REGISTERED = (
    "select 'notes'::regclass, 'pg_class'::regclass, 'integer'::regtype, 'upper(text)'::regprocedure, 'public'::regnamespace",
    "select row_to_json(r) from (select oid::regclass as named from pg_class where relname = 'notes') r",
    "select pg_typeof('notes'::regclass), array['notes'::regclass], pg_typeof(unnest(array[1, 2]))",
    "select proargtypes::regtype[] from pg_proc where proname = 'upper' order by 1",
)


@pytest.mark.parametrize("sql", REGISTERED)
def test_values_of_registered_types_are_the_server_s(wide, sql):
    with (
        Wire.logged_in(wide.port, wide.token(role="definer")) as one,
        Wire.logged_in(wide.port, wide.token(role="unbound")) as other,
    ):
        assert one.rows(sql) == other.rows(sql)


def test_names_of_roles_are_not_looked_up(wide):
    with Wire.logged_in(wide.port, wide.token(role="definer")) as session:
        assert errors(session.run("select 'postgres'::regrole")) == [("42704", "role does not exist")]
        assert errors(session.run("select 'postgres'::regrole, nosuch"))[0][0] in {"42704", "42703"}
        assert errors(session.run("select 'faucet_svc'::regrole::text, nosuch")) == errors(
            session.run("select 'nobody'::regrole::text, nosuch")
        )


def test_statistics_of_tables_are_open_and_those_of_catalogs_are_not(wide):
    with Wire.logged_in(wide.port, wide.token(role="definer")) as session:
        assert session.rows("select distinct schemaname from pg_stats where schemaname <> 'public'") == []
        assert errors(session.run("select tablename from pg_stats")) == []


@BOTH
def test_an_idle_session_ends_when_its_client_says_so(wide, role):
    with (
        Wire.logged_in(wide.port, wide.token(role=role)) as session,
        Wire.logged_in(wide.port, wide.token(role=role)) as other,
    ):
        session.run("set idle_session_timeout = '400ms'")
        assert session.rows("select 'busy' from pg_sleep(0.6)" if role == "unbound" else "select 'busy'") == [["busy"]]
        assert session.receive().fields["C"] == "57P05"
        with pytest.raises(EOFError):
            session.receive()
        assert other.rows("select 1") == [["1"]]


@BOTH
def test_an_idle_timeout_that_is_reset_ends_nothing(wide, role):
    with Wire.logged_in(wide.port, wide.token(role=role)) as session:
        session.run("set idle_session_timeout = '300ms'")
        session.run("reset idle_session_timeout")
        session.socket.settimeout(0.7)
        with pytest.raises(TimeoutError):
            session.receive()


@BOTH
def test_the_server_counts_no_idle_time_of_a_connection_in_the_pool(wide, role):
    with Wire.logged_in(wide.port, wide.token(role=role)) as session:
        session.send(*(query(text) for text in ("set idle_session_timeout = '700ms'", "show idle_session_timeout") * 2))
        shown = [answer for _ in range(4) for answer in session.until("Z") if answer.tag == "D"]
        assert [answer.values for answer in shown] == [["700ms"]] * 2
        pid = session.rows("select pg_backend_pid()")
        session.receive()
    time.sleep(0.3)
    with Wire.logged_in(wide.port, wide.token(role=role)) as other:
        assert other.rows("select pg_backend_pid()") == pid


def test_a_broken_length_ends_the_session_without_a_word(wide):
    with Wire.logged_in(wide.port, wide.token(role="definer")) as session:
        session.send(query("select 1"), b"Q\0\0\0\1")
        assert tags(session.until("Z")) == "TDCZ"
        with pytest.raises(EOFError):
            session.receive()


def test_a_broken_length_within_a_copy_is_told_as_the_server_tells_it(wide):
    with Wire.logged_in(wide.port, wide.token(role="definer")) as session:
        session.run("create table if not exists copied (a int default 7, b text)")
        session.send(query("copy copied from stdin"), message("f", b"x" * 20_000 + b"\0"))
        session.until("G")
        assert [session.receive().fields["C"] for _ in range(2)] == ["08006", "08P01"]


def test_a_client_of_protocol_2_is_told_in_its_own_words(wide):
    session = Wire(wide.port)
    session.send(startup_packet({"user": "x"}, 2 << 16))
    assert session.socket.recv(4096) == b"EFATAL:  unsupported frontend protocol 2.0: server supports 3.0 to 3.2\n\0"
    session.socket.close()


@BOTH
def test_a_name_that_is_cut_is_noticed(wide, role):
    with Wire.logged_in(wide.port, wide.token(role=role)) as session:
        answers = session.run(f"prepare {'n' * 70} as select 1")
        assert [answer.tag for answer in answers] == ["N", "C", "Z"]
        assert answers[0].fields["C"] == "42622"
        assert session.rows(f"execute {'n' * 63}") == [["1"]]


def test_a_query_within_a_copy_of_a_new_table_does_not_hang(wide):
    with Wire.logged_in(wide.port, wide.token(role="definer")) as session:
        session.run("create temp table fresh (a int)")
        session.send(query("copy fresh from stdin"))
        session.until("G")
        session.send(query("select 1"))
        assert [session.receive().fields["C"] for _ in range(2)] == ["08P01", "08P01"]


def test_under_access_full_the_search_path_is_the_server_s(wide):
    with Wire.logged_in(wide.port, wide.token(role="unbound")) as session:
        assert session.rows("show search_path") == [['"$user", public']]
