from __future__ import annotations

from pgfaucet.demo.tour import audit_table, shortened, wait_until

RECORD = {"seq": 7, "decision": "deny", "sqlstate": "42P01", "row_count": None, "query": "SELECT  *\nFROM api_keys"}


def test_a_shown_token_lacks_its_secret():
    assert shortened("fct_abc_SECRET") == "fct_abc_************"


def test_the_audit_table_has_one_line_for_each_record():
    head, line = audit_table([RECORD], 80)
    assert head.split() == ["seq", "decision", "sqlstate", "rows", "statement"]
    assert line.split() == ["7", "deny", "42P01", "SELECT", "*", "FROM", "api_keys"]


def test_the_audit_table_is_no_wider_than_the_screen():
    lines = audit_table([{**RECORD, "query": "x" * 200}], 60)
    assert max(map(len, lines)) == 60


def test_waiting_ends_when_the_condition_holds_and_when_time_is_up():
    answers = iter([False, True])
    assert wait_until(lambda: next(answers), 5)
    assert not wait_until(lambda: False, 0)
