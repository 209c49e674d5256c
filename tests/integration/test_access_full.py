"""A role with `access: full` finds the proxy no different from the server: what drivers' own test suites showed, in small."""

from __future__ import annotations

import pytest

from tests.kit.policies import SERVER
from tests.kit.wire import SYNC, Wire, bind, describe, errors, execute, message, parse, query, tags

ONE_CONNECTION = SERVER.replace("size: 8", "size: 1")
SESSION_MODE = SERVER.replace("mode: transaction", "mode: session")
LO_CREAT = 957  # pg_proc.dat


@pytest.fixture
def owner(proxy):
    with Wire.logged_in(proxy.port, proxy.token("owner"), application_name="mine", options="-c work_mem=9MB") as wire:
        yield wire


def parameters(messages):
    return dict(item.body.decode().split("\0")[:2] for item in messages if item.tag == "S")


def test_a_message_longer_than_any_buffer_is_taken_whole(owner):
    owner.send(parse("select length($1::text)"), bind(("x" * 3_000_000,)), execute(), SYNC)
    assert [item.values for item in owner.until("Z") if item.tag == "D"] == [["3000000"]]


@pytest.mark.parametrize("reset", ["reset all", "discard all"])
def test_reset_goes_back_to_what_the_client_began_with(owner, reset):
    path = owner.rows("show search_path")
    owner.run("set application_name = 'other'; set work_mem = '7MB'; set search_path = pg_catalog")
    told = parameters(owner.run(reset))
    assert told["application_name"] == "mine"
    assert [owner.rows(f"show {name}") for name in ("application_name", "work_mem", "search_path")] == [
        [["mine"]],
        [["9MB"]],
        path,
    ]


def test_reset_of_one_setting_is_undone_with_its_transaction(owner):
    owner.run("set work_mem = '7MB'")
    owner.run("begin")
    owner.run("reset work_mem")
    assert owner.rows("show work_mem") == [["9MB"]]
    owner.run("rollback")
    assert owner.rows("show work_mem") == [["7MB"]]


def test_what_a_function_leaves_on_a_connection_is_gone_for_the_next_client(start_proxy, postgres, database):
    postgres.run_sql(
        database,
        """create function leave() returns text language plpgsql as $$ begin
             create temporary table left_over (x int);
             return set_config('work_mem', '77MB', false);
           end $$""",
    )
    proxy = start_proxy(server=ONE_CONNECTION)
    with Wire.logged_in(proxy.port, proxy.token("owner")) as first:
        assert first.rows("select leave()") == [["77MB"]]
        here = first.rows("select pg_backend_pid()")
        with Wire.logged_in(proxy.port, proxy.token("owner")) as second:
            assert second.rows("select pg_backend_pid()") == here
            assert second.rows("select to_regclass('pg_temp.left_over')") == [[None]]
            assert second.rows("select current_setting('work_mem') = '77MB'") == [["f"]]


def test_after_a_change_of_the_schema_a_statement_can_be_prepared_again(owner, proxy, postgres):
    postgres.run_sql(proxy.database, "create table changing (x int); grant select on changing to faucet_svc")
    text = "select x from changing"
    owner.send(parse(text, "a"), bind(name="a"), execute(), SYNC)
    assert errors(owner.until("Z")) == []
    postgres.run_sql(proxy.database, "alter table changing alter x type text")
    owner.send(bind(name="a"), execute(), SYNC)
    assert errors(owner.until("Z")) == [("0A000", "cached plan must not change result type")]
    owner.send(parse(text, "b"), bind(name="b"), execute(), SYNC)
    assert errors(owner.until("Z")) == []
    postgres.run_sql(proxy.database, "drop table changing")


def test_an_unnamed_statement_has_no_name_on_the_server_either(owner):
    owner.send(parse("select count(*) from pg_prepared_statements"), bind(), execute(), SYNC)
    assert [item.values for item in owner.until("Z") if item.tag == "D"] == [["0"]]


def test_an_unnamed_statement_is_there_again_on_another_connection(owner, proxy):
    owner.send(parse("select 41 + $1::int"), SYNC)
    owner.until("Z")
    with Wire.logged_in(proxy.port, proxy.token("owner")) as other:
        other.run("begin")  # takes the connection
        owner.send(bind(("1",)), execute(), SYNC)
        assert [item.values for item in owner.until("Z") if item.tag == "D"] == [["42"]]


def test_execute_works_in_the_extended_protocol(owner):
    owner.send(parse("select 41 + 1", "answer"), SYNC)
    owner.until("Z")
    owner.send(parse("execute answer"), describe("S"), bind(), execute(), SYNC)
    assert [item.values for item in owner.until("Z") if item.tag == "D"] == [["42"]]
    owner.send(message("C", b"Sanswer\0"), parse("execute answer"), SYNC)
    assert errors(owner.until("Z")) == [("26000", 'prepared statement "answer" does not exist')]


def test_functions_can_be_called_by_their_number(owner, proxy):
    owner.send(message("F", LO_CREAT.to_bytes(4, "big") + b"\0\1\0\1\0\1\0\0\0\4\0\6\0\0\0\1"))
    assert tags(owner.until("Z")) == "VZ"
    with Wire.logged_in(proxy.port, proxy.token("desk")) as desk:
        desk.send(message("F", LO_CREAT.to_bytes(4, "big") + b"\0\1\0\1\0\1\0\0\0\4\0\6\0\0\0\1"))
        assert errors(desk.until("Z"))[0][0] == "0A000"


def test_a_client_may_have_its_own_encoding(start_proxy):
    proxy = start_proxy(server=ONE_CONNECTION)
    latin = "select 'é' as é".encode("latin-1") + b"\0"
    with Wire.logged_in(proxy.port, proxy.token("owner")) as first:
        assert parameters(first.run("set client_encoding = latin1"))["client_encoding"] == "LATIN1"
        first.send(message("Q", latin))
        described, row, *_ = first.until("Z")
        assert described.body[2:4] == b"\xe9\0"
        assert row.body.endswith(b"\1\xe9")
        with Wire.logged_in(proxy.port, proxy.token("owner")) as second:
            assert second.rows("select 'é'") == [["é"]]
        first.send(parse("select 1", "s"), SYNC, message("P", b"\0" + latin + b"\0\0"), bind(), execute(), SYNC)
        first.until("Z")
        assert [item.body[-1:] for item in first.until("Z") if item.tag == "D"] == [b"\xe9"]


def test_a_client_may_begin_with_its_own_encoding(proxy):
    with Wire.logged_in(proxy.port, proxy.token("owner"), client_encoding="latin1") as wire:
        assert wire.parameters["client_encoding"] == "LATIN1"
        wire.send(message("Q", "select 'é'".encode("latin-1") + b"\0"))
        assert [item.body[-1:] for item in wire.until("Z") if item.tag == "D"] == [b"\xe9"]


def test_a_notification_names_the_process_that_its_sender_knows(owner, proxy):
    owner.run("listen news")
    with Wire.logged_in(proxy.port, proxy.token("owner")) as sender:
        sender.run("notify news, 'x'")
        assert owner.until("A")[-1].body[:4] == sender.key[0].to_bytes(4, "big")


def test_in_session_mode_the_process_is_the_server_s(start_proxy):
    proxy = start_proxy(server=SESSION_MODE)
    with Wire.logged_in(proxy.port, proxy.token("owner")) as wire:
        assert wire.rows("select pg_backend_pid()") == [[str(wire.key[0])]]
        wire.send(query("select pg_sleep(5)"))
        wire.cancel(proxy.port)
        assert errors(wire.until("Z")) == [("57014", "canceling statement due to user request")]
