"""PREPARE, EXECUTE and DEALLOCATE by SQL: names of the client's own, on whichever connection serves it."""

from __future__ import annotations

import pytest

from tests.kit import wire
from tests.kit.wire import Wire, errors, query, status, tags


@pytest.fixture
def session(proxy):
    with Wire.logged_in(proxy.port, proxy.token()) as opened:
        yield opened


def test_a_prepared_statement_is_filtered_like_any_other(session):
    assert tags(session.run("prepare mine as select count(*), min(tenant_id) from orders")) == "CZ"
    assert session.rows("execute mine") == [["10", "42"]]


def test_arguments_reach_the_statement(session):
    session.run("prepare pick(int, text) as select id, $2 || body from notes where id = $1")
    assert session.rows("execute pick(1 + 1, upper('a'))") == [["2", "Afirst"]]


def test_the_tag_is_that_of_the_statement_executed(session):
    session.run("prepare change(text) as update notes set pinned = true where body = $1")
    answers = session.run("execute change('none like it')")
    assert [answer.body for answer in answers if answer.tag == "C"] == [b"UPDATE 0\0"]


def test_what_is_not_granted_is_refused_when_it_is_prepared(session):
    assert errors(session.run("prepare p as select * from api_keys")) == [
        ("42P01", 'relation "api_keys" does not exist')
    ]
    assert errors(session.run("execute p"))[0][0] == "26000"


def test_arguments_cannot_read_what_is_not_granted(session):
    session.run("prepare p(text) as select $1")
    assert errors(session.run("execute p(pg_read_file('x'))"))[0][0] == "42501"
    assert errors(session.run("execute p((select secret from notes))"))
    assert errors(session.run("execute p((select body from notes limit 1))"))[0][0] == "0A000"


def test_a_name_is_taken_once_and_free_after_deallocate(session):
    session.run("prepare p as select 1")
    assert errors(session.run("prepare p as select 2")) == [("42P05", 'prepared statement "p" already exists')]
    assert tags(session.run("deallocate p")) == "CZ"
    assert errors(session.run("execute p")) == [("26000", 'prepared statement "p" does not exist')]
    session.run("prepare p as select 3")
    assert session.rows("execute p") == [["3"]]


def test_two_clients_use_one_name_for_different_things(proxy):
    with Wire.logged_in(proxy.port, proxy.token()) as one, Wire.logged_in(proxy.port, proxy.token(tenant=43)) as two:
        one.run("prepare p as select distinct tenant_id from orders")
        two.run("prepare p as select tenant_id, 'other' from orders limit 1")
        for _ in range(3):
            assert one.rows("execute p") == [["42"]]
            assert two.rows("execute p") == [["43", "other"]]


def test_names_are_shared_with_the_extended_protocol(session):
    session.run("prepare p as select 7")
    session.send(wire.bind(name="p"), wire.execute(), wire.SYNC)
    assert [item.values for item in session.until("Z") if item.tag == "D"] == [["7"]]
    session.send(wire.parse("select 8", "q"), wire.SYNC)
    session.until("Z")
    assert session.rows("execute q") == [["8"]]


def test_deallocate_takes_effect_for_what_is_pipelined_behind_it(session):
    session.send(wire.parse("select 1", "a"), wire.SYNC, query("deallocate a"), wire.bind(name="a"), wire.SYNC)
    assert [tags(session.until("Z")) for _ in range(3)] == ["1Z", "CZ", "EZ"]


def test_a_failed_prepare_fails_the_block(session):
    session.run("begin")
    assert errors(session.run("prepare p as select * from api_keys"))[0][0] == "42P01"
    assert status(session.run("select 1")) == "E"
    session.run("rollback")
    session.run("begin")
    session.run("prepare p as select 5")
    assert session.rows("execute p") == [["5"]]
    assert status(session.run("commit")) == "I"
    assert session.rows("execute p") == [["5"]]


def test_an_error_of_the_server_while_preparing_leaves_no_statement(session):
    assert errors(session.run("prepare p as select $1 + $2 + 'x'::int"))  # evaluated while it is planned
    assert errors(session.run("execute p"))[0][0] == "26000"


