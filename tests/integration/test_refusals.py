"""A refused statement behaves as an error of the server would: in blocks, in savepoints, in pipelines."""

from __future__ import annotations

import pytest

from tests.kit import wire
from tests.kit.wire import Wire, errors, status, tags


@pytest.fixture
def session(proxy):
    with Wire.logged_in(proxy.port, proxy.token()) as opened:
        yield opened


def test_a_denied_statement_in_a_block_leaves_it_failed_until_rollback(session):
    assert status(session.run("begin")) == "T"
    refused = session.run("select * from api_keys")
    assert errors(refused) == [("42P01", 'relation "api_keys" does not exist')]
    assert status(refused) == "E"
    assert errors(session.run("select 1"))[0][0] == "25P02"
    assert errors(session.run("select * from api_keys"))[0][0] == "25P02"
    ended = session.run("rollback")
    assert (tags(ended), status(ended)) == ("CZ", "I")
    assert session.rows("select count(*) from notes") == [["2"]]


def test_commit_of_a_failed_block_is_a_rollback(session):
    session.run("begin")
    session.run("update notes set body = 'changed' where id = 2")
    session.run("select * from api_keys")
    committed = session.run("commit")
    assert next(item.body for item in committed if item.tag == "C") == b"ROLLBACK\0"
    assert session.rows("select body from notes where id = 2") == [["first"]]


def test_rollback_to_a_savepoint_recovers_the_block(session):
    session.run("begin")
    session.run("update notes set body = 'kept for now' where id = 2")
    session.run("savepoint s")
    assert status(session.run("delete from orders")) == "E"
    assert status(session.run("rollback to savepoint s")) == "T"
    assert session.rows("select body from notes where id = 2") == [["kept for now"]]
    assert status(session.run("rollback")) == "I"


def test_a_denied_statement_in_a_query_string_undoes_those_before_it(session):
    answers = session.run("insert into notes (body) values ('never'); select * from api_keys; select 1")
    assert errors(answers) == [("42P01", 'relation "api_keys" does not exist')]
    assert status(answers) == "I"
    assert session.rows("select count(*) from notes where body = 'never'") == [["0"]]


def test_a_refused_parse_skips_to_sync_and_the_next_batch_runs(session):
    session.send(
        wire.parse("select 1"), wire.bind(), wire.execute(),
        wire.parse("select * from api_keys"), wire.bind(), wire.execute(),
        wire.parse("select 3"), wire.bind(), wire.execute(), wire.SYNC,
        wire.parse("select 4"), wire.bind(), wire.execute(), wire.SYNC,
    )  # fmt: skip
    first, second = session.until("Z"), session.until("Z")
    assert tags(first) == "12DCEZ"
    assert errors(first)[0][0] == "42P01"
    assert tags(second) == "12DCZ"


def test_each_sync_gets_one_ready_for_query_after_a_refusal(session):
    session.send(wire.parse("select * from api_keys"), wire.SYNC, wire.SYNC, wire.query("select 5"))
    assert [tags(session.until("Z")) for _ in range(3)] == ["EZ", "Z", "TDCZ"]


def test_a_refusal_is_sent_without_waiting_for_sync_when_flush_asks(session):
    session.send(wire.parse("select * from api_keys"), wire.FLUSH)
    assert session.receive().fields["C"] == "42P01"
    session.send(wire.parse("select 1"), wire.describe("S"), wire.SYNC)
    assert tags(session.until("Z")) == "Z"


def test_a_refusal_in_an_extended_block_fails_it_upstream_too(session):
    session.send(wire.parse("begin"), wire.bind(), wire.execute(), wire.SYNC)
    assert status(session.until("Z")) == "T"
    session.send(wire.parse("select * from api_keys"), wire.bind(), wire.execute(), wire.SYNC)
    refused = session.until("Z")
    assert (errors(refused)[0][0], status(refused)) == ("42P01", "E")
    session.send(wire.parse("select 1"), wire.SYNC)
    assert errors(session.until("Z"))[0][0] == "25P02"
    assert status(session.run("rollback")) == "I"


def test_an_implicit_transaction_of_a_pipeline_is_undone_by_a_refusal(session):
    session.send(
        wire.parse("insert into notes (body) values ('implicit')"), wire.bind(), wire.execute(),
        wire.parse("select * from api_keys"), wire.bind(), wire.execute(), wire.SYNC,
    )  # fmt: skip
    assert status(session.until("Z")) == "I"
    assert session.rows("select count(*) from notes where body = 'implicit'") == [["0"]]


def test_hidden_and_absent_relations_and_columns_get_the_same_answer(session):
    def asked(sql, name):
        fields = next(item.fields for item in session.run(sql) if item.tag == "E")
        return {key: value.replace(name, "x") for key, value in fields.items()}

    assert asked("select * from api_keys", "api_keys") == asked("select * from api_keyz", "api_keyz")
    assert asked("select secret from notes", "secret") == asked("select secreu from notes", "secreu")
    assert asked("select n.secret from notes n", "secret") == asked("select n.secreu from notes n", "secreu")


def test_a_syntax_error_is_worded_and_placed_as_the_server_does(session):
    fields = next(item.fields for item in session.run("select 1 frm notes where") if item.tag == "E")
    assert (fields["C"], fields["M"], fields["P"]) == ("42601", 'syntax error at or near "notes"', "14")


def test_a_refused_verb_has_a_hint_that_names_only_what_is_granted(session):
    fields = next(item.fields for item in session.run("delete from orders") if item.tag == "E")
    assert (fields["C"], fields["M"]) == ("42501", "permission denied for table orders")
    assert "H" in fields
    assert "purchase_cost" not in str(fields)


def test_refusals_are_audited_with_their_sqlstate(session, proxy):
    session.run("select * from api_keys where id = 987123")
    records = proxy.audit(event="statement", decision="deny", sqlstate="42P01")
    assert records
    assert records[-1]["role"] == "desk"
    assert "987123" not in str([record["query"] for record in records])
    proxy.verify_audit()


def test_a_new_row_outside_the_check_is_refused_as_row_level_security_does(session):
    answers = session.run("insert into orders (customer_id, total) values (2, 20000)")
    assert errors(answers) == [("42501", 'new row violates row-level security policy for table "orders"')]
    answers = session.run("insert into notes (tenant_id, body) values (43, 'x')")
    assert errors(answers)[0][0] == "42501"
