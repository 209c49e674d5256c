from __future__ import annotations

import pytest

from tests.kit.policy_files import agent, orders, role_of, said_about


@pytest.mark.parametrize(
    "text",
    [
        "tenant_id = claim('tenant')::int",
        "order_id in (select o.id from orders as o where o.tenant_id = 42)",
        "left(note, 10) || '…'",
        "case when a then b else c end",
        "true",
    ],
)
def test_an_expression_of_postgresql_is_taken_as_it_is(text: str):
    assert role_of(orders(f'row_filter: "{text}"')).tables[0].row_filter == text


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("row_filter: tenant_id = = 42", '6:33: row_filter: syntax error at or near "="'),
        ("check: \"status <> 'paid' and and true\"", '6:38: check: syntax error at or near "and"'),
        ("preset: {note: 1 +}", "6:26: preset.note: syntax error at end of input"),
        ("mask: {note: 'left(note,'}", "6:32: mask.note: syntax error at end of input"),
        ("row_filter: |\n  a = 1 and\n  b frm c\n", '8:17: row_filter: syntax error at or near "c"'),
        ("row_filter: note = 'it", '6:28: row_filter: unterminated quoted string at or near "\'it"'),
    ],
)
def test_a_syntax_error_stands_where_postgresql_sees_it(keys: str, said: str):
    (line,) = said_about(orders(keys))
    assert line.startswith(f"a.yaml:{said}")
    assert line.endswith("; write one PostgreSQL expression over the table's columns")


@pytest.mark.parametrize(
    "text", ["1, 2", "1; drop table orders", "id from orders", "1 union select 2", "1 as x", "true where true"]
)
def test_an_expression_is_one_and_nothing_else(text: str):
    assert len(said_about(orders(f'row_filter: "{text}"'))) == 1


def test_an_expression_cannot_leave_its_parentheses():
    assert len(said_about(orders('row_filter: "true) or (true"'))) == 1


def test_there_are_no_parameters():
    assert said_about(orders("row_filter: tenant_id = $1")) == [
        "a.yaml:6:21: row_filter: there is no parameter $1; take values from the token with claim('...')"
    ]


@pytest.mark.parametrize("call", ["claim(tenant)", "claim()", "claim('a', 'b')", "claim(1)", "claim('a' || 'b')"])
def test_claim_takes_one_name_in_quotes(call: str):
    assert said_about(orders(f"row_filter: tenant_id = {call}")) == [
        "a.yaml:6:21: row_filter: claim() takes the name of a claim; write it in single quotes, as in claim('tenant')"
    ]


def test_an_expression_is_bounded_in_depth_and_length():
    (deep,) = said_about(orders(f'row_filter: "{"abs(" * 3000}1{")" * 3000}"'))
    assert deep.startswith("a.yaml:6:")
    (long,) = said_about(orders(f'row_filter: "{" + ".join(["1"] * 40_000)}"'))
    assert long.startswith("a.yaml:6:")


def test_a_statement_of_a_test_must_parse_where_it_is_to_be_allowed():
    text = agent("") + "tests:\n  - {role: agent, allow: [select 1, selct 2]}\n"
    assert said_about(text) == [
        'a.yaml:5:37: syntax error at or near "selct"; mend the statement, or move it to deny with "42601"'
    ]
