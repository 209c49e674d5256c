from __future__ import annotations

import pytest

from pgfaucet.policy.lint import columns_read, lint
from tests.kit.policy_files import agent, load_text, orders

TESTED = "tests: [{role: agent, claims: {tenant: 42}, allow: [select 1]}]\n"


def said_about(text: str) -> list[str]:
    return [str(problem).removeprefix("/p/") for problem in lint(load_text(text).policy)]


def test_a_narrow_tested_policy_gives_no_warning():
    keys = "select: [id]\ninsert: [id]\nrow_filter: tenant_id = claim('tenant')::int"
    assert said_about(orders(keys) + TESTED) == []


def test_every_warning_says_that_it_is_one():
    assert all(problem.is_warning for problem in lint(load_text(agent("access: full")).policy))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            "access: full",
            '2:3: warning: role "agent" has access: full: nothing is filtered or refused; keep its tokens few and short-lived',
        ),
        (
            "mode: observe",
            (
                '2:3: warning: role "agent" has mode: observe: everything is forwarded;'
                " read what it would have refused in the audit log, then write mode: enforce"
            ),
        ),
        (
            'tables: {"*": {select: true, delete: true}}',
            (
                '4:14: warning: "*" opens every table outside the system schemas for select, delete, future ones too;'
                " name the tables if not all are meant"
            ),
        ),
        (
            'functions: ["*"]',
            '2:3: warning: role "agent" may call every function but the dangerous ones; name the functions if not all are meant',
        ),
        (
            "statements: [lock, do]",
            '2:3: warning: role "agent" may run statements of kind lock, do; remove those it does not need',
        ),
        (
            'allow_set: ["*"]',
            '2:3: warning: role "agent" may set every setting but the reserved ones; name the settings if not all are meant',
        ),
    ],
)
def test_each_wide_grant_is_named(keys: str, said: str):
    assert said_about(agent(keys)) == [f"a.yaml:{said}"]


def test_ddl_that_opens_nothing_is_named():
    said = said_about(agent('tables: {"*": {select: [id]}}\nfunctions: ["*"]\nstatements: [ddl]'))
    assert any('role "agent" has statement kind ddl, which opens only settings for it' in line for line in said)
    said = said_about(agent('tables: {"*": {select: true}}\nfunctions: ["*"]\nstatements: [ddl]'))
    assert not any("which opens only settings" in line for line in said)


def test_full_explain_of_a_filtered_table_is_named():
    text = agent("explain: full\ntables: {orders: {select: true, row_filter: a = 1}}") + TESTED
    assert said_about(text) == [
        'a.yaml:2:3: warning: role "agent" has explain: full: plans show row filters and count hidden rows; write explain: safe'
    ]


def test_a_filter_without_a_test_is_named():
    assert said_about(orders("select: true\nrow_filter: a = 1")) == [
        'a.yaml:2:3: warning: role "agent" filters rows and has no test; write one under tests'
    ]


def test_a_claim_that_no_test_gives_is_named():
    text = orders("select: true\nrow_filter: a = claim('tenant')::int and b = claim('team')") + TESTED
    assert said_about(text) == [
        (
            'a.yaml:2:3: warning: no test of role "agent" has the claim "team", which its row filters use;'
            " write a test with claims: {team: ...}; without the claim no row is visible"
        )
    ]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("row_filter: a = 1", 'the row filter of "orders" has no effect: nothing is granted; grant a verb, or remove it'),
        ("select: true\ncheck: a = 1", 'the check of "orders" has no effect: neither insert nor update is granted; remove it'),
        ("select: true\npreset: {a: '1'}", 'the preset of "a" has no effect: insert is not granted; remove it, or grant insert'),
        ("insert: [a]\npreset: {a: '1'}", '"a" has a preset, so clients cannot insert it; take it out of insert'),
        ("select: [b]\nmask: {a: \"''\"}", 'the mask of "a" has no effect: select is not granted on it; remove it, or grant select'),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_named(keys: str, said: str):
    lines = said_about(orders(keys) + TESTED)
    assert [line.partition(" warning: ")[2] for line in lines] == [said]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            "select: true\nupdate: [tenant_id]\nrow_filter: tenant_id = 1",
            (
                'clients may set tenant_id of "orders", which the row filter reads, and there is no check;'
                " take them out of update, or write a check that says which rows may result"
            ),
        ),
        (
            "select: true\nupdate: [note]\nmask: {note: \"''\"}",
            '"note" is masked and can be written by update: a masked value may be written back; take it out of update',
        ),
        (
            "select: true\nrow_filter: random() < 0.5",
            "row_filter calls random(), which gives another answer at each call; use a value that is fixed for the statement",
        ),
    ],
)
def test_what_may_not_be_meant_is_named(keys: str, said: str):
    lines = said_about(orders(keys) + TESTED)
    assert [line.partition(" warning: ")[2] for line in lines] == [said]


def test_a_warning_about_an_expression_stands_at_the_expression():
    (line,) = said_about(orders("select: true\nrow_filter: random() < 0.5") + TESTED)
    assert line.startswith("a.yaml:7:21: ")


def test_a_check_settles_what_an_update_may_do():
    keys = "select: true\nupdate: [tenant_id]\nrow_filter: tenant_id = 1\ncheck: tenant_id = 1"
    assert said_about(orders(keys) + TESTED) == []


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a = 1 and orders.b > c", {"a", "b", "c"}),
        ("a in (select x from t where y = 1)", {"a"}),
        ("true", set()),
        ("not an expression", set()),
    ],
)
def test_the_columns_that_an_expression_reads_are_its_own_rows(text: str, columns: set[str]):
    assert columns_read(text) == columns
