"""Attacks on the session: portals, what is left on a connection, messages out of the usual order."""

from __future__ import annotations

import pytest

from tests.kit import wire
from tests.kit.policies import SERVER
from tests.kit.proxy import Proxy, wait_until
from tests.kit.wire import Wire, message, query

ROLES = """\
roles:
  desk:
    database: shop
    statements: [copy]
    tables:
      notes:
        select: [id, tenant_id, body]
        row_filter: tenant_id = claim('tenant')::int
      tenants: {select: true, insert: true}
  wide:
    database: shop
    tables: {"*": {select: true, insert: true, update: true, delete: true, truncate: true}}
    functions: ["*"]
    statements: [do]
  owner:
    database: shop
    access: full
"""


@pytest.fixture(scope="module")
def proxy(postgres, tmp_path_factory):
    """A proxy with one connection, which every client gets after the other."""
    name = postgres.new_database()
    server = SERVER.replace("size: 8", "size: 1").replace("params: hash", "params: full")
    with Proxy(postgres, name, tmp_path_factory.mktemp("redteam"), roles=ROLES, server=server) as running:
        yield running
    postgres.drop_database(name)


@pytest.fixture
def enter(proxy):
    opened = []

    def enter(role="desk", **parameters):
        opened.append(Wire.logged_in(proxy.port, proxy.token(role), **parameters))
        return opened[-1]

    yield enter
    for session in opened:
        session.socket.close()


def ask(session, *parts):
    """Send messages; return what came up to ReadyForQuery as tags, values and SQLSTATEs."""
    session.send(*parts)
    found = []
    for answer in session.until("Z"):
        match answer.tag:
            case "D":
                found.append(tuple(answer.values))
            case "E":
                found.append(answer.fields["C"])
            case "C":
                found.append(answer.body[:-1].decode())
    return found


def last_statement(proxy):
    return proxy.audit(event="statement")[-1]


# -- portals -----------------------------------------------------------------------------------------------------------------------


def test_a_portal_is_never_recorded_as_another_statement_that_was_not_bound(proxy, enter):
    session = enter()
    ask(session, query("begin"))
    ask(session, wire.parse("select body from notes order by id", "a"), wire.bind(name="a", portal="p"), wire.SYNC)
    ask(session, query("savepoint s"))
    failed = ask(session, wire.parse("select 1", "b"), wire.bind(name="b", portal="p"), wire.SYNC)
    assert failed == ["42P03"]
    ask(session, query("rollback to s"))
    assert ask(session, wire.execute("p"), wire.SYNC) == ["34000"]


def test_names_of_portals_are_cut_where_the_server_cuts_them(proxy, enter):
    session = enter()
    ask(session, query("begin"))
    long, short = "a" * 62 + "é", "a" * 62
    ask(
        session,
        *(wire.parse("select body from notes", "a"), wire.bind(name="a", portal=long)),
        *(wire.parse("select 1", "b"), wire.bind(name="b", portal=short)),
        *(wire.execute(long), wire.SYNC),
    )
    assert last_statement(proxy)["query"] == "select body from notes"


def test_a_portal_of_a_name_that_became_a_cursor_is_gone(enter):
    session = enter()
    ask(session, query("begin"))
    ask(session, wire.parse("select 1", "a"), wire.bind(name="a", portal="p"), wire.SYNC)
    ask(session, query("close p"))
    ask(session, query("declare p cursor for select body from notes"))
    assert ask(session, wire.execute("p"), wire.SYNC) == ["34000"]


@pytest.mark.parametrize("read", ["fetch", "portal", "rebound portal"])
def test_nothing_that_was_opened_under_another_policy_is_read_on(proxy, enter, read):
    session = enter()
    ask(session, query("begin"))
    select = "select id, body from notes order by id"
    ask(session, query(f"declare c cursor for {select}"))
    ask(session, wire.parse(select, "a"), wire.bind(name="a", portal="p"), wire.execute("p", 1), wire.SYNC)
    proxy.roles_file.write_text(ROLES.replace("row_filter: tenant_id =", "row_filter: id < 0 and tenant_id ="))
    try:
        wait_until(lambda: ask(session, query("select count(*) from notes")) == [("0",), "SELECT 1"], 10, "the policy")
        match read:
            case "fetch":
                assert ask(session, query("fetch 1 from c")) == ["42501"]
            case "portal":
                assert ask(session, wire.execute("p"), wire.SYNC) == ["42501"]
            case "rebound portal":
                ask(session, wire.bind(name="a", portal="q"), wire.SYNC)
                assert ask(session, wire.execute("p"), wire.SYNC) == ["42501"]
    finally:
        ask(session, query("rollback"))
        proxy.roles_file.write_text(ROLES)
        wait_until(lambda: ask(session, query("select count(*) from notes")) != [("0",), "SELECT 1"], 10, "the policy")