def test_the_audit_names_the_tables_of_what_was_executed(proxy, session):
    session.run("prepare audited as select body from notes where id = 2")
    session.run("execute audited")
    record = proxy.audit(event="statement", verb="EXECUTE")[-1]
    assert record["tables"] == ["public.notes"]
    assert record["row_count"] == 1


def test_discard_all_forgets_them(session):
    session.run("prepare p as select 1")
    assert errors(session.run("discard all")) == []
    assert errors(session.run("execute p"))[0][0] == "26000"


@pytest.mark.parametrize("role", ["desk", "owner"])
def test_it_works_under_every_kind_of_role(proxy, role):
    with Wire.logged_in(proxy.port, proxy.token(role)) as session:
        session.run("prepare p(int) as select $1 + 1")
        assert session.rows("execute p(41)") == [["42"]]
        assert errors(session.run("deallocate all")) == []
        assert errors(session.run("execute p(1)"))[0][0] == "26000"


def test_the_plan_of_a_prepared_statement_is_shown_as_that_of_any_other(session):
    session.run("prepare p(int) as select body from notes where id = $1")
    plan = session.rows("explain execute p(2)")
    assert any("notes" in line for (line,) in plan)
    assert not any("cost=" in line for (line,) in plan)
    assert errors(session.run("explain analyze execute p(2)"))[0][0] == "42501"
    assert errors(session.run("explain execute nothing"))[0][0] == "26000"


def by_protocol(session: Wire, text: str) -> list[wire.Message]:
    session.send(wire.parse(text), wire.bind(), wire.describe("P"), wire.execute(), wire.SYNC)
    return session.until("Z")


def test_prepare_and_execute_work_in_the_extended_protocol(session):
    answers = by_protocol(session, "prepare mine(text) as select count(*), min(tenant_id), $1 from orders")
    assert tags(answers) == "12nCZ"
    assert [answer.body for answer in answers if answer.tag == "C"] == [b"PREPARE\0"]
    assert [item.values for item in by_protocol(session, "execute mine('a')") if item.tag == "D"] == [["10", "42", "a"]]
    assert tags(by_protocol(session, "explain execute mine('a')")).startswith("12TD")
    assert tags(by_protocol(session, "deallocate mine")) == "12nCZ"
    assert errors(by_protocol(session, "execute mine('a')")) == [("26000", 'prepared statement "mine" does not exist')]


def test_what_an_execute_names_is_the_client_s_own(proxy):
    with Wire.logged_in(proxy.port, proxy.token()) as one, Wire.logged_in(proxy.port, proxy.token()) as two:
        one.run("prepare p as select 'one'")
        two.run("prepare p as select 'two'")
        for _ in range(2):
            for session, own in ((one, "one"), (two, "two")):
                assert [item.values for item in by_protocol(session, "execute p") if item.tag == "D"] == [[own]]


def test_a_prepare_that_fails_when_it_is_executed_leaves_no_name(session):
    assert errors(by_protocol(session, "prepare p as select 'x'::int"))[0][0] == "22P02"
    assert errors(by_protocol(session, "execute p"))[0][0] == "26000"
    assert tags(by_protocol(session, "prepare p as select 5")) == "12nCZ"
    assert errors(by_protocol(session, "prepare p as select 6")) == [("42P05", 'prepared statement "p" already exists')]
    assert session.rows("execute p") == [["5"]]


def test_an_execute_prepared_before_its_name_moved_on_is_refused(session):
    session.run("prepare p as select 1")
    session.send(wire.parse("execute p", "runs"), wire.SYNC)
    session.until("Z")
    session.run("deallocate p")
    session.run("prepare p as select id from notes")
    session.send(wire.bind(name="runs"), wire.execute(), wire.SYNC)
    assert errors(session.until("Z")) == [("26000", 'prepared statement "p" does not exist')]


def test_in_a_failed_block_nothing_is_prepared(session):
    session.run("begin")
    session.run("select 1/0")
    assert errors(by_protocol(session, "prepare p as select 1"))[0][0] == "25P02"
    session.run("rollback")
    assert errors(session.run("execute p"))[0][0] == "26000"
