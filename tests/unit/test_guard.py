from __future__ import annotations

import re

import pytest

from pgfaucet.guard import Epoch, Guard
from tests.unit.sql.test_utility import world


def test_a_kept_refusal_holds_no_frame():
    guard = Guard(world(), Epoch(), statement_bytes=65536)
    for text in ("select * from hidden", "select (", "prepare p as select * from hidden", "vacuum"):
        plan = guard.plan(text, ("public",))
        error = plan.statements[-1].error
        assert error is not None
        assert error.__traceback__ is None
        assert error.__context__ is None
        assert error.__cause__ is None


def test_observing_forwards_everything_and_says_what_would_have_been_decided():
    guard = Guard(world(), Epoch(), statement_bytes=65536, observes=True)
    hidden = guard.plan_query("select * from hidden where a = 1", ("public",))
    assert hidden.text == "select * from hidden where a = 1"
    assert hidden.refused is None
    assert hidden.statements[0].observed == 'observe: would refuse with 42P01: relation "hidden" does not exist'
    seen = guard.plan("select id from orders", ("public",)).statements[0]
    assert (seen.sql, seen.observed) == ("select id from orders", "observe: would allow, rewritten")


def test_observing_says_that_nothing_would_be_rewritten():
    guard = Guard(world(), Epoch(), statement_bytes=65536, observes=True)
    assert guard.plan("BEGIN", ("public",)).statements[0].observed == "observe: would allow"


@pytest.mark.interpreted
def test_our_own_bug_refuses_the_statement_and_tells_the_place_to_the_audit_only(monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise ValueError("a value of the client's")

    monkeypatch.setattr(Guard, "_rewritten", broken)
    for observes in (False, True):
        guard = Guard(world(), Epoch(), statement_bytes=65536, observes=observes)
        plan = guard.plan("select id from orders", ("public",)).statements[0]
        if observes:
            assert (plan.error, plan.observed) == (None, "observe: would refuse with XX000: ValueError")
            continue
        error = plan.error
        assert error is not None
        assert error.sqlstate == "XX000"
        assert re.fullmatch(r"internal error in pgfaucet, id [0-9a-f]{16}; the statement was refused", error.message)
        assert re.fullmatch(r"ValueError at test_guard\.py:\d+", error.reason)
        assert error.hint == "Report the id to the operator; the audit record of this statement names the place."


def test_a_parameter_of_a_type_that_is_not_in_sight_is_refused():
    guard = Guard(world(), Epoch(), statement_bytes=65536)
    error = guard.plan("select id from orders where id = $1", ("public",), (999_999,)).statements[0].error
    assert error is not None
    assert (error.sqlstate, error.message) == ("42704", "type with OID 999999 does not exist")
    assert error.reason == "parameter type not allowed"
    assert guard.plan("select id from orders where id = $1", ("public",), (23,)).statements[0].error is None


def test_a_text_with_a_nul_is_refused_whatever_was_decided_before():
    guard = Guard(world(), Epoch(), statement_bytes=65536)
    assert guard.plan_query("select 'a'", ("public",)).refused is None
    assert guard.plan_query("select 'a'\0; select key from hidden", ("public",)).refused is not None