def test_a_cursor_is_read_on_when_nothing_changed_for_it(proxy, enter):
    session = enter()
    ask(session, query("begin"), query("declare c cursor for select 7 from tenants"))
    session.until("Z")
    proxy.roles_file.write_text(ROLES.replace("row_filter: tenant_id =", "row_filter: id < 0 and tenant_id ="))
    try:
        wait_until(lambda: ask(session, query("select count(*) from notes")) == [("0",), "SELECT 1"], 10, "the policy")
        assert ask(session, query("fetch 1 from c")) == [("7",), "FETCH 1"]
    finally:
        ask(session, query("rollback"))
        proxy.roles_file.write_text(ROLES)
        wait_until(lambda: ask(session, query("select count(*) from notes")) != [("0",), "SELECT 1"], 10, "the policy")


# -- what is left on a connection --------------------------------------------------------------------------------------------------

DAY = "select '01/02/2024'::date::text, ('2024-01-01 00:00'::timestamptz at time zone 'UTC')::text"


@pytest.mark.parametrize("setting", ["before", "in the same batch"])
def test_a_statement_is_not_prepared_under_the_settings_of_others(enter, setting):
    other = enter()
    change = "set timezone = 'Asia/Tokyo'"
    prepare = (wire.parse(DAY, "a"), wire.bind(name="a"), wire.execute())
    if setting == "before":
        ask(other, query("set datestyle = 'ISO, DMY'"))
        ask(other, query(change))
        assert ask(other, *prepare, wire.SYNC)[0] == ("2024-02-01", "2023-12-31 15:00:00")
    else:
        ask(other, wire.parse(change), wire.bind(), wire.execute(), *prepare, wire.SYNC)
    other.socket.close()
    mine = enter()
    assert ask(mine, *prepare, wire.SYNC)[0] == ("2024-01-02", "2024-01-01 00:00:00")


def test_execute_does_not_use_what_was_prepared_under_the_settings_of_others(enter):
    other = enter()
    ask(other, query("set timezone = 'Asia/Tokyo'"))
    ask(other, query(f"prepare a as {DAY}"))
    other.socket.close()
    mine = enter()
    ask(mine, query(f"prepare a as {DAY}"))
    assert ask(mine, query("execute a"))[0] == ("2024-01-02", "2024-01-01 00:00:00")


@pytest.mark.parametrize("role", ["wide", "owner"])
@pytest.mark.parametrize(
    "sql",
    [
        "do $$ begin perform set_config('timezone', 'Asia/Tokyo', false); end $$",
        "do $$ begin perform set_config('work_mem', '64kB', false); end $$",
        "do $$ begin create temp table left_behind (a int); end $$",
        "do $$ begin execute 'prepare left_behind as select 1'; end $$",
        "select pg_advisory_lock(77)",
        "prepare a as select pg_advisory_lock(78); execute a",
    ],
)
def test_nothing_is_left_for_the_next_client(enter, role, sql):
    first = enter(role)
    for part in sql.split("; ") if sql.startswith("prepare") else [sql]:
        assert not [found for found in ask(first, query(part)) if isinstance(found, str) and found[0].isdigit()]
    first.socket.close()
    state = (
        "select current_setting('timezone'), current_setting('work_mem'),"
        " (select count(*) from pg_class where relname = 'left_behind'),"
        " (select count(*) from pg_prepared_statements where name = 'left_behind'),"
        " (select count(*) from pg_locks where locktype = 'advisory')"
    )
    assert ask(enter("owner"), query(state))[0] == ("UTC", "4MB", "0", "0", "0")


# -- COPY in the extended protocol (PROTOCOL 75) -----------------------------------------------------------------------------------


@pytest.mark.parametrize("early", [wire.SYNC, wire.FLUSH, b""])
@pytest.mark.parametrize("waits", [True, False])
def test_a_copy_in_answers_one_sync_for_those_around_its_data(enter, early, waits):
    session = enter()
    data = (message("d", b"900\tx\tbasic\n"), message("c"))
    start = (wire.parse("copy tenants (id, name, plan) from stdin"), wire.bind(), wire.execute(), early)
    if waits and early:
        session.send(*start)
        session.until("G")
        assert ask(session, *data, wire.SYNC)[-1][:4] in {"COPY", "2350"}
    else:
        assert ask(session, *start, *data, wire.SYNC)[-1][:4] in {"COPY", "2350"}
    assert ask(session, query("select 41 + 1")) == [("42",), "SELECT 1"]
    assert ask(session, wire.parse("select 2"), wire.bind(), wire.execute(), wire.SYNC) == [("2",), "SELECT 1"]


def test_a_copy_that_fails_leaves_the_session_in_step(enter):
    session = enter()
    session.send(wire.parse("copy tenants (id) from stdin"), wire.bind(), wire.execute(), wire.SYNC)
    session.until("G")
    assert ask(session, message("d", b"nonsense\n"), message("c"), wire.SYNC) == ["22P02"]
    assert ask(session, query("select 41 + 1")) == [("42",), "SELECT 1"]
