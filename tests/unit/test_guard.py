from __future__ import annotations

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


def test_a_text_with_a_nul_is_refused_whatever_was_decided_before():
    guard = Guard(world(), Epoch(), statement_bytes=65536)
    assert guard.plan_query("select 'a'", ("public",)).refused is None
    assert guard.plan_query("select 'a'\0; select key from hidden", ("public",)).refused is not None
